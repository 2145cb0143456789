//! The first stage: which page is meant, is it one that can be moved, lock it, take down the entry
//! that led to it.
//!
//! By address that is one visit to the entry: its page-table lock is held from the look to the
//! migration entry, so nobody can find the page's entry present and the page locked by this.

use super::batch::Batch;
use super::slot::{NO_FRAME, Src, What, Work};
use super::{Mode, Outcome, Skip};
use crate::leaf::Leaf;
use crate::lock::PageGuard;
use crate::mm::fault::leads_still;
use crate::mm::ledger::{Change, Hand, Owner};
use crate::mm::range::invalidating;
use crate::mm::{Cause, Entry, Mm, Span, Tables};
use crate::page::PageLock;
use crate::refs::{GetError, PageRef, Put};

/// Collects the pages that are to do, as many as a batch may have.
pub(super) fn collect<M: Mm>(batch: &mut Batch<'_, '_, M>) {
    debug_assert!(
        !batch.may_sleep || batch.slots.len() <= 1,
        "with a lock held, locks are tried and not waited for"
    );
    let mut left = batch.order.batch.max(1);
    for index in 0..batch.slots.len() {
        if left == 0 || !batch.is_to_do(index) {
            continue;
        }
        let collected = match batch.slots[index].what {
            What::At(at) => at_address(batch, index, at),
            What::Frame(pfn) => at_frame(batch, index, pfn),
        };
        match collected {
            Ok(()) => left -= 1,
            Err(outcome) => batch.slots[index].set(outcome),
        }
    }
}

type Step<M> = Result<(), Outcome<<M as crate::mm::Tiers>::Refusal>>;

fn at_address<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize, at: M::Address) -> Step<M> {
    let mm = batch.mm;
    let mut invalidation = invalidating(mm, at, batch.notice(Cause::Migrate));
    let mut entry = mm.lock(at).ok_or(Outcome::Skipped(Skip::Hole))?;
    let leaf = entry.get().map_err(|e| Outcome::Skipped(Skip::Unknown(e)))?;
    let pfn = match leaf {
        Leaf::None => return hole(batch, index, &entry, leaf),
        Leaf::Present { pfn, .. } if mm.is_zero_frame(pfn) => {
            return hole(batch, index, &entry, leaf);
        }
        Leaf::Present { pfn, .. } | Leaf::DevicePrivate { pfn, .. } => pfn,
        // The device is to be waited for, and that with nothing else in hand.
        Leaf::DeviceExclusive { pfn, .. } if batch.mode() != Mode::Async => pfn,
        other => return Err(not_movable(other)),
    };
    let span = mm.span(pfn);
    let page = mm.header(span.head).ok_or(Outcome::Skipped(Skip::NoFrame))?;
    is_selected(batch, span)?;
    let lock = match lock(batch, page) {
        Some(lock) => lock,
        None if batch.may_sleep => {
            // Nothing is held but the PTL, which goes before the sleep; and readers are not to wait
            // for it.
            let guard = page.lock_releasing((entry, invalidation));
            invalidation = invalidating(mm, at, batch.notice(Cause::Migrate));
            let again = mm.lock(at);
            let is_whole = || mm.span(pfn) == span;
            match again.filter(|entry| {
                leads_still(mm, entry.get().ok(), leaf, page).is_some() && is_whole()
            }) {
                Some(again) => entry = again,
                None => {
                    drop(guard);
                    return Err(Outcome::Skipped(Skip::Changed));
                }
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
            return Err(if matches!(why, Outcome::Freed) {
                Outcome::Skipped(Skip::Uncounted)
            } else {
                why
            });
        }
    };
    let held = Held { mm, span, page, own: Some((own, lock)) };
    let mode = batch.mode();
    if mode == Mode::Async && !matches!(leaf, Leaf::DeviceExclusive { .. }) {
        match begin(batch, index, held, mode) {
            Ok(()) => {}
            Err((outcome, held)) => {
                // What is let go of may be freed, which is nothing to do with a page-table lock
                // held.
                drop(entry);
                drop(held);
                return Err(outcome);
            }
        }
        if let Work::Locked(src) = &mut batch.slots[index].work {
            src.is_first_down = super::unmap::replace(mm, src, &mut entry);
            batch.is_unflushed |= src.is_first_down;
        }
        drop(entry);
        drop(invalidation);
        return Ok(());
    }
    // The caller may sleep when asked, and a device may have to be waited for.
    drop(entry);
    drop(invalidation);
    begin(batch, index, held, mode).map_err(|(outcome, _)| outcome)?;
    // The entry again: it may have changed, and is then another mapping's business.
    super::unmap::take_down(batch, index, at);
    if let Work::Locked(src) = &mut batch.slots[index].work {
        src.is_first_down = src.hand.taken > 0;
    }
    Ok(())
}

/// The lock first and the reference second: without the lock a reference is one that nobody
/// expects, and would abort the migration of whoever has it. Headers stay where they are, so
/// nothing else keeps this one.
fn at_frame<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize, pfn: u64) -> Step<M> {
    let mm = batch.mm;
    let span = mm.span(pfn);
    let page = mm.header(span.head).ok_or(Outcome::Skipped(Skip::NoFrame))?;
    is_selected(batch, span)?;
    if page.refs() == 0 && page.pins() == 0 {
        // Whoever has taken it from the free ones may want its lock.
        let is_poisoned = page.is_poisoned();
        return Err(if is_poisoned { Outcome::Skipped(Skip::Poisoned) } else { Outcome::Freed });
    }
    let lock = match lock(batch, page) {
        Some(lock) => lock,
        None if batch.may_sleep => Lock::Own(page.lock()),
        None => return Err(Outcome::Skipped(Skip::Locked)),
    };
    if mm.span(pfn) != span {
        drop(lock);
        return Err(Outcome::Skipped(Skip::Changed));
    }
    let own = match get(mm, span, page) {
        Ok(own) => own,
        Err(why) => {
            drop(lock);
            return Err(why);
        }
    };
    let mode = batch.mode();
    begin(batch, index, Held { mm, span, page, own: Some((own, lock)) }, mode)
        .map_err(|(outcome, _)| outcome)
}

type Begun<'m, M> = Result<(), (Outcome<<M as crate::mm::Tiers>::Refusal>, Held<'m, M>)>;

/// The page is locked and referred to: may it move? If not, `held` is the caller's to let go of.
fn begin<'m, M: Mm>(
    batch: &mut Batch<'_, 'm, M>,
    index: usize,
    mut held: Held<'m, M>,
    mode: Mode,
) -> Begun<'m, M> {
    let (mm, span, page) = (batch.mm, held.span, held.page);
    let is_fault = batch.fault.as_ref().is_some_and(|fault| fault.is_of(page));
    let (pins, refs) = (page.pins(), page.refs());
    if refs == 1 && pins == 0 && !is_fault {
        // The one reference is the migrator's, so it was on its way out: done.
        return Err((Outcome::Freed, held));
    }
    let refused = if page.is_poisoned() {
        Some(Skip::Poisoned)
    } else if pins > 0 && !batch.order.even_pinned {
        // Where it stays, now rather than after everything was taken down. One that comes later is
        // seen by the freeze.
        Some(Skip::Pinned { pins })
    } else {
        mm.prepare(span.head, mode).err().map(Skip::Refused)
    };
    if let Some(why) = refused {
        return Err((Outcome::Skipped(why), held));
    }
    let cached = mm.cached(span.head);
    // From here to the end of this nobody else's code is run. After that it is the batch that puts
    // the page back.
    let Some((own, lock)) = held.own.take() else {
        return Err((Outcome::Skipped(Skip::Changed), held));
    };
    let (guard, has_faulter) = match (lock, &mut batch.fault) {
        (Lock::Own(guard), _) => (Some(guard), false),
        (Lock::Faulters, Some(fault)) => (fault.guard.take(), fault.reference.is_some()),
        (Lock::Faulters, None) => (None, false),
    };
    // It is there: `lock` has seen it, and nobody else gets at the faulter's meanwhile.
    let Some(guard) = guard else {
        held.own = Some((own, Lock::Faulters));
        return Err((Outcome::Skipped(Skip::Locked), held));
    };
    own.into_raw();
    guard.begin_migration().into_raw();
    let mut src = Src::new(page, span, Hand { taken: 0, cached });
    src.is_fault = is_fault;
    src.is_followed = is_fault;
    src.has_faulters = has_faulter;
    batch.slots[index].work = Work::Locked(src);
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
fn lock<'m, M: Mm>(batch: &Batch<'_, 'm, M>, page: &'m PageLock<M::Futex>) -> Option<Lock<'m, M>> {
    match &batch.fault {
        Some(fault) if fault.is_of(page) => fault.is_owned().then_some(Lock::Faulters),
        _ => page.try_lock().map(Lock::Own),
    }
}

/// A page that is locked and referred to. Dropping it, also while a panic unwinds, puts the
/// reference first and lets go of the lock second, as everywhere; and a page that is free then goes
/// back.
struct Held<'m, M: Mm> {
    mm: &'m M,
    span: Span,
    page: &'m PageLock<M::Futex>,
    own: Option<(PageRef<'m, M::Futex>, Lock<'m, M>)>,
}

impl<M: Mm> Drop for Held<'_, M> {
    fn drop(&mut self) {
        let Some((own, lock)) = self.own.take() else { return };
        let is_poisoned = self.page.is_poisoned();
        self.mm.account(self.span.head, Owner::Get, Change::Put);
        let put = own.put();
        drop(lock);
        // A frame whose contents are lost is not used again.
        if put == Put::Last && !is_poisoned {
            self.mm.free(self.span.head);
        }
    }
}

fn get<'m, M: Mm>(
    mm: &'m M,
    span: Span,
    page: &'m PageLock<M::Futex>,
) -> Result<PageRef<'m, M::Futex>, Outcome<M::Refusal>> {
    let own = page.try_get().map_err(|why| match why {
        GetError::Free => Outcome::Freed,
        GetError::Poisoned => Outcome::Skipped(Skip::Poisoned),
        GetError::Frozen => Outcome::Skipped(Skip::Migrating),
        _ => Outcome::Skipped(Skip::Uncountable),
    })?;
    mm.account(span.head, Owner::Get, Change::Taken);
    Ok(own)
}

fn hole<M: Mm>(
    batch: &mut Batch<'_, '_, M>,
    index: usize,
    entry: &<M as Tables>::Entry<'_>,
    was: Leaf,
) -> Step<M> {
    if !batch.order.fill_holes || entry.hole().is_none() {
        return Err(Outcome::Skipped(Skip::Hole));
    }
    let order = u8::try_from(entry.order()).unwrap_or(u8::MAX);
    batch.slots[index].work = Work::Hole { was, order, dst: NO_FRAME };
    Ok(())
}

fn is_selected<M: Mm>(batch: &Batch<'_, '_, M>, span: Span) -> Step<M> {
    use super::Select;
    let (mm, to) = (batch.mm, batch.order.to);
    let tier = mm.tier(span.head);
    let is_selected = match &batch.order.select {
        Select::Elsewhere if tier == to => return Err(Outcome::AlreadyThere),
        Select::Elsewhere => true,
        Select::Tier(from) if tier == to && *from != to => return Err(Outcome::AlreadyThere),
        Select::Tier(from) => tier == *from,
        Select::Frames(..) => batch.order.select.is_left(span),
        Select::If(chosen) => chosen(mm, span),
    };
    if is_selected { Ok(()) } else { Err(Outcome::Skipped(Skip::NotSelected)) }
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
