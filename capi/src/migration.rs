//! Moving a page: begin, freeze, commit or abort.

use crate::error::pagelock_error;
use crate::limits::{limits, pagelock_limits};
use crate::platform::Here;
use crate::types::{pagelock_frozen, pagelock_guard, pagelock_migration};
use core::mem::forget;
use pagelock::{Busy, FreezeRule, Frozen, Put, UserBits};

/// Any number of references, as long as there are no pins: for `pagelock_freeze`.
pub const PAGELOCK_ANY_REFS: u32 = 0xffff_ffff;

pub(crate) fn rule(refs: u32) -> FreezeRule {
    if refs == PAGELOCK_ANY_REFS { FreezeRule::Unpinned } else { FreezeRule::ExactRefs(refs) }
}

/// Announces that the page is about to move: pins are refused from now on, and
/// `pagelock_wait_migration` waits. Takes the guard.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_begin_migration(guard: pagelock_guard) -> pagelock_migration {
    // SAFETY: see the top of the crate.
    pagelock_migration::of(unsafe { guard.back() }.begin_migration())
}

/// Freezes the counts, if there are no pins and exactly `refs` references, or PAGELOCK_ANY_REFS.
/// Takes the migration if it succeeds. PINNED, REFERENCED, FROZEN, POISONED.
///
/// A thread that holds a reference may be waiting for this very page, so do not retry for ever:
/// abort, and start over.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_freeze(
    migration: pagelock_migration,
    refs: u32,
    frozen: *mut pagelock_frozen,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe { frozen_by(migration.back().freeze(rule(refs)), frozen, |why| why) }
}

/// `pagelock_freeze` that first waits until the page has no pins; meanwhile no references are given
/// either. References are not waited for. `limits` may be null. Also TIMED_OUT or CANCELLED, with
/// pins left, and NO_CLOCK.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_freeze_unpinned(
    migration: pagelock_migration,
    refs: u32,
    limits: *const pagelock_limits,
    frozen: *mut pagelock_frozen,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    let within = match unsafe { self::limits(limits) } {
        Ok(within) => within,
        Err(error) => return error,
    };
    // Why there are pins left is said by what has ended the wait.
    let over = |why| match within.over(Here::new()) {
        Some(wake) if why == pagelock_error::Pinned => wake.into(),
        _ => why,
    };
    // SAFETY: as above.
    unsafe { frozen_by(migration.back().freeze_unpinned(rule(refs), within), frozen, over) }
}

/// Waits until the page has no pins, and does not freeze it. A pin that was under way may still
/// come. `limits` may be null. TIMED_OUT, CANCELLED, POISONED, NO_CLOCK.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_wait_unpinned(
    migration: pagelock_migration,
    limits: *const pagelock_limits,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    match unsafe { self::limits(limits) } {
        Ok(limits) => {
            // SAFETY: as above.
            let mut migration = unsafe { migration.back() };
            let waited = migration.wait_unpinned(limits);
            forget(migration);
            pagelock_error::of(waited.map_err(|still| still.wake))
        }
        Err(error) => error,
    }
}

/// Ends the migration with the page where it was, and unlocks it; true if a thread had waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_abort(migration: pagelock_migration) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { migration.back() }.abort().event_waiters
}

/// Ends the migration with the page where it was, and keeps the lock. Threads that wait for the
/// migration are woken now.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_end_migration(migration: pagelock_migration) -> pagelock_guard {
    // SAFETY: see the top of the crate.
    pagelock_guard::of(unsafe { migration.back() }.cancel())
}

/// Says that the contents are lost for good, and unlocks; true if a thread had waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_poison_migration(migration: pagelock_migration) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { migration.back() }.poison().event_waiters
}

/// Writes your five bits, as `pagelock_set_user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_set_user_migration(migration: pagelock_migration, user: u8) {
    // SAFETY: see the top of the crate.
    let mut migration = unsafe { migration.back() };
    migration.set_user(UserBits::new(user));
    forget(migration);
}

/// Writes your five bits, as `pagelock_set_user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_set_user_frozen(frozen: pagelock_frozen, user: u8) {
    // SAFETY: see the top of the crate.
    let mut frozen = unsafe { frozen.back() };
    frozen.set_user(UserBits::new(user));
    forget(frozen);
}

/// Ends the migration of a page whose header stays, because only the memory behind it has changed:
/// thawed, unlocked, waiters woken. Put the entries up before this. True if a thread had waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_commit(frozen: pagelock_frozen) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { frozen.back() }.commit_in_place().event_waiters
}

/// `pagelock_commit` that keeps the lock. Threads that wait for the migration are woken now.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_commit_keeping(frozen: pagelock_frozen) -> pagelock_guard {
    // SAFETY: see the top of the crate.
    pagelock_guard::of(unsafe { frozen.back() }.commit_keeping())
}

/// What a commit to another header has come to.
#[repr(C)]
pub struct pagelock_committed {
    /// The last references of the source have moved away: it is free. No other call reports it.
    pub source_is_free: bool,
    /// A thread had waited for the source.
    pub event_waiters: bool,
}

/// Ends the migration of a page whose identity moves to another header, `dst`: your five bits, and
/// `refs` references, which must be the caller's own. Both are unlocked, and all waiters told. Put
/// the entries up before this. `committed` may be null.
///
/// Takes both if it succeeds. SAME_PAGE, POISONED, FROZEN, TOO_FEW, OVERFLOW.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_commit_to(
    frozen: pagelock_frozen,
    dst: pagelock_guard,
    refs: u32,
    committed: *mut pagelock_committed,
) -> pagelock_error {
    // SAFETY: see the top of the crate; the references are the caller's.
    match unsafe { frozen.back().commit_to_moving(dst.back(), refs) } {
        Ok(done) => {
            let done = pagelock_committed {
                source_is_free: done.source == Put::Last,
                event_waiters: done.event_waiters,
            };
            if !committed.is_null() {
                // SAFETY: see the top of the crate.
                unsafe { committed.write(done) };
            }
            pagelock_error::Ok
        }
        Err(refused) => {
            forget((refused.frozen, refused.dst));
            refused.why.into()
        }
    }
}

/// Lets the counts move again, and goes back to the stage before.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_thaw(frozen: pagelock_frozen) -> pagelock_migration {
    // SAFETY: see the top of the crate.
    pagelock_migration::of(unsafe { frozen.back() }.thaw())
}

/// Says that the contents are lost for good (the copy has failed half-way), and unlocks; true if a
/// thread had waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_poison_frozen(frozen: pagelock_frozen) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { frozen.back() }.poison().event_waiters
}

unsafe fn frozen_by(
    stage: Result<Frozen<'_, Here>, Busy<'_, Here>>,
    frozen: *mut pagelock_frozen,
    say: impl FnOnce(pagelock_error) -> pagelock_error,
) -> pagelock_error {
    match stage {
        Ok(stage) => {
            // SAFETY: see the top of the crate.
            unsafe { frozen.write(pagelock_frozen::of(stage)) };
            pagelock_error::Ok
        }
        Err(busy) => {
            let why = busy.reason();
            forget(busy.into_migration());
            say(why.into())
        }
    }
}
