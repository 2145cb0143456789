//! The Linux futex system call.
//!
//! Sleeping without a class and waking go through `atomic-wait`'s calls where they say enough; here are those that do not: how
//! a sleep ended (a wake must be passed on exactly when one was used up), classes (`FUTEX_WAIT_BITSET`), and deadlines, which
//! are absolute on `CLOCK_MONOTONIC`, so that a signal in the middle does not stretch them.
//!
//! Everything here is safe to call from a signal handler, `errno` aside.

use super::{DeadlineError, EVERY_CLASS, FutexTimed, OsFutex, Sleep};
use crate::sync::AtomicU32;
use core::ptr;
use core::time::Duration;

pub(super) const CLASSES: bool = true;

/// `FUTEX_PRIVATE_FLAG` or nothing: whether sleepers and wakers are of one process.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    Private,
    Shared,
}

impl Scope {
    const fn flag(self) -> libc::c_int {
        match self {
            Self::Private => libc::FUTEX_PRIVATE_FLAG,
            Self::Shared => 0,
        }
    }
}

/// The call whose timeout is a [`libc::timespec`]. Where pointers have 32 bits and the C library has a `time_t` of 64, that is not the
/// old one, but one that Linux has since 5.1, and `libc` has no name for on most of these targets. Its number is the same on
/// all of them but MIPS, which counts from 4000.
const SYS_FUTEX: libc::c_long =
    if cfg!(all(target_pointer_width = "32", not(target_arch = "x86_64"))) && size_of::<libc::time_t>() == 8 {
        if cfg!(any(target_arch = "mips", target_arch = "mips32r6")) { 4422 } else { 422 }
    } else {
        libc::SYS_futex
    };

/// Some targets' has padding, without a name.
const fn timespec(secs: libc::time_t, nanos: i64) -> libc::timespec {
    // SAFETY: integers, of which all zeroes are a value.
    let mut t: libc::timespec = unsafe { core::mem::zeroed() };
    t.tv_sec = secs;
    // Below a thousand million, so it fits whatever the field's type is.
    t.tv_nsec = nanos as _;
    t
}

/// Sleeps while `*word == expected`, as a member of `class`, until `until` if given.
pub(super) fn sleep(scope: Scope, word: &AtomicU32, expected: u32, class: u32, until: Option<MonotonicTime>) -> Sleep {
    let until = until.map(|t| t.0);
    let timeout = until.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `word` is a live, aligned u32 for the whole call; the kernel only compares it. `timeout` is null or points to a
    // timespec on this frame. The second address is not used by this operation. The call has no other effect on memory.
    let rc = unsafe {
        libc::syscall(
            SYS_FUTEX,
            ptr::from_ref(word),
            libc::FUTEX_WAIT_BITSET | scope.flag(),
            expected,
            timeout,
            ptr::null::<u32>(),
            class,
        )
    };
    if rc == 0 {
        return Sleep::Woken;
    }
    match errno() {
        libc::EAGAIN => Sleep::Changed,
        libc::EINTR => Sleep::Interrupted,
        libc::ETIMEDOUT => Sleep::TimedOut,
        other => {
            debug_assert!(false, "futex wait failed with error {other}");
            Sleep::Unknown
        }
    }
}

/// Wakes up to `n` sleepers on the address `word` that share a bit of `class`; how many they were.
pub(super) fn wake(scope: Scope, word: *const AtomicU32, n: u32, class: u32) -> u32 {
    let most = i32::try_from(n).unwrap_or(i32::MAX);
    // SAFETY: a wake uses the address as a key and does not read from it, so it may dangle (futex(2): the kernel answers EFAULT
    // at worst for an address outside the process). It has no effect on memory.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAKE_BITSET | scope.flag(),
            most,
            ptr::null::<libc::timespec>(),
            ptr::null::<u32>(),
            class,
        )
    };
    // An error says nothing about who is left.
    u32::try_from(woken).unwrap_or(n)
}

fn errno() -> libc::c_int {
    #[cfg(target_os = "android")]
    // SAFETY: returns the address of this thread's errno, always valid to read.
    return unsafe { *libc::__errno() };
    #[cfg(not(target_os = "android"))]
    // SAFETY: returns the address of this thread's errno, always valid to read.
    unsafe {
        *libc::__errno_location()
    }
}

pub(super) fn relax() {
    // SAFETY: takes nothing, touches no memory, cannot fail.
    unsafe { libc::sched_yield() };
}

pub(super) fn wait(word: &AtomicU32, expected: u32) -> Sleep {
    wait_class(word, expected, EVERY_CLASS)
}

pub(super) fn wait_class(word: &AtomicU32, expected: u32, class: u32) -> Sleep {
    sleep(Scope::Private, word, expected, class, None)
}

pub(super) fn wake_class(word: *const AtomicU32, n: u32, class: u32) -> u32 {
    wake(Scope::Private, word, n, class)
}

pub(super) fn wake_one(word: *const AtomicU32) {
    atomic_wait::wake_one(word.cast());
}

pub(super) fn wake_all(word: *const AtomicU32) {
    atomic_wait::wake_all(word.cast());
}

/// A point on `CLOCK_MONOTONIC`, the clock that deadlines of this crate are on.
///
/// # Example
///
/// ```
/// use pagelock::futex::{DeadlineError, MonotonicTime};
/// use std::time::Duration;
///
/// let soon = MonotonicTime::after(Duration::from_millis(5))?;
/// assert!(soon.late_by().is_none());
/// assert!(matches!(MonotonicTime::after(Duration::MAX), Err(DeadlineError::BeyondClock { .. })));
/// # Ok::<(), DeadlineError>(())
/// ```
#[derive(Clone, Copy)]
pub struct MonotonicTime(libc::timespec);

const NANOS_PER_SEC: i64 = 1_000_000_000;

impl MonotonicTime {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let mut t = timespec(0, 0);
        // SAFETY: `t` is a timespec that the call fills in. It cannot fail for this clock and a valid pointer.
        let rc = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
        debug_assert_eq!(rc, 0);
        Self(t)
    }

    /// The point `d` from now.
    ///
    /// # Errors
    ///
    /// [`DeadlineError::BeyondClock`] when the clock cannot hold it.
    pub fn after(d: Duration) -> Result<Self, DeadlineError> {
        Self::now().checked_add(d).ok_or(DeadlineError::BeyondClock { asked: d })
    }

    /// The point `d` after this one, if the clock can hold it.
    #[must_use]
    #[allow(clippy::useless_conversion)] // `time_t` has 32 bits on some targets.
    pub fn checked_add(self, d: Duration) -> Option<Self> {
        let (secs, nanos) = self.parts();
        let nanos = nanos + i64::from(d.subsec_nanos());
        let secs = secs.checked_add(i64::try_from(d.as_secs()).ok()?)?.checked_add(nanos / NANOS_PER_SEC)?;
        Some(Self(timespec(secs.try_into().ok()?, nanos % NANOS_PER_SEC)))
    }

    /// The point `d` before this one, or the clock's zero.
    #[cfg(feature = "std")]
    fn saturating_sub(self, d: Duration) -> Self {
        let (secs, nanos) = self.parts();
        let since_zero = Duration::new(secs.try_into().unwrap_or(0), nanos.try_into().unwrap_or(0));
        let zero = Self(timespec(0, 0));
        zero.checked_add(since_zero.saturating_sub(d)).unwrap_or(zero)
    }

    /// The last point that the clock can hold.
    #[cfg(feature = "std")]
    const LAST: Self = Self(timespec(libc::time_t::MAX, 0));

    /// How long ago this was; `None` if it is yet to come.
    #[must_use]
    pub fn late_by(self) -> Option<Duration> {
        let ((now_s, now_n), (s, n)) = (Self::now().parts(), self.parts());
        let nanos = (now_s - s).checked_mul(NANOS_PER_SEC)?.checked_add(now_n - n)?;
        u64::try_from(nanos).ok().map(Duration::from_nanos)
    }

    /// Seconds and nanoseconds; the fields' types differ between targets.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    fn parts(self) -> (i64, i64) {
        (i64::from(self.0.tv_sec), self.0.tv_nsec as i64)
    }
}

/// The same clock, seen through `std`. A point that is out of reach becomes the nearest that is not.
#[cfg(feature = "std")]
impl From<std::time::Instant> for MonotonicTime {
    fn from(instant: std::time::Instant) -> Self {
        let (here, there) = (Self::now(), std::time::Instant::now());
        match instant.checked_duration_since(there) {
            Some(ahead) => here.checked_add(ahead).unwrap_or(Self::LAST),
            None => here.saturating_sub(there.duration_since(instant)),
        }
    }
}

impl core::fmt::Debug for MonotonicTime {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (secs, nanos) = self.parts();
        write!(f, "MonotonicTime({secs}.{nanos:09}s)")
    }
}

impl FutexTimed for OsFutex {
    type Instant = MonotonicTime;

    fn after(&self, d: Duration) -> Result<MonotonicTime, DeadlineError> {
        MonotonicTime::after(d)
    }

    fn late_by(&self, at: MonotonicTime) -> Option<Duration> {
        at.late_by()
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep {
        sleep(Scope::Private, word, expected, class, Some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_word_is_not_slept_on() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 0), Sleep::Changed);
    }

    #[test]
    fn a_deadline_in_the_past_times_out_at_once() {
        let word = AtomicU32::new(0);
        let past = MonotonicTime(timespec(0, 0));
        assert_eq!(OsFutex.wait_until(&word, 0, EVERY_CLASS, past), Sleep::TimedOut);
        assert!(past.late_by().is_some());
    }

    #[test]
    fn wakes_take_addresses_of_nothing() {
        wake_one(ptr::null());
        wake_all(ptr::dangling());
        wake_class(ptr::null(), 1, EVERY_CLASS);
    }

    #[test]
    #[cfg(feature = "std")]
    fn instants_of_std_are_on_the_same_clock() {
        let now = std::time::Instant::now();
        let hour = Duration::from_secs(3600);
        assert!(MonotonicTime::from(now + hour).late_by().is_none());
        let late = MonotonicTime::from(now).late_by().expect("now has passed");
        assert!(late < hour);
    }

    #[test]
    fn additions_carry_and_overflow_is_seen() {
        let t = MonotonicTime(timespec(1, 999_999_999));
        let u = t.checked_add(Duration::new(2, 2)).unwrap();
        assert_eq!(u.parts(), (4, 1));
        assert!(t.checked_add(Duration::from_secs(u64::MAX)).is_none());
        assert!(t.checked_add(Duration::from_secs(i64::MAX as u64)).is_none());
    }
}
