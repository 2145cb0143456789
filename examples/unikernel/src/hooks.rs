//! What the kernel does in each trap: the one list of what runs in interrupts.

use crate::cpu;
use crate::trap::Frame;
use core::sync::atomic::Ordering::Relaxed;

/// In no interrupt: it may sleep.
pub fn page_fault(address: usize, frame: &mut Frame) {
    panic!("page fault at {address:#x}, error {:#x}, by {:#x}", frame.error, frame.rip);
}

/// Another processor has changed a table.
pub fn shoot() {}

/// Another processor wants this one's batch empty.
pub fn drain() {}

/// Once in a millisecond, on each processor.
pub fn timer() {
    cpu::this().ticks.fetch_add(1, Relaxed);
}

/// A test wants something done.
pub fn test() {}
