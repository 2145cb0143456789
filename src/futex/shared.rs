//! Headers and events in memory that several processes share.

use super::linux::{self, MonotonicTime, Scope};
use super::{DeadlineError, EVERY_CLASS, EventSlot, Futex, FutexTimed, Sleep, event};
use crate::sync::AtomicU32;
use core::time::Duration;

/// Linux futexes that work between processes, with an event table that the caller has placed in the shared memory.
///
/// Each process may map the headers at another address, so a page's event slot is chosen by its *index*: the distance of its
/// header from `base`, where this process sees the first header.
///
/// Wakes are not fanned out: a process that was woken to wake others may die first. And a process that dies as the owner of a
/// page leaves it locked; nobody can tell. Waits with a deadline bound the harm.
///
/// A header in shared memory must not hold one process's addresses. So give the headers a platform of size zero that finds
/// this handle in a static of each process, and forward to it:
///
/// ```
/// use pagelock::futex::{EventSlot, Futex, SharedFutex, Sleep};
/// use pagelock::{PageLock, sync::AtomicU32};
/// use std::sync::OnceLock;
///
/// static HERE: OnceLock<SharedFutex<'static>> = OnceLock::new();
///
/// #[derive(Clone, Copy)]
/// struct Guest;
///
/// fn here() -> &'static SharedFutex<'static> {
///     HERE.get().expect("the segment is mapped before its pages are used")
/// }
///
/// impl Futex for Guest {
///     fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep { here().wait(word, expected) }
///     fn wake_one(&self, word: *const AtomicU32) { here().wake_one(word) }
///     fn wake_all(&self, word: *const AtomicU32) { here().wake_all(word) }
///     fn event(&self, index: usize) -> &EventSlot { here().event(index) }
///     fn events(&self) -> usize { here().events() }
///     fn event_index(&self, page: usize) -> usize { here().event_index(page) }
/// }
///
/// // In earnest both lie in a memfd that every process maps.
/// static EVENTS: [EventSlot; 16] = [const { EventSlot::new() }; 16];
/// static PAGES: [PageLock<Guest>; 4] = [const { PageLock::with_futex(Guest) }; 4];
///
/// HERE.set(SharedFutex::new(&EVENTS, PAGES.as_ptr().addr()).unwrap()).unwrap();
/// assert_eq!(size_of_val(&PAGES), 4 * 8);
/// let guard = PAGES[2].lock();
/// assert!(PAGES[2].is_locked());
/// # drop(guard);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SharedFutex<'e> {
    events: &'e [EventSlot],
    base: usize,
}

impl<'e> SharedFutex<'e> {
    /// Uses `events`, for headers of which the first is mapped here at address `base`.
    ///
    /// `None` unless the number of slots is a power of two.
    #[must_use]
    pub const fn new(events: &'e [EventSlot], base: usize) -> Option<Self> {
        if events.len().is_power_of_two() { Some(Self { events, base }) } else { None }
    }
}

impl Futex for SharedFutex<'_> {
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        linux::sleep(Scope::Shared, word, expected, EVERY_CLASS, None)
    }

    fn wake_one(&self, word: *const AtomicU32) {
        linux::wake(Scope::Shared, word, 1, EVERY_CLASS);
    }

    fn wake_all(&self, word: *const AtomicU32) {
        linux::wake(Scope::Shared, word, u32::MAX, EVERY_CLASS);
    }

    fn event(&self, index: usize) -> &EventSlot {
        &self.events[index]
    }

    fn events(&self) -> usize {
        self.events.len()
    }

    fn event_index(&self, page: usize) -> usize {
        event::hash(page.wrapping_sub(self.base)) & (self.events.len() - 1)
    }
}

impl FutexTimed for SharedFutex<'_> {
    type Instant = MonotonicTime;

    fn after(&self, d: Duration) -> Result<MonotonicTime, DeadlineError> {
        MonotonicTime::after(d)
    }

    fn late_by(&self, at: MonotonicTime) -> Option<Duration> {
        at.late_by()
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, _class: u32, at: MonotonicTime) -> Sleep {
        linux::sleep(Scope::Shared, word, expected, EVERY_CLASS, Some(at))
    }
}
