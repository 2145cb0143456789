//! `lock_releasing`: the queue for the lock that a faulter joins under its page-table lock, with
//! limits and without. Whatever comes of it, the page-table lock is dropped, once, before any
//! sleep; and a locker that does not get the page leaves the gate as it was (I3, I4, I10, I33).

use crate::common::{
    OnDrop, Ptl,
    gate::{BYPASS_BOUND, Order, Page, is_closed, is_idle, says, starve},
    page_on, panic_of,
    sim::{Sim, at},
    watched, with_threads,
};
use core::time::Duration;
use pagelock::{Cancel, Limits, LockError};
use std::sync::mpsc;
use std::thread;

const NOON: u64 = 1000;

fn until_noon(sim: Sim) {
    sim.advance(Duration::from_nanos(NOON));
}

fn noon<'c>() -> Limits<'c, Sim> {
    Limits::none().until(at(NOON))
}

#[test]
fn lock_releasing_drops_the_ptl_before_it_sleeps_and_only_once() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    static PTL: Ptl = Ptl::new();
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            sim.at_sleep(|| assert!(!PTL.is_held(), "asleep with the page-table lock"));
            let locker = s.spawn(|| {
                let _guard = page.lock_releasing(PTL.hold());
                assert!(!PTL.is_held());
            });
            sim.until_asleep(1);
            assert_eq!(PTL.drops(), 1);
            drop(guard);
            locker.join().unwrap();
            assert_eq!(PTL.drops(), 1);
        });
        is_idle(page);
    });
}

#[test]
fn lock_releasing_drops_the_ptl_of_a_free_page_too() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, ptl) = (page_on(sim), Ptl::new());
        let guard = page.lock_releasing(ptl.hold());
        assert!(page.is_locked() && !ptl.is_held());
        drop(guard);
        assert_eq!(ptl.drops(), 1);
        is_idle(page);
    });
}

#[test]
fn lock_releasing_closes_the_gate_before_the_ptl_is_dropped() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let mut held = Some(page.lock());
        // The owner releases at the earliest moment, and a newcomer tries to be next.
        let ptl = OnDrop(|| {
            assert!(says(page, "1 sleepers, gate closed"), "{page:?}");
            drop(held.take());
            assert!(page.try_lock().is_none(), "{page:?}");
        });
        watched(&[page], || drop(page.lock_releasing(ptl)));
        is_idle(page);
    });
}

#[test]
fn lock_releasing_is_not_overtaken_while_it_sleeps() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        let faulter = s.spawn(|| drop(page.lock_releasing(())));
        sim.until_asleep(1);
        sim.hold();
        drop(guard);
        assert!(page.try_lock().is_none(), "{page:?}");
        sim.resume();
        faulter.join().unwrap();
    });
}

/// To be starved from the start is no reason to be faster than a sleeper that is inside.
#[test]
fn lock_releasing_does_not_overtake_a_sleeper_that_is_on_its_way() {
    let sim = Sim::new(1);
    let (page, order) = (page_on(sim), Order::default());
    watched(&[page], || {
        thread::scope(|s| {
            let order = &order;
            let guard = page.lock();
            s.spawn(move || order.own("starved", page.lock()));
            sim.until_asleep(1);
            let guard = starve(sim, guard);
            sim.hold();
            drop(guard);
            s.spawn(move || order.own("later", page.lock_releasing(())));
            order.until_asleep_or_done(sim);
            assert_eq!(page.sleepers(), 1, "outside: {page:?}");
            sim.resume();
        });
        is_idle(page);
    });
    order.was(&["starved", "later"]);
}

/// The gate is closed when it comes. It waits outside with the others, and closes the gate behind
/// itself as soon as it is in.
#[test]
fn lock_releasing_that_had_to_wait_outside_closes_the_gate_once_it_is_in() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let (owns, owned) = mpsc::channel();
    let (release, released) = mpsc::channel();
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            s.spawn(move || {
                let guard = page.lock();
                owns.send(()).unwrap();
                released.recv().unwrap();
                drop(guard);
                owns.send(()).unwrap();
            });
            sim.until_asleep(1);
            let guard = starve(sim, guard);
            let faulter = s.spawn(|| drop(page.lock_releasing(())));
            sim.until_asleep(2);
            assert!(says(page, "1 sleepers, gate closed, crowd outside"), "{page:?}");
            drop(guard);
            owned.recv().unwrap();
            sim.until_asleep(1);
            assert!(says(page, "locked, 1 sleepers, gate closed, generation"), "{page:?}");
            sim.hold();
            release.send(()).unwrap();
            owned.recv().unwrap();
            assert!(page.try_lock().is_none(), "overtaken by a newcomer");
            sim.resume();
            faulter.join().unwrap();
        });
        is_idle(page);
    });
}

/// It closes the gate once: one that has lost no round since does not close it again for those who
/// come after it.
#[test]
fn lock_releasing_that_is_disturbed_in_its_sleep_keeps_its_place() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        let faulter = s.spawn(|| drop(page.lock_releasing(())));
        for _ in 0..2 * BYPASS_BOUND {
            sim.until_asleep(1);
            assert!(says(page, "locked, 1 sleepers, gate closed, generation"), "{page:?}");
            sim.end_all(pagelock::futex::Sleep::Interrupted);
        }
        sim.until_asleep(1);
        drop(guard);
        faulter.join().unwrap();
    });
}

#[test]
fn a_panic_in_the_ptl_of_lock_releasing_leaves_nothing_behind() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let guard = page.lock();
        let said =
            panic_of(|| drop(page.lock_releasing(OnDrop(|| panic!("from the page-table lock")))));
        assert_eq!(said, "from the page-table lock");
        assert_eq!((page.sleepers(), is_closed(page)), (0, false), "{page:?}");
        drop(guard);
        is_idle(page);
        let said =
            panic_of(|| drop(page.lock_releasing(OnDrop(|| panic!("again, with the page free")))));
        assert_eq!(said, "again, with the page free");
        is_idle(page);
    });
}

// ---- Within limits ----

#[test]
fn a_free_page_is_taken_even_if_it_is_late() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, ptl) = (page_on(sim), Ptl::new());
        until_noon(sim);
        let guard = page.lock_releasing_within(ptl.hold(), Limits::none().until(at(1))).unwrap();
        assert!(page.is_locked() && !ptl.is_held());
        drop(guard);
        assert_eq!((ptl.drops(), sim.slept()), (1, 0));
        is_idle(page);
    });
}

/// Late, or cancelled, before the call: the gate is not closed for nothing.
#[test]
fn who_is_late_does_not_sleep_and_leaves_the_gate_open() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, ptl, cancel) = (page_on(sim), Ptl::new(), Cancel::with_futex(sim));
        until_noon(sim);
        cancel.cancel();
        for (limits, error) in [
            (Limits::none().until(at(NOON - 3)), LockError::TimedOut),
            (Limits::none().unless(&cancel), LockError::Cancelled),
        ] {
            let guard = page.lock();
            let seen = format!("{page:?}");
            assert_eq!(page.lock_releasing_within(ptl.hold(), limits).map(drop), Err(error));
            assert_eq!((ptl.is_held(), sim.slept(), format!("{page:?}")), (false, 0, seen));
            drop(guard);
            is_idle(page);
        }
        assert_eq!(ptl.drops(), 2);
    });
}

#[test]
fn who_runs_out_of_time_asleep_opens_the_gate() {
    static PTL: Ptl = Ptl::new();
    let sim = Sim::new(1);
    let page = page_on(sim);
    with_threads(&[page], |s| {
        let guard = page.lock();
        sim.at_sleep(|| assert!(!PTL.is_held(), "asleep with the page-table lock"));
        let faulter = s.spawn(|| page.lock_releasing_within(PTL.hold(), noon()).map(drop));
        sim.until_asleep(1);
        assert_eq!(PTL.drops(), 1);
        assert!(says(page, "1 sleepers, gate closed"), "{page:?}");
        until_noon(sim);
        assert_eq!(faulter.join().unwrap(), Err(LockError::TimedOut));
        assert_eq!((PTL.drops(), page.sleepers(), is_closed(page)), (1, 0, false));
        drop(guard);
        assert_eq!(sim.calls(), [], "there was nobody left to wake");
    });
    is_idle(page);
}

#[test]
fn who_is_in_time_is_not_overtaken() {
    let sim = Sim::new(1);
    let page: &Page = page_on(sim);
    with_threads(&[page], |s| {
        let guard = page.lock();
        let faulter = s.spawn(|| page.lock_releasing_within((), noon()).map(drop));
        sim.until_asleep(1);
        sim.hold();
        drop(guard);
        assert!(page.try_lock().is_none(), "{page:?}");
        until_noon(sim);
        sim.resume();
        assert_eq!(faulter.join().unwrap(), Ok(()), "the wake came before the deadline");
    });
    is_idle(page);
}

/// The owner releases while the faulter is about to look at the clock: the page is kept for it by
/// then, and so it is taken, late or not.
#[test]
fn a_page_that_is_kept_for_somebody_who_is_late_is_taken() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let mut held = Some(page.lock());
        let ptl = OnDrop(|| {
            drop(held.take());
            until_noon(sim);
            assert!(page.try_lock().is_none(), "kept: {page:?}");
        });
        assert!(page.lock_releasing_within(ptl, noon()).is_ok());
        is_idle(page);
    });
}
