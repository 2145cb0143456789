//! The guard of an owned page.

use super::Released;
use crate::futex::Futex;
use crate::owner;
use crate::page::PageLock;
use crate::sync::Ordering::{Relaxed, Release};
use crate::word::{State, UserBits};

/// Ownership of a page. Dropping it releases the page.
///
/// It is [`Send`]: the thread that finishes an I/O need not be the one that started it. An owner
/// that cannot carry a guard uses [`into_raw`](Self::into_raw) and [`from_raw`](Self::from_raw).
///
/// Linux's `folio_lock` is the same lock: `PG_locked`, without a thread that owns it.
#[must_use = "the page is released when the guard is dropped"]
pub struct PageGuard<'a, F: Futex = crate::OsFutex> {
    pub(crate) page: &'a PageLock<F>,
}

impl<'a, F: Futex> PageGuard<'a, F> {
    /// Returns the page that this guard owns.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let guard = page.lock();
    /// assert!(std::ptr::eq(guard.page(), &page));
    /// ```
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Returns whether the page's contents are lost. Exact while the guard lives: only an owner
    /// poisons a page.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// page.lock().poison();
    /// assert!(page.lock().is_poisoned()); // A poisoned page can still be locked.
    /// ```
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.page.is_poisoned()
    }

    /// Releases the page, as dropping the guard does, and returns whether a thread was waiting to
    /// be told.
    ///
    /// Release: the next owner sees what this one did.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let released = page.lock().unlock();
    /// assert!(!released.event_waiters && !page.is_locked());
    /// ```
    #[inline]
    pub fn unlock(self) -> Released {
        self.forget().release(false, false)
    }

    /// Releases the page to the lockers that sleep for it. If there are any, it closes the
    /// [gate](crate::lock), so no newcomer takes the page before each of them has owned it. If
    /// there are none, it calls [`Futex::relax`], to give a locker that looks for the page awake a
    /// chance. Where every release is fair, threads own the page about equally often.
    ///
    /// With sleepers it costs the time in which each of them wakes up, while the page has no owner;
    /// without, that call. An ordinary release costs neither.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// std::thread::scope(|s| {
    ///     for _ in 0..3 {
    ///         s.spawn(|| (0..100).for_each(|_| drop(PAGE.lock().unlock_fair())));
    ///     }
    /// });
    /// assert_eq!((PAGE.is_locked(), PAGE.sleepers()), (false, 0));
    /// ```
    pub fn unlock_fair(self) -> Released {
        self.forget().release_fair()
    }

    /// Marks the contents lost for good and releases the page (Linux: `PG_hwpoison`).
    ///
    /// From then on waits for the page return [`Wake::Poisoned`](crate::Wake::Poisoned) at once,
    /// and get, pin, freeze, claim and activate fail, because the counts stay frozen. Existing
    /// references and pins can be dropped.
    ///
    /// ```
    /// use pagelock::{GetError, PageLock, Wake};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// page.lock().poison();
    /// assert_eq!(page.wait_unlocked(()), Wake::Poisoned);
    /// assert_eq!(page.try_get().unwrap_err(), GetError::Poisoned);
    /// ```
    pub fn poison(self) -> Released {
        self.forget().poison(false)
    }

    /// Writes the caller's five bits. Release: see [`PageLock::user`].
    ///
    /// ```
    /// use pagelock::{PageLock, UserBits};
    ///
    /// let page = PageLock::new();
    /// let mut guard = page.lock();
    /// guard.set_user(UserBits::new(3));
    /// assert_eq!(page.user().get(), 3);
    /// ```
    pub fn set_user(&mut self, user: UserBits) {
        let (state, with) = (&self.page.state, |seen: u32| State(seen).with_user(user).0);
        let mut seen = self.page.state().0;
        // Release: pairs with the Acquire of `user`.
        while let Err(now) = state.compare_exchange_weak(seen, with(seen), Release, Relaxed) {
            seen = now;
        }
    }

    /// Forgets the guard and leaves the page locked, for [`from_raw`](Self::from_raw) to release.
    ///
    /// The returned [`Hold`] identifies this hold: [`from_raw_of`](Self::from_raw_of) uses it to
    /// notice a stale release.
    ///
    /// ```
    /// use pagelock::{PageGuard, PageLock};
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// let hold = PAGE.lock().into_raw(); // an I/O begins
    /// assert!(PAGE.is_locked());
    /// // ... in the I/O's completion:
    /// // SAFETY: the hold is that of the `into_raw` above, and this is its only release.
    /// drop(unsafe { PageGuard::from_raw_of(&PAGE, hold) });
    /// assert!(!PAGE.is_locked());
    /// ```
    pub fn into_raw(self) -> Hold {
        Hold(self.forget().generation())
    }

    /// Makes the guard of a page that is locked and has no guard.
    ///
    /// # Safety
    ///
    /// The page is locked, and the caller has the right to release it, from one
    /// [`into_raw`](Self::into_raw) that was not used yet. Otherwise the release frees a page that
    /// another thread owns, and two owners access the memory that the lock protects.
    ///
    /// # Panics
    ///
    /// In a debug build, with nothing changed, if the page is not locked at all.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{PageGuard, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.lock().into_raw();
    /// // SAFETY: the page is locked by the line above, which left the right to release it.
    /// unsafe { PageGuard::from_raw(&page) }.unlock();
    /// assert!(!page.is_locked());
    /// ```
    pub unsafe fn from_raw(page: &'a PageLock<F>) -> Self {
        debug_assert!(page.state().is_locked(), "from_raw of a page that is not locked: {page:?}");
        Self { page }
    }

    /// [`from_raw`](Self::from_raw), for a known hold.
    ///
    /// # Safety
    ///
    /// As for `from_raw`.
    ///
    /// # Panics
    ///
    /// In a debug build, as `from_raw`, and if `hold` is over and the page was locked again since
    /// (unless a multiple of 256 releases came between).
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{PageGuard, PageLock};
    ///
    /// let page = PageLock::new();
    /// let hold = page.lock().into_raw();
    /// // SAFETY: as for `from_raw`: the hold is this one, and not released yet.
    /// unsafe { PageGuard::from_raw_of(&page, hold) }.unlock();
    /// ```
    pub unsafe fn from_raw_of(page: &'a PageLock<F>, hold: Hold) -> Self {
        debug_assert_eq!(page.generation(), hold.0, "stale release of {page:?}");
        // SAFETY: the caller's promise is the same.
        unsafe { Self::from_raw(page) }
    }

    /// Has the page's owner recorded: this function's caller. Nothing without feature `owner`.
    #[inline(always)]
    #[cfg_attr(feature = "owner", track_caller)]
    pub(crate) fn noted(self) -> Self {
        owner::note(self.page);
        self
    }

    /// Takes the guard apart without a release.
    pub(crate) fn forget(self) -> &'a PageLock<F> {
        let page = self.page;
        core::mem::forget(self);
        page
    }
}

impl<F: Futex> Drop for PageGuard<'_, F> {
    #[inline]
    fn drop(&mut self) {
        self.page.release(false, false);
    }
}

/// One hold of a page, from acquisition to release, by the page's
/// [generation](PageLock::generation). [`PageGuard::into_raw`] returns it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hold(u8);
