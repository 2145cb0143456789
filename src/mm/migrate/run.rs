//! The whole protocol in one call, with its tries.

use super::batch::Batch;
use super::{Abort, Collected, Mode, Order, Outcome, Skip, Slot, Summary};
use crate::futex::{Futex, OsFutex};
use crate::leaf::Leaf;
use crate::lock::PageGuard;
use crate::mm::drain::{Drain, Unlocked};
use crate::mm::ledger::{Change, Owner};
use crate::mm::{Brought, Entry, Memory, Mm, Span, Tiers, ToRam};
use crate::page::PageLock;
use crate::refs::{PageRef, Put};

/// Moves the pages in `slots`, each of them if it can. What became of each is in its slot.
///
/// In batches of [`Order::batch`], and between two of them [rests](Tiers::rest). Tries all pages of
/// a batch together, for which it waits for nobody, and what was in a page's way for the moment
/// again, up to [`Order::tries`] times. Before a further try everything is put back and let go of,
/// so whoever was waiting for one of these pages and has a reference to another gets on; and unless
/// the mode is [`Mode::Async`] every processor's batch is drained. With a mode that may sleep,
/// those that are left are then tried one by one: there the page's lock is waited for, a device
/// that has the page to itself, and whatever [`prepare`](Tiers::prepare) has to wait for.
///
/// The caller has neither a page's lock nor a page-table lock: between two tries this waits for
/// other processors, which may be waiting for either, and at the end it sleeps for locks.
/// `unlocked` is its word for that, and not to be had within
/// [`Memory::migrate_to_ram`](crate::mm::Memory::migrate_to_ram) or any other call that this crate
/// makes with a page locked ([`prepare`](crate::mm::Tiers::prepare),
/// [`allocate`](crate::mm::Tiers::allocate), [`Drain::local`]). A fault handler, which owns a page,
/// goes by the stages from [`collect_for_fault`](super::collect_for_fault), as [`bring_back`] does.
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
        total.transient = stages(Batch::new(mm, slots, order, unlocked), drain).transient;
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
                let mut batch = Batch::new(mm, core::slice::from_mut(slot), order, unlocked);
                batch.may_sleep = true;
                stages(batch, drain);
                mm.rest();
            }
        }
    }
    total
}

/// One after the other. Not inlined, because `migrate` has two places for it.
#[inline(never)]
fn stages<M: Mm>(mut batch: Batch<'_, '_, M>, drain: &impl Drain) -> Summary {
    super::collect::collect(&mut batch);
    Collected(batch).unmap().drain_local(drain).check().copy().finalize()
}

/// What may be otherwise when the page is tried alone, and may be waited for.
fn is_for_one<R>(outcome: Outcome<R>) -> bool {
    let waits = matches!(
        outcome,
        Outcome::Skipped(Skip::Refused(_) | Skip::Exclusive) | Outcome::Aborted(Abort::Exclusive)
    );
    waits || outcome.is_transient()
}

/// A page whose lock a fault handler owns already, and keeps: a migration neither locks nor unlocks
/// it, and counts the faulter's reference among those that it expects.
#[derive(Debug)]
pub struct FaultPage<'p, F: Futex = OsFutex> {
    page: &'p PageLock<F>,
    /// With a migration for as long as that has it in work.
    pub(super) guard: Option<PageGuard<'p, F>>,
    pub(super) reference: Option<PageRef<'p, F>>,
    pub(super) is_lost: bool,
}

impl<'p, F: Futex> FaultPage<'p, F> {
    /// The page that `guard` owns, and the reference that the faulter has.
    #[must_use]
    pub fn new(guard: PageGuard<'p, F>, reference: Option<PageRef<'p, F>>) -> Self {
        Self { page: guard.page(), guard: Some(guard), reference, is_lost: false }
    }

    pub(super) fn is_of(&self, page: &PageLock<F>) -> bool {
        core::ptr::eq(self.page, page)
    }

    /// Whether the faulter owns the lock, as it does whenever no migration is under way.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.guard.is_some()
    }

    /// What the fault handler does when all is over: puts its reference, then releases the lock, in
    /// this order. Whether the page is free now.
    ///
    /// A page whose contents are lost is poisoned first: whoever else has got a reference to it by
    /// its number since, and puts that as the last, is to find it so.
    pub fn release(self) -> bool {
        let Self { page: _, guard, reference, is_lost } = self;
        if is_lost {
            let _ = guard.map(PageGuard::poison);
            drop(reference);
            return false;
        }
        let put = reference.map(PageRef::put);
        drop(guard);
        put == Some(Put::Last)
    }
}

/// Brings the page of a fault to tier `to`: an implementation of [`Memory::migrate_to_ram`].
///
/// One try, without a drain of other processors: the page's lock is held, and no page-table lock.
/// [`Brought::Back`] if it was worth the while, and the entry says what has come of it. Otherwise
/// the faulter lets go of everything before it tries again: [`Brought::Full`] if `to` has no frame,
/// and [`Brought::Busy`] if something else was in the way.
///
/// A large page for which there is no such frame in `to` is split, if there is a frame for the one
/// that is wanted; the others stay where they are.
///
/// # Errors
///
/// The outcome, if trying again is of no use. [`Skip::Uncounted`] if the page's header counts no
/// references: this goes by the counts, and who keeps them elsewhere implements `migrate_to_ram` by
/// [`freeze_with`](crate::Migration::freeze_with) instead.
pub fn bring_back<'p, M: Mm>(
    mm: &'p M,
    request: ToRam<'p, <M as crate::mm::Tables>::Address, <M as Memory>::Futex>,
    to: M::Tier,
    drain: &impl Drain,
) -> Result<Brought, Outcome<<M as Tiers>::Refusal>> {
    let ToRam { at, pfn, reference, page, .. } = request;
    let (span, header) = (mm.span(pfn), page.page());
    debug_assert!(
        mm.header(pfn).is_some_and(|of| core::ptr::eq(of, header)),
        "the lock is that of another page than frame {pfn:#x}'s"
    );
    let mut end = End { mm, span, fault: Some(FaultPage::new(page, reference)), is_put_up: false };
    let mut slots = [Slot::frame(pfn)];
    let order = Order::to(to);
    if let Some(fault) = &mut end.fault {
        let mut batch = Batch::for_fault(mm, &mut slots, &order, fault);
        batch.wanted = Some(pfn);
        super::collect::collect(&mut batch);
        let _ = Collected(batch).unmap().drain_local(drain).check().copy().finalize();
    }
    let outcome = slots[0].outcome();
    end.is_put_up = matches!(
        outcome,
        Outcome::Moved { .. }
            | Outcome::Uncounted { .. }
            | Outcome::Split { .. }
            | Outcome::Aborted(_)
            | Outcome::Poisoned
    );
    drop(end);
    match outcome {
        // Nothing to do, it seemed. If the entry says otherwise, the next fault would find
        // everything as this one did.
        Outcome::Freed if leads_to(mm, at, pfn) => Err(Outcome::Skipped(Skip::Uncounted)),
        Outcome::AlreadyThere if leads_to(mm, at, pfn) => Err(Outcome::AlreadyThere),
        outcome if outcome.is_done() => Ok(Brought::Back),
        // The entry says what there is to know: poison says so itself.
        Outcome::Split { moved: 1.., .. } | Outcome::Poisoned | Outcome::Uncounted { .. } => {
            Ok(Brought::Back)
        }
        Outcome::Aborted(Abort::NoDestination) => Ok(Brought::Full),
        outcome if outcome.is_transient() => Ok(Brought::Busy),
        outcome => Err(outcome),
    }
}

/// How a faulter lets go of its page, also while a panic unwinds: entries, then the reference, then
/// the lock.
struct End<'p, M: Mm> {
    mm: &'p M,
    span: Span,
    fault: Option<FaultPage<'p, M::Futex>>,
    /// The entries say what has become of the page. Otherwise nothing was begun, so nothing was put
    /// back; but the faulter may have taken down its entry, and the page is still locked.
    is_put_up: bool,
}

impl<M: Mm> Drop for End<'_, M> {
    fn drop(&mut self) {
        let Some(fault) = self.fault.take() else { return };
        let Self { mm, span, .. } = *self;
        if !self.is_put_up && fault.is_owned() {
            super::finalize::put_up(mm, span, span, fault.page, &mut 0);
        }
        if fault.reference.is_some() {
            mm.account(span.head, Owner::Get, Change::Put);
        }
        if fault.release() {
            mm.free(span.head);
        }
    }
}

/// Whether the entry is still one for the page in frame `pfn`, where the processor cannot access
/// it.
fn leads_to<M: Mm>(mm: &M, at: M::Address, pfn: u64) -> bool {
    let leaf = mm.lock(at).and_then(|entry| entry.get().ok());
    matches!(leaf, Some(Leaf::DevicePrivate { pfn: of, .. }) if of == pfn)
}
