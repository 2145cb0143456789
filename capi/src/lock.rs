//! Owning a page.

use crate::error::pagelock_error;
use crate::limits::{limits, pagelock_limits};
use crate::types::{at, pagelock_guard, pagelock_page};
use crate::wait::{Ptl, pagelock_unlock_fn};
use core::ffi::c_void;
use pagelock::{Claim, LockError, PageGuard, UserBits};

/// Locks the page, sleeping until it can. A page whose contents are lost can be locked too.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_lock(page: *mut pagelock_page) -> pagelock_guard {
    // SAFETY: see the top of the crate.
    pagelock_guard::of(unsafe { at(page) }.lock())
}

/// Locks the page if that takes no sleep; LOCKED if another thread has it, or sleeps for it.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_try_lock(
    page: *mut pagelock_page,
    guard: *mut pagelock_guard,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    match unsafe { at(page) }.try_lock() {
        // SAFETY: as above.
        Some(locked) => unsafe { give(guard, locked) },
        None => pagelock_error::Locked,
    }
}

/// Locks the page, sleeping no longer than `limits` allow. TIMED_OUT, CANCELLED, NO_CLOCK.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_lock_within(
    page: *mut pagelock_page,
    limits: *const pagelock_limits,
    guard: *mut pagelock_guard,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe {
        locked(guard, crate::limits::limits(limits).map(|limits| at(page).lock_within(limits)))
    }
}

/// Lets go of the page-table lock, by `unlock(arg)`, then locks the page; newcomers cannot overtake
/// the caller meanwhile. For a faulter that has lost the race for the page too often. The header
/// must stay where it is for the whole call.
///
/// `unlock` is called in any case, exactly once. `limits` may be null. TIMED_OUT, CANCELLED,
/// NO_CLOCK.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_lock_releasing(
    page: *mut pagelock_page,
    unlock: pagelock_unlock_fn,
    arg: *mut c_void,
    limits: *const pagelock_limits,
    guard: *mut pagelock_guard,
) -> pagelock_error {
    let ptl = Ptl::new(unlock, arg);
    // SAFETY: see the top of the crate.
    unsafe {
        locked(
            guard,
            self::limits(limits).map(|limits| at(page).lock_releasing_within(ptl, limits)),
        )
    }
}

/// Unlocks the page; true if a thread had waited for that. The next owner sees what the caller did.
/// The page is not touched once it is unlocked: the next owner may free the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_unlock(guard: pagelock_guard) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { guard.back() }.unlock().event_waiters
}

/// `pagelock_unlock` that hands the page to the lockers that sleep for it before any newcomer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_unlock_fair(guard: pagelock_guard) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { guard.back() }.unlock_fair().event_waiters
}

/// Who owns the page now.
#[repr(i32)]
pub enum pagelock_claimed {
    /// Yours: `guard` was set.
    Owner = 0,
    /// Another owner's, whose release tells.
    InFlight = 1,
    /// No owner: the contents are lost, and there is nothing to wait for.
    Poisoned = 2,
}

/// Locks the page, or leaves word that a fault waits for it; never sleeps. For fault servers, whose
/// faulters sleep elsewhere: the owner's release calls the platform's `tell`. The word is for one
/// release, so claim again before every further wait.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_claim(
    page: *mut pagelock_page,
    guard: *mut pagelock_guard,
) -> pagelock_claimed {
    // SAFETY: see the top of the crate.
    unsafe { claimed(at(page).claim(), guard) }
}

/// `pagelock_claim` for a server whose own faulter sleeps as well: if the page is the caller's, its
/// release tells in any case.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_claim_told(
    page: *mut pagelock_page,
    guard: *mut pagelock_guard,
) -> pagelock_claimed {
    // SAFETY: see the top of the crate.
    unsafe { claimed(at(page).claim_told(), guard) }
}

/// Says that the contents are lost for good, and unlocks; true if a thread had waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_poison(guard: pagelock_guard) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { guard.back() }.poison().event_waiters
}

/// Undoes a poisoning, for memory that starts a new life: no references, no pins, still locked.
/// Nothing of the old life may be left: no reference or pin that will still be put, no entry that
/// leads here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_unpoison(guard: pagelock_guard) {
    // SAFETY: see the top of the crate.
    let mut guard = unsafe { guard.back() };
    // SAFETY: the caller's promise.
    unsafe { guard.unpoison() };
    core::mem::forget(guard);
}

/// Writes your five bits, 0 to 31; the rest of `user` is dropped. A reader of the bits sees what
/// the caller did before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_set_user(guard: pagelock_guard, user: u8) {
    // SAFETY: see the top of the crate.
    let mut guard = unsafe { guard.back() };
    guard.set_user(UserBits::new(user));
    core::mem::forget(guard);
}

type Locked<'a> = PageGuard<'a, crate::platform::Here>;

/// Gives `locked` to the caller.
unsafe fn give(guard: *mut pagelock_guard, locked: Locked<'_>) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe { guard.write(pagelock_guard::of(locked)) };
    pagelock_error::Ok
}

unsafe fn locked(
    guard: *mut pagelock_guard,
    locked: Result<Result<Locked<'_>, LockError>, pagelock_error>,
) -> pagelock_error {
    match locked {
        // SAFETY: the caller's promise.
        Ok(Ok(locked)) => unsafe { give(guard, locked) },
        Ok(Err(late)) => late.into(),
        Err(error) => error,
    }
}

unsafe fn claimed(
    claim: Claim<'_, crate::platform::Here>,
    guard: *mut pagelock_guard,
) -> pagelock_claimed {
    match claim {
        Claim::Owner(locked) => {
            // SAFETY: the caller's promise.
            unsafe { give(guard, locked) };
            pagelock_claimed::Owner
        }
        Claim::Poisoned => pagelock_claimed::Poisoned,
        _ => pagelock_claimed::InFlight,
    }
}

/// Whether the page has an owner, or is kept for a locker that sleeps. The answer, like those of
/// the functions below, may be out of date at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_is_locked(page: *const pagelock_page) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { at(page) }.is_locked()
}

/// Whether its owner migrates it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_is_migrating(page: *const pagelock_page) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { at(page) }.is_migrating()
}

/// Whether its contents are lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_is_poisoned(page: *const pagelock_page) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { at(page) }.is_poisoned()
}

/// Whether a migration has frozen its counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_is_frozen(page: *const pagelock_page) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { at(page) }.is_frozen()
}

/// How many lockers sleep for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_sleepers(page: *const pagelock_page) -> u32 {
    // SAFETY: see the top of the crate.
    unsafe { at(page) }.sleepers()
}

/// Your five bits. A reader sees what their writer did before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_user(page: *const pagelock_page) -> u8 {
    // SAFETY: see the top of the crate.
    unsafe { at(page) }.user().get()
}
