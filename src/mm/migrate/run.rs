//! The whole protocol in one call, with its tries.

use super::collect::collect;
use super::pass::Pass;
use super::{Abort, Collected, Mode, Order, Outcome, Skip, Slot, Summary};
use crate::mm::Mm;
use crate::mm::drain::{Drain, Unlocked};

/// Moves the pages in `slots`, each of them if it can. What became of each is in its slot.
///
/// In batches of [`Order::batch`], and between two of them calls [`rest`](crate::mm::Tiers::rest).
/// Tries all pages of a batch together, for which it waits for nobody. Pages whose obstacle may go
/// away are tried again, up to [`Order::tries`] times. Before a further try everything is put back
/// and released, so that a thread with a reference to one of these pages that waits for another
/// gets on; and unless the mode is [`Mode::Async`] every processor's batch is drained. With a mode
/// that may sleep, the pages that are left are then tried one by one. There it may wait for the
/// page's lock, for a device with exclusive access, and for the things that
/// [`prepare`](crate::mm::Tiers::prepare) waits for.
///
/// The caller has neither a page's lock nor a page-table lock: between two tries this waits for
/// other processors, which may be waiting for either, and at the end it sleeps for locks.
/// `unlocked` is the caller's promise of that. It cannot be had within
/// [`Memory::migrate_to_ram`](crate::mm::Memory::migrate_to_ram) or any other call that this crate
/// makes with a page locked ([`prepare`](crate::mm::Tiers::prepare),
/// [`allocate`](crate::mm::Tiers::allocate), [`Drain::local`]). A fault handler, which owns a page,
/// goes by the stages from [`collect_for_fault`](super::collect_for_fault), as
/// [`bring_back`](super::bring_back) does.
///
/// `drain` empties the batches of references; a memory without any passes
/// [`NoBatches`](crate::mm::drain::NoBatches).
///
/// ```
/// use pagelock::mm::drain::Unlocked;
/// use pagelock::mm::migrate::{Order, Slot, migrate};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// let mut slots: Vec<_> = at.pages(8).map(Slot::at).collect();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let summary = migrate(&mm, &mut slots, &Order::to(TierId(1)), &mm, &mut unlocked);
/// assert_eq!((summary.done, summary.left), (4, 4)); // the others are holes
/// ```
pub fn migrate<'m, M: Mm, D: Drain>(
    mm: &'m M,
    slots: &mut [Slot<'m, M>],
    order: &Order<M>,
    drain: &D,
    unlocked: &mut Unlocked,
) -> Summary {
    let mut total = Summary::default();
    for (number, slots) in slots.chunks_mut(order.batch.max(1)).enumerate() {
        if number > 0 {
            mm.rest();
        }
        let summary = one_batch(mm, slots, order, drain, unlocked);
        total.tries = total.tries.max(summary.tries);
        total.drains += summary.drains;
        slots.iter().for_each(|slot| total.count(slot));
    }
    total
}

fn one_batch<'m, M: Mm, D: Drain>(
    mm: &'m M,
    slots: &mut [Slot<'m, M>],
    order: &Order<M>,
    drain: &D,
    unlocked: &mut Unlocked,
) -> Summary {
    let mut total = Summary::default();
    for slot in &mut *slots {
        slot.set(Outcome::Pending);
    }
    for _ in 0..order.tries.max(1) {
        if total.tries > 0 {
            slots
                .iter_mut()
                .filter(|slot| slot.outcome().is_transient())
                .for_each(|slot| slot.set(Outcome::Pending));
        }
        total.transient = all_stages(Pass::new(mm, slots, order, unlocked), drain).transient;
        total.tries += 1;
        if total.transient == 0 {
            break;
        }
        if order.mode != Mode::Async {
            drain.all(unlocked);
            total.drains += 1;
        }
    }
    if order.mode != Mode::Async && slots.iter().any(|slot| is_for_one(slot.outcome())) {
        total.tries += 1;
        for slot in &mut *slots {
            if is_for_one(slot.outcome()) {
                slot.set(Outcome::Pending);
                let mut pass = Pass::new(mm, core::slice::from_mut(slot), order, unlocked);
                pass.may_sleep = true;
                all_stages(pass, drain);
                mm.rest();
            }
        }
    }
    total
}

/// Not inlined, because `one_batch` has two places for it.
#[inline(never)]
fn all_stages<M: Mm>(mut pass: Pass<'_, '_, M>, drain: &impl Drain) -> Summary {
    collect(&mut pass);
    Collected(pass).unmap().finish(drain)
}

/// Whether the obstacle may be gone, or waited for, when the page is tried alone.
fn is_for_one<R>(outcome: Outcome<R>) -> bool {
    let waits = matches!(
        outcome,
        Outcome::Skipped(Skip::Refused(_) | Skip::Exclusive) | Outcome::Aborted(Abort::Exclusive)
    );
    waits || outcome.is_transient()
}
