//! A value behind a lock of this very crate.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use pagelock::PageGuard;
use pagelock::PageLock;
use pagelock::futex::OsFutex;

/// A mutex. Its platform is the operating system's whatever the pages' is, so that tests which
/// count the sleepers of a page count only those.
pub(super) struct Guarded<T> {
    lock: PageLock<OsFutex>,
    value: UnsafeCell<T>,
}

// SAFETY: only the owner of the lock reaches the value, one thread after the other.
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    pub(super) fn new(value: T) -> Self {
        Self { lock: PageLock::new(), value: UnsafeCell::new(value) }
    }

    pub(super) fn lock(&self) -> Guard<'_, T> {
        Guard { _lock: self.lock.lock(), value: &self.value }
    }
}

impl<T: fmt::Debug> fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lock.try_lock() {
            Some(lock) => Guard { _lock: lock, value: &self.value }.fmt(f),
            None => f.write_str("locked"),
        }
    }
}

pub(super) struct Guard<'g, T> {
    _lock: PageGuard<'g, OsFutex>,
    value: &'g UnsafeCell<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this owns the lock, and lends the value for no longer than itself.
        unsafe { &*self.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { &mut *self.value.get() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
