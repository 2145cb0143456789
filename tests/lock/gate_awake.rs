//! What a platform decides: how long a locker looks before it sleeps, and how often it lets itself
//! be overtaken.

use crate::common::{
    Unprotected, gate::BYPASS_BOUND, own::Own, page_on, sim::Sim, turns, with_threads,
};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pagelock::PageLock;
use pagelock::futex::Adapt;
use std::sync::Barrier;

/// Counts how often it was asked to let another thread run.
#[derive(Clone, Copy)]
struct Looks<const SPINS: u32>(Sim, &'static AtomicUsize);

impl<const SPINS: u32> Adapt for Looks<SPINS> {
    type Base = Sim;
    const SPINS: u32 = SPINS;

    fn base(&self) -> &Sim {
        &self.0
    }

    fn relax(&self) {
        self.1.fetch_add(1, SeqCst);
    }
}

/// How often a locker gives its processor away before it sleeps for a page that stays locked.
fn given_away<const SPINS: u32>() -> usize {
    let (sim, relaxed) = (Sim::new(1), Box::leak(Box::new(AtomicUsize::new(0))));
    let page: &PageLock<Looks<SPINS>> = page_on(Looks(sim, relaxed));
    with_threads(&[page], |s| {
        let guard = page.lock();
        let locker = s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        let given_away = relaxed.load(SeqCst);
        drop(guard);
        locker.join().unwrap();
        given_away
    })
}

#[test]
fn a_platform_says_how_often_a_locker_looks_and_zero_is_never() {
    assert_eq!(
        (given_away::<0>(), given_away::<1>(), given_away::<2>(), given_away::<9>()),
        (0, 0, 1, 8)
    );
}

fn given_away_by_a_fair_release<const SPINS: u32>() -> usize {
    let (sim, relaxed) = (Sim::new(1), Box::leak(Box::new(AtomicUsize::new(0))));
    let page = PageLock::with_futex(Looks::<SPINS>(sim, relaxed));
    page.lock().unlock_fair();
    assert_eq!(sim.calls(), []);
    relaxed.load(SeqCst)
}

/// A locker that looks for the page awake is counted nowhere. An owner that lets go fairly and
/// takes the page again at once would keep them out.
#[test]
fn a_fair_release_that_finds_nobody_asleep_lets_those_run_who_look() {
    assert_eq!((given_away_by_a_fair_release::<1>(), given_away_by_a_fair_release::<0>()), (1, 0));
}

/// A platform that would rather starve lockers than let a stopped one keep the others out.
#[derive(Clone, Copy)]
struct Unbounded(Sim);

impl Adapt for Unbounded {
    type Base = Sim;
    const BYPASS_BOUND: u32 = u32::MAX;

    fn base(&self) -> &Sim {
        &self.0
    }
}

#[test]
fn a_platform_without_a_bound_never_has_its_gate_closed_by_a_locker_that_loses() {
    let sim = Sim::new(1);
    let page: &PageLock<Unbounded> = page_on(Unbounded(sim));
    with_threads(&[page], |s| {
        let mut guard = page.lock();
        let sleeper = s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        for _ in 0..20 * BYPASS_BOUND {
            sim.hold();
            drop(guard);
            guard = page.try_lock().expect("the gate is open");
            sim.resume();
            sim.until_asleep(1);
        }
        drop(guard);
        sleeper.join().unwrap();
    });
}

/// A bound of 0: no newcomer comes before anybody who sleeps.
#[derive(Clone, Copy)]
struct Strict(Sim);

impl Adapt for Strict {
    type Base = Sim;
    const BYPASS_BOUND: u32 = 0;

    fn base(&self) -> &Sim {
        &self.0
    }
}

#[test]
fn a_platform_with_a_bound_of_zero_lets_nobody_be_overtaken() {
    let sim = Sim::new(1);
    let page: &PageLock<Strict> = page_on(Strict(sim));
    with_threads(&[page], |s| {
        let guard = page.lock();
        let sleepers = [1, 2].map(|n| {
            let sleeper = s.spawn(|| drop(page.lock()));
            sim.until_asleep(n);
            sleeper
        });
        sim.hold();
        drop(guard);
        assert!(page.try_lock().is_none(), "{page:?}");
        sim.resume();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert!(page.try_lock().is_some());
    });
}

#[test]
fn a_greedy_thread_cannot_keep_a_sleeper_out() {
    let page = PageLock::with_futex(Own::new(1));
    let (mut counter, start, stop) = (Unprotected::new(), Barrier::new(3), AtomicBool::new(false));
    with_threads(&[&page], |s| {
        for _ in 0..2 {
            s.spawn(|| {
                for turn in 0.. {
                    let guard = page.lock();
                    // SAFETY: under the page's lock.
                    unsafe { counter.add_one() };
                    drop(guard);
                    if turn == 0 {
                        start.wait();
                    }
                    if stop.load(SeqCst) {
                        break;
                    }
                }
            });
        }
        start.wait();
        for _ in turns(300) {
            drop(page.lock());
        }
        stop.store(true, SeqCst);
    });
    assert!(counter.get() >= 2);
    assert!(!page.is_locked(), "{page:?}");
}
