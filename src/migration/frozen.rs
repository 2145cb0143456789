//! A page whose counts stand still, and its ways out.

use super::{CommitError, CommitRefused, Migration};
use crate::futex::{Futex, OsFutex};
use crate::lock::{PageGuard, Released};
use crate::page::PageLock;
use crate::refs::Put;
use crate::stats::{self, Counter};
use crate::sync::Ordering::{Relaxed, Release};
use crate::word::count::FROZEN;
use crate::word::{Count, UserBits};

/// A page whose counts stand still: locked, MIGRATING, no pins, no new references. Dropping it
/// aborts.
#[must_use = "the migration is aborted when this is dropped"]
pub struct Frozen<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> Frozen<'a, F> {
    /// The stage of a page that the caller has frozen.
    pub(super) const fn of(page: &'a PageLock<F>) -> Self {
        Self { page }
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Writes the caller's bits. Release: see [`PageLock::user`].
    pub fn set_user(&mut self, user: UserBits) {
        self.page.write_user(user);
    }

    /// Ends the migration of a page whose header stays, because the header belongs to the guest's
    /// page and only the backing memory has moved: thawed, unlocked, all who wait for it told.
    ///
    /// Release: whoever gets, pins or locks the page afterwards sees it in its new place. Entries
    /// must be up before this.
    pub fn commit_in_place(self) -> Released {
        stats::count(Counter::Commits);
        let page = self.forget();
        page.thaw();
        page.release(true, false)
    }

    /// [`commit_in_place`](Self::commit_in_place) that keeps the lock, for whoever has more to do
    /// with the page: those who wait for the migration are woken now, as by [`Migration::cancel`].
    pub fn commit_keeping(self) -> PageGuard<'a, F> {
        stats::count(Counter::Commits);
        self.thaw().end_keeping()
    }

    /// Ends the migration of a page whose identity moves to another header, `dst`, which has
    /// references of its own: the entries that lead there.
    ///
    /// No reference moves. Those that are still counted on the source stay there until they are
    /// put. What moves is the rest of the identity: the caller's [bits](PageLock::user) go to
    /// `dst`, in place of those it had, and the source's become zero. Both pages are unlocked,
    /// `dst` first, and all who wait for either are told. Entries must be up before this.
    ///
    /// If references are to be counted on `dst` instead of the source, and they are raw, that is
    /// [`commit_to_moving`](Self::commit_to_moving). A [`PageRef`](crate::PageRef) cannot move,
    /// because nobody could tell its owner: get a new one of `dst` and drop the old one.
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

    /// [`commit_to`](Self::commit_to) that moves `refs` references along: they are counted on `dst`
    /// from now on, on top of those it has, and not on the source any more.
    ///
    /// Until then `dst` does not have them: whoever comes through a new entry before this may find
    /// [`GetError::Free`](crate::GetError::Free) and a page that is locked, to be waited for.
    ///
    /// # Safety
    ///
    /// The references are *raw*, and the caller's: those that [`PageLock::activate`] made or an
    /// `into_raw` left, that no [`PageRef`](crate::PageRef) stands for and nobody else is going to
    /// put. They are raw references to `dst` afterwards. A freeze counts references and does not
    /// know whose they are, so [`FreezeRule::ExactRefs`](crate::FreezeRule::ExactRefs) proves
    /// nothing of the kind. A guard that is left without its reference would put somebody else's
    /// once the source is used again.
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
    /// // SAFETY: the two that the page was made with, which belong to the entries.
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
        let source = match self.page.move_refs(dst.page(), refs) {
            Ok(source) => source,
            Err(why) => return Err(CommitError { why, frozen: self, dst }),
        };
        stats::count(Counter::Commits);
        // In this order, so that a survivor of a death in between knows by the stage what is left
        // to do. Most pages have no such bits, and then nothing is written.
        let user = self.page.user();
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

    /// Lets the counts move again and goes back to the stage before.
    pub fn thaw(self) -> Migration<'a, F> {
        let page = self.forget();
        page.thaw();
        Migration { page }
    }

    /// Ends the migration without having moved anything: thawed, unlocked, and all who wait for it
    /// told.
    pub fn abort(self) -> Released {
        self.thaw().abort()
    }

    /// Marks the contents lost for good (the copy failed halfway, the source is unreadable) and
    /// ends the migration. See [`PageGuard::poison`]. The counts are not thawed in between, so
    /// nobody gets hold of what is left.
    pub fn poison(self) -> Released {
        stats::count(Counter::Aborts);
        self.forget().poison(true)
    }

    /// Forgets the stage and leaves the page frozen, for [`from_raw`](Self::from_raw).
    pub fn into_raw(self) -> &'a PageLock<F> {
        self.forget()
    }

    /// The frozen stage of a page that is frozen and has no [`Frozen`]. After a death
    /// [`PageLock::take_over`] is the better way: it finds out which stage it was.
    ///
    /// # Safety
    ///
    /// As for [`PageGuard::from_raw`]: the right to end it is the caller's, from one
    /// [`into_raw`](Self::into_raw). A debug build panics, with nothing changed, if the page is not
    /// frozen at all.
    pub unsafe fn from_raw(page: &'a PageLock<F>) -> Self {
        debug_assert!(
            page.is_migrating() && page.is_frozen(),
            "from_raw of a page that is not frozen: {page:?}"
        );
        Self { page }
    }

    fn forget(self) -> &'a PageLock<F> {
        let page = self.page;
        core::mem::forget(self);
        page
    }
}

impl<F: Futex> Drop for Frozen<'_, F> {
    fn drop(&mut self) {
        self.page.thaw();
        self.page.abort_migration();
    }
}

/// The source of a commit that cannot be refused any more, and is not released yet. Dropping it
/// thaws and releases it: telling of the destination may panic.
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

/// What a commit to another header came to.
#[must_use = "if the last references have moved away, this is the one place that says that the source is free"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Whether the source has references left. [`Put::Last`] if the last ones have moved away: it
    /// is free, and this is the one place that says so.
    pub source: Put,
    /// Somebody had registered for the source's release and was told.
    pub event_waiters: bool,
}

impl<F: Futex> PageLock<F> {
    pub(super) fn thaw(&self) {
        debug_assert!(self.counts().is_frozen(), "{self:?}");
        // Release: pairs with the Acquire of get and pin.
        self.count.fetch_and(!FROZEN, Release);
    }

    /// Moves `refs` references from this page, which is frozen, to `dst`, which the caller owns;
    /// and says whether any are left.
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
        // While the source is frozen its references only get fewer, and those that are to move are
        // nobody else's to put. So this look holds, and everything that can be refused is refused
        // before anything changes: whoever puts a reference to either page meanwhile sees a count
        // that is right.
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
                // Somebody has put what was not theirs, against the contract of an unsafe function.
                debug_assert!(false, "unbalanced release of {self:?} during a commit");
                let _ = dst.give_back(|seen| seen.minus_refs(refs));
                Err(CommitRefused::TooFew { have: self.refs(), move_: refs })
            }
        }
    }
}
