//! The first stage: find the page, see whether it can be moved, lock it, take down the entry that
//! led to it.
//!
//! By address that is one visit to the entry: its page-table lock is held from the look to the
//! migration entry, so nobody finds the entry present and the page locked by this.

use super::pass::Pass;
use super::slot::{NO_FRAME, PageName, Src, Work};
use super::{Mode, Outcome, Skip};
use crate::leaf::Leaf;
use crate::lock::PageGuard;
use crate::mm::fault::leads_still;
use crate::mm::ledger::{Change, Hand, Owner};
use crate::mm::range::invalidating;
use crate::mm::{Cause, Entry, Mm, Span, Tables};
use crate::page::PageLock;
use crate::refs::{GetError, PageRef, Put};

/// Collects the pending pages, as many as a batch may have.
pub(super) fn collect<M: Mm>(pass: &mut Pass<'_, '_, M>) {
    debug_assert!(
        !pass.may_sleep || pass.slots.len() <= 1,
        "with a lock held, locks are tried and not waited for"
    );
    let mut left = pass.order.batch.max(1);
    for index in 0..pass.slots.len() {
        if left == 0 || !pass.is_to_do(index) {
            continue;
        }
        let collected = match pass.slots[index].what {
            PageName::At(at) => at_address(pass, index, at),
            PageName::Frame(pfn) => at_frame(pass, index, pfn),
        };
        match collected {
            Ok(()) => left -= 1,
            Err(outcome) => pass.slots[index].set(outcome),
        }
    }
}

type Verdict<M> = Result<(), Outcome<<M as crate::mm::Tiers>::Refusal>>;

fn at_address<M: Mm>(pass: &mut Pass<'_, '_, M>, index: usize, at: M::Address) -> Verdict<M> {
    let mm = pass.mm;
    let mut invalidation = invalidating(mm, at, pass.notice(Cause::Migrate));
    let mut entry = mm.lock(at).ok_or(Outcome::Skipped(Skip::Hole))?;
    let leaf = entry.get().map_err(|e| Outcome::Skipped(Skip::Unknown(e)))?;
    let pfn = match leaf {
        Leaf::None => return hole(pass, index, &entry, leaf),
        Leaf::Present { pfn, .. } if mm.is_zero_frame(pfn) => {
            return hole(pass, index, &entry, leaf);
        }
        Leaf::Present { pfn, .. } | Leaf::DevicePrivate { pfn, .. } => pfn,
        // The device must be waited for, with nothing else in hand.
        Leaf::DeviceExclusive { pfn, .. } if pass.mode() != Mode::Async => pfn,
        other => return Err(not_movable(other)),
    };
    let span = mm.span(pfn);
    let page = mm.header(span.head).ok_or(Outcome::Skipped(Skip::NoFrame))?;
    is_selected(pass, span)?;
    let lock = match lock(pass, page) {
        Some(lock) => lock,
        None if pass.may_sleep => {
            // Only the PTL is held, and the invalidation is on: the sleep releases the one, and
            // readers must not wait for the other.
            let guard = page.lock_releasing((entry, invalidation));
            invalidation = invalidating(mm, at, pass.notice(Cause::Migrate));
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
    // The entry owns a reference, so the page is live; it is locked, so nobody else freezes it.
    let own = match get(mm, span, page) {
        Ok(own) => own,
        Err(why) => {
            drop(entry);
            drop(lock);
            // It is not free, or there would be no entry.
            return Err(if matches!(why, Outcome::Freed) {
                Outcome::Skipped(Skip::Uncounted)
            } else {
                why
            });
        }
    };
    let candidate = Candidate { mm, span, page, own: Some((own, lock)) };
    let mode = pass.mode();
    if mode == Mode::Async && !matches!(leaf, Leaf::DeviceExclusive { .. }) {
        match begin(pass, index, candidate, mode) {
            Ok(()) => {}
            Err((outcome, candidate)) => {
                // This may free the page, which must not happen with a page-table lock held.
                drop(entry);
                drop(candidate);
                return Err(outcome);
            }
        }
        if let Work::Locked(src) = &mut pass.slots[index].work {
            src.is_first_down = super::unmap::replace(mm, src, &mut entry);
            pass.is_unflushed |= src.is_first_down;
        }
        drop(entry);
        drop(invalidation);
        return Ok(());
    }
    // `prepare` may sleep, and a device may have to be waited for.
    drop(entry);
    drop(invalidation);
    begin(pass, index, candidate, mode).map_err(|(outcome, _)| outcome)?;
    // The entry again: it may have changed, and another mapping is then in charge of it.
    super::unmap::take_down(pass, index, at);
    if let Work::Locked(src) = &mut pass.slots[index].work {
        src.is_first_down = src.hand.taken > 0;
    }
    Ok(())
}

/// The lock first and the reference second: a reference without the lock is unexpected, and would
/// abort the migration of the thread that has the lock. Headers are type-stable, so nothing else
/// needs to keep this one.
fn at_frame<M: Mm>(pass: &mut Pass<'_, '_, M>, index: usize, pfn: u64) -> Verdict<M> {
    let mm = pass.mm;
    let span = mm.span(pfn);
    let page = mm.header(span.head).ok_or(Outcome::Skipped(Skip::NoFrame))?;
    is_selected(pass, span)?;
    if page.refs() == 0 && page.pins() == 0 {
        // A thread that has just allocated it may want its lock.
        let is_poisoned = page.is_poisoned();
        return Err(if is_poisoned { Outcome::Skipped(Skip::Poisoned) } else { Outcome::Freed });
    }
    let lock = match lock(pass, page) {
        Some(lock) => lock,
        None if pass.may_sleep => Lock::Own(page.lock()),
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
    let mode = pass.mode();
    begin(pass, index, Candidate { mm, span, page, own: Some((own, lock)) }, mode)
        .map_err(|(outcome, _)| outcome)
}

type Begun<'m, M> = Result<(), (Outcome<<M as crate::mm::Tiers>::Refusal>, Candidate<'m, M>)>;

/// The page is locked and referred to: may it move? If not, the caller releases `candidate`.
fn begin<'m, M: Mm>(
    pass: &mut Pass<'_, 'm, M>,
    index: usize,
    mut candidate: Candidate<'m, M>,
    mode: Mode,
) -> Begun<'m, M> {
    let (mm, span, page) = (pass.mm, candidate.span, candidate.page);
    let is_fault = pass.fault.as_ref().is_some_and(|fault| fault.is_of(page));
    let (pins, refs) = (page.pins(), page.refs());
    if refs == 1 && pins == 0 && !is_fault {
        // The only reference is the migrator's, so the page was on its way out: done.
        return Err((Outcome::Freed, candidate));
    }
    let refused = if page.is_poisoned() {
        Some(Skip::Poisoned)
    } else if pins > 0 && !pass.order.even_pinned {
        // Refused here rather than after everything was taken down. The freeze sees a pin that
        // comes later.
        Some(Skip::Pinned { pins })
    } else {
        mm.prepare(span.head, mode).err().map(Skip::Refused)
    };
    if let Some(why) = refused {
        return Err((Outcome::Skipped(why), candidate));
    }
    let cached = mm.cached(span.head);
    // From here to the end of this no code of the embedder's is run. After that the pass puts the
    // page back.
    let Some((own, lock)) = candidate.own.take() else {
        return Err((Outcome::Skipped(Skip::Changed), candidate));
    };
    let (guard, has_faulter) = match (lock, &mut pass.fault) {
        (Lock::Own(guard), _) => (Some(guard), false),
        (Lock::Faulters, Some(fault)) => (fault.guard.take(), fault.reference.is_some()),
        (Lock::Faulters, None) => (None, false),
    };
    // It is there: `lock` has seen it, and nobody else gets at the faulter's meanwhile.
    let Some(guard) = guard else {
        candidate.own = Some((own, Lock::Faulters));
        return Err((Outcome::Skipped(Skip::Locked), candidate));
    };
    own.into_raw();
    guard.begin_migration().into_raw();
    let mut src = Src::new(page, span, Hand { taken: 0, cached });
    src.is_fault = is_fault;
    src.is_followed = is_fault;
    src.has_faulters = has_faulter;
    pass.slots[index].work = Work::Locked(src);
    Ok(())
}

/// A page's lock.
enum Lock<'m, M: Mm> {
    /// The migrator's.
    Own(PageGuard<'m, M::Futex>),
    /// The faulter's. The faulter keeps it as long as nothing is done to the page.
    Faulters,
}

/// The page's lock: the faulter's, if it is the faulter's page, and otherwise by a try.
fn lock<'m, M: Mm>(pass: &Pass<'_, 'm, M>, page: &'m PageLock<M::Futex>) -> Option<Lock<'m, M>> {
    match &pass.fault {
        Some(fault) if fault.is_of(page) => fault.is_owned().then_some(Lock::Faulters),
        _ => page.try_lock().map(Lock::Own),
    }
}

/// A page that is locked and referred to. Dropping it, also while a panic unwinds, puts the
/// reference first and releases the lock second, as everywhere, and then frees a page without
/// references.
struct Candidate<'m, M: Mm> {
    mm: &'m M,
    span: Span,
    page: &'m PageLock<M::Futex>,
    own: Option<(PageRef<'m, M::Futex>, Lock<'m, M>)>,
}

impl<M: Mm> Drop for Candidate<'_, M> {
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
    pass: &mut Pass<'_, '_, M>,
    index: usize,
    entry: &<M as Tables>::Entry<'_>,
    was: Leaf,
) -> Verdict<M> {
    if !pass.order.fill_holes || entry.hole().is_none() {
        return Err(Outcome::Skipped(Skip::Hole));
    }
    let order = u8::try_from(entry.order()).unwrap_or(u8::MAX);
    pass.slots[index].work = Work::Hole { was, order, dst: NO_FRAME };
    Ok(())
}

fn is_selected<M: Mm>(pass: &Pass<'_, '_, M>, span: Span) -> Verdict<M> {
    use super::Select;
    let (mm, to) = (pass.mm, pass.order.to);
    let tier = mm.tier(span.head);
    let is_selected = match &pass.order.select {
        Select::Elsewhere if tier == to => return Err(Outcome::AlreadyThere),
        Select::Elsewhere => true,
        Select::Tier(from) if tier == to && *from != to => return Err(Outcome::AlreadyThere),
        Select::Tier(from) => tier == *from,
        Select::Frames(..) => pass.order.select.is_left(span),
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
