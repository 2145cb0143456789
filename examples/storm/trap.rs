//! The trap of the original bug, set on purpose: a migrator that waits for every processor while it
//! holds pages.
//!
//! [`pagelock::mm::migrate`] has no such migrator. A drain wants the thread's [`Unlocked`], which a
//! batch of pages has for as long as it has pages. It takes three of them, two more than there may
//! be, to write this one.

use crate::machine::{COLD, HOT, Machine};
use pagelock::mm::drain::{Drain, Unlocked};
use pagelock::mm::migrate::{Order, Slot, collect};

/// Moves the pages of `out` out and those of `back` back, all in one batch, and drains where the
/// kernel does: when all of them are locked, and no more than the first mapping's entry of each is
/// taken down. A faulter of another mapping finds a locked page, and an entry that does not say
/// why.
pub fn migrate_and_drain_inside<'m, M: Machine>(
    mm: &'m M,
    out: &mut [Slot<'m, M>],
    back: &mut [Slot<'m, M>],
    drain: &impl Drain,
    unlocked: &mut Unlocked,
) {
    // The lie: this thread has one already. Do not copy this.
    let (lie, another) = (&mut Unlocked::promise(), &mut Unlocked::promise());
    let out = collect(mm, out, &Order::to(COLD), unlocked);
    let back = collect(mm, back, &Order::to(HOT), lie);
    if out.in_work() + back.in_work() > 0 {
        // Pages are locked, and entries are still to be taken down.
        drain.all(another);
    }
    let _ = out.unmap().check().copy().finalize();
    let _ = back.unmap().check().copy().finalize();
}
