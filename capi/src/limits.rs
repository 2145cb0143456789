//! How long something may take.

use crate::error::pagelock_error;
use crate::platform::Here;
use core::time::Duration;
use pagelock::futex::MonotonicTime;
use pagelock::{Cancel, FutexTimed, Limits};

/// A switch that ends waits, of any number of threads and for any pages. All zeroes is a switch
/// that is not thrown.
#[repr(C)]
pub struct pagelock_cancel {
    /// The library's.
    pub word: u32,
}

/// How long something may take. All zeroes, like a null pointer in place of it: as long as it
/// takes.
#[repr(C)]
pub struct pagelock_limits {
    /// Until when, in nanoseconds on the clock of `pagelock_now`; 0 is no deadline.
    pub deadline: u64,
    /// The switch that ends it, or null.
    pub cancel: *mut pagelock_cancel,
}

const _: () = assert!(size_of::<Cancel<Here>>() == size_of::<pagelock_cancel>());
const _: () = assert!(align_of::<Cancel<Here>>() == align_of::<pagelock_cancel>());

unsafe fn switch<'a>(cancel: *const pagelock_cancel) -> &'a Cancel<Here> {
    // SAFETY: one word, of which zero is a switch that is not thrown; see the top of the crate.
    unsafe { &*cancel.cast() }
}

/// What the core makes of `limits`, or that there is no clock for it.
///
/// # Safety
///
/// Null, or as the top of the crate says.
pub(crate) unsafe fn limits<'a>(
    limits: *const pagelock_limits,
) -> Result<Limits<'a, Here>, pagelock_error> {
    // SAFETY: the caller's promise.
    let Some(asked) = (unsafe { limits.as_ref() }) else { return Ok(Limits::none()) };
    let mut limits = Limits::none();
    if asked.deadline != 0 {
        if !Here::new().has_clock() {
            return Err(pagelock_error::NoClock);
        }
        limits = limits.until(MonotonicTime::since_zero(Duration::from_nanos(asked.deadline)));
    }
    if !asked.cancel.is_null() {
        // SAFETY: the caller's promise, and it is not null.
        limits = limits.unless(unsafe { switch(asked.cancel) });
    }
    Ok(limits)
}

/// Now, in nanoseconds on the platform's clock; on an operating system that is CLOCK_MONOTONIC.
/// 0 if there is no clock.
#[unsafe(no_mangle)]
pub extern "C" fn pagelock_now() -> u64 {
    let here = Here::new();
    if here.has_clock() { nanos(here.now()) } else { 0 }
}

/// The number for C: a point that it cannot hold is the last one.
pub(crate) fn nanos(at: MonotonicTime) -> u64 {
    let at = at.as_duration();
    at.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(at.subsec_nanos()))
}

/// Throws the switch: every wait under it ends, present and future. A waiter that returns for that
/// reason sees what the caller did before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_cancel_throw(cancel: *mut pagelock_cancel) {
    // SAFETY: see the top of the crate.
    unsafe { switch(cancel) }.cancel();
    // A thread that waits for a page of a segment sleeps in the segment's event slots.
    #[cfg(segments)]
    // SAFETY: as above.
    unsafe { crate::segment::switch(cancel) }.cancel();
}

/// Whether the switch is thrown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_cancel_is_thrown(cancel: *const pagelock_cancel) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { switch(cancel) }.is_cancelled()
}
