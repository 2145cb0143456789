//! The lock's rules, one by one, as `src/lock/mod.rs` numbers them, and what follows from them for
//! whoever sleeps for a page: how often it is overtaken, and by whom (I3, I4, I5, I27, I33, I39).
//!
//! Most of this runs on a simulated platform, where a woken sleeper runs when the test says so.
//! That is the moment that matters: the page is released, the sleeper is on its way, and a locker
//! else tries to be faster.

use crate::common::{
    gate::{BYPASS_BOUND, Order, is_closed, is_idle, says, starve},
    page_on,
    sim::{Sim, script},
    watched,
};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::Claim;
use pagelock::futex::Sleep;
use std::thread;

#[test]
fn a_newcomer_takes_a_free_page_before_a_sleeper_that_is_on_its_way() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        let sleeper = s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        sim.hold();
        drop(guard);
        assert!(!page.is_locked() && page.sleepers() == 1, "{page:?}");
        drop(page.lock());
        drop(page.try_lock().expect("the gate is open"));
        assert!(matches!(page.claim(), Claim::Owner(_)), "the gate is open");
        sim.resume();
        sleeper.join().unwrap();
    });
}

#[test]
fn a_page_behind_a_closed_gate_is_taken_for_newcomers() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        let sleeper = s.spawn(|| page.lock().page().generation());
        sim.until_asleep(1);
        let guard = starve(sim, guard);
        sim.hold();
        drop(guard);
        let released = page.generation();
        assert!(page.is_locked(), "to everybody but the sleeper it is taken: {page:?}");
        assert!(page.try_lock().is_none());
        assert!(page.try_lock_for(Duration::ZERO).is_none());
        assert!(matches!(page.claim(), Claim::InFlight));
        sim.resume();
        assert_eq!(sleeper.join().unwrap(), released, "the sleeper was the next owner");
    });
}

// ---- 2: a registered locker takes the page if nobody owns it ----

#[test]
fn a_registered_locker_takes_a_free_page_whoever_was_woken_for_it() {
    on_a_page!(|s, sim, page| {
        for is_fair in [false, true] {
            let guard = page.lock();
            let sleeper = s.spawn(|| drop(page.lock()));
            sim.until_asleep(1);
            sim.steal_next_wake();
            if is_fair {
                _ = guard.unlock_fair()
            } else {
                drop(guard)
            }
            assert_eq!((page.sleepers(), is_closed(page)), (1, is_fair), "{page:?}");
            sim.end_all(Sleep::Interrupted);
            sleeper.join().unwrap();
        }
    });
}

/// A closed gate is for all lockers inside, not only for the one that closed it; nobody comes
/// between two of them.
#[test]
fn a_closed_gate_keeps_the_page_for_all_who_are_inside() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let turns = AtomicUsize::new(0);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            for n in 1..=3 {
                s.spawn(|| {
                    let guard = page.lock();
                    turns.fetch_add(1, SeqCst);
                    sim.hold();
                    drop(guard);
                    let left = 3 - turns.load(SeqCst);
                    assert!(left == 0 || page.try_lock().is_none(), "{left} are inside: {page:?}");
                    sim.resume();
                });
                sim.until_asleep(n);
            }
            let guard = starve(sim, guard);
            assert!(says(page, "3 sleepers, gate closed"), "{page:?}");
            drop(guard);
        });
        assert_eq!(turns.load(SeqCst), 3);
        is_idle(page);
    });
}

// ---- 3: a newcomer registers if the gate is open or it has lost too often, and waits outside
// otherwise ----

#[test]
fn a_newcomer_registers_if_the_gate_is_open_and_waits_outside_if_not() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        s.spawn(|| drop(page.lock()));
        sim.until_asleep(2);
        assert!(says(page, "locked, 2 sleepers, generation"), "{page:?}");
        let guard = starve(sim, guard);
        s.spawn(|| drop(page.lock()));
        sim.until_asleep(3);
        assert!(
            says(page, "locked, 2 sleepers, gate closed, crowd outside, generation"),
            "{page:?}"
        );
        drop(guard);
    });
}

/// A locker outside is not kept there for ever by those that are let in before it.
#[test]
fn who_has_lost_too_often_outside_registers_past_a_closed_gate() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        let guard = starve(sim, guard);
        for (lost, inside) in [(BYPASS_BOUND - 1, 1), (BYPASS_BOUND, 2)] {
            s.spawn(move || {
                script([Sleep::Woken; BYPASS_BOUND as usize].into_iter().take(lost as usize));
                drop(page.lock());
            });
            sim.until_asleep(if inside == 1 { 2 } else { 3 });
            assert_eq!(page.sleepers(), inside, "after {lost} rounds lost: {page:?}");
        }
        drop(guard);
    });
}

/// It comes in while nobody owns the page, which is kept for those inside: it is one of them now,
/// and does not sleep for what it can have.
#[test]
fn who_registers_on_a_page_that_nobody_owns_takes_it() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        let guard = starve(sim, guard);
        sim.hold();
        drop(guard);
        script([Sleep::Woken; BYPASS_BOUND as usize]);
        let slept = sim.slept();
        drop(page.lock());
        assert_eq!(
            (sim.slept(), page.sleepers()),
            (slept, 1),
            "the other one is still on its way: {page:?}"
        );
        sim.resume();
    });
}

/// The page is released and kept for a starved sleeper, whose wake takes a moment. A locker that
/// comes now is later, also if its own sleep ends early because the word changes or it is
/// interrupted.
#[test]
fn a_newcomer_does_not_take_what_is_kept_for_those_inside_however_its_sleep_ends() {
    for ends in [
        None,
        Some(Sleep::Interrupted),
        Some(Sleep::Changed),
        Some(Sleep::Woken),
        Some(Sleep::Unknown),
    ] {
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
                drop(guard); // The starved sleeper is woken and will run in a moment.
                // A fault, just then.
                sim.at_sleep(move || assert!(matches!(page.claim(), Claim::InFlight)));
                s.spawn(move || {
                    script(ends);
                    order.own("newcomer", page.lock());
                });
                order.until_asleep_or_done(sim);
                sim.resume();
            });
            is_idle(page);
        });
        order.was(&["starved", "newcomer"]);
    }
}
