//! The functions of a platform's table. cbindgen leaves their types to the head of the header,
//! which says of them in C++ that they do not throw.

use crate::types::pagelock_page;
use core::ffi::c_void;
use pagelock::futex::Sleep;

/// How a sleep has ended, as far as the platform can tell.
#[allow(dead_code)] // C says it.
#[repr(i32)]
pub enum pagelock_slept {
    /// The platform cannot tell. Any number that is not below says this too.
    Unknown = 0,
    /// A wake was meant for this sleeper, which has thereby used it up.
    Woken = 1,
    /// The word did not have the expected value: no sleep.
    Changed = 2,
    /// Something else has ended the sleep, a signal for instance: no wake was used up.
    Interrupted = 3,
    /// The time was up: no wake was used up.
    TimedOut = 4,
}

/// The core's word for what a function of C's has answered.
pub(crate) const fn slept(answer: i32) -> Sleep {
    const WOKEN: i32 = pagelock_slept::Woken as i32;
    const CHANGED: i32 = pagelock_slept::Changed as i32;
    const INTERRUPTED: i32 = pagelock_slept::Interrupted as i32;
    const TIMED_OUT: i32 = pagelock_slept::TimedOut as i32;
    match answer {
        WOKEN => Sleep::Woken,
        CHANGED => Sleep::Changed,
        INTERRUPTED => Sleep::Interrupted,
        TIMED_OUT => Sleep::TimedOut,
        _ => Sleep::Unknown,
    }
}

/// cbindgen:ignore
pub type pagelock_wait_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, word: *const u32, expected: u32) -> i32>;
/// cbindgen:ignore
pub type pagelock_wait_until_fn = Option<
    unsafe extern "C" fn(context: *mut c_void, word: *const u32, expected: u32, at: u64) -> i32,
>;
/// cbindgen:ignore
pub type pagelock_wake_fn = Option<unsafe extern "C" fn(context: *mut c_void, word: *const u32)>;
/// cbindgen:ignore
pub type pagelock_relax_fn = Option<unsafe extern "C" fn(context: *mut c_void)>;
/// cbindgen:ignore
pub type pagelock_now_fn = Option<unsafe extern "C" fn(context: *mut c_void) -> u64>;
/// cbindgen:ignore
pub type pagelock_page_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, page: *mut pagelock_page)>;
