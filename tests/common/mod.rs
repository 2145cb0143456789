//! What the tests share: a watchdog, page-table locks that can be watched, and platforms that make
//! sleeping deterministic.

#![allow(dead_code)] // No test file uses all of it.

#[cfg(all(feature = "shared", target_os = "linux", not(any(pagelock_loom, pagelock_shuttle))))]
pub(crate) mod child;
#[cfg(all(feature = "std", target_os = "linux", not(pagelock_loom)))]
pub(crate) mod dmirror;
#[macro_use]
pub(crate) mod gate;
#[cfg(all(feature = "std", target_os = "linux", not(pagelock_loom)))]
pub(crate) mod hmm_soft;
#[cfg(all(feature = "std", not(pagelock_loom)))]
pub(crate) mod machine;
pub(crate) mod own;
pub(crate) mod sim;
mod watchdog;

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use core::time::Duration;
use std::time::Instant;
#[allow(unused_imports)] // No test file uses all of it.
pub(crate) use watchdog::{watched, with_threads};

/// How often to repeat something: `n`, or a token number of times where every step is interpreted.
pub(crate) const fn rounds(n: usize) -> usize {
    if cfg!(miri) { n.div_ceil(500) } else { n }
}

/// The turns of a thread among many: [`rounds`] of `n`, or as many of them as go in a while, a
/// fiftieth at least. On a machine whose processors are busy every sleep takes a hundred times as
/// long.
pub(crate) fn turns(n: usize) -> impl Iterator<Item = usize> {
    const WHILE: Duration = Duration::from_secs(2);
    let (most, began) = (rounds(n), Instant::now());
    (0..most).take_while(move |turn| turn * 50 < most || began.elapsed() < WHILE)
}

/// A generator of numbers that need only look arbitrary.
pub(crate) struct Lots(u64);

impl Lots {
    pub(crate) fn of(seed: usize) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (seed as u64 + 1) << 17)
    }

    /// Below `n`.
    pub(crate) fn draw(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A number that nothing protects. Two threads that count at the same time lose counts, and race
/// detectors notice.
#[derive(Default)]
pub(crate) struct Unprotected(UnsafeCell<u64>);

// SAFETY: its users promise to own the page that protects it.
unsafe impl Sync for Unprotected {}

impl Unprotected {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    /// # Safety
    ///
    /// Nobody else uses it meanwhile.
    pub(crate) unsafe fn add_one(&self) {
        // SAFETY: the caller's promise. In two steps with a gap between them, so that an overlap is
        // likely to be noticed.
        unsafe {
            let seen = self.0.get().read_volatile();
            core::hint::spin_loop();
            self.0.get().write_volatile(seen + 1);
        }
    }

    pub(crate) fn get(&mut self) -> u64 {
        *self.0.get_mut()
    }
}

/// A page-table lock that knows whether it is held and how often it was let go.
#[derive(Default)]
pub(crate) struct Ptl {
    held: AtomicBool,
    drops: AtomicU32,
}

impl Ptl {
    pub(crate) const fn new() -> Self {
        Self { held: AtomicBool::new(false), drops: AtomicU32::new(0) }
    }

    pub(crate) fn hold(&self) -> PtlGuard<'_> {
        assert!(!self.held.swap(true, SeqCst), "the page-table lock is taken twice");
        PtlGuard(self)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(SeqCst)
    }

    pub(crate) fn drops(&self) -> u32 {
        self.drops.load(SeqCst)
    }
}

pub(crate) struct PtlGuard<'a>(&'a Ptl);

impl Drop for PtlGuard<'_> {
    fn drop(&mut self) {
        self.0.drops.fetch_add(1, SeqCst);
        assert!(self.0.held.swap(false, SeqCst), "the page-table lock is dropped twice");
    }
}

/// Does something when dropped. As the `ptl` of a wait it runs between registering and sleeping,
/// and nowhere else.
pub(crate) struct OnDrop<A: FnMut()>(pub(crate) A);

impl<A: FnMut()> Drop for OnDrop<A> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A page on a platform, for as long as any thread may use it.
pub(crate) fn page_on<F: pagelock::Futex + 'static>(futex: F) -> &'static pagelock::PageLock<F> {
    Box::leak(Box::new(pagelock::PageLock::with_futex(futex)))
}

/// Runs `f`, which must panic, and returns the panic's message.
pub(crate) fn panic_of(f: impl FnOnce()) -> String {
    let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f))
        .expect_err("should have panicked");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            payload.downcast::<&str>().map_or_else(|_| String::new(), |text| (*text).to_owned())
        }
    }
}
