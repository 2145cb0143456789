//! What to wait for and how long, and how it ended.

use super::Cancel;
use crate::futex::{Futex, FutexTimed, MonotonicTime, OsFutex, Sleep};
use crate::sync::AtomicU32;
use crate::word::State;
use core::fmt;

/// How a wait ended. In every case the caller's guard has been dropped, and the caller must
/// re-check.
#[must_use = "the page table must be read again, and a wait cut short may have to be reported"]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Wake {
    /// The page was released after the wait began, or another page of its event slot was.
    Released,
    /// There was nothing to wait for: the page was not locked, or, for a wait for migration, not
    /// migrating.
    NotLocked,
    /// The deadline came first, or had passed before the call.
    TimedOut,
    /// The wait was [cancelled](Cancel), or had been before the call.
    Cancelled,
    /// The contents are lost for good. There was no sleep.
    Poisoned,
}

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum WaitFor {
    /// The end of any hold.
    Unlocked,
    /// The end of a migration. The wait returns at once if the page is locked for anything else.
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
#[non_exhaustive]
pub struct Wait<'c, F: Futex = OsFutex> {
    /// What to wait for.
    pub what: WaitFor,
    /// How long to wait.
    pub limits: Limits<'c, F>,
}

impl<'c, F: Futex> Wait<'c, F> {
    /// Makes a wait for the end of any hold, without limits.
    ///
    /// ```
    /// use pagelock::{PageLock, Wait, Wake};
    ///
    /// let page = PageLock::new();
    /// assert_eq!(page.wait_with((), Wait::unlocked()), Wake::NotLocked);
    /// ```
    #[must_use]
    pub const fn unlocked() -> Self {
        Self { what: WaitFor::Unlocked, limits: Limits::none() }
    }

    /// Makes a wait for the end of a migration, without limits.
    ///
    /// ```
    /// use pagelock::{PageLock, Wait, Wake};
    ///
    /// let page = PageLock::new();
    /// let guard = page.lock(); // locked, but not migrating
    /// assert_eq!(page.wait_with((), Wait::migration()), Wake::NotLocked);
    /// # drop(guard);
    /// ```
    #[must_use]
    pub const fn migration() -> Self {
        Self { what: WaitFor::Migration, limits: Limits::none() }
    }

    /// Returns the same wait, within `limits`.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use pagelock::futex::MonotonicTime;
    /// use pagelock::{Limits, PageLock, Wait, Wake};
    ///
    /// let page = PageLock::new();
    /// let guard = page.lock();
    /// let past = Limits::none().until(MonotonicTime::now());
    /// assert_eq!(page.wait_with((), Wait::unlocked().within(past)), Wake::TimedOut);
    /// # drop(guard);
    /// # }
    /// ```
    #[must_use]
    pub const fn within(self, limits: Limits<'c, F>) -> Self {
        Self { what: self.what, limits }
    }

    /// `Ok` if there is something to wait for in state `seen`, or why the wait ends at once. `over`
    /// says which of the limits was reached before the call.
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

/// How long a call may take: until a deadline, unless cancelled, or as long as it takes.
///
/// For every platform; a deadline needs one that [has a clock](FutexTimed).
#[derive(Clone, Copy)]
pub struct Limits<'c, F: Futex = OsFutex> {
    deadline: Option<Deadline<F>>,
    pub(crate) cancel: Option<&'c Cancel<F>>,
}

/// A point in time, and the platform's methods for it: only some platforms have a clock, but a wait
/// need not know which.
#[derive(Clone, Copy)]
struct Deadline<F> {
    at: MonotonicTime,
    has_come: fn(&F, MonotonicTime) -> bool,
    sleep: fn(&F, &AtomicU32, u32, u32, MonotonicTime) -> Sleep,
}

impl<'c, F: Futex> Limits<'c, F> {
    /// Makes limits that are never reached.
    ///
    /// ```
    /// use pagelock::{Limits, PageLock};
    ///
    /// let page = PageLock::new();
    /// assert!(page.lock_within(Limits::none()).is_ok());
    /// ```
    #[must_use]
    pub const fn none() -> Self {
        Self { deadline: None, cancel: None }
    }

    /// Adds a deadline, on the platform's clock.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use pagelock::futex::MonotonicTime;
    /// use pagelock::{Limits, LockError, PageLock};
    /// use std::time::Duration;
    ///
    /// let page = PageLock::new();
    /// let owner = page.lock();
    /// let soon = MonotonicTime::now() + Duration::from_millis(1);
    /// let refused = page.lock_within(Limits::none().until(soon)).unwrap_err();
    /// assert_eq!(refused, LockError::TimedOut);
    /// # drop(owner);
    /// # }
    /// ```
    #[must_use]
    pub fn until(self, deadline: MonotonicTime) -> Self
    where
        F: FutexTimed,
    {
        let has_come = |futex: &F, at| futex.now() >= at;
        Self { deadline: Some(Deadline { at: deadline, has_come, sleep: F::wait_until }), ..self }
    }

    /// Adds a switch that ends the call.
    ///
    /// ```
    /// use pagelock::{Cancel, Limits, OsFutex, Wake};
    ///
    /// let kill = Cancel::new();
    /// let limits = Limits::none().unless(&kill);
    /// kill.cancel();
    /// assert_eq!(limits.over(OsFutex), Some(Wake::Cancelled));
    /// ```
    #[must_use]
    pub const fn unless(self, cancel: &'c Cancel<F>) -> Self {
        Self { deadline: self.deadline, cancel: Some(cancel) }
    }

    /// Returns the deadline, if there is one.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use pagelock::Limits;
    /// use pagelock::futex::{MonotonicTime, OsFutex};
    ///
    /// let limits = Limits::<OsFutex>::none();
    /// assert_eq!(limits.deadline(), None);
    /// assert_eq!(limits.until(MonotonicTime::MAX).deadline(), Some(MonotonicTime::MAX));
    /// # }
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<MonotonicTime> {
        self.deadline.map(|deadline| deadline.at)
    }

    /// Returns which limit is reached, if any: [`Wake::Cancelled`] or [`Wake::TimedOut`], by the
    /// clock of `futex`.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use pagelock::futex::MonotonicTime;
    /// use pagelock::{Limits, OsFutex, Wake};
    ///
    /// assert_eq!(Limits::none().over(OsFutex), None);
    /// let past = Limits::none().until(MonotonicTime::now());
    /// assert_eq!(past.over(OsFutex), Some(Wake::TimedOut));
    /// # }
    /// ```
    #[must_use]
    pub fn over(&self, futex: F) -> Option<Wake> {
        let cancelled = self.cancel.is_some_and(Cancel::is_cancelled);
        let is_late = || self.deadline.is_some_and(|d| (d.has_come)(&futex, d.at));
        cancelled.then_some(Wake::Cancelled).or_else(|| is_late().then_some(Wake::TimedOut))
    }

    /// One sleep on `word`, until the deadline at most. After the deadline it returns
    /// [`Sleep::TimedOut`], also on a platform that cannot tell.
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
        let (deadline, cancelled) = (self.deadline(), self.cancel.map(Cancel::is_cancelled));
        write!(f, "Limits {{ deadline: {deadline:?}, cancelled: {cancelled:?} }}")
    }
}
