//! Chains of wakes: several sleepers, on one slot or two, and some that leave.

use crate::wait::{assert_nobody_counted, assert_over, wait};
use crate::{Page, explore, explore_with, on};
use loom::thread;
use pagelock::futex::MonotonicTime;
use pagelock::futex::model::{expire, interrupt};
use pagelock::{Limits, Wait};

/// Two pages of one slot: each one's waiter returns, whichever page is released first.
#[test]
fn two_pages_on_one_slot() {
    explore(|| {
        let (p, q) = (Page::<0>::new(), Page::<0>::new());
        let (held_p, held_q) = (p.lock.lock(), q.lock.lock());
        let (a, b) = (on(&p, wait), on(&q, wait));
        drop(held_p);
        assert_over(a.join().unwrap());
        drop(held_q);
        assert_over(b.join().unwrap());
        assert_nobody_counted();
    });
}

/// Two pages of different slots: a release of one is nothing to the other's waiter.
#[test]
fn two_pages_on_two_slots() {
    explore(|| {
        let (p, q) = (Page::<0>::new(), Page::<1>::new());
        let (held_p, held_q) = (p.lock.lock(), q.lock.lock());
        let a = on(&p, wait);
        let c = on(&q, |q| _ = q.lock.wait_unlocked(()));
        drop(held_q);
        c.join().unwrap();
        drop(held_p);
        assert_over(a.join().unwrap());
    });
}

/// The release wakes one of three; they wake each other.
#[test]
fn a_chain_of_three() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleepers = [(); 3].map(|()| on(&page, wait));
        drop(guard);
        for sleeper in sleepers {
            assert_over(sleeper.join().unwrap());
        }
        assert_nobody_counted();
    });
}

/// A chain in which one times out: it has not used up a wake, so the chain does not end with it.
#[test]
fn a_chain_in_which_one_times_out() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let a = on(&page, |page| {
            page.lock
                .wait_with((), Wait::unlocked().within(Limits::none().until(MonotonicTime::MAX)))
        });
        let b = on(&page, wait);
        let c = thread::spawn(expire);
        drop(guard);
        let _ = a.join().unwrap();
        assert_over(b.join().unwrap());
        c.join().unwrap();
        assert_nobody_counted();
    });
}

/// A chain in which a signal ends the sleeps: those go back to sleep, or see that they were told.
#[test]
fn a_chain_in_which_all_are_interrupted() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let (a, b) = (on(&page, wait), on(&page, wait));
        let c = thread::spawn(interrupt);
        drop(guard);
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        c.join().unwrap();
        assert_nobody_counted();
    });
}

/// Two chains on one slot: sleepers of the second release do not use up the wakes of the first.
#[test]
fn two_chains_on_one_slot() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let (a, b) = (on(&page, wait), on(&page, wait));
        drop(guard);
        let guard = page.lock.lock();
        let c = on(&page, wait);
        drop(guard);
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        assert_over(c.join().unwrap());
        assert_nobody_counted();
    });
}

/// Two releases of two pages on one slot, by two threads: either may have bumped and not woken yet
/// when the other is done. Three sleepers, under one value or several.
#[test]
fn two_releases_at_once_and_three_sleepers() {
    explore_with(1, || {
        let (p, q) = (Page::<0>::new(), Page::<0>::new());
        p.lock.lock().into_raw();
        let held_q = q.lock.lock();
        let sleepers = [on(&p, wait), on(&p, wait), on(&q, wait)];
        // SAFETY: it was left locked above, for this.
        let releaser = on(&p, |p| drop(unsafe { pagelock::PageGuard::from_raw(&p.lock) }));
        drop(held_q);
        for sleeper in sleepers {
            assert_over(sleeper.join().unwrap());
        }
        releaser.join().unwrap();
        assert_nobody_counted();
    });
}

/// Two releases in a row, and three sleepers of which the time of one is up.
#[test]
fn two_releases_and_three_sleepers_of_which_one_times_out() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let timed = on(&page, |page| {
            page.lock
                .wait_with((), Wait::unlocked().within(Limits::none().until(MonotonicTime::MAX)))
        });
        let (a, b) = (on(&page, wait), on(&page, wait));
        drop(guard);
        let guard = page.lock.lock();
        expire();
        drop(guard);
        let _ = timed.join().unwrap();
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        assert_nobody_counted();
    });
}
