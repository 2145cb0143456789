//! What the kernel does in each trap: the one list of what runs in interrupts.

use crate::paging::At;
use crate::trap::Frame;
use crate::{
    batches, controls, cpu, device, execute, fault, interrupts, layout, phase, shootdown,
    strategies,
};
use core::sync::atomic::Ordering::Relaxed;

/// In no interrupt: it may sleep.
pub fn page_fault(address: usize, frame: &mut Frame) {
    match At::of(address) {
        Some(at) if layout::is_mapped(at) => {
            if !fault::handle(at, fault::access(frame.error)) {
                execute::refuse(frame);
            }
        }
        _ => {
            controls::fault(address, frame.rip);
            panic!("page fault at {address:#x}, error {:#x}, by {:#x}", frame.error, frame.rip)
        }
    }
}

/// Another processor has changed a table.
pub fn shoot() {
    shootdown::answer();
}

/// Another processor wants this one's batch empty.
pub fn drain() {
    batches::empty();
}

/// Once in a millisecond, on each processor.
pub fn timer() {
    let cpu = cpu::this();
    cpu.ticks.fetch_add(1, Relaxed);
    strategies::watch();
    if cpu.index() == 0 {
        phase::watch();
        device::tick();
    }
}

/// A test wants something done.
pub fn test() {
    interrupts::test();
}
