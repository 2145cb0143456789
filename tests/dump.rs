//! What a page says of itself when it is stuck.

#![cfg(not(pagelock_loom))]

mod common;

use common::with_threads;
use pagelock::word::count::FROZEN;
use pagelock::word::state::{
    CLOSED, CROWD, GENERATION_SHIFT, LOCK_WAITERS, LOCKED, MIGRATING, SLEEPERS_SHIFT,
};
use pagelock::{FreezeRule, PageGuard, PageLock, UserBits};
use std::{mem, thread};

/// What `page` says, without its first line and the record of its owner.
fn said(page: &PageLock) -> String {
    let said = page.dump().to_string();
    let (first, rest) = said.split_once('\n').unwrap();
    let words = format!("{page:?}").replace("PageLock { ", "").replace(" }", "");
    assert_eq!(first, format!("page {:#x}: {words}", page.dump().address()));
    rest.lines()
        .filter(|line| !line.contains("was taken"))
        .map(|line| line.trim_start().to_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_dump_says_who_owns_the_page_at_each_stage() {
    let page = PageLock::new();
    page.activate(1).unwrap();
    assert_eq!(said(&page), "Nobody owns it.");
    let guard = page.lock();
    assert_eq!(said(&page), "It is owned, and not by a migrator.");
    let migration = guard.begin_migration();
    assert_eq!(said(&page), "A migrator owns it.");
    let frozen = migration.freeze(FreezeRule::Unpinned).unwrap();
    assert_eq!(
        said(&page),
        "A migrator owns it and has frozen it; references and pins are refused."
    );
    frozen.commit_in_place();
    assert_eq!(said(&page), "Nobody owns it.");
    page.lock().poison();
    assert_eq!(
        said(&page),
        "Nobody owns it. Its contents are lost; references, pins and waits are refused."
    );
}

#[test]
fn a_dump_says_that_a_migrator_waits_for_a_pin() {
    let page = PageLock::new();
    page.activate(1).unwrap();
    let pin = page.try_pin().unwrap();
    with_threads(&[&page], |s| {
        s.spawn(|| page.lock().begin_migration().wait_unpinned(pagelock::Limits::none()));
        while !page.is_frozen() {
            thread::yield_now();
        }
        assert!(said(&page).starts_with("A migrator owns it and waits for the last unpin;"));
        drop(pin);
    });
}

#[test]
fn a_dump_counts_those_who_sleep_for_the_page() {
    let page = PageLock::new();
    with_threads(&[&page], |s| {
        let guard = page.lock();
        let open = "the gate is open, so newcomers may overtake.";
        for (sleepers, lockers) in [(1, "1 locker sleeps"), (2, "2 lockers sleep")] {
            s.spawn(|| drop(page.lock()));
            while page.sleepers() < sleepers {
                thread::yield_now();
            }
            assert!(said(&page).contains(&format!("{lockers} for it; {open}")), "{page:?}");
        }
        s.spawn(|| drop(page.lock_releasing(())));
        while page.sleepers() < 3 {
            thread::yield_now();
        }
        let closed = "3 lockers sleep for it; the gate is closed to newcomers.";
        assert!(said(&page).contains(closed), "{page:?}");
        drop(guard);
    });
}

#[test]
fn a_dump_names_the_event_slot_and_counts_its_sleepers() {
    let page = PageLock::new();
    with_threads(&[&page], |s| {
        let guard = page.lock();
        s.spawn(|| page.wait_unlocked(()));
        let tells = |said: &str| {
            said.contains("Its release tells event slot ")
                && said.ends_with(", where 1 thread is asleep.")
        };
        while !tells(&said(&page)) {
            thread::yield_now();
        }
        drop(guard);
    });
}

#[test]
fn a_dump_has_the_words_as_they_are_in_memory() {
    let page = PageLock::new();
    page.activate(5).unwrap();
    drop(page.lock());
    let mut guard = page.lock();
    guard.set_user(UserBits::new(3));
    let migration = guard.begin_migration();
    let state = LOCKED | MIGRATING | 3 << 7 | 1 << GENERATION_SHIFT;
    assert_eq!(page.dump().words(), [state, 5]);
    assert_eq!(page.dump().address(), core::ptr::from_ref(&page).addr());
    drop(migration);
}

#[test]
fn a_dump_says_what_the_dead_have_left() {
    // SAFETY: eight bytes of two integers, which may have any value: nobody locks this page.
    let page: PageLock = unsafe { mem::transmute([0, FROZEN | 1]) };
    assert!(said(&page).starts_with("Its counts are frozen without a migrator"), "{page:?}");
}

/// Words that a page has for a moment only, while its threads are at it.
#[test]
fn a_dump_tells_apart_what_lasts_a_moment() {
    let one = 1 << SLEEPERS_SHIFT;
    for (state, says) in [
        (CLOSED | LOCK_WAITERS | one, "It is kept for a sleeper, which has been woken"),
        (LOCKED | one, "1 locker sleeps for it, one of them awake, so the release wakes none;"),
        (LOCKED | LOCK_WAITERS | CLOSED | one, "the gate is closed to newcomers."),
        (LOCKED | LOCK_WAITERS | CLOSED | CROWD | one, "closed, and newcomers wait outside."),
        (LOCKED | LOCK_WAITERS | CLOSED | CROWD | one, "The opened gate tells event slot"),
    ] {
        // SAFETY: eight bytes of two integers, which may have any value: nobody locks this page.
        let page: PageLock = unsafe { mem::transmute([state, 1]) };
        assert!(said(&page).contains(says), "{page:?}: {}", page.dump());
    }
}

/// From a signal handler, say, on top of the owner.
#[test]
fn a_dump_of_a_page_that_is_owned_waits_for_nothing() {
    let page = PageLock::new();
    let guard: PageGuard<'_> = page.lock();
    assert_eq!(page.dump(), page.dump());
    drop(guard);
    assert_eq!(page.generation(), 1);
}
