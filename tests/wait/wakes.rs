//! Every sleeper comes back: a release wakes a few, those wake the rest, and a wake passes
//! colliding pages by (I10, I24; L6, L7).

use crate::common::own::Own;
use crate::common::page_on;
use crate::common::sim::{Call, Sim, script};
use crate::common::{OnDrop, rounds, watched, with_threads};
use crate::ptl::text;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pagelock::futex::Sleep;
use pagelock::{Claim, Futex, OsFutex, PageLock, Wake};
use std::thread;

fn all_come_back<const CLASSES: bool>(own: Own<CLASSES>, sleepers: usize) {
    let page = PageLock::with_futex(own);
    with_threads(&[&page], |s| {
        // More than once: the slot's sequence goes on, and the flag has to be set again.
        for _ in 0..3 {
            let guard = page.lock();
            let waiters: Vec<_> = (0..sleepers)
                .map(|_| {
                    let small = thread::Builder::new().stack_size(64 << 10);
                    small.spawn_scoped(s, || page.wait_unlocked(())).unwrap()
                })
                .collect();
            own.until_asleep(sleepers);
            assert!(guard.unlock().event_waiters);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Wake::Released);
            }
        }
    });
}

#[test]
fn however_many_sleep_all_come_back() {
    for sleepers in [1, 2, 8, 64, 256] {
        all_come_back(Own::new(1), sleepers);
        all_come_back(Own::without_classes(1), sleepers);
    }
}

#[test]
fn the_releaser_wakes_a_few_and_those_wake_the_rest() {
    const SLEEPERS: usize = 100;
    let sim = Sim::with_classes(1);
    let page = page_on(sim);
    with_threads(&[page], |s| {
        let guard = page.lock();
        (0..SLEEPERS).for_each(|_| drop(s.spawn(|| page.wait_unlocked(()))));
        sim.until_asleep(SLEEPERS);
        sim.calls();
        sim.hold();
        drop(guard);
        let woken = SLEEPERS - sim.asleep();
        assert!((1..=16).contains(&woken), "the releaser alone woke {woken}");
        assert!(matches!(sim.calls()[..], [Call::Tell { .. }, Call::WakeClass { .. }]));
        sim.resume();
    });
}

#[test]
fn where_sleepers_cannot_be_told_apart_a_release_wakes_all() {
    const SLEEPERS: usize = 20;
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            (0..SLEEPERS).for_each(|_| drop(s.spawn(|| page.wait_unlocked(()))));
            sim.until_asleep(SLEEPERS);
            sim.calls();
            sim.hold();
            drop(guard);
            assert_eq!(sim.asleep(), 0);
            assert!(matches!(sim.calls()[..], [Call::Tell { .. }, Call::WakeAll { .. }]));
            sim.resume();
        });
        assert_eq!(sim.calls(), [], "nobody passes anything on");
    });
}

/// Sleepers of a later hold do not use up the wakes of an earlier release's chain.
#[test]
fn a_chain_of_wakes_reaches_its_own_sleepers_past_newer_ones() {
    const SLEEPERS: usize = 40;
    let sim = Sim::with_classes(1);
    let page = page_on(sim);
    with_threads(&[page], |s| {
        let guard = page.lock();
        let old: Vec<_> = (0..SLEEPERS).map(|_| s.spawn(|| page.wait_unlocked(()))).collect();
        sim.until_asleep(SLEEPERS);
        sim.hold();
        drop(guard);
        let left = sim.asleep();
        let guard = page.lock();
        let new: Vec<_> = (0..SLEEPERS).map(|_| s.spawn(|| page.wait_unlocked(()))).collect();
        sim.until_asleep(left + SLEEPERS);
        sim.resume();
        for waiter in old {
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        }
        assert_eq!(sim.asleep(), SLEEPERS, "the newer ones wait for the release that is theirs");
        drop(guard);
        for waiter in new {
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        }
    });
}

#[test]
fn a_wake_is_passed_on_exactly_when_one_was_used_up() {
    watched(&[], || {
        for (how, passes_on) in [
            (Sleep::Woken, true),
            (Sleep::Interrupted, false),
            (Sleep::TimedOut, false),
            (Sleep::Changed, false),
            (Sleep::Unknown, false),
        ] {
            let sim = Sim::with_classes(1);
            let page = page_on(sim);
            let mut held = Some(page.lock());
            script([how]);
            // The release comes before the sleep, so every outcome ends the wait. It is told that
            // its wakes reached somebody: had it found nobody left to wake, there would be nothing
            // to pass on.
            let wake = page.wait_unlocked(OnDrop(|| {
                sim.steal_next_wake();
                drop(held.take());
                sim.calls();
            }));
            assert_eq!(wake, Wake::Released, "{how:?}");
            let passed_on =
                matches!(sim.calls()[..], [Call::WakeClass { word, .. }] if sim.is_event(word));
            assert_eq!(passed_on, passes_on, "{how:?}");
        }
    });
}

#[test]
fn pages_that_share_a_slot_all_get_their_waiters_back() {
    const PAGES: usize = 8;
    const WAITERS: usize = 2;
    let own = Own::new(1);
    let pages: Vec<_> = (0..PAGES).map(|_| PageLock::with_futex(own)).collect();
    let (back, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    with_threads(&[&pages], |s| {
        let guards: Vec<_> = pages.iter().map(PageLock::lock).collect();
        for page in &pages {
            for _ in 0..WAITERS {
                s.spawn(|| {
                    // Spurious returns are allowed, so a waiter looks again.
                    while page.is_locked() {
                        let _ = page.wait_unlocked(());
                    }
                    back.fetch_add(1, SeqCst);
                });
            }
        }
        // An unrelated page keeps the slot busy.
        s.spawn(|| {
            let page = PageLock::with_futex(own);
            while !over.load(SeqCst) {
                let guard = page.lock();
                assert!(matches!(page.claim(), Claim::InFlight));
                drop(guard);
                thread::yield_now();
            }
        });
        for (n, guard) in guards.into_iter().enumerate() {
            drop(guard);
            while back.load(SeqCst) < (n + 1) * WAITERS {
                thread::yield_now();
            }
        }
        over.store(true, SeqCst);
    });
    assert_eq!(back.into_inner(), PAGES * WAITERS);
}

#[test]
fn colliding_headers_of_the_default_platform_get_their_waiters_back() {
    let pages: Vec<PageLock> = (0..2048).map(|_| PageLock::new()).collect();
    let slot = |page: &PageLock| OsFutex.event_index(core::ptr::from_ref(page).addr());
    let colliding: Vec<_> = pages.iter().filter(|p| slot(p) == slot(&pages[0])).take(4).collect();
    assert_eq!(colliding.len(), 4, "2048 pages on {} slots", OsFutex.events());
    with_threads(&[&colliding], |s| {
        for _ in 0..rounds(50) {
            let guards: Vec<_> = colliding.iter().map(|p| p.lock()).collect();
            let waiters: Vec<_> = colliding
                .iter()
                .map(|page| {
                    s.spawn(|| {
                        while page.is_locked() {
                            let _ = page.wait_unlocked(());
                        }
                    })
                })
                .collect();
            drop(guards);
            waiters.into_iter().for_each(|w| w.join().unwrap());
        }
    });
}

#[test]
fn a_platform_that_spins_waits_as_well() {
    let page = PageLock::with_futex(pagelock::futex::SpinFutex);
    with_threads(&[&page], |s| {
        let guard = page.lock();
        let waiter = s.spawn(|| page.wait_unlocked(()));
        while !text(&page).contains("awaited") {
            thread::yield_now();
        }
        drop(guard);
        assert_eq!(waiter.join().unwrap(), Wake::Released);
    });
}
