//! The data of each processor, found by its `gs` base.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// How many processors there can be.
pub const MAX: usize = 8;
const INTERRUPT_STACK: usize = 16 << 10;

/// The selector of the TSS, and the numbers of its stacks.
const TSS: u16 = 0x20;
/// Interrupts arrive on this stack.
pub const IST_INTERRUPT: u8 = 1;
/// Double faults arrive on this one.
pub const IST_DOUBLE: u8 = 2;

#[repr(C, packed)]
struct TaskState {
    _reserved: u32,
    rsp: [u64; 3],
    _reserved2: u64,
    ist: [u64; 7],
    _reserved3: [u16; 5],
    io_map: u16,
}

#[repr(C, align(16))]
struct Stack([u8; INTERRUPT_STACK]);

/// One processor.
#[repr(C, align(4096))]
pub struct Cpu {
    /// Its own address, first, so that `gs:0` is a pointer to it.
    myself: AtomicUsize,
    index: AtomicUsize,
    apic: AtomicU32,
    /// Spin locks that it has, or is about to have.
    pub spins_held: AtomicU32,
    /// Whether it is in an interrupt (a page fault is none).
    in_interrupt: AtomicBool,
    /// Whether it was asked for a drain, which it does when it has nothing else to do: see
    /// `batches`.
    pub work: AtomicBool,
    /// Interrupts of its timer since that was asked for.
    pub overdue: AtomicU64,
    /// Milliseconds of its own timer.
    pub ticks: AtomicU64,
    /// The address space that it is in.
    pub space: AtomicUsize,
    gdt: UnsafeCell<[u64; 6]>,
    tss: UnsafeCell<TaskState>,
    stacks: UnsafeCell<[Stack; 2]>,
}

// SAFETY: the cells are written by the processor itself, before it is up.
unsafe impl Sync for Cpu {}

impl Cpu {
    const fn new() -> Self {
        Self {
            myself: AtomicUsize::new(0),
            index: AtomicUsize::new(0),
            apic: AtomicU32::new(0),
            spins_held: AtomicU32::new(0),
            in_interrupt: AtomicBool::new(false),
            work: AtomicBool::new(false),
            overdue: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            space: AtomicUsize::new(0),
            gdt: UnsafeCell::new([
                0,
                0x00af_9a00_0000_ffff,
                0x00cf_9200_0000_ffff,
                0x00cf_9a00_0000_ffff,
                0,
                0,
            ]),
            tss: UnsafeCell::new(TaskState {
                _reserved: 0,
                rsp: [0; 3],
                _reserved2: 0,
                ist: [0; 7],
                _reserved3: [0; 5],
                io_map: size_of::<TaskState>() as u16,
            }),
            stacks: UnsafeCell::new([const { Stack([0; INTERRUPT_STACK]) }; 2]),
        }
    }

    /// Which one it is, from 0.
    pub fn index(&self) -> usize {
        self.index.load(Relaxed)
    }

    /// Its name among interrupt controllers.
    pub fn apic(&self) -> u32 {
        self.apic.load(Relaxed)
    }

    /// Whether it is in an interrupt.
    pub fn in_interrupt(&self) -> bool {
        self.in_interrupt.load(Relaxed)
    }

    /// Runs `handler` as an interrupt.
    pub fn interrupt(&self, handler: impl FnOnce()) {
        self.in_interrupt.store(true, Relaxed);
        handler();
        self.in_interrupt.store(false, Relaxed);
    }
}

static CPUS: [Cpu; MAX] = [const { Cpu::new() }; MAX];
static UP: AtomicUsize = AtomicUsize::new(0);

/// This processor.
pub fn this() -> &'static Cpu {
    let myself: usize;
    // SAFETY: `set_up` has put the address of a static there before anything asks for it.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) myself, options(nostack, preserves_flags, readonly));
        &*(myself as *const Cpu)
    }
}

/// Processor number `index`.
pub fn of(index: usize) -> &'static Cpu {
    &CPUS[index]
}

/// How many processors are up.
pub fn up() -> usize {
    // Acquire: pairs with the Release of `is_up`.
    UP.load(Acquire)
}

/// All processors that are up.
pub fn all() -> impl Iterator<Item = &'static Cpu> {
    CPUS.iter().take(up())
}

/// All others.
pub fn others() -> impl Iterator<Item = &'static Cpu> {
    let own = this().index();
    all().filter(move |cpu| cpu.index() != own)
}

/// The first thing that processor `index` does: its own data, segments and stacks.
pub fn set_up(index: usize) {
    let cpu = &CPUS[index];
    cpu.index.store(index, Relaxed);
    cpu.myself.store((&raw const *cpu).addr(), Relaxed);
    // SAFETY: these are this processor's own, and nobody else looks at them. The descriptors are
    // those of a flat kernel and a TSS.
    unsafe {
        let tss = cpu.tss.get();
        for (number, stack) in (*cpu.stacks.get()).iter().enumerate() {
            (*tss).ist[number] = ((&raw const *stack).addr() + INTERRUPT_STACK) as u64;
        }
        let (base, limit) = (tss.addr() as u64, size_of::<TaskState>() as u64 - 1);
        let gdt = cpu.gdt.get();
        (*gdt)[4] = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        (*gdt)[5] = base >> 32;
        let pointer = Pointer { limit: size_of::<[u64; 6]>() as u16 - 1, base: gdt.addr() as u64 };
        asm!("lgdt [{}]", in(reg) &raw const pointer, options(readonly, nostack));
        asm!("ltr {0:x}", in(reg) TSS, options(nostack));
        write_msr(0xc000_0101, (&raw const *cpu).addr() as u64);
    }
}

/// After this, others may send it interrupts. In order: processors that are up have numbers without
/// a gap.
pub fn is_up(apic: u32) {
    let cpu = this();
    cpu.apic.store(apic, Relaxed);
    // Release: pairs with the Acquire of `up`.
    while UP.compare_exchange_weak(cpu.index(), cpu.index() + 1, Release, Relaxed).is_err() {
        core::hint::spin_loop();
    }
}

/// What `lgdt` and `lidt` read.
#[repr(C, packed)]
pub struct Pointer {
    /// Bytes, less one.
    pub limit: u16,
    /// Where.
    pub base: u64,
}

/// Writes a model-specific register.
///
/// # Safety
///
/// Those of the register.
pub unsafe fn write_msr(msr: u32, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "wrmsr",
            in("ecx") msr,
            in("eax") value as u32,
            in("edx") (value >> 32) as u32,
            options(nostack)
        )
    }
}

/// Whether interrupts are on.
pub fn interrupts_are_on() -> bool {
    let flags: u64;
    // SAFETY: reads the flags.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) }
    flags & 1 << 9 != 0
}

/// Interrupts on.
pub fn enable_interrupts() {
    // SAFETY: there is a handler for each, and it arrives on a stack of its own.
    unsafe { asm!("sti") }
}

/// Interrupts off.
pub fn disable_interrupts() {
    // SAFETY: nothing but time is lost.
    unsafe { asm!("cli") }
}

/// Runs `f` with interrupts off, and leaves them as they were.
pub fn without_interrupts<R>(f: impl FnOnce() -> R) -> R {
    let were_on = interrupts_are_on();
    disable_interrupts();
    let r = f();
    if were_on {
        enable_interrupts();
    }
    r
}

/// With interrupts off: halts until there has been one. `sti` takes effect after the next
/// instruction, so one that is pending already ends the halt.
pub fn halt() {
    // SAFETY: as for `enable_interrupts`.
    unsafe { asm!("sti", "hlt", "cli") }
}
