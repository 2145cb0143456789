//! The page's lock as a raw mutex for the `lock_api` crate. With feature `lock_api`.
//!
//! ```
//! use pagelock::lock_api::Mutex;
//!
//! static TOTAL: Mutex<u64> = Mutex::new(0);
//! *TOTAL.lock() += 1;
//! assert!(TOTAL.try_lock_for(std::time::Duration::from_millis(1)).is_some());
//! assert_eq!(*TOTAL.lock(), 1);
//! ```

use crate::{OsFutex, PageGuard, PageLock};

/// The crate itself, in the version that this module speaks of.
pub use ::lock_api;
pub use ::lock_api::{RawMutex, RawMutexFair, RawMutexTimed};

/// A page header used for its lock alone. Guards may be sent to other threads.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct RawPageLock(PageLock);

/// A mutex around a `T`, on a page's lock.
pub type Mutex<T> = ::lock_api::Mutex<RawPageLock, T>;

/// The guard of a [`Mutex`].
pub type MutexGuard<'a, T> = ::lock_api::MutexGuard<'a, RawPageLock, T>;

impl RawPageLock {
    /// The header whose lock this is.
    #[must_use]
    pub fn page(&self) -> &PageLock {
        &self.0
    }

    /// The guard for a lock that `lock_api` says is held.
    ///
    /// # Safety
    ///
    /// The lock is held, and the caller is to release it.
    unsafe fn held(&self) -> PageGuard<'_, OsFutex> {
        // SAFETY: every acquisition below forgot its guard, and the caller is entitled to release.
        unsafe { PageGuard::from_raw(&self.0) }
    }
}

// SAFETY: `lock` and a successful `try_lock` own the page until `unlock`, and PageLock excludes
// other owners meanwhile.
unsafe impl RawMutex for RawPageLock {
    #[allow(clippy::declare_interior_mutable_const)] // What lock_api asks for: a fresh lock at each use.
    const INIT: Self = Self(PageLock::new());

    type GuardMarker = ::lock_api::GuardSend;

    #[inline]
    fn lock(&self) {
        self.0.lock().forget();
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.0.try_lock().map(PageGuard::forget).is_some()
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: the trait's contract: the lock is held by the caller's context.
        unsafe { self.held() }.unlock();
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

// SAFETY: `unlock_fair` releases as `unlock` does, and `bump` releases and acquires.
unsafe impl RawMutexFair for RawPageLock {
    unsafe fn unlock_fair(&self) {
        // SAFETY: the trait's contract: the lock is held by the caller's context.
        unsafe { self.held() }.unlock_fair();
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
// SAFETY: a successful timed attempt owns the page exactly as `lock` does.
unsafe impl RawMutexTimed for RawPageLock {
    type Duration = core::time::Duration;
    #[cfg(feature = "std")]
    type Instant = std::time::Instant;
    #[cfg(not(feature = "std"))]
    type Instant = crate::futex::MonotonicTime;

    fn try_lock_for(&self, timeout: Self::Duration) -> bool {
        self.0.try_lock_for(timeout).map(PageGuard::forget).is_some()
    }

    fn try_lock_until(&self, timeout: Self::Instant) -> bool {
        #[allow(clippy::useless_conversion)] // Without std it is that type.
        let limits = crate::Limits::none().until(timeout.into());
        self.0.lock_within(limits).map(PageGuard::forget).is_ok()
    }
}
