//! Data is not executed: the entry says that its page may not be, also after the page has gone to a
//! device and come back.

use crate::batches::Drains;
use crate::counters::{BROUGHT, REFUSED};
use crate::frames::Tier;
use crate::kernel::KERNEL;
use crate::layout::{self, DATA};
use crate::paging::At;
use crate::phase::done;
use crate::trap::Frame;
use core::sync::atomic::AtomicU64;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Order, Slot, migrate};

/// An instruction was fetched where none may be: goes on as if it had been a return.
pub fn refuse(frame: &mut Frame) {
    REFUSED.one();
    // SAFETY: the only calls of this kind are those below, so the stack has where they came from.
    frame.rip = unsafe { *core::ptr::with_exposed_provenance::<u64>(frame.rsp as usize) };
    frame.rsp += 8;
}

/// Calls data, here and when it is on a device.
pub fn run() {
    let (page, nothing) = (DATA.start, AtomicU64::new(0));
    let mut slots = [Slot::at(At::new(0, 0, page))];
    let _ = layout::call(0, page, 0, &nothing, 0, 0);
    let to_device = Order::to(Tier::Device);
    let moved = migrate(&KERNEL, &mut slots, &to_device, &Drains, &mut Unlocked::promise());
    assert_eq!(moved.done, 1, "{:?}", slots[0].outcome());
    let brought = BROUGHT.get();
    let _ = layout::call(1, page, 0, &nothing, 0, 0);
    assert_eq!((REFUSED.get(), BROUGHT.get() - brought), (2, 1), "data was executed");
    done("data is not executed", format_args!("here, nor back from a device"));
}
