//! What the crate needs from a platform: sleep while a word has a value, wake by address, and a table of event words.
//!
//! [`Futex`] is the whole of it; [`FutexTimed`] adds deadlines for platforms with a clock. The lock is generic over them with
//! static dispatch, so a platform of no size costs nothing. Shipped:
//!
//! | type | for | deadlines |
//! |---|---|---|
//! | [`OsFutex`] | programs on an operating system with a futex; elsewhere it spins | Linux, Android |
//! | [`SharedFutex`] | headers and event table in memory shared by several processes (Linux, Android) | yes |
//! | [`SpinFutex`] | cores that have nothing else to do, and targets without an operating system | no |
//!
//! A kernel or unikernel writes its own: a wait queue, or halt and inter-processor interrupt. What an implementation may
//! assume and must promise stands at each method. Mutual exclusion does not rest on it: a platform that wakes too often costs time, and
//! one that loses wakes costs liveness. It must not store to the words that it is shown.

pub mod event;
#[cfg(all(any(target_os = "linux", target_os = "android"), not(any(pagelock_loom, pagelock_shuttle))))]
mod linux;
#[cfg(any(pagelock_loom, pagelock_shuttle))]
#[doc(hidden)]
pub mod model;
mod os;
#[cfg(all(any(target_os = "linux", target_os = "android"), not(any(pagelock_loom, pagelock_shuttle))))]
mod shared;
mod spin;

use crate::sync::AtomicU32;
use core::time::Duration;

pub use event::EventSlot;
#[cfg(all(any(target_os = "linux", target_os = "android"), not(any(pagelock_loom, pagelock_shuttle))))]
pub use linux::MonotonicTime;
pub use os::OsFutex;
#[cfg(all(any(target_os = "linux", target_os = "android"), not(any(pagelock_loom, pagelock_shuttle))))]
pub use shared::SharedFutex;
pub use spin::SpinFutex;

/// How a sleep ended, as far as the platform can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sleep {
    /// A wake was meant for this sleeper, which has thereby used it up.
    Woken,
    /// The word did not have the expected value: no sleep, no wake used up.
    Changed,
    /// Something else ended the sleep, a signal for instance: no wake used up.
    Interrupted,
    /// The deadline passed: no wake used up.
    TimedOut,
    /// The platform cannot tell. A spurious return belongs here.
    Unknown,
}

/// A platform's way to sleep on a word and to wake sleepers.
///
/// The value travels by copy: a sleeper keeps its own while the page it came from may be gone. A platform with state of its own
/// (a file descriptor, a set of cores) is therefore a handle, and one of size zero keeps the page header at eight bytes. Headers that
/// may be freed while a release or a wait returns, as kernels' are, need a platform of size zero: only the two words may be
/// overtaken by their own end.
///
/// # Example: a kernel's own wait queue
///
/// A platform needs four operations on words and a table of event slots. This one spins, to stay short:
///
/// ```
/// use pagelock::futex::{EventSlot, Futex, Sleep};
/// use pagelock::{PageLock, sync::AtomicU32};
/// use std::sync::atomic::Ordering::Relaxed;
///
/// #[derive(Clone, Copy)]
/// struct Halt;
/// static EVENTS: [EventSlot; 64] = [const { EventSlot::new() }; 64];
///
/// impl Futex for Halt {
///     fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
///         while word.load(Relaxed) == expected {
///             core::hint::spin_loop() // sti; hlt; cli
///         }
///         Sleep::Unknown
///     }
///     fn wake_one(&self, _word: *const AtomicU32) {} // an inter-processor interrupt
///     fn wake_all(&self, _word: *const AtomicU32) {}
///     fn event(&self, index: usize) -> &EventSlot {
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
pub trait Futex: Copy {
    /// Whether [`wait_class`](Self::wait_class) and [`wake_class`](Self::wake_class) tell classes of sleepers apart. Only
    /// then does a release with many sleepers wake a few and let those wake the rest.
    ///
    /// Whoever says so must say [`Sleep::Woken`] of every sleep that a wake has ended: those sleepers are who wakes the rest, and a
    /// sleep of which it is not said is the end of the chain.
    const CLASSES: bool = false;

    /// How often a locker can lose the page to newcomers before the gate closes; see the rules in
    /// [`lock`](crate::lock). `u32::MAX` is never.
    const BYPASS_BOUND: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 8 };

    /// How often a locker looks whether the page is released before it sleeps; 0 is not at all.
    const SPINS: u32 = crate::lock::SPINS;

    /// Sleeps while `*word == expected`, until woken. May return at any time.
    ///
    /// The comparison and going to sleep must be one step with respect to wakes: a wake issued after the word was changed
    /// must not be missed by a sleeper that saw the old value.
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep;

    /// Wakes one sleeper on `word`, the longest asleep if the platform can. `word` is an address only: what it pointed to
    /// may be gone or reused, and must not be read.
    fn wake_one(&self, word: *const AtomicU32);

    /// Wakes every sleeper on `word`, an address only, as for [`wake_one`](Self::wake_one).
    fn wake_all(&self, word: *const AtomicU32);

    /// Lets something else run for a moment: a locker calls this before it sleeps, and when it comes upon a page that is
    /// taken, now and then, or that another was woken for; a woken waiter before it wakes others while the releaser is still at it. `sched_yield` where
    /// there is one; by default some pauses of the processor.
    fn relax(&self) {
        const PAUSES: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 32 };
        for _ in 0..PAUSES {
            crate::sync::spin_loop();
        }
    }

    /// [`wait`](Self::wait) as a sleeper of `class` (a set of bits, not empty).
    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        let _ = class;
        self.wait(word, expected)
    }

    /// Wakes up to `n` sleepers on `word` whose class shares a bit with `class`, and says how many. Waking more is always allowed.
    ///
    /// An answer below `n` means that no sleeper of `class` was left; a platform that does not know answers `n`.
    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        let _ = class;
        self.wake_all(word);
        n
    }

    /// The event slot number `index`, which is below [`events`](Self::events).
    fn event(&self, index: usize) -> &EventSlot;

    /// How many event slots there are; a power of two, at least 1.
    fn events(&self) -> usize;

    /// Which event slot belongs to the page whose header is at address `page`.
    ///
    /// Any function of the address will do; two pages of one slot cost each other spurious returns. Where processes map the
    /// headers at different addresses, it has to be a function of the page's index instead. The address is not to be read from.
    fn event_index(&self, page: usize) -> usize {
        event::hash(page) & (self.events() - 1)
    }

    /// Called by a release that found that somebody waits for it: bumps the page's event slot and wakes its sleepers.
    ///
    /// A fault server overrides this to route the wake itself (`UFFDIO_WAKE`, an eventfd, an interrupt): it calls
    /// [`tell_event`](Self::tell_event) and then does so. Without `tell_event` only [claims](crate::PageLock::claim) are served: whoever
    /// sleeps in one of the `wait_*` calls, here or in [`Migration::wait_unpinned`](crate::Migration::wait_unpinned), sleeps on. The
    /// page is not locked any more and may not exist any more.
    fn tell(&self, page: usize) {
        self.tell_event(page);
    }

    /// Bumps the event slot of `page` and wakes its sleepers: what [`tell`](Self::tell) does if not overridden.
    fn tell_event(&self, page: usize) {
        event::tell(*self, self.event_index(page));
    }
}

/// A platform that can also sleep until a deadline.
pub trait FutexTimed: Futex {
    /// A point on the platform's clock.
    type Instant: Copy;

    /// The point `d` from now.
    ///
    /// # Errors
    ///
    /// [`DeadlineError::BeyondClock`] when the clock cannot hold it.
    fn after(&self, d: Duration) -> Result<Self::Instant, DeadlineError>;

    /// How long ago `at` was; `None` if it is yet to come.
    fn late_by(&self, at: Self::Instant) -> Option<Duration>;

    /// [`Futex::wait_class`] that also ends when the clock reaches `at`.
    ///
    /// A sleep that ends for that reason is [`Sleep::TimedOut`]. Of a platform that cannot tell ([`Sleep::Unknown`]) the crate asks the
    /// clock; but [`Sleep::Interrupted`] or [`Sleep::Changed`] beyond the deadline would be slept again.
    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: Self::Instant) -> Sleep;
}

/// [`FutexTimed::wait_until`], whose answer is [`Sleep::TimedOut`] beyond `at` also on a platform that cannot tell.
pub(crate) fn wait_until<F: FutexTimed>(futex: F, word: &AtomicU32, expected: u32, class: u32, at: F::Instant) -> Sleep {
    match futex.wait_until(word, expected, class, at) {
        Sleep::Unknown if futex.late_by(at).is_some() => Sleep::TimedOut,
        sleep => sleep,
    }
}

/// A class that every sleeper belongs to, and every wake reaches.
pub const EVERY_CLASS: u32 = u32::MAX;

/// A deadline that cannot be waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeadlineError {
    /// It passed before there was anything to wait for, by this much.
    Past {
        /// How late the caller was.
        late_by: Duration,
    },
    /// The clock cannot hold a point so far away.
    BeyondClock {
        /// The span that was asked for.
        asked: Duration,
    },
}

impl core::fmt::Display for DeadlineError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Past { late_by } => write!(f, "the deadline passed {late_by:?} before the wait began"),
            Self::BeyondClock { asked } => write!(f, "the clock cannot hold a deadline {asked:?} from now"),
        }
    }
}

impl core::error::Error for DeadlineError {}
