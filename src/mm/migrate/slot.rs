//! The work list.

use super::{Abort, FaultPage, Order, Outcome, Summary};
use crate::leaf::FRAME_LIMIT;
use crate::lock::PageGuard;
use crate::migration::{Frozen, Migration};
use crate::mm::drain::Unlocked;
use crate::mm::ledger::{Change, Hand, Owner};
use crate::mm::{Mm, Span};
use crate::refs::{PageRef, Put};
use core::fmt;
use core::marker::PhantomData;

/// What a slot is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What<A> {
    /// Whatever page the entry at this address is for.
    At(A),
    /// The page at this frame.
    Frame(u64),
}

/// One page of a migration: what is to be moved, and afterwards what became of it.
pub struct Slot<'m, M: Mm> {
    pub(super) what: What<M::Address>,
    pub(super) work: Work<'m, M>,
    pub(super) outcome: Outcome<M::Refusal>,
    pub(super) lost: u32,
}

impl<M: Mm> Slot<'_, M> {
    /// The page at an address.
    #[must_use]
    pub fn at(at: M::Address) -> Self {
        Self { what: What::At(at), work: Work::Idle, outcome: Outcome::Pending, lost: 0 }
    }

    /// The page at a frame.
    #[must_use]
    pub fn frame(pfn: u64) -> Self {
        Self { what: What::Frame(pfn), work: Work::Idle, outcome: Outcome::Pending, lost: 0 }
    }

    /// What it is about.
    #[must_use]
    pub fn what(&self) -> What<M::Address> {
        self.what
    }

    /// What became of it.
    #[must_use]
    pub fn outcome(&self) -> Outcome<M::Refusal> {
        self.outcome
    }

    /// How many frames were found lost: 1 if it was poisoned, and any number if it was [split](Outcome::Split), whose outcome does not say
    /// why a frame has not moved.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.lost
    }
}

impl<M: Mm> fmt::Debug for Slot<'_, M>
where
    M::Address: fmt::Debug,
    M::Refusal: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("what", &self.what)
            .field("outcome", &self.outcome)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

/// How far a slot has come.
pub(super) enum Work<'m, M: Mm> {
    /// Nothing is held.
    Idle,
    /// Nothing is held; the entry was `was`, and a new page is to take its place if it still is.
    Hole { at: M::Address, was: u64, dst: Option<Dst<'m, M>> },
    /// Locked, and some or all entries are taken down.
    Locked { src: Src<'m, M>, page: Migration<'m, M::Futex> },
    /// Frozen, all entries are taken down.
    Frozen { src: Src<'m, M>, page: Frozen<'m, M::Futex>, dst: Option<Dst<'m, M>> },
}

/// A page that is being moved.
pub(super) struct Src<'m, M: Mm> {
    pub(super) span: Span,
    pub(super) hand: Hand<'m, M::Futex>,
    /// Whether its lock is a faulter's.
    pub(super) is_fault: bool,
}

/// Where it goes: a live page, locked, with one reference, all of them the migrator's.
pub(super) struct Dst<'m, M: Mm> {
    pub(super) span: Span,
    pub(super) lock: PageGuard<'m, M::Futex>,
    pub(super) own: PageRef<'m, M::Futex>,
}

/// What all stages have. Dropping it puts everything back.
pub(super) struct Batch<'s, 'm, M: Mm> {
    pub(super) mm: &'m M,
    pub(super) slots: &'s mut [Slot<'m, M>],
    pub(super) order: Order<M>,
    pub(super) fault: Option<&'s mut FaultPage<'m, M::Futex>>,
    /// What the batch has of its thread's for as long as it has pages, if that is not a fault handler, who has none.
    unlocked: PhantomData<&'s mut Unlocked>,
}

impl<'s, 'm, M: Mm> Batch<'s, 'm, M> {
    pub(super) fn new(mm: &'m M, slots: &'s mut [Slot<'m, M>], order: &Order<M>, unlocked: &'s mut Unlocked) -> Self {
        let _ = unlocked;
        Self { mm, slots, order: *order, fault: None, unlocked: PhantomData }
    }

    pub(super) fn for_fault(
        mm: &'m M,
        slots: &'s mut [Slot<'m, M>],
        order: &Order<M>,
        fault: &'s mut FaultPage<'m, M::Futex>,
    ) -> Self {
        Self { mm, slots, order: *order, fault: Some(fault), unlocked: PhantomData }
    }
}

impl<'m, M: Mm> Batch<'_, 'm, M> {
    pub(super) fn in_work(&self) -> usize {
        self.slots.iter().filter(|slot| !matches!(slot.work, Work::Idle)).count()
    }

    /// Takes the work of slot `index`, which is idle then.
    pub(super) fn take(&mut self, index: usize) -> Work<'m, M> {
        core::mem::replace(&mut self.slots[index].work, Work::Idle)
    }

    pub(super) fn is_to_do(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        matches!(slot.work, Work::Idle) && matches!(slot.outcome, Outcome::Pending)
    }

    /// Ends a page's migration with the page as it was: entries, then the lock, then what is left of the references.
    pub(super) fn put_back(&mut self, index: usize, why: Abort) {
        self.slots[index].outcome = Outcome::Aborted(why);
        match self.take(index) {
            Work::Idle => {}
            Work::Hole { dst, .. } => {
                if let Some(dst) = dst {
                    dst.discard(self.mm);
                }
            }
            Work::Locked { src, page } => self.restore(src, page),
            Work::Frozen { src, page, dst } => {
                // Thawed first: entries want their references back.
                let page = page.thaw();
                if let Some(dst) = dst {
                    dst.discard(self.mm);
                }
                self.restore(src, page);
            }
        }
    }

    pub(super) fn restore(&mut self, src: Src<'m, M>, page: Migration<'m, M::Futex>) {
        super::finalize::put_up(self.mm, src.span, src.span, page.page());
        self.let_go(src, |fault| match fault {
            Some(fault) => fault.guard = Some(page.cancel()),
            None => drop(page.abort()),
        });
    }

    /// Puts the migrator's reference, has `release` give the lock back, and frees the page if nobody is left to do so.
    ///
    /// In this order: the reference would be one too many for whoever locks the page next, and a free page is not to be locked.
    pub(super) fn let_go(&mut self, src: Src<'m, M>, release: impl FnOnce(Option<&mut FaultPage<'m, M::Futex>>)) {
        let Src { span, hand, is_fault } = src;
        self.mm.account(span.head, Owner::Get, Change::Put);
        let put = hand.put();
        release(if is_fault { self.fault.as_deref_mut() } else { None });
        if put == Put::Last {
            self.mm.free(span.head);
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary { tries: 1, ..Summary::default() };
        for slot in &*self.slots {
            summary.poisoned += slot.lost;
            match slot.outcome {
                Outcome::Poisoned => {}
                outcome if outcome.is_done() => summary.done += 1,
                outcome => {
                    summary.left += 1;
                    summary.transient += u32::from(outcome.is_transient());
                }
            }
        }
        summary
    }
}

impl<M: Mm> Drop for Batch<'_, '_, M> {
    fn drop(&mut self) {
        for index in 0..self.slots.len() {
            if !matches!(self.slots[index].work, Work::Idle) {
                self.put_back(index, Abort::Abandoned);
            }
        }
    }
}

impl<'m, M: Mm> Dst<'m, M> {
    /// Makes the free page at `pfn` live, and locks it.
    pub(super) fn new(mm: &'m M, pfn: u64, order: u32) -> Result<Self, Abort> {
        // Before anything is asked about it: no entry could say that the page is there, and so none would.
        if pfn >= FRAME_LIMIT {
            return Err(Abort::BadDestination);
        }
        let span = mm.span(pfn);
        // Not ours to free: it is no frame, or not the first of its page, or somebody's page.
        let Some(page) = mm.header(pfn) else { return Err(Abort::BadDestination) };
        if span.head != pfn || FRAME_LIMIT.saturating_sub(pfn) < span.len() {
            return Err(Abort::BadDestination);
        }
        if page.refs() > 0 || page.pins() > 0 || page.is_poisoned() {
            return Err(Abort::BadDestination);
        }
        if span.order != order {
            mm.free(pfn);
            return Err(Abort::SizeMismatch);
        }
        // Tried, because other pages' locks are held. Nobody knows of a free page but those who look at frames one by one.
        let Some(lock) = page.try_lock() else {
            mm.free(pfn);
            return Err(Abort::DestinationBusy);
        };
        if page.activate(1).is_err() {
            // Not ours to free: it is no free page.
            return Err(Abort::BadDestination);
        }
        mm.account(pfn, Owner::Get, Change::Taken);
        // SAFETY: the reference that the page was made live with, and nobody else knows of it.
        let own = unsafe { PageRef::from_raw(page) };
        Ok(Self { span, lock, own })
    }

    /// Drops the migrator's hold of a page that nobody uses after all.
    pub(super) fn discard(self, mm: &M) {
        self.release(mm, drop);
    }

    /// Puts the migrator's reference and has `unlock` give the lock back. Whether that was the last reference; then the page is free.
    pub(super) fn release(self, mm: &M, unlock: impl FnOnce(PageGuard<'m, M::Futex>)) -> bool {
        let Self { span, lock, own } = self;
        mm.account(span.head, Owner::Get, Change::Put);
        let put = own.put();
        unlock(lock);
        if put == Put::Last {
            mm.free(span.head);
        }
        put == Put::Last
    }
}
