//! Points in time.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on a platform's clock, one that only goes forward: so long after whatever it calls zero.
///
/// On Linux that is `CLOCK_MONOTONIC`, which is also the clock of `std`'s `Instant`: with feature
/// `std` the two convert. Points of different platforms' clocks have nothing to say to each other.
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
    /// The last point there is: a deadline that never comes.
    pub const MAX: Self = Self(Duration::MAX);

    /// The point `d` after the clock's zero.
    #[must_use]
    pub const fn since_zero(d: Duration) -> Self {
        Self(d)
    }

    /// How long after the clock's zero this is.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// The point `d` after this one, unless that is beyond the last.
    #[must_use]
    pub const fn checked_add(self, d: Duration) -> Option<Self> {
        match self.0.checked_add(d) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

/// The point so long after, or the last one there is.
impl Add<Duration> for MonotonicTime {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d))
    }
}

/// How long it is from the second to the first; zero if that is earlier.
impl Sub for MonotonicTime {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        // By hand: that `Duration`'s own subtraction does not panic, a compiler does not always
        // see.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_difference_is_what_is_between_and_never_below_zero(
            secs in 0..3_u64, nanos in 0..1_000_000_000_u32, earlier_secs in 0..3_u64, earlier_nanos in 0..1_000_000_000_u32,
        ) {
            let (at, earlier) = (Duration::new(secs, nanos), Duration::new(earlier_secs, earlier_nanos));
            let between = MonotonicTime::since_zero(at) - MonotonicTime::since_zero(earlier);
            prop_assert_eq!(between, at.saturating_sub(earlier));
        }
    }
}
