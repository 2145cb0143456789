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
//!
//! | type | is |
//! |---|---|
//! | [`Mutex`], [`MutexGuard`] | the mutex around a `T` |
//! | [`MappedMutexGuard`] | the guard of a part of the `T`, from [`MutexGuard::map`] |
//! | `ReentrantMutex` and guards (`std`) | the mutex that its owner may lock again |
//!
//! Locks are timed on Linux and Android, with std's `Instant` where there is std.
//!
//! The guards that own an `Arc` of their mutex (`ArcMutexGuard`, by `lock_arc`) are there for a
//! program that turns on feature `arc_lock` of `lock_api`.

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

/// The guard of a part of what a [`Mutex`] holds.
///
/// ```
/// use pagelock::lock_api::{MappedMutexGuard, Mutex, MutexGuard};
///
/// let pair = Mutex::new((1, "page"));
/// let mut first: MappedMutexGuard<'_, i32> = MutexGuard::map(pair.lock(), |pair| &mut pair.0);
/// *first += 1;
/// assert!(pair.try_lock().is_none());
/// drop(first);
/// assert_eq!(*pair.lock(), (2, "page"));
/// ```
pub type MappedMutexGuard<'a, T> = ::lock_api::MappedMutexGuard<'a, RawPageLock, T>;

#[cfg(feature = "std")]
mod reentrant {
    use super::RawPageLock;
    use ::lock_api::GetThreadId;
    use core::num::NonZeroUsize;
    use core::ptr::from_ref;

    /// A mutex that the thread that has it may lock again. Its guards stay on their thread, and
    /// give `&T`.
    ///
    /// ```
    /// use pagelock::lock_api::ReentrantMutex;
    /// use std::cell::Cell;
    ///
    /// static DEPTH: ReentrantMutex<Cell<u32>> = ReentrantMutex::new(Cell::new(0));
    /// let outer = DEPTH.lock();
    /// let inner = DEPTH.lock();
    /// inner.set(outer.get() + 1);
    /// assert_eq!(outer.get(), 1);
    /// assert!(std::thread::spawn(|| DEPTH.try_lock().is_none()).join().unwrap());
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "std")))]
    pub type ReentrantMutex<T> = ::lock_api::ReentrantMutex<RawPageLock, ThisThread, T>;

    /// The guard of a [`ReentrantMutex`].
    #[cfg_attr(docsrs, doc(cfg(feature = "std")))]
    pub type ReentrantMutexGuard<'a, T> =
        ::lock_api::ReentrantMutexGuard<'a, RawPageLock, ThisThread, T>;

    /// The guard of a part of what a [`ReentrantMutex`] holds.
    #[cfg_attr(docsrs, doc(cfg(feature = "std")))]
    pub type MappedReentrantMutexGuard<'a, T> =
        ::lock_api::MappedReentrantMutexGuard<'a, RawPageLock, ThisThread, T>;

    /// Tells threads apart, for [`ReentrantMutex`]: by the address of a variable that each has.
    #[cfg_attr(docsrs, doc(cfg(feature = "std")))]
    #[derive(Debug)]
    pub struct ThisThread(());

    // SAFETY: variables of two threads that both live have two addresses, none of them zero.
    unsafe impl GetThreadId for ThisThread {
        const INIT: Self = Self(());

        fn nonzero_thread_id(&self) -> NonZeroUsize {
            std::thread_local!(static MINE: u8 = const { 0 });
            MINE.with(|mine| from_ref(mine).addr().try_into()).expect("a reference is not null")
        }
    }
}
#[cfg(feature = "std")]
pub use reentrant::{MappedReentrantMutexGuard, ReentrantMutex, ReentrantMutexGuard, ThisThread};

impl RawPageLock {
    /// Returns the header whose lock this is.
    ///
    /// ```
    /// use pagelock::lock_api::{Mutex, MutexGuard};
    ///
    /// let total = Mutex::new(0);
    /// let guard = total.lock();
    /// // SAFETY: only the header's state is read.
    /// let page = unsafe { MutexGuard::mutex(&guard).raw() }.page();
    /// assert!(page.is_locked());
    /// # drop(guard);
    /// ```
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
    // `lock_api` asks for it: a fresh lock at each use.
    #[allow(clippy::declare_interior_mutable_const)]
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
