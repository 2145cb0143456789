//! A platform that behaves as another one, with additions.

use super::{EventSlot, Futex, FutexTimed, MonotonicTime, Sleep};
use crate::sync::AtomicU32;

/// A platform that sleeps and wakes as its [base](Self::Base) does, on the same event table, with
/// additions when pages are released.
///
/// This is how a fault server routes wakes. The trait is safe, and [`Futex`] comes with it: the
/// base alone decides where threads sleep and how they are woken, so waiters for pages of either
/// platform can share a slot.
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
/// drop(guard); // wakes the waiters, and the guest's processors
/// # assert_eq!(TOLD.load(Relaxed), 1);
/// ```
pub trait Adapt: Copy {
    /// The platform that this one extends.
    type Base: Futex;

    /// See [`Futex::BYPASS_BOUND`].
    const BYPASS_BOUND: u32 = Self::Base::BYPASS_BOUND;

    /// See [`Futex::SPINS`].
    const SPINS: u32 = Self::Base::SPINS;

    /// Returns the base: a field of this, or a static.
    ///
    /// ```
    /// use pagelock::futex::{Adapt, Futex, OsFutex};
    ///
    /// #[derive(Clone, Copy)]
    /// struct Vm;
    /// impl Adapt for Vm {
    ///     type Base = OsFutex;
    ///     fn base(&self) -> &OsFutex { &OsFutex }
    /// }
    /// assert_eq!(Vm.events(), OsFutex.events());
    /// ```
    fn base(&self) -> &Self::Base;

    /// Tells of a release: see [`Futex::tell`]. An override should call the base's, or no thread
    /// that sleeps in a `wait_*` call is woken. If it panics before it has, they are woken all the
    /// same. The example of [`Adapt`] has one.
    ///
    /// ```
    /// use pagelock::futex::{Adapt, Futex, OsFutex};
    ///
    /// #[derive(Clone, Copy)]
    /// struct Vm;
    /// impl Adapt for Vm {
    ///     type Base = OsFutex;
    ///     fn base(&self) -> &OsFutex { &OsFutex }
    ///     fn tell(&self, page: usize) {
    ///         OsFutex.tell(page);
    ///         // ... and write to the eventfd of the virtual machine that has the page.
    ///     }
    /// }
    /// pagelock::PageLock::with_futex(Vm).lock().unlock();
    /// ```
    fn tell(&self, page: usize) {
        self.base().tell(page);
    }

    /// Tells that a page is free: see [`Futex::last_put`].
    ///
    /// ```
    /// use pagelock::futex::{Adapt, OsFutex};
    ///
    /// #[derive(Clone, Copy)]
    /// struct Pool;
    /// impl Adapt for Pool {
    ///     type Base = OsFutex;
    ///     fn base(&self) -> &OsFutex { &OsFutex }
    ///     fn last_put(&self, page: usize) {
    ///         println!("{page:#x} is free");
    ///     }
    /// }
    /// Adapt::last_put(&Pool, 0x1000);
    /// ```
    fn last_put(&self, page: usize) {
        self.base().last_put(page);
    }

    /// Lets another thread run: see [`Futex::relax`].
    ///
    /// ```
    /// use pagelock::futex::{Adapt, OsFutex};
    ///
    /// #[derive(Clone, Copy)]
    /// struct Polite;
    /// impl Adapt for Polite {
    ///     type Base = OsFutex;
    ///     fn base(&self) -> &OsFutex { &OsFutex }
    ///     fn relax(&self) {
    ///         std::thread::yield_now();
    ///     }
    /// }
    /// Adapt::relax(&Polite);
    /// ```
    fn relax(&self) {
        self.base().relax();
    }
}

// SAFETY: this passes the words on to the base alone, which is a `Futex`.
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
        // Shared with the base's own pages: the base's methods wake both kinds of sleeper.
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
