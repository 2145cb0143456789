//! The first stage: which page is meant, is it one that can be moved, lock it, take down the entry that led to it.

use super::slot::{Batch, Src, What, Work};
use super::{Mode, Outcome, Skip};
use crate::leaf::Leaf;
use crate::lock::PageGuard;
use crate::mm::fault::leads_still;
use crate::mm::ledger::{Change, Hand, Owner};
use crate::mm::{Entry, Mm, Span};
use crate::page::PageLock;
use crate::refs::{GetError, PageRef, Put};

/// Collects all pages that are to do. With `may_sleep`, which is for a batch of one, waits for locks.
pub(super) fn collect<M: Mm>(batch: &mut Batch<'_, '_, M>, may_sleep: bool) {
    debug_assert!(!may_sleep || batch.slots.len() <= 1, "with a lock held, locks are tried and not waited for");
    for index in 0..batch.slots.len() {
        if !batch.is_to_do(index) {
            continue;
        }
        batch.slots[index].lost = 0;
        let collected = match batch.slots[index].what {
            What::At(at) => at_address(batch, index, at, may_sleep),
            What::Frame(pfn) => at_frame(batch, index, pfn, may_sleep),
        };
        if let Err(outcome) = collected {
            batch.slots[index].outcome = outcome;
        }
    }
}

type Step<M> = Result<(), Outcome<<M as crate::mm::Tiers>::Refusal>>;

fn at_address<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize, at: M::Address, may_sleep: bool) -> Step<M> {
    let mm = batch.mm;
    let mut entry = mm.lock(at);
    let leaf = Leaf::decode(entry.get()).map_err(|e| Outcome::Skipped(Skip::Unknown(e)))?;
    let pfn = match leaf {
        Leaf::None => return hole(batch, index, at, &entry),
        Leaf::Present { pfn, .. } if mm.is_zero_frame(pfn) => return hole(batch, index, at, &entry),
        Leaf::Present { pfn, .. } | Leaf::DevicePrivate { pfn, .. } => pfn,
        other => return Err(not_movable(other)),
    };
    let span = mm.span(pfn);
    let page = mm.header(span.head).ok_or(Outcome::Skipped(Skip::NoFrame))?;
    is_selected(batch, span)?;
    let lock = match lock(batch, span, page) {
        Some(lock) => lock,
        None if may_sleep => {
            // Nothing is held but the PTL, which goes before the sleep.
            let guard = page.lock_releasing(entry);
            entry = mm.lock(at);
            let is_whole = || mm.span(pfn) == span;
            if leads_still(mm, entry.get(), leaf, page).is_none() || !is_whole() {
                drop(entry);
                drop(guard);
                return Err(Outcome::Skipped(Skip::Changed));
            }
            Lock::Own(guard)
        }
        None => return Err(Outcome::Skipped(Skip::Locked)),
    };
    // The entry owns a reference, so the page is live, and it is locked, so nobody else freezes it.
    let own = match get(mm, span, page) {
        Ok(own) => own,
        Err(why) => {
            drop(entry);
            drop(lock);
            // Not free, or there would be no entry.
            return Err(if matches!(why, Outcome::Freed) { Outcome::Skipped(Skip::Uncounted) } else { why });
        }
    };
    let held = Held::new(mm, span, lock, own);
    drop(entry);
    begin(batch, index, held)?;
    // The entry again, now that the caller was asked: it may have changed, and is then another mapping's business.
    super::unmap::take_down(mm, span, page, at);
    Ok(())
}

fn at_frame<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize, pfn: u64, may_sleep: bool) -> Step<M> {
    let mm = batch.mm;
    let span = mm.span(pfn);
    let page = mm.header(span.head).ok_or(Outcome::Skipped(Skip::NoFrame))?;
    is_selected(batch, span)?;
    // The reference first: without an entry it is what keeps the page a page.
    let own = get(mm, span, page)?;
    let lock = match lock(batch, span, page) {
        Some(lock) => lock,
        None if may_sleep => {
            // A reference across the sleep would stand in the way of the migration that is waited for. Headers stay where they are.
            put(mm, span, own);
            let guard = page.lock();
            match get(mm, span, page) {
                Ok(own) => return begin_as(batch, index, pfn, Held::new(mm, span, Lock::Own(guard), own)),
                Err(why) => {
                    drop(guard);
                    return Err(why);
                }
            }
        }
        None => {
            put(mm, span, own);
            return Err(Outcome::Skipped(Skip::Locked));
        }
    };
    begin_as(batch, index, pfn, Held::new(mm, span, lock, own))
}

/// `begin`, if frame `pfn` is still part of the page that was looked up without its lock.
fn begin_as<'m, M: Mm>(batch: &mut Batch<'_, 'm, M>, index: usize, pfn: u64, held: Held<'m, M>) -> Step<M> {
    if batch.mm.span(pfn) != held.span {
        return Err(Outcome::Skipped(Skip::Changed));
    }
    begin(batch, index, held)
}

/// The page is locked and referred to: may it move? If not, `held` is let go of.
fn begin<'m, M: Mm>(batch: &mut Batch<'_, 'm, M>, index: usize, mut held: Held<'m, M>) -> Step<M> {
    let (mm, span, page) = (batch.mm, held.span, held.page);
    let is_fault = batch.fault.as_ref().is_some_and(|fault| fault.is_of(page));
    let (pins, refs) = (page.pins(), page.refs());
    if refs == 1 && pins == 0 && !is_fault {
        // The one reference is the migrator's, so it was on its way out: done.
        return Err(Outcome::Freed);
    }
    let refused = if page.is_poisoned() {
        Some(Skip::Poisoned)
    } else if pins > 0 && !batch.order.even_pinned {
        // Where it stays, now rather than after everything was taken down. One that comes later is seen by the freeze.
        Some(Skip::Pinned { pins })
    } else {
        mm.prepare(span.head, batch.order.mode).err().map(Skip::Refused)
    };
    if let Some(why) = refused {
        return Err(Outcome::Skipped(why));
    }
    let cached = mm.cached(span.head);
    // From here to the end of this nobody else's code is run. After that it is the batch that puts the page back.
    let Some((own, lock)) = held.own.take() else { return Err(Outcome::Skipped(Skip::Changed)) };
    let (guard, reference) = match (lock, &mut batch.fault) {
        (Lock::Own(guard), _) => (Some(guard), None),
        (Lock::Faulters, Some(fault)) => (fault.guard.take(), fault.reference.as_ref()),
        (Lock::Faulters, None) => (None, None),
    };
    // It is there: `lock` has seen it, and nobody else gets at the faulter's meanwhile.
    let Some(guard) = guard else { return Err(Outcome::Skipped(Skip::Locked)) };
    let hand = Hand::new(own).with_cached(cached).with_faulter(reference);
    let src = Src { span, hand, is_fault };
    batch.slots[index].work = Work::Locked { src, page: guard.begin_migration() };
    Ok(())
}

/// A page's lock.
enum Lock<'m, M: Mm> {
    /// The migrator's.
    Own(PageGuard<'m, M::Futex>),
    /// The faulter's, and with the faulter as long as nothing is done to the page.
    Faulters,
}

/// The page's lock: the faulter's, if it is the faulter's page, or tried.
fn lock<'m, M: Mm>(batch: &Batch<'_, 'm, M>, span: Span, page: &'m PageLock<M::Futex>) -> Option<Lock<'m, M>> {
    debug_assert!(batch.mm.header(span.head).is_some_and(|p| core::ptr::eq(p, page)));
    match &batch.fault {
        Some(fault) if fault.is_of(page) => fault.is_owned().then_some(Lock::Faulters),
        _ => page.try_lock().map(Lock::Own),
    }
}

/// A page that is locked and referred to. Dropping it, also while a panic unwinds, puts the reference first and lets go of the lock second,
/// as everywhere; and a page that is free then goes back.
struct Held<'m, M: Mm> {
    mm: &'m M,
    span: Span,
    page: &'m PageLock<M::Futex>,
    own: Option<(PageRef<'m, M::Futex>, Lock<'m, M>)>,
}

impl<'m, M: Mm> Held<'m, M> {
    fn new(mm: &'m M, span: Span, lock: Lock<'m, M>, own: PageRef<'m, M::Futex>) -> Self {
        Self { mm, span, page: own.page(), own: Some((own, lock)) }
    }
}

impl<M: Mm> Drop for Held<'_, M> {
    fn drop(&mut self) {
        let Some((own, lock)) = self.own.take() else { return };
        let is_poisoned = self.page.is_poisoned();
        self.mm.account(self.span.head, Owner::Get, Change::Put);
        let put = own.put();
        drop(lock);
        if put == Put::Last && !is_poisoned {
            self.mm.free(self.span.head);
        }
    }
}

fn get<'m, M: Mm>(mm: &'m M, span: Span, page: &'m PageLock<M::Futex>) -> Result<PageRef<'m, M::Futex>, Outcome<M::Refusal>> {
    let own = page.try_get().map_err(|why| match why {
        GetError::Free => Outcome::Freed,
        GetError::Poisoned => Outcome::Skipped(Skip::Poisoned),
        GetError::Frozen => Outcome::Skipped(Skip::Migrating),
        _ => Outcome::Skipped(Skip::Uncountable),
    })?;
    mm.account(span.head, Owner::Get, Change::Taken);
    Ok(own)
}

fn put<M: Mm>(mm: &M, span: Span, own: PageRef<'_, M::Futex>) {
    let page = own.page();
    mm.account(span.head, Owner::Get, Change::Put);
    // The lock's owner may have found the contents lost since the reference was taken. A frame that is lost is not used again.
    if own.put() == Put::Last && !page.is_poisoned() {
        mm.free(span.head);
    }
}

fn hole<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize, at: M::Address, entry: &M::Entry<'_>) -> Step<M> {
    if !batch.order.fill_holes || entry.hole().is_none() {
        return Err(Outcome::Skipped(Skip::Hole));
    }
    batch.slots[index].work = Work::Hole { at, was: entry.get(), dst: None };
    Ok(())
}

fn is_selected<M: Mm>(batch: &Batch<'_, '_, M>, span: Span) -> Step<M> {
    let tier = batch.mm.tier(span.head);
    match batch.order.from {
        _ if tier == batch.order.to => Err(Outcome::AlreadyThere),
        Some(from) if tier != from => Err(Outcome::Skipped(Skip::NotSelected)),
        _ => Ok(()),
    }
}

fn not_movable<R>(leaf: Leaf) -> Outcome<R> {
    Outcome::Skipped(match leaf {
        Leaf::Swap { .. } => Skip::Swapped,
        Leaf::Migration { .. } => Skip::Migrating,
        Leaf::DeviceExclusive { .. } => Skip::Exclusive,
        Leaf::Poison { .. } => Skip::Poisoned,
        Leaf::Marker(marker) => Skip::Marker(marker),
        _ => Skip::Hole,
    })
}

/// So that the policy's meaning stands in one place.
pub(super) fn may_sleep(mode: Mode) -> bool {
    mode != Mode::Async
}
