//! Feature `owner`: each call that takes a page has its caller recorded, until the page's release.

#![cfg(all(feature = "owner", not(any(pagelock_loom, pagelock_shuttle))))]

mod common;

use common::with_threads;
use pagelock::owner::{self, Taken};
use pagelock::{Claim, FreezeRule, Limits, PageGuard, PageLock};
use std::panic::Location;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// One test at a time: the table is the whole program's, and one of them fills it.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(page: &PageLock) -> Option<Taken> {
    let (address, taken) = (page.dump().address(), page.dump().taken());
    assert_eq!(taken, owner::holds().find(|taken| taken.page() == address && page.is_locked()));
    taken
}

/// The guard of a page, having seen that the caller's line is recorded as where it was taken.
#[track_caller]
fn here<'a>(page: &PageLock, guard: PageGuard<'a>) -> PageGuard<'a> {
    let (taken, here) = (record(page).unwrap(), Location::caller());
    assert_eq!((taken.at().file(), taken.at().line()), (here.file(), here.line()));
    guard
}

fn owner_of(claim: Claim<'_>) -> PageGuard<'_> {
    match claim {
        Claim::Owner(guard) => guard,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_way_to_take_a_free_page_records_its_caller() {
    let _alone = alone();
    let page = PageLock::new();
    drop(here(&page, page.lock()));
    drop(here(&page, page.try_lock().unwrap()));
    drop(here(&page, page.lock_within(Limits::none()).unwrap()));
    drop(here(&page, page.lock_releasing(())));
    drop(here(&page, page.lock_releasing_within((), Limits::none()).unwrap()));
    drop(here(&page, owner_of(page.claim())));
    drop(here(&page, owner_of(page.claim_told())));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    drop(here(&page, page.try_lock_for(Duration::from_secs(1)).unwrap()));
}

#[test]
fn every_way_to_sleep_for_a_page_records_its_caller() {
    let _alone = alone();
    fn locks(page: &PageLock) {
        drop(here(page, page.lock()));
    }
    fn locks_within(page: &PageLock) {
        drop(here(page, page.lock_within(Limits::none()).unwrap()));
    }
    fn locks_releasing(page: &PageLock) {
        drop(here(page, page.lock_releasing(())));
    }
    for sleeper in [locks, locks_within, locks_releasing] {
        let page = PageLock::new();
        with_threads(&[&page], |s| {
            let guard = here(&page, page.lock());
            s.spawn(|| sleeper(&page));
            while page.sleepers() == 0 {
                thread::yield_now();
            }
            drop(guard);
        });
    }
}

#[test]
fn a_record_ends_with_the_hold_however_that_ends() {
    let _alone = alone();
    let page = PageLock::new();
    page.activate(1).unwrap();
    let locked = || {
        let guard = page.lock();
        assert!(record(&page).is_some());
        guard
    };
    let unrecorded = || assert!(owner::holds().all(|taken| taken.page() != page.dump().address()));
    drop(locked());
    unrecorded();
    locked().unlock_fair();
    unrecorded();
    locked().begin_migration().abort();
    unrecorded();
    locked().begin_migration().freeze(FreezeRule::Unpinned).unwrap().commit_in_place();
    unrecorded();
    drop(locked().begin_migration().cancel());
    unrecorded();
    locked().poison();
    unrecorded();
}

#[test]
fn a_stage_keeps_the_record_of_the_lock() {
    let _alone = alone();
    let page = PageLock::new();
    page.activate(1).unwrap();
    let (line, frozen) = (line!(), page.lock().begin_migration().freeze(FreezeRule::Unpinned));
    assert_eq!(record(&page).unwrap().at().line(), line);
    let guard = frozen.unwrap().commit_keeping();
    assert_eq!(record(&page).unwrap().at().line(), line);
    drop(guard);
}

#[test]
fn a_dump_says_where_and_by_whom_the_page_was_taken() {
    let _alone = alone();
    let page = PageLock::new();
    assert!(!page.dump().to_string().contains("taken"));
    let (line, guard) = (line!(), page.lock());
    let said = page.dump().to_string();
    assert!(said.contains(&format!("It was taken at {}:{line}:", file!())), "{said}");
    #[cfg(target_os = "linux")]
    {
        // SAFETY: takes nothing.
        let me = unsafe { libc::gettid() };
        assert!(said.contains(&format!(" by thread {me}, ")), "{said}");
        assert!(record(&page).unwrap().held() < Some(Duration::from_secs(3600)));
    }
    drop(guard);
}

#[test]
fn a_record_of_an_earlier_hold_is_not_shown() {
    let _alone = alone();
    let page = PageLock::new();
    let hold = page.lock().into_raw();
    assert!(page.dump().taken().is_some());
    // Behind the record's back, as a process that shares the page would: released, and taken.
    // SAFETY: two integers. Nobody else uses the page.
    let word = unsafe { &*core::ptr::from_ref(&page).cast::<core::sync::atomic::AtomicU32>() };
    word.fetch_add(
        1 << pagelock::word::state::GENERATION_SHIFT,
        core::sync::atomic::Ordering::Relaxed,
    );
    assert!(page.is_locked() && page.dump().taken().is_none());
    // SAFETY: taken above.
    drop(unsafe { PageGuard::from_raw(&page) });
    let _ = hold;
}

#[test]
fn a_full_table_pushes_no_record_out() {
    let _alone = alone();
    let stuck = PageLock::new();
    let (line, guard) = (line!(), stuck.lock());
    let pages: Vec<_> = (0..4096).map(|_| PageLock::new()).collect();
    let guards: Vec<_> = pages.iter().map(PageLock::lock).collect();
    let recorded = pages.iter().filter(|page| record(page).is_some()).count();
    assert!((1..=256).contains(&recorded), "{recorded}");
    assert_eq!(record(&stuck).unwrap().at().line(), line);
    drop(guards);
    assert_eq!(record(&stuck).unwrap().at().line(), line);
    drop(guard);
    let address = |page: &PageLock| page.dump().address();
    assert!(owner::holds().all(|taken| pages.iter().all(|page| address(page) != taken.page())));
}
