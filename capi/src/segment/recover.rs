//! After a death: what the dead had begun is ended, as a function of C's decides.

use super::{at, pagelock_segment};
use crate::death::pagelock_stage;
use crate::error::pagelock_error;
use core::ffi::c_void;
use pagelock::TakenOver;
use pagelock::shared::{InSegment, Left, When};

/// How far the dead one was with the page.
#[repr(i32)]
pub enum pagelock_when {
    /// It had just got the page, and done nothing with it.
    Taking = 0,
    /// It was at work on it.
    Working = 1,
    /// It was letting go of the page: of a commit, the entries are up.
    Ending = 2,
    /// Another survivor had the page, at work on it or letting go, and has died as well.
    Rescuing = 3,
}

/// A page that a dead process owned. The survivor has it until the decision.
#[repr(C)]
pub struct pagelock_left {
    /// The seat of the dead.
    pub seat: u32,
    /// The number of the page.
    pub page: u32,
    /// What it had left by `pagelock_seat_set_tag`.
    pub tag: u32,
    /// How far it was.
    pub when: pagelock_when,
    /// The stage that the page is in.
    pub stage: pagelock_stage,
}

/// What becomes of a page that a dead process owned. Each unlocks the page and wakes all waiters.
#[allow(dead_code)] // C says it.
#[repr(i32)]
pub enum pagelock_decision {
    /// Unlocks; a migration is aborted, a poisoning finished. Any number that is not below says
    /// this too.
    Release = 0,
    /// A frozen page is committed where it is. Otherwise as RELEASE.
    Commit = 1,
    /// The contents are lost.
    Poison = 2,
    /// A page in the middle of being poisoned is not, for its contents are good. Otherwise as
    /// RELEASE.
    StopPoisoning = 3,
}

/// Decides about one page: a PAGELOCK_DECISION. It must not unwind, jump away or end its thread.
///
/// cbindgen:ignore
pub type pagelock_decide_fn =
    Option<unsafe extern "C" fn(arg: *mut c_void, left: *const pagelock_left) -> i32>;

/// What a recovery came to.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct pagelock_recovered {
    /// Seats of the dead.
    pub seats: u32,
    /// Pages taken over from them: so often was `decide` called.
    pub pages: u32,
    /// References given back.
    pub refs: u32,
    /// Pins given back.
    pub pins: u32,
    /// Pages that have become free by that. No other call reports them.
    pub freed: u32,
    /// Pages whose waiters were woken again.
    pub retold: u32,
    /// Notes with values that no note can have: their writer broke the protocol.
    pub nonsense: u32,
    /// Notes left for the next time: a living thread was stopped while it took the page or let go
    /// of it, or while it woke from a wait for the owner's end.
    pub undecided: u32,
}

/// Ends what the dead have begun: `decide(arg, left)` is called for each page that one of them
/// owned, with the page's stage, and says what becomes of it; references and pins are given back;
/// waiters are woken. No living thread is stopped or robbed; a thread that is stopped lives.
/// Without a death it looks at each seat, and that is all.
///
/// `decide` takes no references or pins. It may be null, for RELEASE; so may `recovered`.
/// RECOVERING, FORKED, SYSTEM.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_recover(
    segment: *const pagelock_segment,
    decide: pagelock_decide_fn,
    arg: *mut c_void,
    recovered: *mut pagelock_recovered,
) -> pagelock_error {
    let each = |left: Left<'_>| {
        let (when, stage) = (when(left.when), stage(&left.stage));
        let of = pagelock_left { seat: left.seat, page: left.page, tag: left.tag, when, stage };
        // SAFETY: the caller gave both for this.
        let decision =
            decide.map_or(pagelock_decision::Release as i32, |decide| unsafe { decide(arg, &of) });
        end(left.stage, decision);
    };
    // SAFETY: see the top of the crate.
    let done = unsafe { at(segment) }.recover(each);
    pagelock_error::of(done.map(|sum| {
        if !recovered.is_null() {
            let sum = pagelock_recovered {
                seats: sum.seats,
                pages: sum.pages,
                refs: sum.refs,
                pins: sum.pins,
                freed: sum.freed,
                retold: sum.retold,
                nonsense: sum.nonsense,
                undecided: sum.undecided,
            };
            // SAFETY: see the top of the crate.
            unsafe { recovered.write(sum) };
        }
    }))
}

/// Sleeps until seat number `seat` has no owner; a signal ends the sleep too. `left` is set to
/// whether there is something to recover. A dead owner with nothing noted leaves its seat free at
/// once: if another thread takes it before this one wakes, the sleep lasts until that thread's end.
/// SYSTEM, with EINVAL in `errno` if there is no such seat.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_wait_for_end_of(
    segment: *const pagelock_segment,
    seat: u32,
    left: *mut bool,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    let ended = unsafe { at(segment) }.wait_for_end_of(seat);
    pagelock_error::of(ended.map(|is_left| {
        // SAFETY: see the top of the crate.
        unsafe { left.write(is_left) };
    }))
}

fn when(when: When) -> pagelock_when {
    match when {
        When::Taking => pagelock_when::Taking,
        When::Ending => pagelock_when::Ending,
        When::Rescuing => pagelock_when::Rescuing,
        _ => pagelock_when::Working,
    }
}

fn stage(stage: &TakenOver<'_, InSegment>) -> pagelock_stage {
    match stage {
        TakenOver::Migrating(_) => pagelock_stage::Migrating,
        TakenOver::Frozen(_) => pagelock_stage::Frozen,
        TakenOver::Poisoning(_) => pagelock_stage::Poisoning,
        _ => pagelock_stage::Locked,
    }
}

/// Whatever is not said here, dropping the stage does.
fn end(stage: TakenOver<'_, InSegment>, decision: i32) {
    const COMMIT: i32 = pagelock_decision::Commit as i32;
    const POISON: i32 = pagelock_decision::Poison as i32;
    const STOP: i32 = pagelock_decision::StopPoisoning as i32;
    match (stage, decision) {
        (TakenOver::Frozen(frozen), COMMIT) => _ = frozen.commit_in_place(),
        (TakenOver::Frozen(frozen), POISON) => _ = frozen.poison(),
        (TakenOver::Migrating(migration), POISON) => _ = migration.poison(),
        (TakenOver::Locked(guard), POISON) => _ = guard.poison(),
        (TakenOver::Poisoning(poisoning), STOP) => drop(poisoning.thaw()),
        (stage, _) => drop(stage),
    }
}
