//! Pages that a seat owns, at each stage of a migration, and what it has counted.

use super::limits;
use crate::error::pagelock_error;
use crate::limits::pagelock_limits;
use crate::migration::{pagelock_committed, rule};
use core::mem::{MaybeUninit, forget};
use pagelock::refs::Put;
use pagelock::shared::{
    InSegment, SeatBusy, SeatFrozen, SeatGuard, SeatMigration, SeatPin, SeatRef,
};
use pagelock::{UserBits, migration::Committed};

/// A stage of C's: the bytes of the core's, which owns the page. C may copy and store them; one of
/// the copies comes back.
macro_rules! stage {
    ($($(#[$doc:meta])* $c:ident, $core:ident;)*) => { $(
        const _: () = assert!(size_of::<$core<'_>>() <= size_of::<$c>());
        const _: () = assert!(align_of::<$core<'_>>() <= align_of::<$c>());

        impl $c {
            /// Leaves the stage to C.
            pub(super) fn of(stage: $core<'static>) -> Self {
                let mut bytes = Self { words: [MaybeUninit::uninit(); 4] };
                // SAFETY: it has the room, and the alignment.
                unsafe { (&raw mut bytes).cast::<$core<'static>>().write(stage) };
                bytes
            }

            /// The stage again.
            ///
            /// # Safety
            ///
            /// It was given to C and is not used again; seat and segment are still there.
            pub(super) unsafe fn back(self) -> $core<'static> {
                // SAFETY: the caller's promise; `of` has written it.
                unsafe { (&raw const self).cast::<$core<'static>>().read() }
            }
        }
    )* };
}

/// A page that a seat has locked.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pagelock_seat_guard {
    /// The library's.
    pub words: [MaybeUninit<usize>; 4],
}

/// A page that a seat migrates.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pagelock_seat_migration {
    /// The library's.
    pub words: [MaybeUninit<usize>; 4],
}

/// A page that a seat has frozen.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pagelock_seat_frozen {
    /// The library's.
    pub words: [MaybeUninit<usize>; 4],
}

/// A reference that a seat has.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pagelock_seat_ref {
    /// The library's.
    pub words: [MaybeUninit<usize>; 4],
}

/// A pin that a seat has.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pagelock_seat_pin {
    /// The library's.
    pub words: [MaybeUninit<usize>; 4],
}

stage! {
    pagelock_seat_guard, SeatGuard;
    pagelock_seat_migration, SeatMigration;
    pagelock_seat_frozen, SeatFrozen;
    pagelock_seat_ref, SeatRef;
    pagelock_seat_pin, SeatPin;
}

/// Unlocks the page; true if a thread had waited for that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_unlock(guard: pagelock_seat_guard) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { guard.back() }.unlock().event_waiters
}

/// Leaves a word for a survivor that may have to recover this page: where its bytes are going, for
/// instance. It is 0 to begin with, and stays through the stages of a migration.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_set_tag(guard: pagelock_seat_guard, tag: u32) {
    // SAFETY: see the top of the crate.
    let guard = unsafe { guard.back() };
    guard.set_tag(tag);
    forget(guard);
}

/// Writes your five bits, as `pagelock_set_user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_set_user(guard: pagelock_seat_guard, user: u8) {
    // SAFETY: see the top of the crate.
    let mut guard = unsafe { guard.back() };
    guard.set_user(UserBits::new(user));
    forget(guard);
}

/// `pagelock_seat_set_tag` while the page migrates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_set_tag_migration(
    migration: pagelock_seat_migration,
    tag: u32,
) {
    // SAFETY: see the top of the crate.
    let migration = unsafe { migration.back() };
    migration.set_tag(tag);
    forget(migration);
}

/// `pagelock_seat_set_tag` while the page is frozen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_set_tag_frozen(frozen: pagelock_seat_frozen, tag: u32) {
    // SAFETY: see the top of the crate.
    let frozen = unsafe { frozen.back() };
    frozen.set_tag(tag);
    forget(frozen);
}

/// Writes your five bits, as `pagelock_set_user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_set_user_migration(
    migration: pagelock_seat_migration,
    user: u8,
) {
    // SAFETY: see the top of the crate.
    let mut migration = unsafe { migration.back() };
    migration.set_user(UserBits::new(user));
    forget(migration);
}

/// Writes your five bits, as `pagelock_set_user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_set_user_frozen(frozen: pagelock_seat_frozen, user: u8) {
    // SAFETY: see the top of the crate.
    let mut frozen = unsafe { frozen.back() };
    frozen.set_user(UserBits::new(user));
    forget(frozen);
}

/// Says that the contents are lost for good, and unlocks; true if a thread had waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_poison(guard: pagelock_seat_guard) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { guard.back() }.poison().event_waiters
}

/// Announces that the page is about to move, as `pagelock_begin_migration`. Takes the guard.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_begin_migration(
    guard: pagelock_seat_guard,
) -> pagelock_seat_migration {
    // SAFETY: see the top of the crate.
    pagelock_seat_migration::of(unsafe { guard.back() }.begin_migration())
}

/// Freezes the counts, as `pagelock_freeze`. Takes the migration if it succeeds. PINNED,
/// REFERENCED, FROZEN, POISONED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_freeze(
    migration: pagelock_seat_migration,
    refs: u32,
    frozen: *mut pagelock_seat_frozen,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe { frozen_by(migration.back().freeze(rule(refs)), frozen) }
}

/// `pagelock_seat_freeze` that first waits until the page has no pins, as
/// `pagelock_freeze_unpinned`. Also TIMED_OUT or CANCELLED, with pins left.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_freeze_unpinned(
    migration: pagelock_seat_migration,
    refs: u32,
    limits: *const pagelock_limits,
    frozen: *mut pagelock_seat_frozen,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    let within = unsafe { self::limits(limits) };
    // SAFETY: as above.
    match unsafe { frozen_by(migration.back().freeze_unpinned(rule(refs), within), frozen) } {
        // Why there are pins left is said by what has ended the wait.
        pagelock_error::Pinned => {
            within.over(InSegment::clock()).map_or(pagelock_error::Pinned, Into::into)
        }
        other => other,
    }
}

/// Waits until the page has no pins, and does not freeze it, as `pagelock_wait_unpinned`. `limits`
/// may be null. TIMED_OUT, CANCELLED, POISONED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_wait_unpinned(
    migration: pagelock_seat_migration,
    limits: *const pagelock_limits,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    let (mut migration, within) = unsafe { (migration.back(), self::limits(limits)) };
    let waited = migration.wait_unpinned(within);
    forget(migration);
    pagelock_error::of(waited.map_err(|still| still.wake))
}

/// Says that the contents are lost for good, and unlocks; true if a thread had waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_poison_migration(
    migration: pagelock_seat_migration,
) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { migration.back() }.poison().event_waiters
}

/// Ends the migration with the page where it was, and unlocks it; true if a thread had waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_abort(migration: pagelock_seat_migration) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { migration.back() }.abort().event_waiters
}

/// Ends the migration with the page where it was, and keeps the lock.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_end_migration(
    migration: pagelock_seat_migration,
) -> pagelock_seat_guard {
    // SAFETY: see the top of the crate.
    pagelock_seat_guard::of(unsafe { migration.back() }.cancel())
}

/// Ends the migration of a page whose header stays, as `pagelock_commit`. True if a thread had
/// waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_commit(frozen: pagelock_seat_frozen) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { frozen.back() }.commit_in_place().event_waiters
}

/// `pagelock_seat_commit` that keeps the lock.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_commit_keeping(
    frozen: pagelock_seat_frozen,
) -> pagelock_seat_guard {
    // SAFETY: see the top of the crate.
    pagelock_seat_guard::of(unsafe { frozen.back() }.commit_keeping())
}

/// Ends the migration of a page whose identity moves to another header, `dst`, of the same segment:
/// your five bits; references stay. Both are unlocked, and all told. `committed` may be null.
///
/// Takes both if it succeeds. SAME_PAGE, POISONED, FROZEN.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_commit_to(
    frozen: pagelock_seat_frozen,
    dst: pagelock_seat_guard,
    committed: *mut pagelock_committed,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    match unsafe { frozen.back().commit_to(dst.back()) } {
        Ok(Committed { source, event_waiters, .. }) => {
            if !committed.is_null() {
                // SAFETY: see the top of the crate.
                unsafe {
                    committed.write(pagelock_committed {
                        source_is_free: source == Put::Last,
                        event_waiters,
                    })
                };
            }
            pagelock_error::Ok
        }
        Err(refused) => {
            let why = refused.why.into();
            forget((refused.frozen, refused.dst));
            why
        }
    }
}

/// Lets the counts move again, and goes back to the stage before.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_thaw(
    frozen: pagelock_seat_frozen,
) -> pagelock_seat_migration {
    // SAFETY: see the top of the crate.
    pagelock_seat_migration::of(unsafe { frozen.back() }.thaw())
}

/// Says that the contents are lost for good (the copy has failed half-way), and unlocks; true if a
/// thread had waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_seat_poison_frozen(frozen: pagelock_seat_frozen) -> bool {
    // SAFETY: see the top of the crate.
    unsafe { frozen.back() }.poison().event_waiters
}

unsafe fn frozen_by(
    stage: Result<SeatFrozen<'static>, SeatBusy<'static>>,
    frozen: *mut pagelock_seat_frozen,
) -> pagelock_error {
    match stage {
        Ok(stage) => {
            // SAFETY: see the top of the crate.
            unsafe { frozen.write(pagelock_seat_frozen::of(stage)) };
            pagelock_error::Ok
        }
        Err(busy) => {
            forget(busy.migration);
            busy.why.into()
        }
    }
}
