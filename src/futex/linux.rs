//! The Linux futex system call, and the fallback where a filter refuses it.
//!
//! The crate must know how a sleep ended, because a wake is passed on exactly when one was used up.
//! Sleepers have classes (`FUTEX_WAIT_BITSET`). Deadlines are absolute on `CLOCK_MONOTONIC`, so
//! that a signal in the middle does not stretch them.
//!
//! All functions here may be called in a signal handler, and leave `errno` as it was.

use super::{EVERY_CLASS, FutexTimed, MonotonicTime, OsFutex, Sleep};
use crate::sync::AtomicU32;
use core::ptr;
use core::time::Duration;

pub(super) const CLASSES: bool = true;

/// Whether sleepers and wakers are of one process: `FUTEX_PRIVATE_FLAG` or nothing.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
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

/// Named once: musl's is deprecated, because `libc` is to widen it to 64 bits there. Nothing here
/// depends on its width.
#[allow(deprecated)]
type Seconds = libc::time_t;

/// The call whose timeout is a [`libc::timespec`]. Where pointers have 32 bits and the C library's
/// `time_t` has 64, that is not the old call but `futex_time64`, which Linux has since 5.1 and
/// `libc` does not name on most of these targets. Its number is the same on all of them except
/// MIPS, which counts from 4000.
const SYS_FUTEX_TIMED: libc::c_long =
    if cfg!(all(target_pointer_width = "32", not(target_arch = "x86_64")))
        && size_of::<Seconds>() == 8
    {
        if cfg!(any(target_arch = "mips", target_arch = "mips32r6")) { 4422 } else { 422 }
    } else {
        libc::SYS_futex
    };

/// Sleeps while `*word == expected`, as a member of `class`, until `until` if given. May return
/// without a reason ([`Sleep::Unknown`]), and does where a filter refuses every way to sleep.
pub(crate) fn sleep(
    scope: Scope,
    word: &AtomicU32,
    expected: u32,
    class: u32,
    until: Option<MonotonicTime>,
) -> Sleep {
    let is_late = || until.is_some_and(|at| OsFutex.late_by(at).is_some());
    let call = |operation: libc::c_int, timeout: Option<libc::timespec>| {
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `word` is a live, aligned u32 for the whole call; the kernel only compares it.
        // `timeout` is null or points to a timespec on this frame. These operations do not use the
        // second address. The call has no other effect on memory.
        let rc = keeping_errno(|| unsafe {
            let (word, operation) = (ptr::from_ref(word), operation | scope.flag());
            libc::syscall(
                SYS_FUTEX_TIMED,
                word,
                operation,
                expected,
                timeout,
                ptr::null::<u32>(),
                class,
            )
        });
        match rc {
            Ok(_) => Some(Sleep::Woken),
            // A filter may answer with any of these, and never let time pass in a sleep.
            Err(libc::ETIMEDOUT | libc::EAGAIN | libc::EINTR) if is_late() => Some(Sleep::TimedOut),
            Err(libc::EAGAIN) => Some(Sleep::Changed),
            Err(libc::EINTR) => Some(Sleep::Interrupted),
            // Refused.
            Err(_) => None,
        }
    };
    let absolute = until.map(|at| timespec(at.as_duration()));
    // In the fallback a sleeper has every class, and its timeout counts from now.
    let plain = || call(libc::FUTEX_WAIT, until.map(|at| timespec(at - MonotonicTime::now())));
    call(libc::FUTEX_WAIT_BITSET, absolute).or_else(plain).unwrap_or_else(|| {
        relax();
        if is_late() { Sleep::TimedOut } else { Sleep::Unknown }
    })
}

/// Wakes up to `n` sleepers on the address `word` that share a bit of `class`, or all sleepers
/// where a filter refuses that. Returns how many it woke.
///
/// In a [private](Scope::Private) scope the address is a key, and memory does not matter. In a
/// shared one the kernel looks up what is mapped there, and faults it in if need be.
pub(crate) fn wake(scope: Scope, word: *const AtomicU32, n: u32, class: u32) -> u32 {
    let call = |operation: libc::c_int, n: u32| {
        let most = i32::try_from(n).unwrap_or(i32::MAX);
        // SAFETY: a wake does not read from the address, so it may dangle (futex(2): the kernel
        // answers EFAULT at worst). The call writes nothing.
        let woken = keeping_errno(|| unsafe {
            let (timeout, other) = (ptr::null::<libc::timespec>(), ptr::null::<u32>());
            libc::syscall(
                libc::SYS_futex,
                word,
                operation | scope.flag(),
                most,
                timeout,
                other,
                class,
            )
        });
        woken.ok().and_then(|woken| u32::try_from(woken).ok())
    };
    let woken = if class == EVERY_CLASS {
        call(libc::FUTEX_WAKE, n).or_else(|| call(libc::FUTEX_WAKE_BITSET, n))
    } else {
        call(libc::FUTEX_WAKE_BITSET, n).or_else(|| call(libc::FUTEX_WAKE, u32::MAX))
    };
    woken.unwrap_or(0)
}

/// Returns the result of a system call or its error, and leaves `errno` as it was.
pub(crate) fn keeping_errno(
    call: impl FnOnce() -> libc::c_long,
) -> Result<libc::c_long, libc::c_int> {
    #[cfg(target_os = "android")]
    // SAFETY: returns the address of this thread's errno.
    let errno = unsafe { libc::__errno() };
    #[cfg(not(target_os = "android"))]
    // SAFETY: returns the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: that address is valid as long as the thread lives, and no other thread uses it.
    let before = unsafe { errno.read() };
    let rc = call();
    if rc != -1 {
        return Ok(rc);
    }
    // SAFETY: as above.
    let error = unsafe { errno.read() };
    // SAFETY: as above.
    unsafe { errno.write(before) };
    Err(error)
}

pub(crate) fn relax() {
    // SAFETY: takes nothing and touches no memory.
    if keeping_errno(|| libc::c_long::from(unsafe { libc::sched_yield() })).is_err() {
        super::platform::pause();
    }
}

pub(super) fn wait(word: &AtomicU32, expected: u32) -> Sleep {
    wait_class(word, expected, EVERY_CLASS)
}

pub(super) fn wait_class(word: &AtomicU32, expected: u32, class: u32) -> Sleep {
    sleep(Scope::Private, word, expected, class, None)
}

pub(super) fn wake_one(word: *const AtomicU32) {
    wake(Scope::Private, word, 1, EVERY_CLASS);
}

pub(super) fn wake_all(word: *const AtomicU32) {
    wake(Scope::Private, word, u32::MAX, EVERY_CLASS);
}

pub(super) fn wake_class(word: *const AtomicU32, n: u32, class: u32) -> u32 {
    wake(Scope::Private, word, n, class)
}

/// Converts for the system. A time that it cannot hold becomes the longest.
fn timespec(d: Duration) -> libc::timespec {
    // SAFETY: integers, for which zero is a value. (On some targets with unnamed padding.)
    let mut t: libc::timespec = unsafe { core::mem::zeroed() };
    t.tv_sec = d.as_secs().try_into().unwrap_or(Seconds::MAX);
    // Below 10^9, so it fits the field whatever its type.
    t.tv_nsec = d.subsec_nanos() as _;
    t
}

impl MonotonicTime {
    /// Returns the present time on `CLOCK_MONOTONIC` (on Linux and Android).
    ///
    /// Zero where a system call filter refuses the clock.
    ///
    /// ```
    /// use pagelock::futex::MonotonicTime;
    ///
    /// let earlier = MonotonicTime::now();
    /// assert!(MonotonicTime::now() >= earlier);
    /// ```
    #[must_use]
    pub fn now() -> Self {
        let mut t = timespec(Duration::ZERO);
        // It fails where a filter refuses it, and leaves zero.
        let _ = keeping_errno(|| {
            // SAFETY: `t` is a timespec that the call fills in.
            let rc = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
            rc.into()
        });
        // The system promises less than a second; a compiler that knows this leaves out the carry,
        // and with it the only panic of the core.
        let nanos = u32::try_from(t.tv_nsec).map_or(0, |nanos| nanos.min(999_999_999));
        Self::since_zero(Duration::new(t.tv_sec.try_into().unwrap_or(0), nanos))
    }

    /// Converts to `std`'s `Instant`, if that can hold the point.
    ///
    /// ```
    /// use pagelock::futex::MonotonicTime;
    /// use std::time::{Duration, Instant};
    ///
    /// let soon = MonotonicTime::now() + Duration::from_secs(1);
    /// assert!(soon.to_instant().unwrap() <= Instant::now() + Duration::from_secs(1));
    /// assert!(MonotonicTime::MAX.to_instant().is_none());
    /// ```
    #[cfg(feature = "std")]
    #[must_use]
    pub fn to_instant(self) -> Option<std::time::Instant> {
        let (here, there) = (Self::now(), std::time::Instant::now());
        if self >= here { there.checked_add(self - here) } else { there.checked_sub(here - self) }
    }
}

/// The same clock, seen through `std`. A point that this type cannot hold becomes the nearest one.
#[cfg(feature = "std")]
impl From<std::time::Instant> for MonotonicTime {
    fn from(instant: std::time::Instant) -> Self {
        let (here, there) = (Self::now(), std::time::Instant::now());
        match instant.checked_duration_since(there) {
            Some(ahead) => here + ahead,
            None => Self::since_zero(here.as_duration().saturating_sub(there - instant)),
        }
    }
}

impl FutexTimed for OsFutex {
    fn now(&self) -> MonotonicTime {
        MonotonicTime::now()
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
        assert_eq!(OsFutex.wait_until(&word, 0, EVERY_CLASS, MonotonicTime::ZERO), Sleep::TimedOut);
        assert!(OsFutex.late_by(MonotonicTime::ZERO).is_some());
    }

    #[test]
    fn wakes_take_addresses_of_nothing() {
        wake_one(ptr::null());
        wake_all(ptr::dangling());
        assert_eq!(wake_class(ptr::null(), 1, 1), 0);
    }

    #[test]
    #[cfg(feature = "std")]
    fn instants_of_std_are_on_the_same_clock() {
        let now = std::time::Instant::now();
        let hour = Duration::from_secs(3600);
        let later = MonotonicTime::from(now + hour);
        assert!(OsFutex.late_by(later).is_none());
        let late = OsFutex.late_by(now.into()).expect("now has passed");
        assert!(late < hour);
        let back = later.to_instant().expect("it came from there");
        let off = back.max(now + hour) - back.min(now + hour);
        assert!(off < Duration::from_secs(1), "{off:?}");
        assert!(MonotonicTime::MAX.to_instant().is_none());
    }

    #[test]
    fn a_time_that_the_system_cannot_hold_is_the_longest() {
        let t = timespec(Duration::new(5, 7));
        assert_eq!((t.tv_sec, t.tv_nsec), (5, 7));
        assert_eq!(timespec(Duration::MAX).tv_sec, libc::time_t::MAX);
    }
}
