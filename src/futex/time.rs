//! Points in time, and platforms that know the time.

use super::{Futex, Sleep};
use crate::sync::AtomicU32;
use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on a platform's clock, which only goes forward: a duration since the clock's zero.
///
/// On Linux that is `CLOCK_MONOTONIC`, which is also the clock of `std`'s `Instant`: with feature
/// `std` the two convert. Points of different platforms' clocks must not be compared.
///
/// # Example
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use pagelock::futex::MonotonicTime;
/// use std::time::{Duration, Instant};
///
/// let now = MonotonicTime::now();
/// let soon = now + Duration::from_millis(5);
/// assert!(now < soon && soon - now == Duration::from_millis(5));
/// assert!(MonotonicTime::from(Instant::now()) >= now);
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicTime(Duration);

impl MonotonicTime {
    /// The clock's zero.
    pub const ZERO: Self = Self(Duration::ZERO);
    /// The last point: a deadline that never comes.
    pub const MAX: Self = Self(Duration::MAX);

    /// Makes the point `d` after the clock's zero.
    ///
    /// ```
    /// use pagelock::futex::MonotonicTime;
    /// use std::time::Duration;
    ///
    /// const BOOT: MonotonicTime = MonotonicTime::since_zero(Duration::from_secs(3));
    /// assert!(BOOT > MonotonicTime::ZERO);
    /// ```
    #[must_use]
    pub const fn since_zero(d: Duration) -> Self {
        Self(d)
    }

    /// Returns how long after the clock's zero this is.
    ///
    /// ```
    /// use pagelock::futex::MonotonicTime;
    /// use std::time::Duration;
    ///
    /// let d = Duration::from_millis(5);
    /// assert_eq!(MonotonicTime::since_zero(d).as_duration(), d);
    /// ```
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// Returns the point `d` after this one, unless that is beyond the last.
    ///
    /// ```
    /// use pagelock::futex::MonotonicTime;
    /// use std::time::Duration;
    ///
    /// let second = Duration::from_secs(1);
    /// assert!(MonotonicTime::ZERO.checked_add(second).is_some());
    /// assert!(MonotonicTime::MAX.checked_add(second).is_none());
    /// ```
    #[must_use]
    pub const fn checked_add(self, d: Duration) -> Option<Self> {
        match self.0.checked_add(d) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

/// The point that much later, or the last one.
impl Add<Duration> for MonotonicTime {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d))
    }
}

/// The duration from the second point to the first; zero if the first is earlier.
impl Sub for MonotonicTime {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        // By hand, because a compiler does not always see that `Duration`'s own subtraction cannot
        // panic here.
        const SECOND: u32 = 1_000_000_000;
        let (secs, nanos) =
            (self.0.as_secs().checked_sub(earlier.0.as_secs()), self.0.subsec_nanos());
        let (secs, nanos) = match (secs, nanos.checked_sub(earlier.0.subsec_nanos())) {
            (Some(secs), Some(nanos)) => (secs, nanos),
            (Some(secs @ 1..), None) => (secs - 1, nanos + (SECOND - earlier.0.subsec_nanos())),
            _ => return Duration::ZERO,
        };
        Duration::new(secs, nanos.min(SECOND - 1))
    }
}

impl fmt::Debug for MonotonicTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MonotonicTime({}.{:09}s)", self.0.as_secs(), self.0.subsec_nanos())
    }
}

/// A platform that can also sleep until a deadline.
pub trait FutexTimed: Futex {
    /// Returns the present time on the platform's clock.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use pagelock::futex::{FutexTimed, OsFutex};
    ///
    /// let earlier = OsFutex.now();
    /// assert!(OsFutex.now() >= earlier);
    /// # }
    /// ```
    fn now(&self) -> MonotonicTime;

    /// [`Futex::wait_class`] that also ends when the clock reaches `at`.
    ///
    /// A sleep that ends for that reason returns [`Sleep::TimedOut`]. If a platform cannot tell and
    /// returns [`Sleep::Unknown`], the crate asks the clock. After [`Sleep::Interrupted`] or
    /// [`Sleep::Changed`] it would sleep again, even beyond the deadline.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use pagelock::futex::{EVERY_CLASS, FutexTimed, OsFutex, Sleep};
    ///
    /// let word = pagelock::sync::AtomicU32::new(0);
    /// let past = OsFutex.now();
    /// assert_eq!(OsFutex.wait_until(&word, 0, EVERY_CLASS, past), Sleep::TimedOut);
    /// # }
    /// ```
    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep;

    /// Returns the point `d` from now, if there is one.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use pagelock::futex::{FutexTimed, OsFutex};
    /// use std::time::Duration;
    ///
    /// assert!(OsFutex.after(Duration::from_secs(1)).is_some());
    /// assert!(OsFutex.after(Duration::MAX).is_none());
    /// # }
    /// ```
    fn after(&self, d: Duration) -> Option<MonotonicTime> {
        self.now().checked_add(d)
    }

    /// Returns how long ago `at` was; `None` if it is yet to come.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use pagelock::futex::{FutexTimed, MonotonicTime, OsFutex};
    ///
    /// assert!(OsFutex.late_by(OsFutex.now()).is_some());
    /// assert!(OsFutex.late_by(MonotonicTime::MAX).is_none());
    /// # }
    /// ```
    fn late_by(&self, at: MonotonicTime) -> Option<Duration> {
        let now = self.now();
        (now >= at).then(|| now - at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn a_difference_is_what_is_between_and_never_below_zero(
            secs in 0..3_u64, nanos in 0..1_000_000_000_u32,
            earlier_secs in 0..3_u64, earlier_nanos in 0..1_000_000_000_u32,
        ) {
            let at = Duration::new(secs, nanos);
            let earlier = Duration::new(earlier_secs, earlier_nanos);
            let between = MonotonicTime::since_zero(at) - MonotonicTime::since_zero(earlier);
            prop_assert_eq!(between, at.saturating_sub(earlier));
        }
    }
}
