//! What the crate needs from a platform: sleep while a word has a value, wake by address, and a
//! table of event words.
//!
//! [`Futex`] is the whole of it; [`FutexTimed`] adds deadlines for platforms with a clock. The lock
//! is generic over them with static dispatch, so a platform of no size costs nothing. Shipped:
//!
//! | type | for | deadlines |
//! |---|---|---|
//! | [`OsFutex`] | programs on an operating system with a futex; without one it spins | Linux, Android |
//! | [`SharedFutex`] | headers and event table in memory shared by several processes (Linux, Android) | yes |
//! | [`SpinFutex`] | cores that have nothing else to do, and targets without an operating system | no |
//!
//! A kernel or unikernel writes its own: a wait queue, or halt and inter-processor interrupt;
//! [`porting`](crate::porting) goes through one step by step. Each method says what an
//! implementation may assume and must promise. A program that only wants to hear of releases takes
//! one of these and [adapts](Adapt) it.
//!
//! # From handlers
//!
//! A signal handler or an interrupt may wait and wake, as far as it may call the platform's own
//! methods; the crate takes no lock of its own, and allocates nothing. The methods of [`OsFutex`]
//! and [`SharedFutex`] on Linux may be called there, and leave `errno` as it was. A handler that
//! *waits* for what the interrupted code holds waits for ever, as with every lock. So does one that
//! waits for a page which that code waits to *own*: behind a closed [gate](crate::lock) the page
//! may be kept for it. A handler also keeps that code from running: if the code was about to wake
//! others, they wait too ([what holds a chain up](slot#what-holds-a-chain-up)).
//!
//! # System calls
//!
//! On Linux and Android the crate makes these system calls and no others; a filter (seccomp) lists
//! them:
//!
//! | call | for | if it is refused |
//! |---|---|---|
//! | `futex`, `FUTEX_WAIT_BITSET` | to sleep | `FUTEX_WAIT` |
//! | `futex`, `FUTEX_WAIT` | | `sched_yield`, and look again |
//! | `futex`, `FUTEX_WAKE` | to wake one, or all | `FUTEX_WAKE_BITSET` |
//! | `futex`, `FUTEX_WAKE_BITSET` | to wake a few of many | `FUTEX_WAKE`, of all |
//! | `sched_yield` | to wait a moment | pauses of the processor |
//! | `clock_gettime` of `CLOCK_MONOTONIC` | deadlines | no deadline is reached before the sleep ends for another reason |
//!
//! With `FUTEX_PRIVATE_FLAG`, but for [`SharedFutex`]; where pointers have 32 bits and `time_t` has
//! 64, `futex_time64` too. `clock_gettime` is no system call where there is a vDSO. Whatever error
//! a filter answers with, a refusal costs speed and not life, as long as a thread that can sleep by
//! `futex` can also be woken by it.

mod adapt;
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(pagelock_loom, pagelock_shuttle))
))]
pub(crate) mod linux;
#[cfg(any(pagelock_loom, pagelock_shuttle))]
#[doc(hidden)]
pub mod model;
mod os;
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(pagelock_loom, pagelock_shuttle))
))]
mod shared;
pub mod slot;
mod spin;
mod time;

use crate::defer::or_else_on_panic;
use crate::stats::{self, Counter};
use crate::sync::AtomicU32;
use core::time::Duration;

pub use adapt::Adapt;
pub use os::OsFutex;
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(pagelock_loom, pagelock_shuttle))
))]
pub use shared::{SharedFutex, SharedSlot};
pub use slot::EventSlot;
pub use spin::SpinFutex;
pub use time::MonotonicTime;

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
/// The value travels by copy: a sleeper keeps its own while the page it came from may be gone. A
/// platform with state of its own (a file descriptor, a set of cores) is therefore a handle, and
/// one of size zero keeps the page header at eight bytes. Headers that may be freed while a release
/// or a wait returns, as kernels' are, need a platform of size zero: only the two words may be
/// overtaken by their own end.
///
/// A method that panics strands nobody: as the panic unwinds, [`wake_all`](Self::wake_all) or
/// [`tell_event`](Self::tell_event) wakes the sleepers that it was to wake.
///
/// # Safety
///
/// The methods are shown words of the page and of the event table. They may load them, and must not
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
/// // SAFETY: it loads the words that it is shown, and stores to none.
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
    /// Whoever says so must say [`Sleep::Woken`] of every sleep that a wake has ended, of no other,
    /// and in `wake_class` of exactly as many. Those sleepers wake the rest, and who is left to
    /// wake is counted by them.
    const CLASSES: bool = false;

    /// How often a locker can lose the page to newcomers before the gate closes; see the rules in
    /// [`lock`](crate::lock). `u32::MAX` is never.
    const BYPASS_BOUND: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 8 };

    /// For how many turns of ten looks, about a microsecond each, a locker looks whether the page
    /// is released before it sleeps; 0 is not at all. `u32::MAX` is nearly an hour: within
    /// [limits](crate::Limits), it ends with them.
    const SPINS: u32 = crate::lock::SPINS;

    /// Sleeps while `*word == expected`, until woken. May return at any time.
    ///
    /// The comparison and going to sleep must be one step with respect to wakes: a wake issued
    /// after the word was changed must not be missed by a sleeper that saw the old value.
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep;

    /// Wakes one sleeper on `word`, the longest asleep if the platform can.
    ///
    /// `word` is an address only, and must not be read: what it pointed to may be gone, or be
    /// something else by now, on which others sleep in their own way. They must bear a wake that is
    /// not theirs. (Whoever uses Linux's futexes must so in any case.)
    fn wake_one(&self, word: *const AtomicU32);

    /// Wakes every sleeper on `word`, an address only, as for [`wake_one`](Self::wake_one).
    fn wake_all(&self, word: *const AtomicU32);

    /// Lets something else run for a moment: a locker calls this while it looks for a page that is
    /// taken, and so do those who try again. `sched_yield` where there is one; by default some
    /// pauses of the processor.
    fn relax(&self) {
        pause();
    }

    /// [`wait`](Self::wait) as a sleeper of `class` (a set of bits, not empty).
    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        let _ = class;
        self.wait(word, expected)
    }

    /// Wakes up to `n` sleepers on `word` whose class shares a bit with `class`, the longest asleep
    /// first, and says how many. Waking more, also of other classes, is allowed if they are
    /// counted.
    ///
    /// Called only on platforms that tell [classes](Self::CLASSES) apart. By default it wakes
    /// everybody, and says 0: fewer than `n` says that nobody is left.
    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        let _ = (n, class);
        self.wake_all(word);
        0
    }

    /// The event slot number `index`, which is below [`events`](Self::events).
    ///
    /// Its type says whose it is, so that nobody sleeps there who is woken in another way. The
    /// table is the platform's own, and whoever shares another's [adapts](Adapt) that.
    fn event(&self, index: usize) -> &EventSlot<Self>;

    /// How many event slots there are, at least 1.
    fn events(&self) -> usize;

    /// Which event slot belongs to the page whose header is at address `page`.
    ///
    /// Any function of the address will do; two pages of one slot cost each other spurious returns.
    /// Where processes map the headers at different addresses, it has to be a function of the
    /// page's index instead. The address is not to be read from.
    fn event_index(&self, page: usize) -> usize {
        slot::index(page, self.events())
    }

    /// Called by a release that found that somebody waits for it: bumps the page's event slot and
    /// wakes its sleepers.
    ///
    /// A fault server overrides this to route the wake itself (`UFFDIO_WAKE`, an eventfd, an
    /// interrupt): it calls [`tell_event`](Self::tell_event) and then does so; see [`Adapt`].
    /// Without `tell_event` only [claims](crate::PageLock::claim) are served: whoever sleeps in one
    /// of the `wait_*` calls, here or in
    /// [`Migration::wait_unpinned`](crate::Migration::wait_unpinned), sleeps on. The page is not
    /// locked any more by who calls this, and may not exist any more.
    fn tell(&self, page: usize) {
        self.tell_event(page);
    }

    /// Bumps the event slot of `page` and wakes its sleepers: what [`tell`](Self::tell) does if not
    /// overridden.
    fn tell_event(&self, page: usize) {
        stats::count(Counter::EventWakes);
        self.event(self.event_index(page)).tell(*self);
    }

    /// Called when a guard's drop (of a [`PageRef`](crate::PageRef) or a
    /// [`PagePin`](crate::PagePin)) gave back the last of all references and pins of the page, for
    /// whoever frees pages.
    fn last_put(&self, page: usize) {
        let _ = page;
    }
}

/// A platform that can also sleep until a deadline.
pub trait FutexTimed: Futex {
    /// Now, on the platform's clock.
    fn now(&self) -> MonotonicTime;

    /// [`Futex::wait_class`] that also ends when the clock reaches `at`.
    ///
    /// A sleep that ends for that reason is [`Sleep::TimedOut`]. Of a platform that cannot tell
    /// ([`Sleep::Unknown`]) the crate asks the clock; but [`Sleep::Interrupted`] or
    /// [`Sleep::Changed`] beyond the deadline would be slept again.
    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep;

    /// The point `d` from now, if there is one.
    fn after(&self, d: Duration) -> Option<MonotonicTime> {
        self.now().checked_add(d)
    }

    /// How long ago `at` was; `None` if it is yet to come.
    fn late_by(&self, at: MonotonicTime) -> Option<Duration> {
        let now = self.now();
        (now >= at).then(|| now - at)
    }
}

/// A class that every sleeper belongs to, and every wake reaches.
pub const EVERY_CLASS: u32 = u32::MAX;

/// Tells of `page`; those who wait for it also if the platform panics.
pub(crate) fn tell_in_any_case<F: Futex>(futex: F, page: usize) {
    or_else_on_panic(|| futex.tell(page), || futex.tell_event(page));
}

/// Some pauses of the processor.
fn pause() {
    const PAUSES: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 32 };
    for _ in 0..PAUSES {
        crate::sync::spin_loop();
    }
}
