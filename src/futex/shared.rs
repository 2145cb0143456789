//! Headers and events in memory that several processes share.

use super::linux::{self, Scope};
use super::{EVERY_CLASS, EventSlot, Futex, FutexTimed, MonotonicTime, Sleep, slot};
use crate::sync::AtomicU32;

/// Linux futexes that work between processes, with an event table that the caller has placed in the shared memory.
///
/// Each process may map the headers at another address, so a page's event slot is chosen by its *index*: the distance of its
/// header from `base`, where this process sees the first header.
///
/// # Processes that die
///
/// Wakes are not fanned out: a process that was woken to wake others may die first. Beyond that nobody can tell that a process has died, and
/// the page's word is left as that process has made it:
///
/// | killed in, or with | is left | harm to others |
/// |---|---|---|
/// | [`try_lock`], [`claim`] that did not get the page; `wait_*` | at most a flag | a needless wake |
/// | the page: a guard, a migration | locked, migrating or frozen | all wait, until the deadlines that they have |
/// | [`lock`], [`lock_within`], [`try_lock_for`], [`lock_releasing`], [`lock_releasing_within`] | one sleeper too many | a page that is promised to it is taken for ever, a wake that it was given is lost |
/// | a [reference](crate::PageRef), a [pin](crate::PagePin) | counted | the page is not freed, or not moved |
///
/// So a process that may be killed at any time should use `try_lock`, `claim` and `wait_*`, and sleep in the last of these. Who knows that a
/// process has died, and that nobody else is in a call of the third line, can strike its sleepers
/// ([`PageLock::reset_sleepers`](crate::PageLock::reset_sleepers)), and who knows that it was the owner can release the page
/// for it ([`PageLock::take_over`](crate::PageLock::take_over)). Otherwise waits with a deadline bound the harm.
///
/// [`try_lock`]: crate::PageLock::try_lock
/// [`claim`]: crate::PageLock::claim
/// [`lock`]: crate::PageLock::lock
/// [`try_lock_for`]: crate::PageLock::try_lock_for
/// [`lock_releasing`]: crate::PageLock::lock_releasing
/// [`lock_releasing_within`]: crate::PageLock::lock_releasing_within
/// [`lock_within`]: crate::PageLock::lock_within
///
/// # Headers
///
/// A header in shared memory must not hold one process's addresses. So give the headers a platform of
/// size zero that finds this handle in a static of each process, and [adapt](super::Adapt) it:
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
/// // In earnest both lie in a memfd that every process maps.
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
/// A release wakes by address after it has let go of the page, which may have been freed by then. Where
/// memory is shared, the system has to look the address up, and *brings the memory in*: a hole that was
/// punched where the header has been, or in a file beyond what it held, is filled with a page of zeroes.
/// Whoever gives such memory back waits for the end of the calls that may still wake there.
#[derive(Clone, Copy, Debug)]
pub struct SharedFutex<'e> {
    events: &'e [SharedSlot],
    base: usize,
}

/// An entry of the event table of a [`SharedFutex`].
pub type SharedSlot = EventSlot<SharedFutex<'static>>;

impl<'e> SharedFutex<'e> {
    /// Uses `events`, for headers of which the first is mapped here at address `base`.
    ///
    /// `None` unless there is a slot.
    #[must_use]
    pub const fn new(events: &'e [SharedSlot], base: usize) -> Option<Self> {
        if events.is_empty() { None } else { Some(Self { events, base }) }
    }
}

// SAFETY: the system compares the words that it is shown, and stores to none.
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
