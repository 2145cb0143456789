//! A locker that gives up leaves nothing behind: no sleeper in the count, no closed gate, and no
//! wake that another locker needs.

use crate::common::{
    OnDrop,
    gate::{Page, is_closed, is_idle, says, starve},
    page_on, panic_of,
    sim::{Call, Sim, at},
    watched,
};
use core::time::Duration;
use pagelock::{Cancel, Claim, Limits, LockError, Wake};
use std::thread;

const NOON: u64 = 1000;

fn until_noon(sim: Sim) {
    sim.advance(Duration::from_nanos(NOON));
}

fn timed(page: &Page) -> Result<(), LockError> {
    page.lock_within(Limits::none().until(at(NOON))).map(drop)
}

#[test]
fn a_starved_locker_that_gives_up_opens_the_gate_and_tells_the_crowd() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        let sleeper = s.spawn(|| timed(page));
        sim.until_asleep(1);
        let guard = starve(sim, guard);
        let outside = s.spawn(|| drop(page.lock()));
        sim.until_asleep(2);
        assert!(says(page, "1 sleepers, gate closed, crowd outside"), "{page:?}");
        until_noon(sim);
        assert_eq!(sleeper.join().unwrap(), Err(LockError::TimedOut));
        sim.until_asleep(1);
        assert!(says(page, "locked, 1 sleepers, generation"), "it is inside now: {page:?}");
        drop(guard);
        outside.join().unwrap();
    });
}

/// With others inside, the gate stays closed, and those outside are not told.
#[test]
fn a_locker_that_gives_up_leaves_the_gate_to_those_inside() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        let gives_up = s.spawn(|| timed(page));
        sim.until_asleep(1);
        let patient = s.spawn(|| drop(page.lock()));
        sim.until_asleep(2);
        let guard = starve(sim, guard);
        let outside = s.spawn(|| drop(page.lock()));
        sim.until_asleep(3);
        sim.calls();
        until_noon(sim);
        assert_eq!(gives_up.join().unwrap(), Err(LockError::TimedOut));
        assert!(says(page, "1 sleepers, gate closed, crowd outside"), "{page:?}");
        assert_eq!((sim.asleep(), sim.calls()), (2, vec![]));
        drop(guard);
        patient.join().unwrap();
        outside.join().unwrap();
    });
}

/// The wake was lost, or is on its way to another: a page that is free at the deadline is taken.
#[test]
fn a_timed_locker_takes_a_page_that_is_free_at_its_deadline() {
    for is_fair in [false, true] {
        on_a_page!(|s, sim, page| {
            let guard = page.lock();
            let lockers = [
                s.spawn(|| timed(page).is_ok()),
                s.spawn(|| page.try_lock_for(Duration::from_nanos(NOON)).is_some()),
                s.spawn(|| page.lock_releasing_within((), Limits::none().until(at(NOON))).is_ok()),
            ];
            sim.until_asleep(3);
            sim.steal_next_wake();
            if is_fair {
                _ = guard.unlock_fair()
            } else {
                drop(guard)
            }
            assert_eq!(sim.asleep(), 3);
            until_noon(sim);
            let got: Vec<bool> = lockers.into_iter().map(|locker| locker.join().unwrap()).collect();
            assert!(got.contains(&true));
        });
    }
}

/// A wake is for one locker. If that one gives up, it is the next one's (I4; the kernel lost it
/// here). This one is woken before it sleeps, and then the page-table lock panics.
#[test]
fn a_locker_that_leaves_a_free_page_passes_on_the_wake_it_was_given() {
    on_a_page!(|s, sim, page| {
        let mut held = Some(page.lock());
        let patient = s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        let ptl = OnDrop(|| {
            assert_eq!(page.sleepers(), 2);
            sim.steal_next_wake();
            drop(held.take());
            assert_eq!(sim.asleep(), 1, "the other one sleeps, and the page is free");
            panic!("from the page-table lock");
        });
        assert_eq!(panic_of(|| drop(page.lock_releasing(ptl))), "from the page-table lock");
        patient.join().unwrap();
    });
}

/// The same, where another thread took the page in between and saw no need to wake anyone.
#[test]
fn a_locker_that_leaves_a_taken_page_leaves_the_wake_to_the_next_release() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        // The platform will report the deadline although the wake went to this one.
        let gives_up = s.spawn(|| timed(page));
        sim.until_asleep(1);
        let patient = s.spawn(|| drop(page.lock()));
        sim.until_asleep(2);
        sim.hold();
        until_noon(sim);
        sim.steal_next_wake();
        drop(guard);
        let newcomer = page.try_lock().unwrap();
        sim.resume();
        assert_eq!(gives_up.join().unwrap(), Err(LockError::TimedOut));
        assert_eq!(sim.asleep(), 1);
        drop(newcomer);
        patient.join().unwrap();
    });
}

/// The page is kept for a sleeper that is just giving up, so nobody owns it and no release will
/// come. It is free by that, and its waiters are told: in the event table, and by the
/// platform's `tell`.
#[test]
fn a_locker_that_frees_a_page_by_leaving_tells_those_who_wait_for_it() {
    on_a_page!(|s, sim, page| {
        let mut held = Some(page.lock());
        let (say, said) = std::sync::mpsc::channel();
        let ptl = OnDrop(|| {
            drop(held.take());
            assert!(page.try_lock().is_none(), "kept: {page:?}");
            assert!(matches!(page.claim(), Claim::InFlight));
            let page = &page;
            say.send(s.spawn(move || page.wait_unlocked(()))).unwrap();
            sim.until_asleep(1);
            sim.calls();
            panic!("from the page-table lock");
        });
        panic_of(|| drop(page.lock_releasing(ptl)));
        assert_eq!(said.recv().unwrap().join().unwrap(), Wake::Released);
        assert!(sim.calls().iter().any(|call| matches!(call, Call::Tell { .. })));
    });
}

/// Two are inside, and one gives up: the page is as taken as before, so nothing has happened that
/// waiters wait for.
#[test]
fn a_locker_that_gives_up_does_not_tell_of_a_page_that_is_kept_for_another() {
    on_a_page!(|s, sim, page| {
        let mut held = Some(page.lock());
        let patient = s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        let (say, said) = std::sync::mpsc::channel();
        let ptl = OnDrop(|| {
            sim.hold();
            drop(held.take()); // Wakes the other one.
            let page = &page;
            say.send(s.spawn(move || page.wait_unlocked(()))).unwrap();
            sim.until_asleep(1);
            sim.calls();
            panic!("from the page-table lock");
        });
        panic_of(|| drop(page.lock_releasing(ptl)));
        assert!(says(page, "kept for a sleeper, 1 sleepers, gate closed, awaited"), "{page:?}");
        let calls = sim.calls();
        assert!(!calls.iter().any(|call| matches!(call, Call::Tell { .. })), "{calls:?}");
        sim.resume();
        patient.join().unwrap();
        assert_eq!(said.recv().unwrap().join().unwrap(), Wake::Released);
    });
}

// ---- Under a switch ----

fn switch(sim: Sim) -> &'static Cancel<Sim> {
    Box::leak(Box::new(Cancel::with_futex(sim)))
}

fn under(page: &Page, switch: &Cancel<Sim>) -> Result<(), LockError> {
    page.lock_within(Limits::none().unless(switch)).map(drop)
}

#[test]
fn a_lock_under_a_switch_is_cancelled_asleep_inside_and_outside() {
    let sim = Sim::new(4);
    let (page, switch) = (page_on(sim), switch(sim));
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let inside = s.spawn(|| under(page, switch));
            sim.until_asleep(1);
            let with_a_deadline = s.spawn(|| {
                page.lock_within(Limits::none().until(at(NOON)).unless(switch)).map(drop)
            });
            sim.until_asleep(2);
            let closes =
                s.spawn(|| page.lock_releasing_within((), Limits::none().unless(switch)).map(drop));
            sim.until_asleep(3);
            assert!(is_closed(page), "{page:?}");
            let outside = s.spawn(|| under(page, switch));
            sim.until_asleep(4);
            assert!(says(page, "3 sleepers, gate closed, crowd outside"), "{page:?}");
            switch.cancel();
            for locker in [inside, with_a_deadline, closes, outside] {
                assert_eq!(locker.join().unwrap(), Err(LockError::Cancelled));
            }
            assert!(
                says(page, "locked, awaited, generation"),
                "nobody is left, and the gate is open: {page:?}"
            );
            drop(guard);
        });
        is_idle(page);
        assert_eq!(
            under(page, switch),
            Ok(()),
            "a page that is free is taken, whatever the limits"
        );
        let guard = page.lock();
        assert_eq!((under(page, switch), page.sleepers()), (Err(LockError::Cancelled), 0));
        drop(guard);
        is_idle(page);
    });
}

#[test]
fn a_lock_under_a_switch_is_woken_by_a_release_as_any_other() {
    let sim = Sim::new(1);
    let (page, switch) = (page_on(sim), switch(sim));
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let lockers = [1, 2, 3].map(|n| {
                let locker = s.spawn(|| under(page, switch));
                sim.until_asleep(n);
                locker
            });
            let guard = starve(sim, guard);
            drop(guard);
            for locker in lockers {
                assert_eq!(locker.join().unwrap(), Ok(()));
            }
        });
        is_idle(page);
    });
}

#[test]
fn a_lock_that_is_cancelled_passes_its_wake_on() {
    let sim = Sim::new(1);
    let (page, switch) = (page_on(sim), switch(sim));
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let cancelled = s.spawn(|| under(page, switch));
            sim.until_asleep(1);
            let patient = s.spawn(|| drop(page.lock()));
            sim.until_asleep(2);
            sim.hold();
            sim.steal_next_wake();
            drop(guard); // Tells the first one, and the other one's wake is lost.
            let newcomer = page.try_lock().expect("the gate is open");
            switch.cancel();
            sim.resume();
            assert_eq!(cancelled.join().unwrap(), Err(LockError::Cancelled));
            assert_eq!(sim.asleep(), 1);
            drop(newcomer);
            patient.join().unwrap();
        });
        is_idle(page);
    });
}

/// It sleeps in the event table, where the wake that another passes on does not reach it: it is
/// told by that one.
#[test]
fn a_lock_under_a_switch_is_not_stranded_by_one_that_leaves() {
    let sim = Sim::new(1);
    let (page, switch) = (page_on(sim), switch(sim));
    watched(&[page], || {
        thread::scope(|s| {
            let mut held = Some(page.lock());
            let locker = s.spawn(|| under(page, switch));
            sim.until_asleep(1);
            let ptl = OnDrop(|| {
                drop(held.take());
                panic!("from the page-table lock");
            });
            panic_of(|| drop(page.lock_releasing(ptl)));
            assert_eq!(locker.join().unwrap(), Ok(()));
        });
        is_idle(page);
    });
}
