//! Traps and interrupts: one entry for all vectors, and what each vector does.
//!
//! Three traps are avoided here:
//!
//! * *The red zone.* Compiled code keeps values in the 128 bytes below its stack pointer, and an
//!   interrupt would write its frame there. This kernel is compiled without one, but `core` comes
//!   compiled with one. So interrupts switch to a stack of their own (IST). They do not nest, or
//!   the second would overwrite the first.
//! * *A page fault sleeps*, so it cannot be on a stack that the next one uses as well. It arrives
//!   on the stack of the code that touched the memory; only this kernel's own code and `src/mem.rs`
//!   touch memory that can fault.
//! * *SSE.* The compiler uses the wide registers in handlers too. They are saved, with all the
//!   others.

use crate::apic::{self, Vector};
use crate::cpu::{self, IST_DOUBLE, IST_INTERRUPT, Pointer};
use crate::hooks;
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;

const VECTORS: usize = 0x50;

global_asm!(
    r#"
.balign 16
.globl trap_stubs
trap_stubs:
.set vector, 0
.rept {vectors}
    .balign 16
    .if !((vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21))
    pushq $0                        # where the processor pushes no error code
    .endif
    pushq $vector
    jmp trap_entry
    .set vector, vector + 1
.endr

trap_entry:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    subq $512, %rsp
    fxsave64 (%rsp)
    call {trap}
    fxrstor64 (%rsp)
    movq %rbp, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    iretq
"#,
    trap = sym trap,
    vectors = const VECTORS,
    options(att_syntax)
);

unsafe extern "C" {
    static trap_stubs: u8;
}

/// What the entry has saved.
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    registers: [u64; 15],
    vector: u64,
    /// What the processor says of a fault.
    pub error: u64,
    /// Where it happened.
    pub rip: u64,
    cs: u64,
    /// The flags at that moment.
    pub flags: u64,
    /// The stack at that moment.
    pub rsp: u64,
    ss: u64,
}

#[repr(C, align(16))]
struct Table(UnsafeCell<[[u64; 2]; VECTORS]>);

// SAFETY: written by the first processor before the others are up.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; VECTORS]));

/// Makes the table; the first processor does.
pub fn make_table() {
    let stubs = (&raw const trap_stubs).addr() as u64;
    for vector in 0..VECTORS {
        let (at, ist) = (stubs + 16 * vector as u64, stack_of(vector));
        let low =
            (at & 0xffff) | 8 << 16 | u64::from(ist) << 32 | 0x8e << 40 | (at >> 16 & 0xffff) << 48;
        // SAFETY: no other processor has the table yet.
        unsafe { (*TABLE.0.get())[vector] = [low, at >> 32] };
    }
}

fn stack_of(vector: usize) -> u8 {
    match vector {
        8 => IST_DOUBLE,
        0x20.. => IST_INTERRUPT,
        _ => 0,
    }
}

/// Has this processor use the table.
pub fn load_table() {
    let pointer = Pointer { limit: (16 * VECTORS - 1) as u16, base: TABLE.0.get().addr() as u64 };
    // SAFETY: the table is whole.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack)) }
}

extern "C" fn trap(frame: &mut Frame) {
    match frame.vector {
        14 => page_fault(frame),
        0..0x20 => panic!("exception {} at {:#x}: {frame:x?}", frame.vector, frame.rip),
        vector => cpu::this().interrupt(|| interrupt(vector as u8)),
    }
}

fn page_fault(frame: &mut Frame) {
    let address: usize;
    // SAFETY: reads where the fault was.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) }
    let cpu = cpu::this();
    assert!(
        !cpu.in_interrupt(),
        "a page fault at {address:#x} in an interrupt, by {:#x}",
        frame.rip
    );
    assert!(
        frame.flags & 1 << 9 != 0,
        "a page fault at {address:#x} with interrupts off, by {:#x}",
        frame.rip
    );
    assert!(
        cpu.spins_held.load(core::sync::atomic::Ordering::Relaxed) == 0,
        "a page fault at {address:#x} with a spin lock held"
    );
    // CR2 is read, so another fault may come; and what resolves this one may have to wait.
    cpu::enable_interrupts();
    hooks::page_fault(address, frame);
    cpu::disable_interrupts();
}

fn interrupt(vector: u8) {
    if vector == Vector::Spurious as u8 {
        return;
    }
    apic::done();
    match vector {
        v if v == Vector::Wake as u8 => {}
        v if v == Vector::Shoot as u8 => hooks::shoot(),
        v if v == Vector::Drain as u8 => hooks::drain(),
        v if v == Vector::Timer as u8 => hooks::timer(),
        v if v == Vector::Test as u8 => hooks::test(),
        _ => panic!("interrupt {vector:#x}"),
    }
}
