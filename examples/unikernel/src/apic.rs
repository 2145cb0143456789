//! The local interrupt controllers: interrupts between processors, and each one's timer.

use crate::{boot, clock, cpu, port};
use core::arch::asm;

const BASE: usize = 0xfee0_0000;
const ID: usize = 0x20;
const EOI: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const ICR_LOW: usize = 0x300;
const ICR_HIGH: usize = 0x310;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const TIMER_INITIAL: usize = 0x380;
const TIMER_CURRENT: usize = 0x390;
const TIMER_DIVIDE: usize = 0x3e0;

/// What an interrupt is for: its vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Vector {
    /// A sleeper is to look again. Nothing else: that a processor leaves `hlt` is enough.
    Wake = 0x40,
    /// Translations are to be forgotten.
    Shoot = 0x41,
    /// The processor's batch is to be emptied.
    Drain = 0x42,
    /// A millisecond is over.
    Timer = 0x43,
    /// A test has something done in an interrupt.
    Test = 0x44,
    /// The controller has changed its mind. It is not answered.
    Spurious = 0x4f,
}

fn read(register: usize) -> u32 {
    // SAFETY: the controller's registers, mapped uncached.
    unsafe { core::ptr::with_exposed_provenance::<u32>(BASE + register).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: as above.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(BASE + register).write_volatile(value) }
}

/// Masks the two controllers of old. Their first interrupt is vector 8, which a processor takes for
/// a double fault.
pub fn mask_legacy() {
    port::out(0x21, 0xff);
    port::out(0xa1, 0xff);
}

/// Turns this processor's controller on, and says what its name is.
pub fn set_up() -> u32 {
    write(LVT_LINT0, 1 << 16);
    write(SPURIOUS, 0x100 | Vector::Spurious as u32);
    read(ID) >> 24
}

/// The interrupt is dealt with: others may come.
pub fn done() {
    write(EOI, 0);
}

/// Sends an interrupt. Two writes, which no handler may come between that sends one as well.
pub fn send(to: &cpu::Cpu, vector: Vector) {
    command(to.apic() << 24, 0x4000 | vector as u32);
}

fn command(high: u32, low: u32) {
    cpu::without_interrupts(|| {
        while read(ICR_LOW) & 1 << 12 != 0 {
            core::hint::spin_loop();
        }
        write(ICR_HIGH, high);
        write(ICR_LOW, low);
    });
}

/// Starts all other processors, and returns when `wanted` are up.
pub fn start_others(wanted: usize) {
    boot::place_trampoline();
    let start_up = 0xc_4600 | (boot::TRAMPOLINE as u32 >> 12);
    command(0, 0xc_4500);
    clock::pause_ms(10);
    command(0, start_up);
    clock::pause_ms(1);
    // As the manual says: twice. One that is up already takes no notice.
    command(0, start_up);
    while cpu::up() < wanted {
        core::hint::spin_loop();
    }
}

/// Counts of the timer, undivided by more than 16, in about `ms` milliseconds.
pub fn timer_counts_in(ms: u64) -> u32 {
    write(TIMER_DIVIDE, 0b11);
    write(LVT_TIMER, 1 << 16);
    write(TIMER_INITIAL, u32::MAX);
    clock::pause_ms(ms);
    u32::MAX - read(TIMER_CURRENT)
}

/// From now on an interrupt after each `counts`.
pub fn start_timer(counts: u32) {
    write(TIMER_DIVIDE, 0b11);
    write(LVT_TIMER, 1 << 17 | Vector::Timer as u32);
    write(TIMER_INITIAL, counts);
}

/// Forgets the translation of one page, on this processor.
pub fn forget(address: usize) {
    // SAFETY: the worst is a walk of the tables.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) }
}
