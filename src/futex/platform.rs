//! What the crate asks of a platform.

use super::{EventSlot, slot};
use crate::defer::or_else_on_panic;
use crate::stats::{self, Counter};
use crate::sync::AtomicU32;

/// How a sleep ended, as far as the platform can tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Sleep {
    /// A wake ended the sleep, and is used up by that.
    Woken,
    /// The word did not have the expected value: no sleep, no wake used up.
    Changed,
    /// Another event ended the sleep, such as a signal: no wake used up.
    Interrupted,
    /// The deadline passed: no wake used up.
    TimedOut,
    /// The platform cannot tell. A spurious return belongs here.
    Unknown,
}

/// A platform's way to sleep on a word and to wake sleepers.
///
/// A sleeper keeps a copy of the value, because the page that it came from may be gone. So a
/// platform with state of its own (a file descriptor, a set of cores) is a handle, and one of size
/// zero keeps the page header at eight bytes. Headers that may be freed while a release or a wait
/// returns, as kernels' are, need a platform of size zero: at that point the crate has let go of
/// the two words, but not of a platform beside them.
///
/// A method that panics strands no thread: as the panic unwinds, [`wake_all`](Self::wake_all) or
/// [`tell_event`](Self::tell_event) wakes the sleepers that the method should have woken.
///
/// # Safety
///
/// The methods receive words of the page and of the event table. They may load them, and must not
/// store to them: exclusion rests on the words, and a store can give a page two owners. Through an
/// address that is not a reference they must not even load.
///
/// The other promises below are about liveness: a platform that wakes too often costs time, and one
/// that loses wakes leaves a thread asleep.
///
/// # Example: a kernel's own wait queue
///
/// A platform needs three operations on words and a table of event slots. This one spins, to stay
/// short:
///
/// ```
/// use pagelock::futex::{EventSlot, Futex, Sleep};
/// use pagelock::{PageLock, sync::AtomicU32};
/// use std::sync::atomic::Ordering::Relaxed;
///
/// #[derive(Clone, Copy)]
/// struct Halt;
/// static EVENTS: [EventSlot<Halt>; 64] = [const { EventSlot::new() }; 64];
///
/// // SAFETY: it loads the words that it receives, and stores to none.
/// unsafe impl Futex for Halt {
///     fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
///         while word.load(Relaxed) == expected {
///             core::hint::spin_loop() // sti; hlt; cli
///         }
///         Sleep::Unknown
///     }
///     fn wake_one(&self, _word: *const AtomicU32) {} // an inter-processor interrupt
///     fn wake_all(&self, _word: *const AtomicU32) {}
///     fn event(&self, index: usize) -> &EventSlot<Self> {
///         &EVENTS[index]
///     }
///     fn events(&self) -> usize {
///         EVENTS.len()
///     }
/// }
///
/// static PAGE: PageLock<Halt> = PageLock::with_futex(Halt);
/// assert!(PAGE.try_lock().is_some());
/// ```
pub unsafe trait Futex: Copy {
    /// Whether [`wait_class`](Self::wait_class) and [`wake_class`](Self::wake_class) tell classes
    /// of sleepers apart, and count. Only then does a release with many sleepers wake a few and let
    /// those wake the rest; otherwise it wakes all.
    ///
    /// A platform that sets this must return [`Sleep::Woken`] from every sleep that a wake ended,
    /// and from no other, and `wake_class` must return exactly how many it ended. Those sleepers
    /// wake the rest, and their number tells whether any are left.
    const CLASSES: bool = false;

    /// How often a locker may lose the page to newcomers before it closes the gate and they must
    /// wait; see the rules in [`lock`](crate::lock). `u32::MAX` is never.
    const BYPASS_BOUND: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 8 };

    /// For how many turns of ten looks, about a microsecond each, a locker looks for a release
    /// before it sleeps; 0 is not at all. `u32::MAX` is nearly an hour, or until the call's
    /// [limits](crate::Limits) are reached.
    const SPINS: u32 = crate::lock::SPINS;

    /// Sleeps while `*word == expected`, until woken. May return at any time.
    ///
    /// The comparison and falling asleep must be one step with respect to wakes: a sleeper that saw
    /// the old value must not miss a wake that came after the word was changed.
    ///
    /// ```
    /// use pagelock::futex::{Futex, OsFutex, Sleep};
    /// use pagelock::sync::AtomicU32;
    ///
    /// let word = AtomicU32::new(1);
    /// assert_ne!(OsFutex.wait(&word, 0), Sleep::Woken); // it is not 0: no sleep
    /// ```
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep;

    /// Wakes one sleeper on `word`, if the platform can, the one that sleeps longest.
    ///
    /// `word` is an address only, and must not be read: the memory may be gone, or be another
    /// object by now, on which threads sleep in their own way. These must bear a stray wake, as all
    /// users of Linux's futexes must.
    ///
    /// ```
    /// use pagelock::futex::{Futex, OsFutex};
    ///
    /// let word = pagelock::sync::AtomicU32::new(0);
    /// OsFutex.wake_one(&word); // no sleepers, no effect
    /// ```
    fn wake_one(&self, word: *const AtomicU32);

    /// Wakes every sleeper on `word`, an address only, as for [`wake_one`](Self::wake_one).
    ///
    /// ```
    /// use pagelock::futex::{Futex, OsFutex};
    /// use pagelock::sync::AtomicU32;
    /// use std::sync::atomic::Ordering::Relaxed;
    ///
    /// static DOOR: AtomicU32 = AtomicU32::new(0);
    /// let guests = [(); 2].map(|()| std::thread::spawn(|| {
    ///     while DOOR.load(Relaxed) == 0 {
    ///         OsFutex.wait(&DOOR, 0);
    ///     }
    /// }));
    /// DOOR.store(1, Relaxed);
    /// OsFutex.wake_all(&DOOR);
    /// guests.map(|guest| guest.join().unwrap());
    /// ```
    fn wake_all(&self, word: *const AtomicU32);

    /// Lets another thread run for a moment: `sched_yield` where there is one; by default some
    /// pauses of the processor. A locker calls this while it looks for a page that is taken, and a
    /// caller may between attempts.
    ///
    /// ```
    /// use pagelock::futex::{Futex, OsFutex};
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let guard = loop {
    ///     if let Some(guard) = page.try_lock() {
    ///         break guard;
    ///     }
    ///     OsFutex.relax();
    /// };
    /// # drop(guard);
    /// ```
    fn relax(&self) {
        pause();
    }

    /// [`wait`](Self::wait) as a sleeper of `class` (a set of bits, not empty).
    ///
    /// ```
    /// use pagelock::futex::{EVERY_CLASS, Futex, OsFutex, Sleep};
    ///
    /// let word = pagelock::sync::AtomicU32::new(1);
    /// assert_ne!(OsFutex.wait_class(&word, 0, EVERY_CLASS), Sleep::Woken);
    /// ```
    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        let _ = class;
        self.wait(word, expected)
    }

    /// Wakes up to `n` sleepers on `word` whose class shares a bit with `class`, the longest asleep
    /// first, and returns how many. It may wake more, also of other classes, if it counts them.
    ///
    /// Called only on platforms that tell [classes](Self::CLASSES) apart. By default it wakes all
    /// sleepers and returns 0: fewer than `n` means that none is left.
    ///
    /// ```
    /// use pagelock::futex::{EVERY_CLASS, Futex, OsFutex};
    ///
    /// let word = pagelock::sync::AtomicU32::new(0);
    /// assert_eq!(OsFutex.wake_class(&word, 16, EVERY_CLASS), 0); // no sleepers
    /// ```
    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        let _ = (n, class);
        self.wake_all(word);
        0
    }

    /// Returns the event slot number `index`, which is below [`events`](Self::events).
    ///
    /// Its type names the platform, so that no sleeper of another kind can use it. The table is the
    /// platform's own; a platform that shares another's [adapts](super::Adapt) that.
    ///
    /// # Panics
    ///
    /// It may panic if `index` is out of range.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::futex::{Futex, SpinFutex};
    ///
    /// assert_eq!(SpinFutex.event(0).sleepers(), 0);
    /// ```
    fn event(&self, index: usize) -> &EventSlot<Self>;

    /// Returns how many event slots there are, at least 1.
    ///
    /// ```
    /// use pagelock::futex::{Futex, OsFutex};
    ///
    /// assert!(OsFutex.events() >= 1);
    /// ```
    fn events(&self) -> usize;

    /// Returns which event slot belongs to the page whose header is at address `page`.
    ///
    /// Any function of the address will do; two pages of one slot cost each other spurious returns.
    /// Where processes map the headers at different addresses, it must be a function of the page's
    /// index instead. The address must not be read through.
    ///
    /// ```
    /// use pagelock::futex::{Futex, OsFutex};
    ///
    /// let page = pagelock::PageLock::new();
    /// assert!(OsFutex.event_index(&raw const page as usize) < OsFutex.events());
    /// ```
    fn event_index(&self, page: usize) -> usize {
        slot::index(page, self.events())
    }

    /// Tells of the release of a page that a thread waits for: bumps the page's event slot and
    /// wakes its sleepers. The release calls this.
    ///
    /// A fault server overrides this to route the wake itself (`UFFDIO_WAKE`, an eventfd, an
    /// interrupt): it calls [`tell_event`](Self::tell_event) and then does so; see
    /// [`Adapt`](super::Adapt). Without `tell_event` it serves [claims](crate::PageLock::claim)
    /// only: a thread that sleeps in one of the `wait_*` calls, or in
    /// [`Migration::wait_unpinned`](crate::Migration::wait_unpinned), sleeps on. The caller does
    /// not own the page any more, and the page may be gone.
    ///
    /// ```
    /// use pagelock::futex::{Futex, OsFutex};
    ///
    /// let address = &raw const *Box::new(pagelock::PageLock::new()) as usize;
    /// let slot = OsFutex.event(OsFutex.event_index(address));
    /// let before = slot.sequence();
    /// OsFutex.tell(address); // the sleepers of that slot re-check
    /// assert_ne!(slot.sequence(), before);
    /// ```
    fn tell(&self, page: usize) {
        self.tell_event(page);
    }

    /// Bumps the event slot of `page` and wakes its sleepers, as [`tell`](Self::tell) does if not
    /// overridden.
    ///
    /// ```
    /// use pagelock::futex::{Futex, OsFutex};
    ///
    /// let slot = OsFutex.event(OsFutex.event_index(0x1000));
    /// let before = slot.sequence();
    /// OsFutex.tell_event(0x1000);
    /// assert_ne!(slot.sequence(), before);
    /// ```
    fn tell_event(&self, page: usize) {
        stats::count(Counter::EventWakes);
        self.event(self.event_index(page)).tell(*self);
    }

    /// Tells that the page is free: dropping a [`PageRef`](crate::PageRef) or a
    /// [`PagePin`](crate::PagePin) gave back the last of all references and pins. For platforms
    /// that free pages; by default nothing.
    ///
    /// ```
    /// use pagelock::futex::{Adapt, OsFutex};
    /// use pagelock::{PageLock, PageRef};
    /// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    ///
    /// static FREED: AtomicUsize = AtomicUsize::new(0);
    /// #[derive(Clone, Copy)]
    /// struct Pool;
    /// impl Adapt for Pool {
    ///     type Base = OsFutex;
    ///     fn base(&self) -> &OsFutex { &OsFutex }
    ///     fn last_put(&self, page: usize) { FREED.store(page, Relaxed) }
    /// }
    ///
    /// static PAGE: PageLock<Pool> = PageLock::with_futex(Pool);
    /// PAGE.activate(1).unwrap();
    /// // SAFETY: the reference is the one that `activate` made.
    /// drop(unsafe { PageRef::from_raw(&PAGE) });
    /// assert_eq!(FREED.load(Relaxed), &raw const PAGE as usize);
    /// ```
    fn last_put(&self, page: usize) {
        let _ = page;
    }
}

/// The class that shares a bit with every other: its sleepers are woken by every wake, and its
/// wakes reach every sleeper.
pub const EVERY_CLASS: u32 = u32::MAX;

/// Tells of `page`. If the platform panics, its waiters are told all the same.
pub(crate) fn tell_in_any_case<F: Futex>(futex: F, page: usize) {
    or_else_on_panic(|| futex.tell(page), || futex.tell_event(page));
}

/// Some pauses of the processor.
pub(super) fn pause() {
    const PAUSES: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 32 };
    for _ in 0..PAUSES {
        crate::sync::spin_loop();
    }
}
