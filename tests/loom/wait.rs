//! Waiting without a reference.

use crate::{In, Page, explore, explore_with, on};
use loom::sync::Mutex;
use pagelock::futex::MonotonicTime;
use pagelock::futex::model::{self, expire};
use pagelock::{Claim, Limits, Wait, Wake};

pub(crate) fn wait(page: &Page) -> Wake {
    page.lock.wait_unlocked(())
}

/// For the end of a model that has joined all its threads: each sleeper was taken off the count of
/// the slot, once.
#[track_caller]
pub(crate) fn assert_nobody_counted() {
    assert_eq!(model::event::<In<0>>(0).sleepers(), 0);
}

#[track_caller]
pub(crate) fn assert_over(wake: Wake) {
    assert!(matches!(wake, Wake::Released | Wake::NotLocked), "{wake:?}");
}

/// A holder that unlocks without ever looking at the page-table lock: only the order of sequence
/// and flag saves the waiter.
#[test]
fn a_holder_that_never_takes_the_ptl() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let waiter = on(&page, |page| {
            let ptl = Mutex::new(());
            let entry = ptl.lock().unwrap();
            page.lock.wait_unlocked(entry)
        });
        drop(guard);
        assert_over(waiter.join().unwrap());
        page.assert_idle();
    });
}

/// The same, with a second owner right behind the first, and another waiter.
#[test]
fn two_holders_in_a_row_and_two_waiters() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let (a, b) = (on(&page, wait), on(&page, wait));
        drop(guard);
        drop(page.lock.lock());
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        page.assert_idle();
    });
}

/// A waiter that a release lets return sees what the releaser did before it.
#[test]
fn a_release_is_seen_by_the_waiter() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let waiter = on(&page, |page| {
            if wait(page) == Wake::Released {
                assert_eq!(page.read(), 1);
            }
        });
        page.add();
        drop(guard);
        waiter.join().unwrap();
    });
}

/// A model may leave threads behind that sleep, wake and are woken when its main thread is gone.
#[test]
fn a_thread_that_outlives_the_model() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        drop(on(&page, |page| assert_over(wait(page))));
        drop(on(&page, |page| drop(page.lock.lock())));
        drop(guard);
    });
}

/// Nobody releases: only the deadline ends the wait.
#[test]
fn a_deadline_ends_the_wait() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let waiter = on(&page, |page| {
            page.lock
                .wait_with((), Wait::unlocked().within(Limits::none().until(MonotonicTime::MAX)))
        });
        expire();
        let ended = waiter.join().unwrap();
        assert!(matches!(ended, Wake::TimedOut), "{ended:?}");
        drop(guard);
        page.assert_idle();
        assert_nobody_counted();
    });
}

/// In flight means that the owner's release reports it.
#[test]
fn a_claim_is_reported_by_the_release() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let claim = |page: &Page| matches!(page.lock.claim(), Claim::InFlight);
        let (a, b) = (on(&page, claim), on(&page, claim));
        let released = guard.unlock();
        let in_flight = a.join().unwrap();
        // The second may have found the page in the first one's hands, whose release is another.
        let _ = b.join().unwrap();
        assert!(!in_flight || released.event_waiters || page.lock.generation() > 1);
    });
}

/// The same with one claim, where the one release is the only one there is.
#[test]
fn a_claim_is_reported_by_the_only_release() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let claim = on(&page, |page| matches!(page.lock.claim(), Claim::InFlight));
        let released = guard.unlock_fair();
        assert_eq!(claim.join().unwrap(), released.event_waiters);
    });
}

/// A page is kept for a sleeper that gives up: waiters for its release are told.
#[test]
fn waiters_for_a_kept_page_are_told_if_its_sleeper_gives_up() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| {
            page.lock.lock_within(Limits::none().until(MonotonicTime::MAX)).map(drop)
        });
        page.until_says("1 sleepers");
        // Its time is up, and it has not left yet when the page is kept for it.
        expire();
        guard.unlock_fair();
        let waiter = on(&page, wait);
        let _ = sleeper.join().unwrap();
        assert_over(waiter.join().unwrap());
        page.assert_idle();
    });
}

/// A page is kept for a sleeper that takes it: waiters are told when that one releases.
#[test]
fn waiters_for_a_kept_page_are_told_when_its_sleeper_releases_it() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| drop(page.lock.lock()));
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let (a, b) = (on(&page, wait), on(&page, wait));
        sleeper.join().unwrap();
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        page.assert_idle();
    });
}

/// Poison: waiters are told, later ones do not wait, and a locker gets the page
/// and can see it.
#[test]
fn poison_ends_all_waits() {
    explore(|| {
        let page = Page::<0>::new();
        page.lock.activate(1).unwrap();
        let guard = page.lock.lock();
        let waiter = on(&page, wait);
        let locker = on(&page, |page| assert!(page.lock.lock().is_poisoned()));
        guard.poison();
        assert!(matches!(waiter.join().unwrap(), Wake::Released | Wake::Poisoned));
        assert_eq!(wait(&page), Wake::Poisoned);
        assert!(matches!(page.lock.claim(), Claim::Poisoned));
        locker.join().unwrap();
    });
}
