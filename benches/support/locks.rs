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
    /// Whether newcomers are kept out just now, as far as the lock says so.
    fn keeps_out(&self) -> bool {
        false
    }
}

/// Locks with `lock` and `try_lock`, released when the guard is dropped.
macro_rules! guarded {
    ($lock:ty, $name:literal, $new:expr $(, unwrap $unwrap:ident)? $(, keeps_out $gate:path)?) => {
        impl Lock for $lock {
            const NAME: &'static str = $name;

            fn new() -> Self {
                $new
            }

            #[inline]
            fn with<R>(&self, f: impl FnOnce() -> R) -> R {
                let _guard = self.lock()$(.$unwrap())?;
                f()
            }

            #[inline]
            fn try_pair(&self) -> bool {
                // An option or a result.
                self.try_lock().into_iter().next().is_some()
            }
            $(
                fn keeps_out(&self) -> bool {
                    $gate(self)
                }
            )?
        }
    };
}

guarded!(PageLock, "pagelock", Self::new(), keeps_out gate_is_closed);
guarded!(std::sync::Mutex<()>, "std", Self::new(()), unwrap unwrap);
guarded!(parking_lot::Mutex<()>, "parking_lot", Self::new(()));
// Hands the lock to the longest sleeper at every release.
guarded!(parking_lot::FairMutex<()>, "parking_lot-fair", Self::new(()));
guarded!(usync::Mutex<()>, "usync", Self::new(()));
// Never sleeps, so its release is a plain store; and burns the time that it waits.
guarded!(spin::Mutex<()>, "spin", Self::new(()));

/// The same lock through the `lock_api` crate's mutex.
#[cfg(feature = "lock_api")]
pub type LockApi = pagelock::lock_api::Mutex<()>;
#[cfg(feature = "lock_api")]
guarded!(LockApi, "pagelock-lock_api", Self::new(()));

/// The state word is the first of a header's two.
fn gate_is_closed(page: &PageLock) -> bool {
    // SAFETY: a header is `repr(C)`, and lives and is shared as long as the reference.
    let state = unsafe { &*core::ptr::from_ref(page).cast::<AtomicU32>() };
    state.load(Relaxed) & pagelock::word::state::CLOSED != 0
}

/// The page lock, of which every release is a fair one.
pub struct FairPage(PageLock);

impl Lock for FairPage {
    const NAME: &'static str = "pagelock-fair";

    fn new() -> Self {
        Self(PageLock::new())
    }

    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        let guard = self.0.lock();
        let answer = f();
        let _ = guard.unlock_fair();
        answer
    }

    fn try_pair(&self) -> bool {
        self.0.try_lock().map(|guard| guard.unlock_fair()).is_some()
    }
}

/// The bound for a lock word that a release has to read: one compare-exchange, one swap, and no way
/// to wait.
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

/// A futex lock of three states (free, held, held with sleepers): std's algorithm without
/// poisoning.
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
