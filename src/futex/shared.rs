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
/// # Processes that die
///
/// Wakes are not fanned out: a process that was woken to wake others may die first. Beyond that nobody can tell that a process has died, and
/// the page's word is left as that process has made it:
///
/// | killed in, or with | is left | harm to others |
/// |---|---|---|
/// | [`try_lock`], [`claim`] that did not get the page; `wait_*` | at most a flag | a needless wake |
/// | the page: a guard, a migration | locked, migrating or frozen | all wait, until the deadlines that they have |
/// | [`lock`], [`try_lock_for`], [`try_lock_until`], [`lock_releasing`], [`lock_releasing_until`] | one sleeper too many | a page that is promised to it is taken for ever, a wake that it was given is lost |
/// | a [reference](crate::PageRef), a [pin](crate::PagePin) | counted | the page is not freed, or not moved |
///
/// So a process that may be killed at any time should use `try_lock`, `claim` and `wait_*`, and sleep in the last of these. Who knows that a
/// process has died, and that nobody else is in a call of the third line, can strike its sleepers
/// ([`PageLock::reset_sleepers`](crate::PageLock::reset_sleepers)), and who knows that it was the owner can release the page
/// for it ([`PageGuard::from_raw`](crate::PageGuard::from_raw)). Otherwise waits with a deadline bound the harm.
///
/// [`try_lock`]: crate::PageLock::try_lock
/// [`claim`]: crate::PageLock::claim
/// [`lock`]: crate::PageLock::lock
/// [`try_lock_for`]: crate::PageLock::try_lock_for
/// [`try_lock_until`]: crate::PageLock::try_lock_until
/// [`lock_releasing`]: crate::PageLock::lock_releasing
/// [`lock_releasing_until`]: crate::PageLock::lock_releasing_until
///
/// # Headers
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
///     fn relax(&self) { here().relax() }
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

    fn relax(&self) {
        linux::relax();
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
