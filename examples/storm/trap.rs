//! The trap of the original bug, set on purpose: a migrator that waits for every processor while it holds pages.
//!
//! [`pagelock::mm::migrate`] has no such migrator. A drain wants a [`DrainPermit`], and those come from a migration that has let go of
//! everything. This one says that it has, and has not.

use crate::machine::{COLD, HOT, Machine};
use pagelock::mm::drain::{Drain, DrainPermit};
use pagelock::mm::migrate::{Order, Slot, collect};

/// Moves the pages of `out` out and those of `back` back, all in one batch, and drains where the kernel does: when all of them are locked, and
/// no more than the first mapping's entry of each is taken down. Whoever comes through another mapping finds a page that is locked and
/// an entry that does not say why.
pub fn migrate_and_drain_inside<'m, M: Machine>(
    mm: &'m M,
    out: &mut [Slot<'m, M>],
    back: &mut [Slot<'m, M>],
    drain: &impl Drain,
) {
    let out = collect(mm, out, &Order::to(COLD), None);
    let back = collect(mm, back, &Order::to(HOT), None);
    if out.in_work() + back.in_work() > 0 {
        // The lie: pages are locked, and entries are still to be taken down. Do not copy this.
        drain.all(DrainPermit::promise());
    }
    let _ = out.unmap().check().copy().finalize();
    let _ = back.unmap().check().copy().finalize();
}
