//! `lock_releasing_until`: the queue for the lock that a faulter joins under its page-table lock, with a deadline. Whatever comes of it,
//! the page-table lock is dropped, once, before any sleep; and who does not get the page leaves no promise behind (I3, I4, I10, I33).

#![cfg(not(pagelock_loom))]

mod common;

use common::sim::Sim;
use common::{OnDrop, Ptl, watched};
use core::time::Duration;
use pagelock::{LockError, PageLock};
use std::thread;

type Page = PageLock<Sim>;

const NOON: u64 = 1000;

fn page_on(sim: Sim) -> &'static Page {
    Box::leak(Box::new(PageLock::with_futex(sim)))
}

fn until_noon(sim: Sim) {
    sim.advance(Duration::from_nanos(NOON));
}

/// Free, with nobody registered and nothing promised.
fn is_idle(sim: Sim, page: &Page) {
    assert_eq!(sim.asleep(), 0);
    let text = format!("{page:?}");
    assert!(text.starts_with("PageLock { free, generation "), "{text}");
    drop(page.try_lock().expect("free"));
}

#[test]
fn a_free_page_is_taken_even_if_it_is_late() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, ptl) = (page_on(sim), Ptl::new());
        until_noon(sim);
        let guard = page.lock_releasing_until(ptl.hold(), 1).unwrap();
        assert!(page.is_locked() && !ptl.is_held());
        drop(guard);
        assert_eq!((ptl.drops(), sim.slept()), (1, 0));
        is_idle(sim, page);
    });
}

#[test]
fn who_is_late_does_not_sleep_and_leaves_no_promise() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, ptl) = (page_on(sim), Ptl::new());
        until_noon(sim);
        let guard = page.lock();
        let late = page.lock_releasing_until(ptl.hold(), NOON - 3).map(drop);
        assert_eq!(late, Err(LockError::Late { late_by: Duration::from_nanos(3) }));
        assert_eq!((ptl.is_held(), ptl.drops(), sim.slept(), page.sleepers()), (false, 1, 0, 0));
        drop(guard);
        is_idle(sim, page);
    });
}

#[test]
fn who_runs_out_of_time_asleep_undoes_its_promise() {
    static PTL: Ptl = Ptl::new();
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            sim.at_sleep(|| assert!(!PTL.is_held(), "asleep with the page-table lock"));
            let faulter = s.spawn(|| page.lock_releasing_until(PTL.hold(), NOON).map(drop));
            sim.until_asleep(1);
            assert_eq!((PTL.drops(), page.sleepers()), (1, 1));
            assert!(format!("{page:?}").contains("1 handoffs promised"), "{page:?}");
            until_noon(sim);
            assert_eq!(faulter.join().unwrap(), Err(LockError::TimedOut));
            assert_eq!((PTL.drops(), page.sleepers()), (1, 0));
            drop(guard);
            assert_eq!(sim.calls(), [], "there was nobody left to wake");
        });
    });
    is_idle(sim, page);
}

#[test]
fn who_is_in_time_is_not_overtaken() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let faulter = s.spawn(|| page.lock_releasing_until((), NOON).map(drop));
            sim.until_asleep(1);
            sim.hold();
            drop(guard);
            assert!(page.try_lock().is_none(), "{page:?}");
            until_noon(sim);
            sim.resume();
            assert_eq!(faulter.join().unwrap(), Ok(()), "the wake came before the deadline");
        });
    });
    is_idle(sim, page);
}

/// The owner releases while the faulter is about to look at the clock: the page is promised to it by then, and free for everybody
/// again when it turns out to be late.
#[test]
fn a_promise_to_somebody_who_is_late_is_undone_with_the_page_released() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let mut held = Some(page.lock());
        let ptl = OnDrop(|| {
            drop(held.take());
            until_noon(sim);
            assert!(page.is_locked(), "promised: {page:?}");
        });
        assert!(matches!(page.lock_releasing_until(ptl, 1).map(drop), Err(LockError::Late { .. })));
        is_idle(sim, page);
    });
}
