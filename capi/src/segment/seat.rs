//! A thread's place in a segment: through it, it locks, counts and waits.

use super::{limits, pagelock_segment};
use crate::error::pagelock_error;
use crate::limits::pagelock_limits;
use crate::segment::stages::{pagelock_seat_guard, pagelock_seat_pin, pagelock_seat_ref};
use crate::wait::{Ptl, pagelock_unlock_fn, pagelock_wake};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use pagelock::Wait;
use pagelock::refs::Put;
use pagelock::shared::{InSegment, Seat, SeatError};

/// One thread's place in a segment. It notes what the thread has to do with pages, so that a
/// survivor knows what to end: up to PAGELOCK_SEAT_NOTES things at a time.
///
/// Taken by `pagelock_seat_take`, in memory of yours; it is not moved nor copied until
/// `pagelock_seat_leave`. One thread at a time uses it, and what was locked and counted through it.
#[repr(C)]
pub struct pagelock_seat {
    /// The library's.
    pub words: [MaybeUninit<u64>; 4],
}

const _: () = assert!(size_of::<Seat<'_>>() <= size_of::<pagelock_seat>());
const _: () = assert!(align_of::<Seat<'_>>() <= align_of::<pagelock_seat>());

/// The seat at `seat`.
///
/// # Safety
///
/// It was taken and not left, and its segment is open, as the top of the crate says.
unsafe fn at(seat: *const pagelock_seat) -> &'static Seat<'static> {
    // SAFETY: the caller's promise; it outlasts what comes of it.
    unsafe { &*seat.cast::<Seat<'static>>() }
}

/// Takes a seat without an owner, for the calling thread. NO_SEAT, ONLY_DEAD, FORKED, SYSTEM.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_take(
    segment: *const pagelock_segment,
    seat: *mut pagelock_seat,
) -> pagelock_error {
    // SAFETY: see the top of the crate. The segment is closed after the seat is left.
    let segment: &'static _ = unsafe { super::at(segment) };
    pagelock_error::of(segment.sit().map(|taken| {
        // SAFETY: see the top of the crate.
        unsafe { seat.cast::<Seat<'static>>().write(taken) };
    }))
}

/// Gives the seat up. What was locked or counted through it has been given back; if not, the seat
/// stays taken until the process ends, and is recovered as that of a dead one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_leave(seat: *mut pagelock_seat) {
    // SAFETY: see the top of the crate; it is not used again.
    unsafe { seat.cast::<Seat<'static>>().drop_in_place() };
}

/// Which seat it is, from 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_number(seat: *const pagelock_seat) -> u32 {
    // SAFETY: see the top of the crate.
    unsafe { at(seat) }.number()
}

/// How many more things it can note.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_room(seat: *const pagelock_seat) -> u32 {
    // SAFETY: see the top of the crate.
    unsafe { at(seat) }.room()
}

/// Locks page number `page`, sleeping until it can. NO_SUCH_PAGE, SEAT_FULL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_lock(
    seat: *const pagelock_seat,
    page: u32,
    guard: *mut pagelock_seat_guard,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe { given(at(seat).lock(page), guard, pagelock_seat_guard::of) }
}

/// Locks the page if that takes no sleep. LOCKED, NO_SUCH_PAGE, SEAT_FULL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_try_lock(
    seat: *const pagelock_seat,
    page: u32,
    guard: *mut pagelock_seat_guard,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe { given(at(seat).try_lock(page), guard, pagelock_seat_guard::of) }
}

/// Locks the page, sleeping no longer than `limits` allow; a deadline is on CLOCK_MONOTONIC here,
/// whatever platform was set. TIMED_OUT, CANCELLED, NO_SUCH_PAGE, SEAT_FULL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_lock_within(
    seat: *const pagelock_seat,
    page: u32,
    limits: *const pagelock_limits,
    guard: *mut pagelock_seat_guard,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe {
        given(at(seat).lock_within(page, self::limits(limits)), guard, pagelock_seat_guard::of)
    }
}

/// `pagelock_wait_unlocked` for a page of the segment. Also PAGELOCK_WAKE_NO_SUCH_PAGE; `unlock` is
/// called then too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_wait_unlocked(
    seat: *const pagelock_seat,
    page: u32,
    unlock: pagelock_unlock_fn,
    arg: *mut c_void,
    limits: *const pagelock_limits,
) -> pagelock_wake {
    // SAFETY: see the top of the crate.
    unsafe {
        wait(seat, page, Ptl::new(unlock, arg), Wait::unlocked().within(self::limits(limits)))
    }
}

/// `pagelock_wait_migration` for a page of the segment. Also PAGELOCK_WAKE_NO_SUCH_PAGE; `unlock`
/// is called then too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_wait_migration(
    seat: *const pagelock_seat,
    page: u32,
    unlock: pagelock_unlock_fn,
    arg: *mut c_void,
    limits: *const pagelock_limits,
) -> pagelock_wake {
    // SAFETY: see the top of the crate.
    unsafe {
        wait(seat, page, Ptl::new(unlock, arg), Wait::migration().within(self::limits(limits)))
    }
}

unsafe fn wait(
    seat: *const pagelock_seat,
    page: u32,
    ptl: Ptl,
    wait: Wait<'_, InSegment>,
) -> pagelock_wake {
    // SAFETY: the caller's promise.
    unsafe { at(seat) }.wait(page, ptl, wait).map_or(pagelock_wake::NoSuchPage, Into::into)
}

/// Makes a free page live, with one reference, which is the seat's. LIVE, FROZEN, POISONED,
/// NO_SUCH_PAGE, SEAT_FULL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_activate(
    seat: *const pagelock_seat,
    page: u32,
    reference: *mut pagelock_seat_ref,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe { given(at(seat).activate(page), reference, pagelock_seat_ref::of) }
}

/// Takes a reference. FREE, FROZEN, POISONED, OVERFLOW, NO_SUCH_PAGE, SEAT_FULL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_try_get(
    seat: *const pagelock_seat,
    page: u32,
    reference: *mut pagelock_seat_ref,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe { given(at(seat).get(page), reference, pagelock_seat_ref::of) }
}

/// Pins the page where it is. FREE, FROZEN, MIGRATING, POISONED, OVERFLOW, NO_SUCH_PAGE, SEAT_FULL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_try_pin(
    seat: *const pagelock_seat,
    page: u32,
    pin: *mut pagelock_seat_pin,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe { given(at(seat).pin(page), pin, pagelock_seat_pin::of) }
}

/// Gives the reference back. True to the one caller that made the page free by that.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_put(reference: pagelock_seat_ref) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { reference.back() }.put() == Put::Last
}

/// Gives the pin back. True to the one caller that made the page free by that.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_unpin(pin: pagelock_seat_pin) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { pin.back() }.unpin() == Put::Last
}

/// Keeps the reference and strikes its note out: it is a page table's, say, and outlives this
/// process. `pagelock_seat_adopt_ref` makes it a seat's again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_leave_ref(reference: pagelock_seat_ref) {
    // SAFETY: see the top of the crate.
    unsafe { reference.back() }.into_raw();
}

/// Makes a reference that was left this seat's; one caller does so for each that was left.
/// NO_SUCH_PAGE, SEAT_FULL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_adopt_ref(
    seat: *const pagelock_seat,
    page: u32,
    reference: *mut pagelock_seat_ref,
) -> pagelock_error {
    // SAFETY: see the top of the crate, and the caller's promise.
    unsafe { given(at(seat).adopt_ref(page), reference, pagelock_seat_ref::of) }
}

/// Keeps the pin and strikes its note out, as `pagelock_seat_leave_ref`: a device's, say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_leave_pin(pin: pagelock_seat_pin) {
    // SAFETY: see the top of the crate.
    unsafe { pin.back() }.into_raw();
}

/// Makes a pin that was left this seat's; one caller does so for each that was left. NO_SUCH_PAGE,
/// SEAT_FULL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_adopt_pin(
    seat: *const pagelock_seat,
    page: u32,
    pin: *mut pagelock_seat_pin,
) -> pagelock_error {
    // SAFETY: see the top of the crate, and the caller's promise.
    unsafe { given(at(seat).adopt_pin(page), pin, pagelock_seat_pin::of) }
}

unsafe fn given<R, C>(
    result: Result<R, SeatError>,
    to: *mut C,
    of: impl FnOnce(R) -> C,
) -> pagelock_error {
    pagelock_error::of(result.map(|got| {
        // SAFETY: see the top of the crate.
        unsafe { to.write(of(got)) };
    }))
}
