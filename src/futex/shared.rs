//! Headers and events in memory that several processes share.

use super::linux::{self, Scope};
use super::{EVERY_CLASS, EventSlot, Futex, FutexTimed, MonotonicTime, Sleep, slot};
use crate::sync::AtomicU32;

/// Linux futexes that work between processes, with an event table that the caller places in the
/// shared memory.
///
/// Each process may map the headers at another address. So a page's *index* chooses its event slot:
/// the distance of its header from `base`, where this process sees the first header.
///
/// # Processes that die
///
/// Wakes are not fanned out, because a process that was woken to wake others may die first.
/// Otherwise nothing notices a death: the page's words stay as the dead process left them.
///
/// | killed in, or with | leaves | way back |
/// |---|---|---|
/// | [`try_lock`], [`claim`], `wait_*` without the page | at most a flag | none needed |
/// | the page: a guard, a migration | locked, migrating or frozen | [`take_over`] |
/// | a release | free, with no thread told | [`retell`] |
/// | a call that sleeps to own the page | one sleeper too many | [`reset_sleepers`], [`retell`] |
/// | a [`PageRef`], a [`PagePin`] | counted | [`put_raw`], [`unpin_raw`] |
///
/// Until then the harm to others is: a flag costs a needless wake; an owned page keeps all waiters
/// until their deadlines; after a release that died, sleepers sleep on; a sleeper too many keeps
/// the page for itself behind a closed gate, and loses a wake that it was given; a counted page is
/// not freed, or not moved. The calls that sleep to own the page are [`lock`], [`lock_within`],
/// [`try_lock_for`], [`lock_releasing`] and [`lock_releasing_within`].
///
/// [`migration::take_over`](crate::migration::take_over) says how a survivor proceeds, and has a
/// table of every step of every call. A process whose death cannot be noticed should use
/// `try_lock`, `claim` and `wait_*`, and sleep in the last of these. Waits with a deadline bound
/// the harm in any case.
///
/// [`PageRef`]: crate::PageRef
/// [`PagePin`]: crate::PagePin
/// [`try_lock`]: crate::PageLock::try_lock
/// [`claim`]: crate::PageLock::claim
/// [`lock`]: crate::PageLock::lock
/// [`try_lock_for`]: crate::PageLock::try_lock_for
/// [`lock_releasing`]: crate::PageLock::lock_releasing
/// [`lock_releasing_within`]: crate::PageLock::lock_releasing_within
/// [`lock_within`]: crate::PageLock::lock_within
/// [`take_over`]: crate::PageLock::take_over
/// [`retell`]: crate::PageLock::retell
/// [`reset_sleepers`]: crate::PageLock::reset_sleepers
/// [`put_raw`]: crate::PageLock::put_raw
/// [`unpin_raw`]: crate::PageLock::unpin_raw
///
/// # Headers
///
/// A header in shared memory must not hold one process's addresses. So give the headers a platform
/// of size zero that finds this handle in a static of each process, and [adapt](super::Adapt) it:
///
/// ```
/// use pagelock::futex::{Adapt, EventSlot, SharedFutex, SharedSlot};
/// use pagelock::PageLock;
/// use std::sync::OnceLock;
///
/// static HERE: OnceLock<SharedFutex<'static>> = OnceLock::new();
///
/// #[derive(Clone, Copy)]
/// struct Guest;
///
/// impl Adapt for Guest {
///     type Base = SharedFutex<'static>;
///     fn base(&self) -> &SharedFutex<'static> {
///         HERE.get().expect("the segment is mapped before its pages are used")
///     }
/// }
///
/// // In a real program both lie in a memfd that every process maps.
/// static EVENTS: [SharedSlot; 16] = [const { EventSlot::new() }; 16];
/// static PAGES: [PageLock<Guest>; 4] = [const { PageLock::with_futex(Guest) }; 4];
///
/// HERE.set(SharedFutex::new(&EVENTS, PAGES.as_ptr().addr()).unwrap()).unwrap();
/// assert_eq!(size_of_val(&PAGES), 4 * 8);
/// let guard = PAGES[2].lock();
/// assert!(PAGES[2].is_locked());
/// # drop(guard);
/// ```
///
/// # Wakes that come late
///
/// A release wakes by address after it has let go of the page, which may have been freed by then.
/// Where memory is shared, the system looks the address up, and *faults the memory in*: if a hole
/// was punched where the header was, the system fills it with a page of zeroes. A process that
/// gives such memory back must first wait for the end of the calls that may still wake there.
#[derive(Clone, Copy, Debug)]
pub struct SharedFutex<'e> {
    events: &'e [SharedSlot],
    base: usize,
}

/// An entry of the event table of a [`SharedFutex`].
pub type SharedSlot = EventSlot<SharedFutex<'static>>;

impl<'e> SharedFutex<'e> {
    /// Makes a handle that uses `events`, for headers of which this process maps the first at
    /// address `base`. `None` if there is no slot.
    ///
    /// ```
    /// use pagelock::futex::{EventSlot, Futex, SharedFutex, SharedSlot};
    ///
    /// static EVENTS: [SharedSlot; 16] = [const { EventSlot::new() }; 16];
    /// assert_eq!(SharedFutex::new(&EVENTS, 0x1000).unwrap().events(), 16);
    /// assert!(SharedFutex::new(&[], 0x1000).is_none());
    /// ```
    #[must_use]
    pub const fn new(events: &'e [SharedSlot], base: usize) -> Option<Self> {
        if events.is_empty() { None } else { Some(Self { events, base }) }
    }
}

// SAFETY: the system compares the words that it receives, and stores to none.
unsafe impl Futex for SharedFutex<'_> {
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        linux::sleep(Scope::Shared, word, expected, EVERY_CLASS, None)
    }

    fn wake_one(&self, word: *const AtomicU32) {
        linux::wake(Scope::Shared, word, 1, EVERY_CLASS);
    }

    fn wake_all(&self, word: *const AtomicU32) {
        linux::wake(Scope::Shared, word, u32::MAX, EVERY_CLASS);
    }

    fn relax(&self) {
        linux::relax();
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        &self.events[index]
    }

    fn events(&self) -> usize {
        self.events.len()
    }

    fn event_index(&self, page: usize) -> usize {
        slot::index(page.wrapping_sub(self.base), self.events.len())
    }
}

impl FutexTimed for SharedFutex<'_> {
    fn now(&self) -> MonotonicTime {
        MonotonicTime::now()
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, _class: u32, at: MonotonicTime) -> Sleep {
        linux::sleep(Scope::Shared, word, expected, EVERY_CLASS, Some(at))
    }
}
