//! A platform that is another one, and does something besides.

use super::{EventSlot, Futex, FutexTimed, MonotonicTime, Sleep};
use crate::sync::AtomicU32;

/// A platform that sleeps and wakes as its [base](Self::Base) does, on the same event table, and
/// adds to what happens when pages are released.
///
/// This is how a fault server routes wakes. The trait is safe, and [`Futex`] comes with it: all
/// that decides who sleeps where and how they are woken is the base's, so that those who wait for a
/// page of either platform can share a slot.
///
/// # Example
///
/// ```
/// use pagelock::futex::{Adapt, Futex, OsFutex};
/// use pagelock::{Claim, PageLock};
/// # use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
/// # static TOLD: AtomicUsize = AtomicUsize::new(0);
/// # fn uffdio_wake(_page: usize) { TOLD.fetch_add(1, Relaxed); }
///
/// #[derive(Clone, Copy)]
/// struct Vmm;
///
/// impl Adapt for Vmm {
///     type Base = OsFutex;
///     fn base(&self) -> &OsFutex { &OsFutex }
///     fn tell(&self, page: usize) { OsFutex.tell(page); uffdio_wake(page) }
/// }
///
/// static PAGE: PageLock<Vmm> = PageLock::with_futex(Vmm);
/// let guard = PAGE.lock();
/// assert!(matches!(PAGE.claim(), Claim::InFlight));
/// drop(guard); // wakes those who wait, and the guest's processors
/// # assert_eq!(TOLD.load(Relaxed), 1);
/// ```
pub trait Adapt: Copy {
    /// The platform that this one is.
    type Base: Futex;

    /// See [`Futex::BYPASS_BOUND`].
    const BYPASS_BOUND: u32 = Self::Base::BYPASS_BOUND;

    /// See [`Futex::SPINS`].
    const SPINS: u32 = Self::Base::SPINS;

    /// The base: a field of this, or a static.
    fn base(&self) -> &Self::Base;

    /// See [`Futex::tell`]. What comes in its place should call the base's, or nobody who sleeps in
    /// a `wait_*` call is woken; if it panics before it has, they are woken all the same.
    fn tell(&self, page: usize) {
        self.base().tell(page);
    }

    /// See [`Futex::last_put`].
    fn last_put(&self, page: usize) {
        self.base().last_put(page);
    }

    /// See [`Futex::relax`].
    fn relax(&self) {
        self.base().relax();
    }
}

// SAFETY: the words that this is shown are shown to the base alone, which is a `Futex`.
unsafe impl<A: Adapt> Futex for A {
    const CLASSES: bool = A::Base::CLASSES;
    const BYPASS_BOUND: u32 = <A as Adapt>::BYPASS_BOUND;
    const SPINS: u32 = <A as Adapt>::SPINS;

    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        self.base().wait(word, expected)
    }

    fn wake_one(&self, word: *const AtomicU32) {
        self.base().wake_one(word);
    }

    fn wake_all(&self, word: *const AtomicU32) {
        self.base().wake_all(word);
    }

    fn relax(&self) {
        Adapt::relax(self);
    }

    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        self.base().wait_class(word, expected, class)
    }

    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        self.base().wake_class(word, n, class)
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        // Shared with the base's own pages: both kinds of sleeper are woken by the base's methods.
        self.base().event(index).adapted()
    }

    fn events(&self) -> usize {
        self.base().events()
    }

    fn event_index(&self, page: usize) -> usize {
        self.base().event_index(page)
    }

    fn tell(&self, page: usize) {
        Adapt::tell(self, page);
    }

    fn tell_event(&self, page: usize) {
        self.base().tell_event(page);
    }

    fn last_put(&self, page: usize) {
        Adapt::last_put(self, page);
    }
}

impl<A: Adapt<Base: FutexTimed>> FutexTimed for A {
    fn now(&self) -> MonotonicTime {
        self.base().now()
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep {
        self.base().wait_until(word, expected, class, at)
    }
}
