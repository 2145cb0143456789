//! References, which keep what a page is, and pins, which keep where it is.

use crate::error::pagelock_error;
use crate::types::{at, pagelock_page};
use core::mem::forget;
use pagelock::Put;

/// Makes a free page live, with `refs` references, which are the caller's to put. LIVE, FROZEN,
/// POISONED, ZERO, OVERFLOW.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_activate(page: *mut pagelock_page, refs: u32) -> pagelock_error {
    // SAFETY: see the top of the crate.
    pagelock_error::of(unsafe { at(page) }.activate(refs))
}

/// Takes a reference. FREE, FROZEN, POISONED, OVERFLOW.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_get(page: *mut pagelock_page) -> pagelock_error {
    // SAFETY: see the top of the crate.
    pagelock_error::of(unsafe { at(page) }.try_get().map(forget))
}

/// Pins the page where it is. FREE, FROZEN, MIGRATING, POISONED, OVERFLOW.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_pin(page: *mut pagelock_page) -> pagelock_error {
    // SAFETY: see the top of the crate.
    pagelock_error::of(unsafe { at(page) }.try_pin().map(forget))
}

/// Gives back a reference that is the caller's. True to the one caller that made the page free by
/// that, which frees its memory.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_put(page: *mut pagelock_page) -> bool {
    // SAFETY: see the top of the crate; the reference is the caller's.
    unsafe { at(page).put_raw() == Put::Last }
}

/// Gives back a pin that is the caller's. True to the one caller that made the page free by that.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_unpin(page: *mut pagelock_page) -> bool {
    // SAFETY: see the top of the crate; the pin is the caller's.
    unsafe { at(page).unpin_raw() == Put::Last }
}

/// How many references the page has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_refs(page: *const pagelock_page) -> u32 {
    // SAFETY: see the top of the crate.
    unsafe { at(page) }.refs()
}

/// How many pins the page has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_pins(page: *const pagelock_page) -> u32 {
    // SAFETY: see the top of the crate.
    unsafe { at(page) }.pins()
}
