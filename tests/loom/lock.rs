//! Owning a page.

use crate::leaving::timed_out;
use crate::{Page, explore, explore_with, keep, locked, locker, on};
use loom::thread;
use pagelock::futex::model::{expire, interrupt};
use pagelock::{Claim, PageGuard, UserBits};
use std::sync::Arc;

/// One owner at a time, which sees what earlier owners did. Three threads lock, one of them twice.
#[test]
fn one_owner_at_a_time() {
    explore(|| {
        let page = Page::<0>::new();
        let lock = |page: &Page| {
            let guard = page.lock.lock();
            page.add();
            drop(guard);
        };
        let (a, b) = (on(&page, lock), on(&page, lock));
        lock(&page);
        a.join().unwrap();
        b.join().unwrap();
        assert_eq!(page.read(), 3);
        page.assert_idle();
    });
}

/// The same, with every other way to own a page and to give it up.
#[test]
fn one_owner_at_a_time_whichever_way() {
    explore(|| {
        let page = Page::<0>::new();
        let a = on(&page, |page| {
            if let Some(guard) = page.lock.try_lock() {
                page.add();
                guard.unlock_fair();
            }
        });
        let b = on(&page, |page| {
            if let Claim::Owner(guard) = page.lock.claim() {
                page.add();
                drop(guard.begin_migration());
            }
        });
        let mut guard = page.lock.lock_releasing(());
        page.add();
        guard.set_user(UserBits::new(2));
        let hold = guard.into_raw();
        // SAFETY: the guard was turned raw just now.
        unsafe { PageGuard::from_raw_of(&page.lock, hold) }.unlock_fair();
        a.join().unwrap();
        b.join().unwrap();
        assert_eq!(page.lock.user().get(), 2);
        page.assert_idle();
    });
}

/// Nobody sleeps on with the page free: three sleepers, ordinary releases, and a sleep that ends
/// for no reason.
#[test]
fn lockers_are_not_stranded_by_barging() {
    locked(2, |page, guard| {
        let sleeper = |page: &Page| drop(page.lock.lock());
        let (a, b) = (on(page, sleeper), on(page, sleeper));
        drop(guard);
        // A newcomer: it may drop the waiters' bit, but the sleepers that the release woke set it
        // again.
        if let Some(guard) = page.lock.try_lock() {
            drop(guard);
        }
        a.join().unwrap();
        b.join().unwrap();
    });
}

#[test]
fn lockers_are_not_stranded_by_signals() {
    locked(2, |page, guard| {
        let sleeper = |page: &Page| drop(page.lock.lock());
        let (a, b) = (on(page, sleeper), on(page, sleeper));
        let c = thread::spawn(interrupt);
        drop(guard);
        a.join().unwrap();
        b.join().unwrap();
        c.join().unwrap();
    });
}

/// A reader of the caller's bits sees what their writer did before, without owning the page.
#[test]
fn the_callers_bits_publish() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let reader = on(&page, |page| {
            if page.lock.user() == UserBits::new(1) {
                assert_eq!(page.read(), 1);
            }
        });
        let mut guard = page.lock.lock();
        page.add();
        guard.set_user(UserBits::new(1));
        drop(guard);
        reader.join().unwrap();
    });
}

/// `lock_releasing` lets go of the guard before it sleeps: the owner needs that guard before it
/// releases.
#[test]
fn lock_releasing_does_not_sleep_with_the_ptl() {
    explore(|| {
        let page = Page::<0>::new();
        let ptl = Arc::new(loom::sync::Mutex::new(()));
        let guard = page.lock.lock();
        let for_faulter = ptl.clone();
        let faulter = on(&page, move |page| {
            let entry = for_faulter.lock().unwrap();
            let guard = page.lock.lock_releasing(entry);
            page.add();
            drop(guard);
        });
        let other = on(&page, locker);
        page.add();
        drop(ptl.lock().unwrap());
        drop(guard);
        faulter.join().unwrap();
        other.join().unwrap();
        assert_eq!(page.read(), 2);
        page.assert_idle();
    });
}

/// A page that is on its way to a locker inside is not for one that comes later, starved from the
/// start or not.
#[test]
fn lock_releasing_does_not_overtake_a_wake() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let inside = on(&page, |page| {
            keep(page.lock.lock_releasing(()));
            expire();
        });
        page.until_says("gate closed");
        drop(guard);
        assert!(page.lock.lock_releasing_within((), timed_out()).is_err(), "overtaken");
        inside.join().unwrap();
    });
}
