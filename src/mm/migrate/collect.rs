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
use crate::seeded::seeded;

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
    let guard = match lock(batch, span, page) {
        Some(guard) => guard,
        None if may_sleep => {
            // Nothing is held but the PTL, which goes before the sleep.
            let guard = page.lock_releasing(entry);
            entry = mm.lock(at);
            let is_whole = || mm.span(pfn) == span || seeded!("split-not-noticed");
            if leads_still(mm, entry.get(), leaf, page).is_none() || !is_whole() {
                drop(entry);
                give_back(batch, guard);
                return Err(Outcome::Skipped(Skip::Changed));
            }
            guard
        }
        None => return Err(Outcome::Skipped(Skip::Locked)),
    };
    // The entry owns a reference, so the page is live, and it is locked, so nobody else freezes it.
    let own = match get(mm, span, page) {
        Ok(own) => own,
        Err(why) => {
            drop(entry);
            give_back(batch, guard);
            // Not free, or there would be no entry.
            return Err(if matches!(why, Outcome::Freed) { Outcome::Skipped(Skip::Uncounted) } else { why });
        }
    };
    drop(entry);
    begin(batch, index, span, guard, own)?;
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
    let guard = match lock(batch, span, page) {
        Some(guard) => guard,
        None if may_sleep => {
            // A reference across the sleep would stand in the way of the migration that is waited for. Headers stay where they are.
            put(mm, span, own);
            let guard = page.lock();
            match get(mm, span, page) {
                Ok(own) => return begin_as(batch, index, pfn, span, guard, own),
                Err(why) => {
                    give_back(batch, guard);
                    return Err(why);
                }
            }
        }
        None => {
            put(mm, span, own);
            return Err(Outcome::Skipped(Skip::Locked));
        }
    };
    begin_as(batch, index, pfn, span, guard, own)
}

/// `begin`, if frame `pfn` is still part of the page that was looked up without its lock.
fn begin_as<'m, M: Mm>(
    batch: &mut Batch<'_, 'm, M>,
    index: usize,
    pfn: u64,
    span: Span,
    guard: PageGuard<'m, M::Futex>,
    own: PageRef<'m, M::Futex>,
) -> Step<M> {
    if batch.mm.span(pfn) != span {
        put_and_give_back(batch, span, guard, own);
        return Err(Outcome::Skipped(Skip::Changed));
    }
    begin(batch, index, span, guard, own)
}

/// The page is locked and referred to: may it move?
fn begin<'m, M: Mm>(
    batch: &mut Batch<'_, 'm, M>,
    index: usize,
    span: Span,
    guard: PageGuard<'m, M::Futex>,
    own: PageRef<'m, M::Futex>,
) -> Step<M> {
    let mm = batch.mm;
    let is_fault = batch.fault.as_ref().is_some_and(|fault| fault.is_of(guard.page()));
    let (pins, refs) = (guard.page().pins(), guard.page().refs());
    if refs == 1 && pins == 0 && !is_fault {
        // The one reference is the migrator's, so it was on its way out: done.
        put_and_give_back(batch, span, guard, own);
        return Err(Outcome::Freed);
    }
    let refused = if guard.is_poisoned() {
        Some(Skip::Poisoned)
    } else if pins > 0 && !batch.order.even_pinned {
        // Where it stays, now rather than after everything was taken down. One that comes later is seen by the freeze.
        Some(Skip::Pinned { pins })
    } else {
        mm.prepare(span.head, batch.order.mode).err().map(Skip::Refused)
    };
    if let Some(why) = refused {
        put_and_give_back(batch, span, guard, own);
        return Err(Outcome::Skipped(why));
    }
    let mut hand = Hand::new(own).with_cached(mm.cached(span.head));
    if is_fault {
        hand = hand.with_faulter(batch.fault.as_ref().and_then(|fault| fault.reference.as_ref()));
    }
    let src = Src { span, hand, is_fault };
    batch.slots[index].work = Work::Locked { src, page: guard.begin_migration() };
    Ok(())
}

/// The page's lock: the faulter's, if it is the faulter's page, or tried.
fn lock<'m, M: Mm>(batch: &mut Batch<'_, 'm, M>, span: Span, page: &'m PageLock<M::Futex>) -> Option<PageGuard<'m, M::Futex>> {
    debug_assert!(batch.mm.header(span.head).is_some_and(|p| core::ptr::eq(p, page)));
    match &mut batch.fault {
        Some(fault) if fault.is_of(page) => fault.guard.take(),
        _ => {
            if seeded!("sleeps-with-a-lock") {
                return Some(page.lock());
            }
            page.try_lock()
        }
    }
}

/// Undoes `lock`.
fn give_back<'m, M: Mm>(batch: &mut Batch<'_, 'm, M>, guard: PageGuard<'m, M::Futex>) {
    match &mut batch.fault {
        Some(fault) if fault.is_of(guard.page()) => fault.guard = Some(guard),
        _ => drop(guard),
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
    if own.put() == Put::Last && (!page.is_poisoned() || seeded!("lost-page-freed")) {
        mm.free(span.head);
    }
}

/// Reference first, lock second, as everywhere; and a page that is free then goes back.
fn put_and_give_back<'m, M: Mm>(
    batch: &mut Batch<'_, 'm, M>,
    span: Span,
    guard: PageGuard<'m, M::Futex>,
    own: PageRef<'m, M::Futex>,
) {
    let is_poisoned = guard.is_poisoned();
    batch.mm.account(span.head, Owner::Get, Change::Put);
    let put = own.put();
    give_back(batch, guard);
    if put == Put::Last && !is_poisoned {
        batch.mm.free(span.head);
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
