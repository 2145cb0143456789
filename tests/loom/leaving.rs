//! A locker that times out or is cancelled leaves, and passes its wake on.

use crate::{CLOCK_LAST, In, Page, explore, locked, locker, on};
use loom::thread;
use pagelock::futex::model::expire;
use pagelock::{Cancel, Limits, LockError};
use std::sync::Arc;

pub(crate) fn timed_out<'c>() -> Limits<'c, In<0>> {
    Limits::none().until(pagelock::futex::MonotonicTime::MAX)
}

pub(crate) fn timed(page: &Page) -> Result<(), LockError> {
    page.lock.lock_within(timed_out()).map(drop)
}

/// A locker that gives up passes on the wake that it may have been given.
#[test]
fn a_locker_that_times_out_passes_its_wake_on() {
    locked(2, |page, guard| {
        let (a, b) = (on(page, timed), on(page, locker));
        let c = thread::spawn(expire);
        drop(guard);
        let _ = a.join().unwrap();
        b.join().unwrap();
        c.join().unwrap();
    });
}

/// The same for one that may leave a closed gate, which a fair release or its own lost wake has
/// closed. That it does takes three preemptions.
#[test]
fn a_locker_that_times_out_opens_the_gate() {
    locked(3, |page, guard| {
        let a = on(page, timed);
        let b = thread::spawn(expire);
        guard.unlock_fair();
        // A newcomer, which may find the page kept for one that leaves.
        drop(page.lock.lock());
        let _ = a.join().unwrap();
        b.join().unwrap();
    });
}

#[test]
fn a_starved_locker_that_times_out_strands_nobody() {
    locked(2, |page, guard| {
        let (a, b) = (on(page, timed), on(page, locker));
        drop(guard);
        drop(page.lock.lock());
        expire();
        let _ = a.join().unwrap();
        b.join().unwrap();
    });
}

/// Two sleepers inside a closed gate, of which one may leave: the other still gets the page, and
/// before a newcomer.
#[test]
fn a_fair_release_to_two_of_whom_one_times_out() {
    locked(2, |page, guard| {
        let (a, b) = (on(page, timed), on(page, |page| drop(page.lock.lock_releasing(()))));
        let c = thread::spawn(expire);
        guard.unlock_fair();
        let _ = a.join().unwrap();
        b.join().unwrap();
        c.join().unwrap();
    });
}

/// The deadline has passed before the call: an error at once, and nothing left behind.
#[test]
fn late_is_said_without_registering() {
    explore(|| {
        let page = Page::<0>::new();
        expire();
        let guard = page.lock.lock();
        let a = on(&page, |page: &Page| {
            matches!(page.lock.lock_within(timed_out()), Err(LockError::TimedOut) | Ok(_))
        });
        assert!(!page.says("sleepers"));
        drop(guard);
        assert!(a.join().unwrap());
        page.assert_idle();
    });
}

/// Two sleep for certain, the release wakes one of them, and time is up: the other still gets the
/// page.
#[test]
fn the_one_that_was_woken_times_out() {
    locked(2, |page, guard| {
        let (a, b) = (on(page, timed), on(page, locker));
        page.until_says("2 sleepers");
        drop(guard);
        expire();
        let _ = a.join().unwrap();
        b.join().unwrap();
    });
}

/// A platform may report a deadline for a sleep that was woken; the futex under the model checker
/// never does by itself. The locker then leaves with a wake that it has used up, and passes it on,
/// whether the page is free by then or taken again.
#[test]
fn a_wake_that_was_used_up_is_passed_on() {
    explore(|| {
        CLOCK_LAST.set(true);
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let a = on(&page, timed);
        page.until_says("1 sleepers");
        let b = on(&page, locker);
        page.until_says("2 sleepers");
        drop(guard);
        let newcomer = page.lock.try_lock();
        expire();
        drop(newcomer);
        let _ = a.join().unwrap();
        b.join().unwrap();
        page.assert_idle();
    });
}

/// A locker under a switch sleeps in the event table, also when it is registered: every release
/// tells it, and so does one that leaves a page that nobody owns.
#[test]
fn a_locker_under_a_switch_is_not_stranded() {
    locked(2, |page, guard| {
        let under = on(page, |page| {
            let switch = Cancel::with_futex(In::<0>);
            drop(page.lock.lock_within(Limits::none().unless(&switch)).unwrap());
        });
        let (a, b) = (on(page, timed), thread::spawn(expire));
        guard.unlock_fair();
        under.join().unwrap();
        let _ = a.join().unwrap();
        b.join().unwrap();
    });
}

/// A switch that is thrown ends the lock, whatever it is at; and the wake that it had is passed on.
#[test]
fn a_cancelled_locker_leaves_and_passes_its_wake_on() {
    explore(|| {
        let page = Page::<0>::new();
        let switch = Arc::new(Cancel::with_futex(In::<0>));
        let guard = page.lock.lock();
        let for_locker = switch.clone();
        let under = on(&page, move |page| {
            page.lock.lock_within(Limits::none().unless(&for_locker)).map(drop)
        });
        let other = on(&page, locker);
        switch.cancel();
        drop(guard);
        assert!(matches!(under.join().unwrap(), Ok(()) | Err(LockError::Cancelled)));
        other.join().unwrap();
        page.assert_idle();
    });
}

/// With nobody to release the page, the switch alone ends the lock.
#[test]
fn a_cancelled_locker_returns_though_the_page_stays_locked() {
    explore(|| {
        let page = Page::<0>::new();
        let switch = Arc::new(Cancel::with_futex(In::<0>));
        let guard = page.lock.lock();
        let for_locker = switch.clone();
        let under = on(&page, move |page| {
            page.lock.lock_within(Limits::none().unless(&for_locker)).map(drop)
        });
        switch.cancel();
        assert_eq!(under.join().unwrap(), Err(LockError::Cancelled));
        drop(guard);
        page.assert_idle();
    });
}

/// The last one inside gives up instead.
#[test]
fn the_crowd_is_told_by_one_that_gives_up() {
    locked(2, |page, guard| {
        let inside = on(page, timed);
        page.until_says("1 sleepers");
        let outside = on(page, locker);
        guard.unlock_fair();
        expire();
        let _ = inside.join().unwrap();
        outside.join().unwrap();
    });
}

/// Three lockers, one of whom may run out of time at any step, and a gate that may be closed or
/// not.
#[test]
fn three_lockers_of_whom_one_times_out_at_the_gate() {
    locked(1, |page, guard| {
        let fair = |page: &Page| _ = page.lock.lock().unlock_fair();
        let (a, b, c) = (on(page, timed), on(page, fair), thread::spawn(expire));
        guard.unlock_fair();
        fair(page);
        let _ = a.join().unwrap();
        b.join().unwrap();
        c.join().unwrap();
    });
}

/// The same with one inside that gives up.
#[test]
fn lock_releasing_beside_a_closed_gate_is_told_by_one_that_gives_up() {
    locked(2, |page, guard| {
        let inside = on(page, timed);
        page.until_says("1 sleepers");
        let faulter = on(page, |page| drop(page.lock.lock_releasing(())));
        guard.unlock_fair();
        expire();
        let _ = inside.join().unwrap();
        faulter.join().unwrap();
    });
}
