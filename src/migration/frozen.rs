//! A page with frozen counts, and how its migration ends.

use super::Migration;
use crate::futex::{Futex, OsFutex};
use crate::lock::{PageGuard, Released};
use crate::page::PageLock;
use crate::stats::{self, Counter};
use crate::sync::Ordering::Release;
use crate::word::UserBits;
use crate::word::count::FROZEN;

/// A page with frozen counts: locked, MIGRATING, no pins, no new references. Dropping it aborts the
/// migration.
#[must_use = "the migration is aborted when this is dropped"]
pub struct Frozen<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> Frozen<'a, F> {
    /// The stage of a page that the caller has frozen.
    pub(super) const fn of(page: &'a PageLock<F>) -> Self {
        Self { page }
    }

    /// Returns the page.
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// let frozen = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
    /// assert!(frozen.page().is_frozen());
    /// ```
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Writes the caller's bits. Release: see [`PageLock::user`].
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock, UserBits};
    ///
    /// let page = PageLock::new();
    /// let mut frozen = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
    /// frozen.set_user(UserBits::new(4)); // "in the slow tier"
    /// frozen.commit_in_place();
    /// assert_eq!(page.user().get(), 4);
    /// ```
    pub fn set_user(&mut self, user: UserBits) {
        self.page.write_user(user);
    }

    /// Ends the migration of a page that keeps its header, because the header belongs to the
    /// guest's page and only the backing memory has moved: thaws the counts, unlocks the page,
    /// tells all waiters.
    ///
    /// Release: a thread that gets, pins or locks the page afterwards sees it in its new place. The
    /// new entries must be up before this call.
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let frozen = page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap();
    /// // ... copy, put up the new entries ...
    /// frozen.commit_in_place();
    /// assert!(page.try_pin().is_ok());
    /// ```
    pub fn commit_in_place(self) -> Released {
        stats::count(Counter::Commits);
        let page = self.forget();
        page.thaw();
        page.release(true, false)
    }

    /// [`commit_in_place`](Self::commit_in_place) that keeps the lock, for more work on the page.
    /// Waiters for the migration are woken now, as by [`Migration::cancel`].
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// let frozen = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
    /// let guard = frozen.commit_keeping();
    /// assert!(page.is_locked() && !page.is_migrating() && !page.is_frozen());
    /// drop(guard);
    /// ```
    pub fn commit_keeping(self) -> PageGuard<'a, F> {
        stats::count(Counter::Commits);
        self.thaw().end_keeping()
    }

    /// Thaws the counts and goes back to the stage before.
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let frozen = page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap();
    /// let migration = frozen.thaw();
    /// assert!(page.try_get().is_ok());
    /// migration.abort();
    /// ```
    pub fn thaw(self) -> Migration<'a, F> {
        let page = self.forget();
        page.thaw();
        Migration { page }
    }

    /// Ends the migration without a move: thaws the counts, unlocks the page, tells all waiters.
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// let frozen = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
    /// // ... the copy fails; put back the old entries ...
    /// frozen.abort();
    /// assert!(!page.is_locked());
    /// ```
    pub fn abort(self) -> Released {
        self.thaw().abort()
    }

    /// Marks the contents lost for good, because the copy failed halfway or the source is
    /// unreadable, and ends the migration: see [`PageGuard::poison`]. The counts do not thaw in
    /// between, so no thread can get the remains.
    ///
    /// ```
    /// use pagelock::{FreezeRule, GetError, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let frozen = page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap();
    /// frozen.poison();
    /// assert_eq!(page.try_get().unwrap_err(), GetError::Poisoned);
    /// ```
    pub fn poison(self) -> Released {
        stats::count(Counter::Aborts);
        self.forget().poison(true)
    }

    /// Forgets the stage and leaves the page frozen, for [`from_raw`](Self::from_raw).
    ///
    /// ```
    /// use pagelock::{FreezeRule, Frozen, PageLock};
    ///
    /// let page = PageLock::new();
    /// let frozen = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
    /// let raw = frozen.into_raw(); // a DMA engine copies
    /// // ... in its completion:
    /// // SAFETY: the right to end the migration comes from the `into_raw` above.
    /// unsafe { Frozen::from_raw(raw) }.commit_in_place();
    /// ```
    pub fn into_raw(self) -> &'a PageLock<F> {
        self.forget()
    }

    /// Makes the stage of a page that is frozen and has none. After a death use
    /// [`PageLock::take_over`], which finds the stage.
    ///
    /// # Safety
    ///
    /// As for [`PageGuard::from_raw`]: the caller has the right to end the migration, from one
    /// [`into_raw`](Self::into_raw).
    ///
    /// # Panics
    ///
    /// In a debug build, with nothing changed, if the page is not frozen at all.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{FreezeRule, Frozen, PageLock};
    ///
    /// let page = PageLock::new();
    /// let frozen = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
    /// let raw = frozen.into_raw();
    /// // SAFETY: the right to end the migration comes from the `into_raw` above.
    /// let frozen = unsafe { Frozen::from_raw(raw) };
    /// frozen.abort();
    /// ```
    pub unsafe fn from_raw(page: &'a PageLock<F>) -> Self {
        debug_assert!(
            page.is_migrating() && page.is_frozen(),
            "from_raw of a page that is not frozen: {page:?}"
        );
        Self { page }
    }

    pub(super) fn forget(self) -> &'a PageLock<F> {
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

impl<F: Futex> PageLock<F> {
    pub(super) fn thaw(&self) {
        debug_assert!(self.counts().is_frozen(), "{self:?}");
        // Release: pairs with the Acquire of get and pin.
        self.count.fetch_and(!FROZEN, Release);
    }
}
