//! The time, by the processor's counter, measured against the legacy timer.

use crate::port;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts in a millisecond.
static PER_MS: AtomicU64 = AtomicU64::new(1);

/// The counter, which is the same on all processors.
pub fn counts() -> u64 {
    let (high, low): (u32, u32);
    // SAFETY: reads a counter.
    unsafe {
        asm!(
            "lfence",
            "rdtsc",
            out("edx") high,
            out("eax") low,
            options(nomem, nostack, preserves_flags)
        )
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Measures the counter, once: 20 milliseconds of the legacy timer's second channel, whose output
/// is in a port.
pub fn set_up() {
    const MS: u64 = 20;
    const COUNT: u16 = (1_193_182 * MS / 1000) as u16;
    port::out(0x61, port::read(0x61) & !2 | 1);
    port::out(0x43, 0xb0);
    port::out(0x42, COUNT as u8);
    port::out(0x42, (COUNT >> 8) as u8);
    let start = counts();
    while port::read(0x61) & 0x20 == 0 {
        core::hint::spin_loop();
    }
    PER_MS.store(((counts() - start) / MS).max(1), Relaxed);
}

/// Nanoseconds since the counter began.
pub fn now_ns() -> u64 {
    (u128::from(counts()) * 1_000_000 / u128::from(PER_MS.load(Relaxed))) as u64
}

/// Milliseconds since the counter began.
pub fn now_ms() -> u64 {
    counts() / PER_MS.load(Relaxed)
}

/// Spins for so many milliseconds.
pub fn pause_ms(ms: u64) {
    pause_us(1000 * ms);
}

/// Spins for so many microseconds.
pub fn pause_us(us: u64) {
    let end = now_ns() + us * 1000;
    while now_ns() < end {
        core::hint::spin_loop();
    }
}
