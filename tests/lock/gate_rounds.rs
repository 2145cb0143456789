//! The lock's rules 4 to 6, as `src/lock/mod.rs` numbers them: what closes the gate, what opens it,
//! and whom a release wakes.

use crate::common::{
    gate::{BYPASS_BOUND, Order, Page, is_closed, is_idle, says, starve},
    page_on, rounds,
    sim::{Call, Sim},
    watched,
};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::Sleep;
use pagelock::{UserBits, Wake};
use std::sync::Mutex;
use std::thread;

#[test]
fn a_sleeper_is_overtaken_exactly_so_often_as_the_platform_says() {
    on_a_page!(|s, sim, page| {
        let mut guard = page.lock();
        let sleeper = s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        let mut overtaken = 0;
        loop {
            sim.hold();
            drop(guard);
            let Some(again) = page.try_lock() else { break };
            guard = again;
            overtaken += 1;
            assert!(overtaken <= BYPASS_BOUND, "{page:?}");
            sim.resume();
            sim.until_asleep(1);
        }
        assert_eq!(overtaken, BYPASS_BOUND);
        sim.resume();
        sleeper.join().unwrap();
    });
}

/// Signals do not make a locker lose its place: that the page was released while it slept is
/// enough.
#[test]
fn a_lost_round_counts_however_the_sleep_ended() {
    for how in [Sleep::Interrupted, Sleep::Changed, Sleep::Unknown, Sleep::Woken] {
        on_a_page!(|s, sim, page| {
            let mut guard = page.lock();
            let sleeper = s.spawn(|| drop(page.lock()));
            sim.until_asleep(1);
            for round in 0..BYPASS_BOUND {
                assert!(!is_closed(page), "{how:?}, round {round}: {page:?}");
                sim.hold();
                sim.end_all(how);
                drop(guard);
                guard = page.try_lock().expect("the gate is open");
                sim.resume();
                sim.until_asleep(1);
            }
            assert!(is_closed(page), "{how:?}: {page:?}");
            drop(guard);
            sleeper.join().unwrap();
        });
    }
}

/// A signal, or a change of the word, is no lost round as long as the page was not released.
#[test]
fn a_disturbance_without_a_release_is_no_lost_round() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let mut guard = page.lock();
            let sleeper = s.spawn(|| drop(page.lock()));
            for n in 0..3 * BYPASS_BOUND {
                sim.until_asleep(1);
                guard.set_user(UserBits::new(n as u8));
                sim.end_all(if n % 2 == 0 { Sleep::Interrupted } else { Sleep::Changed });
            }
            sim.until_asleep(1);
            assert!(!is_closed(page), "{page:?}");
            drop(guard);
            sleeper.join().unwrap();
        });
        drop(page.lock());
    });
}

// ---- 5: the last one inside opens the gate and tells the crowd ----

#[test]
fn the_last_one_inside_opens_the_gate_and_tells_the_crowd() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let turns = AtomicU32::new(0);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            for n in 1..=2 {
                s.spawn(|| {
                    let guard = page.lock();
                    let turn = turns.fetch_add(1, SeqCst) + 1;
                    // With one left inside the two outside sleep on; the last one has woken them.
                    assert_eq!(is_closed(page), turn == 1, "{page:?}");
                    if turn == 1 {
                        sim.until_asleep(3);
                    }
                    drop(guard);
                });
                sim.until_asleep(n);
            }
            let guard = starve(sim, guard);
            for n in 3..=4 {
                s.spawn(|| drop(page.lock()));
                sim.until_asleep(n);
            }
            assert!(says(page, "2 sleepers, gate closed, crowd outside"), "{page:?}");
            drop(guard);
        });
        is_idle(page);
    });
}

// ---- 6: a release wakes one sleeper ----

#[test]
fn a_release_wakes_one_locker() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        (0..3).for_each(|_| drop(s.spawn(|| drop(page.lock()))));
        sim.until_asleep(3);
        sim.hold();
        drop(guard);
        assert_eq!(sim.asleep(), 2);
        assert!(matches!(sim.calls()[..], [Call::WakeOne { word }] if !sim.is_event(word)));
        sim.resume();
    });
}

/// A fault server's `tell` is a system call: it is not made for lockers, whichever of them are
/// woken, take the page, or leave.
#[test]
fn a_release_with_lockers_and_no_waiters_tells_nobody() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let tells = || sim.calls().into_iter().filter(|call| matches!(call, Call::Tell { .. })).count();
    watched(&[page], || {
        thread::scope(|s| {
            for is_fair in [false, true] {
                let guard = page.lock();
                let lockers = [s.spawn(|| drop(page.lock())), s.spawn(|| drop(page.lock()))];
                sim.until_asleep(2);
                let late = s.spawn(|| page.try_lock_for(Duration::from_nanos(1)).is_none());
                sim.until_asleep(3);
                sim.advance(Duration::from_nanos(1));
                assert!(late.join().unwrap());
                if is_fair {
                    _ = guard.unlock_fair()
                } else {
                    drop(guard)
                }
                lockers.into_iter().for_each(|locker| locker.join().unwrap());
                assert_eq!(tells(), 0);
            }
            // With one waiter among them, once.
            let guard = page.lock();
            let locker = s.spawn(|| drop(page.lock()));
            sim.until_asleep(1);
            let waiter = s.spawn(|| page.wait_unlocked(()));
            sim.until_asleep(2);
            assert!(guard.unlock().event_waiters);
            locker.join().unwrap();
            assert_eq!((waiter.join().unwrap(), tells()), (Wake::Released, 1));
        });
        is_idle(page);
    });
}

/// The platform's first wake panics before it has woken anybody: the next locker still wakes, and
/// the waiters are told.
#[test]
fn a_platform_that_panics_in_a_wake_strands_no_locker() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        let lockers = [1, 2].map(|n| {
            let locker = s.spawn(|| drop(page.lock()));
            sim.until_asleep(n);
            locker
        });
        let waiter = s.spawn(|| page.wait_unlocked(()));
        sim.until_asleep(3);
        sim.at_wake(|| panic!("from the platform"));
        assert_eq!(crate::common::panic_of(|| drop(guard)), "from the platform");
        lockers.into_iter().for_each(|locker| locker.join().unwrap());
        assert_eq!(waiter.join().unwrap(), Wake::Released);
    });
}

#[test]
fn a_release_with_nobody_asleep_asks_nothing_of_the_platform() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        for _ in 0..10 {
            drop(page.lock());
            drop(page.try_lock());
            drop(page.try_lock_for(Duration::ZERO));
            assert!(!page.lock().unlock_fair().event_waiters);
        }
        assert_eq!(sim.calls(), []);
        assert_eq!(sim.slept(), 0);
        is_idle(page);
    });
}

// ---- A fair release closes the gate as well ----

#[test]
fn a_fair_release_hands_the_page_to_the_sleeper() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        let sleeper = s.spawn(|| page.lock().page().generation());
        sim.until_asleep(1);
        sim.hold();
        guard.unlock_fair();
        let released = page.generation();
        assert!(
            page.is_locked() && page.try_lock().is_none(),
            "the releaser cannot be faster: {page:?}"
        );
        sim.resume();
        assert_eq!(sleeper.join().unwrap(), released);
    });
}

/// The sleeper has been woken and has lost the page to a newcomer, which then releases it fairly.
/// There is nobody left to wake, and still the page is the sleeper's, not the next newcomer's.
#[test]
fn a_fair_release_hands_the_page_to_a_sleeper_that_is_awake_already() {
    let sim = Sim::new(1);
    let (page, order) = (page_on(sim), Order::default());
    watched(&[page], || {
        thread::scope(|s| {
            let order = &order;
            let guard = page.lock();
            s.spawn(move || order.own("sleeper", page.lock()));
            sim.until_asleep(1);
            sim.hold();
            drop(guard);
            page.try_lock().expect("the gate is open").unlock_fair();
            assert!(page.is_locked() && page.try_lock().is_none(), "{page:?}");
            s.spawn(move || order.own("newcomer", page.lock()));
            order.until_asleep_or_done(sim);
            sim.resume();
        });
        is_idle(page);
    });
    order.was(&["sleeper", "newcomer"]);
}

/// Where every release is fair, no waiter is passed over: between two holds of a thread all
/// others who waited have had theirs, or have one after the gate has opened once. Each holder waits
/// until all others sleep, so that this is not a matter of time.
#[test]
fn where_every_release_is_fair_every_thread_has_its_turn() {
    const THREADS: usize = 3;
    let holds = rounds(3000).max(4 * THREADS);
    let sim = Sim::new(1);
    let page: &Page = page_on(sim);
    let (owners, running) = (Mutex::new(Vec::new()), AtomicUsize::new(THREADS));
    watched(&[page], || {
        thread::scope(|s| {
            for who in 0..THREADS {
                let (owners, running) = (&owners, &running);
                s.spawn(move || {
                    loop {
                        let guard = page.lock();
                        while sim.asleep() + 1 < running.load(SeqCst) {
                            thread::yield_now();
                        }
                        let done = {
                            let mut owners = owners.lock().unwrap();
                            owners.push(who);
                            owners.len() >= holds
                        };
                        if done {
                            running.fetch_sub(1, SeqCst);
                        }
                        guard.unlock_fair();
                        if done {
                            break;
                        }
                    }
                });
            }
        });
        is_idle(page);
    });
    let owners = owners.into_inner().unwrap();
    for window in owners[..holds].windows(2 * THREADS) {
        assert!((0..THREADS).all(|who| window.contains(&who)), "{window:?}");
    }
}
