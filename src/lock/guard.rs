//! The guard of an owned page.

use super::Released;
use crate::futex::Futex;
use crate::owner;
use crate::page::PageLock;
use crate::sync::Ordering::{Relaxed, Release};
#[allow(unused_imports)] // For the documentation.
use crate::wait::Wake;
use crate::word::{State, UserBits};
use core::fmt;

/// Ownership of a page. Dropping it releases the page.
///
/// It is [`Send`]: the thread that finishes an I/O need not be the one that started it. For an
/// owner that cannot carry a guard at all there are [`into_raw`](Self::into_raw) and
/// [`from_raw`](Self::from_raw).
#[must_use = "the page is released when the guard is dropped"]
pub struct PageGuard<'a, F: Futex = crate::OsFutex> {
    pub(crate) page: &'a PageLock<F>,
}

impl<'a, F: Futex> PageGuard<'a, F> {
    /// The page that this owns.
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Whether the page's contents are lost. Exact while the guard lives: only the owner poisons.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.page.is_poisoned()
    }

    /// Releases the page, as dropping the guard does, and says whether somebody waited for it.
    ///
    /// Release: the next owner sees what this one did.
    #[inline]
    pub fn unlock(self) -> Released {
        self.forget().release(false, false)
    }

    /// Releases the page to the lockers that sleep for it, if there are any: it closes the gate, so
    /// no newcomer takes the page before all of them had it. If there are none it gives those a
    /// chance who look for the page awake: it calls [`Futex::relax`]. Where every release is fair,
    /// threads own the page about equally often.
    ///
    /// Costs a sleeper's wake-up time in which nobody owns the page, for each of them, or that
    /// call; the ordinary release does not.
    pub fn unlock_fair(self) -> Released {
        self.forget().release_fair()
    }

    /// Marks the contents lost for good and releases the page. From now on waits for it return
    /// [`Wake::Poisoned`] at once, and get, pin, freeze, claim and activate fail: the counts stay
    /// frozen. References and pins that exist can be dropped.
    pub fn poison(self) -> Released {
        self.forget().poison(false)
    }

    /// Writes the caller's five bits. Release: see [`PageLock::user`].
    pub fn set_user(&mut self, user: UserBits) {
        let state = &self.page.state;
        let mut seen = self.page.state();
        // Release: pairs with the Acquire of `user`.
        while let Err(now) =
            state.compare_exchange_weak(seen.0, seen.with_user(user).0, Release, Relaxed)
        {
            seen = State(now);
        }
    }

    /// Forgets the guard and leaves the page locked, for somebody else to release through
    /// [`from_raw`](Self::from_raw).
    ///
    /// The answer dates the hold: [`from_raw_of`](Self::from_raw_of) uses it to notice a stale
    /// release.
    pub fn into_raw(self) -> Hold {
        Hold { generation: self.forget().generation() }
    }

    /// The guard of a page that is locked and has no guard.
    ///
    /// # Safety
    ///
    /// The page is locked, and the right to release it is the caller's: it comes from one
    /// [`into_raw`](Self::into_raw) that was not used yet. Otherwise the release frees a page under
    /// somebody else's hands; memory that the lock protects is then accessed by two owners. A debug
    /// build panics, with nothing changed, if the page is not locked at all.
    pub unsafe fn from_raw(page: &'a PageLock<F>) -> Self {
        debug_assert!(page.state().is_locked(), "from_raw of a page that is not locked: {page:?}");
        Self { page }
    }

    /// [`from_raw`](Self::from_raw), for a hold that is known.
    ///
    /// # Safety
    ///
    /// As for `from_raw`. A debug build panics also if `hold` is over and the page was locked again
    /// since (up to a multiple of 256 releases).
    pub unsafe fn from_raw_of(page: &'a PageLock<F>, hold: Hold) -> Self {
        debug_assert_eq!(page.generation(), hold.generation, "stale release of {page:?}");
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

    /// Takes the guard apart without releasing.
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

impl<F: Futex> fmt::Debug for PageGuard<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PageGuard").field(self.page).finish()
    }
}

/// One hold of a page, from acquisition to release: what [`PageGuard::into_raw`] leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    generation: u8,
}
