//! The page to move to: live, locked, with all references the migrator's.

use super::slot::lock_of;
use super::{Abort, Select};
use crate::leaf::FRAME_LIMIT;
use crate::lock::PageGuard;
use crate::mm::ledger::{Change, Owner};
use crate::mm::{Mm, Span};
use crate::page::PageLock;
use crate::refs::Put;
use crate::word::UserBits;

/// A destination that was taken out of its slot, or is about to go there.
pub(super) struct Dst<'m, M: Mm> {
    mm: &'m M,
    pub(super) page: &'m PageLock<M::Futex>,
    pub(super) span: Span,
    /// References for the entries that will be put up, beside the migrator's own.
    pub(super) counted: u32,
    lock: Option<PageGuard<'m, M::Futex>>,
}

/// Why a frame is no destination.
pub(super) enum NoDst {
    /// The page is put back for this reason.
    Abort(Abort),
    /// It is free and busy. It is given back later, so that it is not handed out again at once.
    Later(u64, Abort),
}

impl<'m, M: Mm> Dst<'m, M> {
    /// Makes the free page at `pfn` live, with a reference for each of `counted` entries, and locks
    /// it.
    pub(super) fn new(
        mm: &'m M,
        pfn: u64,
        order: u32,
        counted: u32,
        select: &Select<M>,
    ) -> Result<Self, NoDst> {
        let bad = NoDst::Abort(Abort::BadDestination);
        // Before anything is asked about it: no entry could name the frame.
        if pfn >= FRAME_LIMIT {
            return Err(bad);
        }
        let span = mm.span(pfn);
        // Not ours to free: it is no frame, or not the first of its page, or another page.
        let Some(page) = mm.header(pfn) else { return Err(bad) };
        if span.head != pfn || FRAME_LIMIT.saturating_sub(pfn) < span.len() {
            return Err(bad);
        }
        if page.refs() > 0 || page.pins() > 0 || page.is_poisoned() {
            return Err(bad);
        }
        if span.order != order {
            mm.free(pfn);
            return Err(NoDst::Abort(Abort::SizeMismatch));
        }
        if select.is_left(span) {
            // The order empties this frame.
            return Err(NoDst::Later(pfn, Abort::NoDestination));
        }
        // Tried, because other pages' locks are held. Only scanners by frame know of a free page.
        let Some(mut lock) = page.try_lock() else {
            return Err(NoDst::Later(pfn, Abort::DestinationBusy));
        };
        if page.activate(1 + counted).is_err() {
            // Not ours to free: it is no free page.
            return Err(bad);
        }
        // The bits of the frame's last page are not this one's.
        if page.user() != UserBits::default() {
            lock.set_user(UserBits::default());
        }
        for _ in 0..=counted {
            mm.account(pfn, Owner::Get, Change::Taken);
        }
        Ok(Self { mm, page, span, counted, lock: Some(lock) })
    }

    /// The first frame, with the lock and the references left as they are: for a slot.
    pub(super) fn into_raw(mut self) -> u64 {
        if let Some(lock) = self.lock.take() {
            let _ = lock.into_raw();
        }
        self.span.head
    }

    /// What [`into_raw`](Self::into_raw) has left, for `counted` entries. `None` for a slot that
    /// has none.
    ///
    /// # Safety
    ///
    /// The caller has taken it out of its slot.
    pub(super) unsafe fn from_raw(mm: &'m M, pfn: u64, order: u32, counted: u32) -> Option<Self> {
        let page = if pfn == super::slot::NO_FRAME { None } else { mm.header(pfn) }?;
        // SAFETY: the caller's promise.
        let lock = Some(unsafe { lock_of(page) });
        Some(Self { mm, page, span: Span { head: pfn, order }, counted, lock })
    }

    /// Puts the migrator's references and has `unlock` give the lock back. Returns whether the page
    /// is free then.
    pub(super) fn release(mut self, unlock: impl FnOnce(PageGuard<'m, M::Futex>)) -> bool {
        self.lock.take().is_some_and(|lock| self.put(|| unlock(lock)))
    }

    fn put(&mut self, unlock: impl FnOnce()) -> bool {
        let put = put_raw(self.mm, self.page, self.span, core::mem::take(&mut self.counted) + 1);
        unlock();
        if put == Put::Last {
            self.mm.free(self.span.head);
        }
        put == Put::Last
    }

    /// The lock, to write what belongs to the page.
    pub(super) fn lock(&mut self) -> Option<&mut PageGuard<'m, M::Futex>> {
        self.lock.as_mut()
    }
}

impl<M: Mm> Drop for Dst<'_, M> {
    /// The destination is not used after all.
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            self.put(|| drop(lock));
        }
    }
}

/// Puts `n` of the migrator's references. Returns what was left after the last of them.
pub(super) fn put_raw<M: Mm>(mm: &M, page: &PageLock<M::Futex>, span: Span, n: u32) -> Put {
    for _ in 0..n {
        mm.account(span.head, Owner::Get, Change::Put);
    }
    // SAFETY: the migrator's own, from its hand or a destination that it has made.
    unsafe { page.put_raw_all(n) }
}
