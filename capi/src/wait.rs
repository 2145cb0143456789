//! Waiting for a page without owning it or referring to it: let go of the page-table lock, sleep.

use crate::limits::{limits, pagelock_limits};
use crate::platform::Here;
use crate::types::{at, pagelock_page};
use core::ffi::c_void;
use pagelock::{Wait, Wake};

/// How a wait has ended. In every case the page-table lock was let go of, and the caller looks at
/// its page table again.
#[cfg_attr(not(segments), allow(dead_code))] // The header has them all.
#[repr(i32)]
pub enum pagelock_wake {
    /// The page was released, or another of its event slot.
    Released = 0,
    /// There was nothing to wait for.
    NotLocked = 1,
    /// The deadline has passed.
    TimedOut = 2,
    /// The switch was thrown.
    Cancelled = 3,
    /// The contents are lost for good. There was no sleep.
    Poisoned = 4,
    /// A deadline was given, and the platform has no clock. There was no sleep.
    NoClock = 5,
    /// The segment has no such page: said by `pagelock_seat_wait_unlocked` and
    /// `pagelock_seat_wait_migration` alone.
    NoSuchPage = 6,
}

impl From<Wake> for pagelock_wake {
    fn from(wake: Wake) -> Self {
        match wake {
            Wake::NotLocked => Self::NotLocked,
            Wake::TimedOut => Self::TimedOut,
            Wake::Cancelled => Self::Cancelled,
            Wake::Poisoned => Self::Poisoned,
            _ => Self::Released,
        }
    }
}

/// Lets go of the lock that guards a page-table entry. It must not unwind, jump away or end its
/// thread.
///
/// cbindgen:ignore
pub type pagelock_unlock_fn = Option<unsafe extern "C" fn(arg: *mut c_void)>;

/// The page-table lock, which is let go of when this is dropped.
pub(crate) struct Ptl {
    unlock: pagelock_unlock_fn,
    arg: *mut c_void,
}

impl Ptl {
    pub(crate) const fn new(unlock: pagelock_unlock_fn, arg: *mut c_void) -> Self {
        Self { unlock, arg }
    }
}

impl Drop for Ptl {
    fn drop(&mut self) {
        if let Some(unlock) = self.unlock {
            // SAFETY: the caller gave both for this, and it is done once.
            unsafe { unlock(self.arg) };
        }
    }
}

/// Waits until the page is released, holding neither the page-table lock nor a reference. Call it
/// with the page-table lock, having found the page locked: `unlock(arg)` is called in any case,
/// exactly once, before any sleep, and the page is not touched after that. `unlock` may be null,
/// and so may `limits`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_wait_unlocked(
    page: *mut pagelock_page,
    unlock: pagelock_unlock_fn,
    arg: *mut c_void,
    limits: *const pagelock_limits,
) -> pagelock_wake {
    // SAFETY: see the top of the crate.
    unsafe { wait(page, Ptl::new(unlock, arg), limits, Wait::unlocked()) }
}

/// Waits until the migration of the page ends, well or not. As `pagelock_wait_unlocked`, but a page
/// that is locked for anything else is not waited for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_wait_migration(
    page: *mut pagelock_page,
    unlock: pagelock_unlock_fn,
    arg: *mut c_void,
    limits: *const pagelock_limits,
) -> pagelock_wake {
    // SAFETY: see the top of the crate.
    unsafe { wait(page, Ptl::new(unlock, arg), limits, Wait::migration()) }
}

unsafe fn wait(
    page: *mut pagelock_page,
    ptl: Ptl,
    limits: *const pagelock_limits,
    what: Wait<'_, Here>,
) -> pagelock_wake {
    // SAFETY: the caller's promise.
    let Ok(limits) = (unsafe { self::limits(limits) }) else { return pagelock_wake::NoClock };
    // SAFETY: as above.
    unsafe { at(page) }.wait_with(ptl, what.within(limits)).into()
}
