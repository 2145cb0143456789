//! The end of a migration whose page moves to another header.

use super::{CommitError, CommitRefused, Frozen};
use crate::futex::Futex;
use crate::lock::{PageGuard, Released};
use crate::page::PageLock;
use crate::refs::Put;
use crate::stats::{self, Counter};
use crate::sync::Ordering::{Relaxed, Release};
use crate::word::{Count, UserBits};

impl<'a, F: Futex> Frozen<'a, F> {
    /// Ends the migration of a page whose identity moves to another header, `dst`, which has
    /// references of its own for the entries that lead there.
    ///
    /// No reference moves: those that the source still counts stay there until they are put. The
    /// rest of the identity moves: the caller's [bits](PageLock::user) go to `dst`, in place of
    /// those it had, and the source's become zero. Both pages are unlocked, `dst` first, and all
    /// waiters for either are told. The new entries must be up before this call.
    ///
    /// To move raw references as well, use [`commit_to_moving`](Self::commit_to_moving). A
    /// [`PageRef`](crate::PageRef) cannot move, because its owner would not notice: get a new one
    /// of `dst` and drop the old one.
    ///
    /// # Errors
    ///
    /// [`CommitError`], with nothing changed and both handed back.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock, UserBits};
    ///
    /// let (old, new) = (PageLock::new(), PageLock::new());
    /// old.activate(1).unwrap(); // the migrator's own
    /// let mut guard = old.lock();
    /// guard.set_user(UserBits::new(1)); // "dirty"
    /// let frozen = guard.begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap();
    /// // ... copy ...
    /// let destination = new.lock();
    /// new.activate(2).unwrap(); // two new entries
    /// frozen.commit_to(destination).unwrap();
    /// assert_eq!((new.refs(), new.user()), (2, UserBits::new(1)));
    /// assert_eq!((old.refs(), old.user()), (1, UserBits::new(0)));
    /// ```
    pub fn commit_to<'d>(self, dst: PageGuard<'d, F>) -> Result<Committed, CommitError<'a, 'd, F>> {
        self.commit(dst, 0)
    }

    /// [`commit_to`](Self::commit_to) that moves `refs` references along: `dst` counts them from
    /// now on, on top of those it has, and the source does not.
    ///
    /// Until then `dst` does not have them: a thread that comes through a new entry before this
    /// call may find [`GetError::Free`](crate::GetError::Free) and a locked page, and must wait.
    ///
    /// # Safety
    ///
    /// The references are *raw*, and the caller's: [`PageLock::activate`] made them or an
    /// `into_raw` left them, no [`PageRef`](crate::PageRef) stands for them, and no other thread
    /// will put them. They are raw references to `dst` afterwards. A freeze counts references and
    /// does not know whose they are, so [`FreezeRule::ExactRefs`](crate::FreezeRule::ExactRefs)
    /// does not prove this. A guard whose reference has moved away would put another holder's once
    /// the source is used again.
    ///
    /// # Errors
    ///
    /// [`CommitError`], with nothing changed and both handed back.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock, Put};
    ///
    /// let (old, new) = (PageLock::new(), PageLock::new());
    /// old.activate(2).unwrap(); // mapped twice
    /// let frozen = old.lock().begin_migration().freeze(FreezeRule::ExactRefs(2)).unwrap();
    /// // ... copy, put up the new entries ...
    /// // SAFETY: they are the two that `activate` made, and belong to the entries.
    /// let committed = unsafe { frozen.commit_to_moving(new.lock(), 2) }.unwrap();
    /// assert_eq!((old.refs(), new.refs()), (0, 2));
    /// assert_eq!(committed.source, Put::Last); // the old page is free
    /// ```
    pub unsafe fn commit_to_moving<'d>(
        self,
        dst: PageGuard<'d, F>,
        refs: u32,
    ) -> Result<Committed, CommitError<'a, 'd, F>> {
        self.commit(dst, refs)
    }

    fn commit<'d>(
        self,
        mut dst: PageGuard<'d, F>,
        refs: u32,
    ) -> Result<Committed, CommitError<'a, 'd, F>> {
        let source = match self.page().move_refs(dst.page(), refs) {
            Ok(source) => source,
            Err(why) => return Err(CommitError { why, frozen: self, dst }),
        };
        stats::count(Counter::Commits);
        // In this order, so that after a death in between the stage tells a survivor what is left
        // to do. Most pages have no such bits, and then this writes nothing.
        let user = self.page().user();
        if dst.page().user() != user {
            dst.set_user(user);
        }
        let moved = Moved { page: self.forget() };
        moved.page.thaw();
        if user != UserBits::default() {
            moved.page.write_user(UserBits::default());
        }
        dst.unlock();
        let Released { event_waiters } = moved.release();
        Ok(Committed { source, event_waiters })
    }
}

/// The source of a commit that is past every refusal and not released yet. Dropping it releases the
/// source: telling of the destination may panic.
struct Moved<'a, F: Futex> {
    page: &'a PageLock<F>,
}

impl<F: Futex> Moved<'_, F> {
    fn release(self) -> Released {
        let page = self.page;
        core::mem::forget(self);
        page.release(true, false)
    }
}

impl<F: Futex> Drop for Moved<'_, F> {
    fn drop(&mut self) {
        self.page.release(true, false);
    }
}

/// The outcome of a commit to another header.
#[must_use = "if the last references moved away, only this says that the source is free"]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Committed {
    /// Whether the source has references left. [`Put::Last`] if the last ones have moved away: the
    /// source is free, and only this says so.
    pub source: Put,
    /// A wait or a claim had asked to be told of the source's release, and was told.
    pub event_waiters: bool,
}

impl<F: Futex> PageLock<F> {
    /// Moves `refs` references from this page, which is frozen, to `dst`, which the caller owns.
    /// Returns whether any are left.
    fn move_refs(&self, dst: &Self, refs: u32) -> Result<Put, CommitRefused> {
        if core::ptr::eq(self, dst) {
            return Err(CommitRefused::SamePage);
        }
        if dst.is_poisoned() {
            return Err(CommitRefused::Poisoned);
        }
        if dst.counts().is_frozen() {
            return Err(CommitRefused::Frozen);
        }
        if refs == 0 {
            return Ok(Put::Kept);
        }
        // While the source is frozen its references only get fewer, and no other thread may put
        // those that move. So this look holds, and every refusal comes before any change: a thread
        // that puts a reference to either page meanwhile sees a correct count.
        let have = self.refs();
        if have < refs {
            return Err(CommitRefused::TooFew { have, move_: refs });
        }
        let mut there = dst.counts();
        loop {
            if there.is_frozen() {
                return Err(CommitRefused::Frozen);
            }
            let Some(next) = there.plus_refs(refs) else {
                return Err(CommitRefused::Overflow { have: there.refs(), move_: refs });
            };
            // Release: pairs with the Acquire of get and pin, for the destination's new holders.
            match dst.count.compare_exchange_weak(there.0, next.0, Release, Relaxed) {
                Ok(_) => break,
                Err(now) => there = Count(now),
            }
        }
        match self.give_back(|seen| seen.minus_refs(refs)) {
            Some(left) => Ok(Put::of(left)),
            None => {
                // A thread put a reference that it did not have, against an unsafe contract.
                debug_assert!(false, "unbalanced release of {self:?} during a commit");
                let _ = dst.give_back(|seen| seen.minus_refs(refs));
                Err(CommitRefused::TooFew { have: self.refs(), move_: refs })
            }
        }
    }
}
