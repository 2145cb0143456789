//! What the small public pieces say and pass along: errors and their sources, Debug, an adaptor
//! that overrides nothing, and a commit that a frozen destination refuses.

#![cfg(all(feature = "std", target_os = "linux", not(pagelock_shuttle)))]

use pagelock::futex::{Adapt, EventSlot, Futex, OsFutex, Sleep};
use pagelock::word::count::FROZEN;
use pagelock::word::state::LOCKED;
use pagelock::{
    Cancel, CommitRefused, FreezeError, FreezeRefused, FreezeRule, Frozen, GetError, Limits,
    NotMigrated, PageGuard, PageLock, Put, TakenOver,
};
use std::error::Error;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// One that overrides nothing.
#[derive(Clone, Copy, Default)]
struct Plain;

impl Adapt for Plain {
    type Base = OsFutex;

    fn base(&self) -> &OsFutex {
        &OsFutex
    }
}

#[test]
fn an_adaptor_that_overrides_nothing_is_its_base() {
    let word = AtomicU32::new(1);
    assert_eq!(Futex::wait(&Plain, &word, 0), Sleep::Changed);
    Plain.wake_all(&word);
    let page: PageLock<Plain> = PageLock::default();
    page.activate(1).unwrap();
    let last = page.try_get().unwrap();
    // SAFETY: the reference that `activate` made is the test's.
    assert_eq!(unsafe { page.put_raw() }, Put::Kept);
    drop(last); // tells the base, which does nothing
    assert_eq!(page.refs(), 0);
}

#[test]
fn slots_and_limits_say_what_they_are() {
    let slot: EventSlot = EventSlot::new();
    assert_eq!(format!("{slot:?}"), "EventSlot { sequence 0, 0 sleepers }");
    let switch = Cancel::new();
    let limits = Limits::none().unless(&switch);
    assert_eq!(format!("{limits:?}"), "Limits { deadline: None, cancelled: Some(false) }");
}

/// A formatter that is full after some bytes.
struct Full(usize);

impl std::fmt::Write for Full {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0 = self.0.checked_sub(s.len()).ok_or(std::fmt::Error)?;
        Ok(())
    }
}

#[test]
fn a_formatter_that_is_full_is_told_wherever_it_happens() {
    let page = PageLock::new();
    let whole = format!("{page:?}").len();
    for room in 0..whole {
        assert!(write!(Full(room), "{page:?}").is_err(), "{room}");
    }
    assert!(write!(Full(whole), "{page:?}").is_ok());
}

#[test]
fn a_span_that_no_clock_can_hold_is_no_limit() {
    static PAGE: PageLock = PageLock::new();
    let owner = PAGE.lock();
    let locker = std::thread::spawn(|| PAGE.try_lock_for(Duration::MAX).is_some());
    while PAGE.sleepers() == 0 {
        std::thread::yield_now();
    }
    drop(owner);
    assert!(locker.join().unwrap());
}

#[test]
fn reasons_come_out_of_the_stages_that_they_refused() {
    let page = PageLock::new();
    page.activate(2).unwrap();
    let freeze = |own: Result<(), GetError>, refs| {
        page.lock().begin_migration().freeze_with(FreezeRule::ExactRefs(refs), |_| own).map(drop)
    };
    let busy: NotMigrated<GetError> = freeze(Ok(()), 1).unwrap_err().into();
    assert!(matches!(busy, NotMigrated::Busy(FreezeRefused { .. })) && busy.source().is_none());
    let error: FreezeError<'_, GetError> = freeze(Err(GetError::Free), 2).unwrap_err();
    let own: NotMigrated<GetError> = error.into();
    assert!(matches!(own, NotMigrated::Own(GetError::Free)));
    assert!(own.source().is_none(), "an error of the caller's without a source of its own");
    let lost = PageLock::new();
    lost.lock().poison();
    let refused: CommitRefused = frozen(&page).commit_to(lost.lock()).unwrap_err().into();
    assert_eq!(refused, CommitRefused::Poisoned);
}

fn frozen(page: &PageLock) -> Frozen<'_> {
    page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap()
}

#[test]
fn references_do_not_move_to_a_page_that_is_frozen() {
    let (source, there) = (PageLock::new(), PageLock::new());
    source.activate(1).unwrap();
    there.activate(1).unwrap();
    let _ = frozen(&there).into_raw();
    // SAFETY: the page is locked, and the right to release it came from the stage just now.
    let dst = unsafe { PageGuard::from_raw(&there) };
    // SAFETY: the one reference is the test's, and raw.
    let error = unsafe { frozen(&source).commit_to_moving(dst, 1) }.unwrap_err();
    assert_eq!(error.why, CommitRefused::Frozen);
    assert_eq!((source.refs(), there.refs()), (1, 1));
    // What was refused is the caller's to end, each as it was.
    let _ = error.dst.into_raw();
    error.frozen.abort();
}

#[test]
fn a_poisoning_that_died_is_finished() {
    let page: PageLock = PageLock::new();
    // SAFETY: a header is two words, and nobody else knows this one.
    unsafe { core::ptr::from_ref(&page).cast_mut().cast::<[u32; 2]>().write([LOCKED, 1 | FROZEN]) };
    // SAFETY: its owner is dead: there never was one.
    let Some(TakenOver::Poisoning(poisoning)) = (unsafe { page.take_over() }) else {
        panic!("{page:?}")
    };
    poisoning.finish();
    assert!(page.is_poisoned() && !page.is_locked());
}
