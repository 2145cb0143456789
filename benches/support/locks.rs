//! The locks that are compared.

use super::table::Role;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::PageLock;

/// What a lock of this name is to the comparison.
pub fn role(name: &str) -> Role {
    match name {
        "pagelock" => Role::Ours,
        RawPair::NAME | RawFutex::NAME | RAW_LOAD => Role::Bound,
        "pagelock-lock_api" => Role::Beside,
        _ => Role::Peer,
    }
}

/// The raw pair when it fails: one load.
pub const RAW_LOAD: &str = "raw-load";

pub trait Lock: Send + Sync + 'static {
    const NAME: &'static str;
    fn new() -> Self;
    /// Runs `f` with the lock held.
    fn with<R>(&self, f: impl FnOnce() -> R) -> R;
    /// Locks and unlocks if that can be done at once.
    fn try_pair(&self) -> bool;
}

impl Lock for PageLock {
    const NAME: &'static str = "pagelock";

    fn new() -> Self {
        Self::new()
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.lock();
        f()
    }

    #[inline]
    fn try_pair(&self) -> bool {
        self.try_lock().is_some()
    }
}

/// The same lock through the `lock_api` crate's mutex.
#[cfg(feature = "lock_api")]
pub type LockApi = pagelock::lock_api::Mutex<()>;

#[cfg(feature = "lock_api")]
impl Lock for LockApi {
    const NAME: &'static str = "pagelock-lock_api";

    fn new() -> Self {
        Self::new(())
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.lock();
        f()
    }

    #[inline]
    fn try_pair(&self) -> bool {
        self.try_lock().is_some()
    }
}

impl Lock for std::sync::Mutex<()> {
    const NAME: &'static str = "std";

    fn new() -> Self {
        Self::new(())
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.lock().unwrap();
        f()
    }

    #[inline]
    fn try_pair(&self) -> bool {
        self.try_lock().is_ok()
    }
}

impl Lock for parking_lot::Mutex<()> {
    const NAME: &'static str = "parking_lot";

    fn new() -> Self {
        Self::new(())
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.lock();
        f()
    }

    #[inline]
    fn try_pair(&self) -> bool {
        self.try_lock().is_some()
    }
}

/// Hands the lock to the longest sleeper at every release.
impl Lock for parking_lot::FairMutex<()> {
    const NAME: &'static str = "parking_lot-fair";

    fn new() -> Self {
        Self::new(())
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.lock();
        f()
    }

    #[inline]
    fn try_pair(&self) -> bool {
        self.try_lock().is_some()
    }
}

/// Never sleeps, so its release is a plain store; and burns the time that it waits.
impl Lock for spin::Mutex<()> {
    const NAME: &'static str = "spin";

    fn new() -> Self {
        Self::new(())
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.lock();
        f()
    }

    #[inline]
    fn try_pair(&self) -> bool {
        self.try_lock().is_some()
    }
}

impl Lock for usync::Mutex<()> {
    const NAME: &'static str = "usync";

    fn new() -> Self {
        Self::new(())
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.lock();
        f()
    }

    #[inline]
    fn try_pair(&self) -> bool {
        self.try_lock().is_some()
    }
}

/// The bound for a lock word that a release has to read: one compare-exchange, one swap, and no way to wait.
pub struct RawPair(AtomicU32);

impl Lock for RawPair {
    const NAME: &'static str = "raw-cas-swap";

    fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        // The result decides nothing but is looked at, as any lock has to.
        assert!(self.try_take(), "nobody else uses this one");
        let answer = f();
        assert!(self.0.swap(0, Release) == 1, "nobody else uses this one");
        answer
    }

    #[inline]
    fn try_pair(&self) -> bool {
        // A look first, as every lock should: the failure is then one load.
        self.0.load(Relaxed) == 0 && self.try_take() && self.0.swap(0, Release) == 1
    }
}

impl RawPair {
    #[inline]
    fn try_take(&self) -> bool {
        self.0.compare_exchange(0, 1, Acquire, Relaxed).is_ok()
    }
}

/// A futex lock of three states (free, held, held with sleepers): std's algorithm without poisoning.
pub struct RawFutex(AtomicU32);

impl Lock for RawFutex {
    const NAME: &'static str = "raw-futex";

    fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        self.lock();
        let answer = f();
        self.unlock();
        answer
    }

    #[inline]
    fn try_pair(&self) -> bool {
        let taken = self.0.compare_exchange(0, 1, Acquire, Relaxed).is_ok();
        if taken {
            self.unlock();
        }
        taken
    }
}

impl RawFutex {
    #[inline]
    pub fn lock(&self) {
        if self.0.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            self.contended();
        }
    }

    /// The caller has it.
    #[inline]
    pub fn unlock(&self) {
        if self.0.swap(0, Release) == 2 {
            atomic_wait::wake_one(&self.0);
        }
    }

    fn spin(&self) -> u32 {
        for _ in 0..100 {
            let seen = self.0.load(Relaxed);
            if seen != 1 {
                return seen;
            }
            core::hint::spin_loop();
        }
        self.0.load(Relaxed)
    }

    #[cold]
    fn contended(&self) {
        let mut seen = self.spin();
        if seen == 0 && self.0.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
            return;
        }
        loop {
            if seen != 2 && self.0.swap(2, Acquire) == 0 {
                return;
            }
            atomic_wait::wait(&self.0, 2);
            seen = self.spin();
        }
    }
}
