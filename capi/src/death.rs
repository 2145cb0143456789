//! After a death: a thread, or a process on the other side of shared memory, that owned a page.

use crate::types::{at, pagelock_page};
use core::mem::forget;
use pagelock::TakenOver;

/// What a dead owner has left. The survivor makes the named stage of it, with the page's address.
#[repr(i32)]
pub enum pagelock_stage {
    /// Nothing: the page had no owner.
    None = 0,
    /// A `pagelock_guard`.
    Locked = 1,
    /// A `pagelock_migration`.
    Migrating = 2,
    /// A `pagelock_frozen`. How far its owner came with the bytes, the entries say.
    Frozen = 3,
    /// The page is in the middle of being poisoned: `pagelock_finish_poisoning`, or
    /// `pagelock_stop_poisoning`.
    Poisoning = 4,
}

/// Makes the caller the owner of what a dead owner has left.
///
/// The thread that locked the page last, and has not released it, died before this call, and only
/// one survivor takes over from it. If that thread is alive, the page has two owners.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_take_over(page: *mut pagelock_page) -> pagelock_stage {
    // SAFETY: see the top of the crate, and the caller's promise.
    match unsafe { at(page).take_over() } {
        Some(TakenOver::Locked(guard)) => {
            forget(guard);
            pagelock_stage::Locked
        }
        Some(TakenOver::Migrating(migration)) => {
            forget(migration);
            pagelock_stage::Migrating
        }
        Some(TakenOver::Frozen(frozen)) => {
            forget(frozen);
            pagelock_stage::Frozen
        }
        Some(TakenOver::Poisoning(poisoning)) => {
            forget(poisoning);
            pagelock_stage::Poisoning
        }
        _ => pagelock_stage::None,
    }
}

/// Does what the dead owner was about to do: the page is poisoned, unlocked, and all waiters are
/// told. After `pagelock_take_over` has said POISONING.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_finish_poisoning(page: *mut pagelock_page) {
    // SAFETY: see the top of the crate; the stage is the caller's, and the words still say so.
    if let Some(TakenOver::Poisoning(poisoning)) = unsafe { at(page).take_over() } {
        let _ = poisoning.finish();
    }
}

/// Leaves the page unpoisoned, for a survivor that knows that its contents are good. It is locked
/// then: a `pagelock_guard`. After `pagelock_take_over` has said POISONING.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_stop_poisoning(page: *mut pagelock_page) {
    // SAFETY: see the top of the crate; the stage is the caller's, and the words still say so.
    if let Some(TakenOver::Poisoning(poisoning)) = unsafe { at(page).take_over() } {
        forget(poisoning.thaw());
    }
}

/// Wakes every thread that may be asleep because of this page, after a death between a release and
/// its wakes. Never wrong; it costs needless wakes. The caller does not own the page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_retell(page: *mut pagelock_page) {
    // SAFETY: see the top of the crate, and the caller's promise.
    unsafe { at(page).retell() }
}

/// Strikes out the count of threads that sleep for the page's lock, after one of them has died, or
/// in the child after a fork. No living thread may be in a call that locks the page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_reset_sleepers(page: *mut pagelock_page) {
    // SAFETY: see the top of the crate, and the caller's promise.
    unsafe { at(page).reset_sleepers() }
}
