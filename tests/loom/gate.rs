//! The gate: lost rounds close it, the last one inside opens it, and the crowd outside is told.

use crate::leaving::{timed, timed_out};
use crate::{Page, ROUNDS, WAKES, explore, explore_with, keep, locked, locker, on};
use loom::thread;
use pagelock::futex::model::{expire, interrupt};
use pagelock::{Claim, Futex, OsFutex, PageGuard};

/// A sleeper uses up at most `BYPASS_BOUND` wakes for nothing, whatever newcomers do.
#[test]
fn a_sleeper_loses_no_more_wakes_than_the_bound() {
    explore_with(3, || {
        WAKES.set(0);
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| keep(page.lock.lock()));
        drop(guard);
        for _ in 0..3 {
            if let Some(guard) = page.lock.try_lock() {
                drop(guard);
            }
        }
        sleeper.join().unwrap();
        assert!(WAKES.get() <= OsFutex::BYPASS_BOUND + 1, "woken {} times", WAKES.get());
    });
}

/// Once the gate is closed, a newcomer gets the page only after the sleeper had it.
#[test]
fn a_closed_gate_keeps_newcomers_out() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let starved = on(&page, |page| keep(page.lock.lock_releasing(())));
        page.until_says("gate closed");
        let newcomer = on(&page, |page| assert!(page.lock.try_lock().is_none(), "overtaken"));
        drop(guard);
        assert!(!matches!(page.lock.claim(), Claim::Owner(_)), "overtaken");
        newcomer.join().unwrap();
        starved.join().unwrap();
    });
}

/// The gate stays closed until the locker that closed it has its turn, after earlier sleepers.
#[test]
fn a_gate_stays_closed_until_the_last_one_inside_had_the_page() {
    locked(2, |page, guard| {
        let earlier = on(page, locker);
        page.until_says("1 sleepers");
        let starved = on(page, |page| keep(page.lock.lock_releasing(())));
        page.until_says("gate closed");
        drop(guard);
        for _ in 0..3 {
            assert!(page.lock.try_lock().is_none(), "overtaken");
            thread::yield_now();
        }
        starved.join().unwrap();
        // SAFETY: the starved one has kept the page, and is gone.
        drop(unsafe { PageGuard::from_raw(&page.lock) });
        earlier.join().unwrap();
    });
}

/// A fair release goes to the locker that sleeps, not to a newcomer that tries or locks.
#[test]
fn unlock_fair_hands_over() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| keep(page.lock.lock()));
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let newcomer =
            on(&page, |page| assert!(page.lock.lock_within(timed_out()).is_err(), "overtaken"));
        assert!(page.lock.try_lock().is_none(), "overtaken");
        sleeper.join().unwrap();
        expire();
        newcomer.join().unwrap();
    });
}

/// The locker that a fair release goes to sees what was done before it, even if it was about to
/// sleep and does not.
#[test]
fn a_fair_release_is_seen_by_the_sleeper() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| {
            let guard = page.lock.lock();
            page.add();
            drop(guard);
        });
        page.add();
        page.until_says("1 sleepers");
        guard.unlock_fair();
        sleeper.join().unwrap();
        assert_eq!(page.read(), 2);
    });
}

/// A fair release with two newcomers that lock: the second one's registration cuts the first one's
/// sleep short.
#[test]
fn unlock_fair_hands_over_past_two_newcomers() {
    explore_with(1, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| keep(page.lock.lock()));
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let newcomer =
            |page: &Page| assert!(page.lock.lock_within(timed_out()).is_err(), "overtaken");
        let (a, b) = (on(&page, newcomer), on(&page, newcomer));
        sleeper.join().unwrap();
        expire();
        a.join().unwrap();
        b.join().unwrap();
    });
}

/// A fair release strands nobody: no sleeper, none about to sleep, and none on its way out.
#[test]
fn unlock_fair_strands_nobody() {
    locked(2, |page, guard| {
        let fair = |page: &Page| _ = page.lock.lock().unlock_fair();
        let (a, b) = (on(page, fair), on(page, fair));
        guard.unlock_fair();
        fair(page);
        a.join().unwrap();
        b.join().unwrap();
    });
}

/// The last sleeper of a page that is kept for it gives up: the page is free again, for anybody.
#[test]
fn a_gate_with_nobody_inside_is_open() {
    locked(3, |page, guard| {
        let sleeper = on(page, timed);
        page.until_says("1 sleepers");
        // Its time is up, and it has not left yet when the page is kept for it and the newcomer
        // waits outside.
        expire();
        guard.unlock_fair();
        let newcomer = on(page, locker);
        let _ = sleeper.join().unwrap();
        newcomer.join().unwrap();
    });
}

/// One more sleeps than the word can count: it waits in the event table, and is told when there is
/// room.
#[test]
fn a_crowd_is_not_stranded() {
    locked(1, |page, guard| {
        let (a, b) = (on(page, locker), on(page, locker));
        page.until_says("2 sleepers");
        let c = on(page, locker);
        page.until_says("crowd outside");
        drop(guard);
        [a, b, c].into_iter().for_each(|locker| locker.join().unwrap());
    });
}

/// One is outside, one inside, and whoever takes the page meanwhile: the one outside is told by
/// whoever opens the gate.
#[test]
fn one_outside_a_closed_gate_is_told() {
    locked(3, |page, guard| {
        let inside = on(page, locker);
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let outside = on(page, locker);
        inside.join().unwrap();
        outside.join().unwrap();
    });
}

/// Outside a closed gate nobody takes the page, and the last one inside tells the crowd.
#[test]
fn the_crowd_outside_a_closed_gate_is_told() {
    locked(1, |page, guard| {
        let inside = on(page, locker);
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let outside = |page: &Page| drop(page.lock.lock());
        let (a, b) = (on(page, outside), on(page, outside));
        [inside, a, b].into_iter().for_each(|locker| locker.join().unwrap());
    });
}

/// `lock_releasing` comes to a gate that is closed, or is just being opened: it gets the page, and
/// its gate is opened again.
#[test]
fn lock_releasing_beside_a_closed_gate_is_not_stranded() {
    locked(2, |page, guard| {
        let inside = on(page, locker);
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let faulter = on(page, |page| drop(page.lock.lock_releasing(())));
        if let Some(guard) = page.lock.try_lock() {
            drop(guard);
        }
        inside.join().unwrap();
        faulter.join().unwrap();
    });
}

/// Each round that a sleeper loses counts, however its sleep ended: by a wake, or by a signal over
/// which the page was released.
#[test]
fn each_lost_round_counts_however_the_sleep_ended() {
    explore(|| {
        ROUNDS.set(0);
        let page = Page::<0>::new();
        let mut guard = Some(page.lock.lock());
        let sleeper = on(&page, |page| keep(page.lock.lock()));
        page.until_says("1 sleepers");
        for _ in 0..4 {
            interrupt();
            drop(guard.take());
            guard = page.lock.try_lock();
            if guard.is_none() {
                break;
            }
            thread::yield_now();
        }
        drop(guard);
        sleeper.join().unwrap();
        assert!(ROUNDS.get() <= OsFutex::BYPASS_BOUND + 1, "{} rounds", ROUNDS.get());
    });
}
