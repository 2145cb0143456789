//! What to wait for and how long, and how it ended.

use super::Cancel;
use crate::futex::{Futex, FutexTimed, MonotonicTime, OsFutex, Sleep};
use crate::sync::AtomicU32;
use crate::word::State;
use core::fmt;

/// How a wait ended. In every case the caller's guard has been dropped, and the caller must
/// re-check.
#[must_use = "the page table has to be read again, and a wait that was cut short may have to be reported"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Wake {
    /// The page was released after the wait began, or another page of its event slot was.
    Released,
    /// There was nothing to wait for: the page was not locked, or, for a wait for migration, not
    /// migrating.
    NotLocked,
    /// The time was up first, or before the call.
    TimedOut,
    /// The wait was [cancelled](Cancel), or had been before the call.
    Cancelled,
    /// The contents are lost for good. There was no sleep.
    Poisoned,
}

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitFor {
    /// The end of any hold.
    Unlocked,
    /// The end of a migration. A page that is locked for anything else is not waited for.
    Migration,
}

/// A wait, for [`PageLock::wait_with`](crate::PageLock::wait_with).
///
/// ```
/// use pagelock::{Cancel, Limits, PageLock, Wait, Wake};
///
/// let (page, shutdown) = (PageLock::new(), Cancel::new());
/// let guard = page.lock();
/// shutdown.cancel();
/// let limits = Limits::none().unless(&shutdown);
/// assert_eq!(page.wait_with((), Wait::unlocked().within(limits)), Wake::Cancelled);
/// # drop(guard);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Wait<'c, F: Futex = OsFutex> {
    /// For what.
    pub what: WaitFor,
    /// For how long.
    pub limits: Limits<'c, F>,
}

impl<'c, F: Futex> Wait<'c, F> {
    /// A wait for the end of whatever hold there is, as long as it takes.
    #[must_use]
    pub const fn unlocked() -> Self {
        Self { what: WaitFor::Unlocked, limits: Limits::none() }
    }

    /// A wait for the end of a migration, as long as it takes.
    #[must_use]
    pub const fn migration() -> Self {
        Self { what: WaitFor::Migration, limits: Limits::none() }
    }

    /// The same, within `limits`.
    #[must_use]
    pub const fn within(self, limits: Limits<'c, F>) -> Self {
        Self { what: self.what, limits }
    }

    /// Whether a page in state `seen` is to be waited for, or why not. `over` says which of the
    /// limits had been reached before the call.
    #[inline]
    pub(crate) fn may_begin(&self, seen: State, over: Option<Wake>) -> Result<(), Wake> {
        let awaited = match self.what {
            WaitFor::Unlocked => seen.is_taken(),
            WaitFor::Migration => seen.is_migrating(),
        };
        match over {
            Some(Wake::Cancelled) => Err(Wake::Cancelled),
            _ if seen.is_poisoned() => Err(Wake::Poisoned),
            _ if !awaited => Err(Wake::NotLocked),
            late => late.map_or(Ok(()), Err),
        }
    }
}

/// How long something may take: until a deadline, unless cancelled, or as long as it takes.
///
/// For every platform; a deadline needs one that [has a clock](FutexTimed).
#[derive(Clone, Copy)]
pub struct Limits<'c, F: Futex = OsFutex> {
    deadline: Option<Deadline<F>>,
    pub(crate) cancel: Option<&'c Cancel<F>>,
}

/// A point in time, and what the platform has to do with it: only some have a clock, but whoever
/// waits does not have to know.
#[derive(Clone, Copy)]
struct Deadline<F> {
    at: MonotonicTime,
    has_come: fn(&F, MonotonicTime) -> bool,
    sleep: fn(&F, &AtomicU32, u32, u32, MonotonicTime) -> Sleep,
}

impl<'c, F: Futex> Limits<'c, F> {
    /// As long as it takes.
    #[must_use]
    pub const fn none() -> Self {
        Self { deadline: None, cancel: None }
    }

    /// Not beyond `deadline`, on the clock of the platform.
    #[must_use]
    pub fn until(self, deadline: MonotonicTime) -> Self
    where
        F: FutexTimed,
    {
        let has_come = |futex: &F, at| futex.now() >= at;
        Self { deadline: Some(Deadline { at: deadline, has_come, sleep: F::wait_until }), ..self }
    }

    /// Not once `cancel` is cancelled.
    #[must_use]
    pub const fn unless(self, cancel: &'c Cancel<F>) -> Self {
        Self { deadline: self.deadline, cancel: Some(cancel) }
    }

    /// The deadline, if there is one.
    #[must_use]
    pub fn deadline(&self) -> Option<MonotonicTime> {
        self.deadline.map(|deadline| deadline.at)
    }

    /// Whether it is over: [`Wake::TimedOut`] or [`Wake::Cancelled`]. `futex` is the platform whose
    /// clock counts.
    #[must_use]
    pub fn over(&self, futex: F) -> Option<Wake> {
        if self.cancel.is_some_and(Cancel::is_cancelled) {
            return Some(Wake::Cancelled);
        }
        self.deadline
            .is_some_and(|deadline| (deadline.has_come)(&futex, deadline.at))
            .then_some(Wake::TimedOut)
    }

    /// One sleep on `word`, until the deadline at most. [`Sleep::TimedOut`] beyond that also on a
    /// platform that cannot tell.
    pub(crate) fn sleep(&self, futex: F, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        match &self.deadline {
            None => futex.wait_class(word, expected, class),
            Some(Deadline { at, sleep, .. }) => match sleep(&futex, word, expected, class, *at) {
                Sleep::Unknown if self.over(futex).is_some() => Sleep::TimedOut,
                ended => ended,
            },
        }
    }
}

impl<F: Futex> fmt::Debug for Limits<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cancelled = self.cancel.map(Cancel::is_cancelled);
        f.debug_struct("Limits")
            .field("deadline", &self.deadline())
            .field("cancelled", &cancelled)
            .finish()
    }
}
