//! The counters count what they say. They are for the whole program, so the tests here run one at a
//! time.

#![cfg(all(feature = "stats", not(pagelock_loom)))]

mod common;

use common::sim::{Sim, script};
use common::with_threads;
use pagelock::futex::Sleep;
use pagelock::stats::{Stats, snapshot};
use pagelock::{FreezeRule, Futex, PageLock};
use std::sync::{Mutex, PoisonError};

const BOUND: usize = Sim::<false>::BYPASS_BOUND as usize;

/// What `body` adds to the counters.
fn counted(body: impl FnOnce()) -> Stats {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = snapshot();
    body();
    snapshot().since(before)
}

/// The counters that are not 0, in words.
fn words(stats: Stats) -> String {
    let text = format!("{stats:?}");
    let fields = text.trim_start_matches("Stats { ").trim_end_matches(" }");
    fields.split(", ").filter(|f| !f.ends_with(": 0")).collect::<Vec<_>>().join(", ")
}

#[test]
fn an_undisturbed_lock_counts_nothing() {
    let stats = counted(|| {
        let page = PageLock::new();
        drop(page.lock());
        page.lock().unlock_fair();
        let _guard = page.try_lock().unwrap();
        assert!(page.try_lock().is_none());
    });
    assert_eq!(stats, Stats::default(), "{}", words(stats));
}

#[test]
fn a_locker_that_sleeps_and_is_woken() {
    let stats = counted(|| {
        let sim = Sim::new(1);
        let page = PageLock::with_futex(sim);
        with_threads(&[&page], |s| {
            let guard = page.lock();
            s.spawn(|| drop(page.lock()));
            sim.until_asleep(1);
            drop(guard);
        });
    });
    assert_eq!(words(stats), "lock_waits: 1, lock_wakes: 1");
}

#[test]
fn a_locker_that_loses_and_gets_the_page_through_a_closed_gate() {
    let stats = counted(|| {
        let sim = Sim::new(1);
        let page = PageLock::with_futex(sim);
        with_threads(&[&page], |s| {
            let guard = page.lock();
            s.spawn(|| {
                script([Sleep::Woken; BOUND]);
                drop(page.lock());
            });
            sim.until_asleep(1);
            drop(guard);
        });
    });
    assert_eq!(stats.lost_wakes, BOUND);
    assert_eq!((stats.gated_locks, stats.lock_wakes), (1, 1));
    assert_eq!(stats.lock_waits, 1 + BOUND);
}

#[test]
fn a_waiter_that_is_told() {
    let stats = counted(|| {
        let sim = Sim::new(1);
        let page = PageLock::with_futex(sim);
        with_threads(&[&page], |s| {
            let guard = page.lock();
            s.spawn(|| page.wait_unlocked(()));
            sim.until_asleep(1);
            drop(guard);
        });
    });
    assert_eq!(words(stats), "event_waits: 1, event_wakes: 1");
}

#[test]
fn a_waiter_that_is_woken_for_nothing() {
    let stats = counted(|| {
        let page = PageLock::with_futex(Sim::new(1));
        let _guard = page.lock();
        script([Sleep::Woken]);
        let _ = page.wait_unlocked(());
    });
    assert_eq!(words(stats), "event_waits: 1, event_wakes: 1, spurious_returns: 1");
}

/// Each kind a different number of times, so that no two can be mistaken for each other.
#[test]
fn freezes_that_are_refused() {
    let stats = counted(|| {
        let page = PageLock::new();
        page.activate(2).unwrap();
        let refused = |rule| drop(page.lock().begin_migration().freeze(rule).unwrap_err());
        refused(FreezeRule::ExactRefs(1));
        let pin = page.try_pin().unwrap();
        refused(FreezeRule::Unpinned);
        refused(FreezeRule::ExactRefs(1));
        drop(pin);
        drop(page.lock().begin_migration().freeze_with(FreezeRule::Unpinned, |_| Err("no")));
        let frozen = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap().into_raw();
        // SAFETY: of the two stages that the page is given, this one is forgotten again.
        let again = unsafe { pagelock::Migration::from_raw(frozen) };
        again.freeze(FreezeRule::Unpinned).unwrap_err().into_migration().into_raw();
        // SAFETY: the stage above is forgotten, so this is the one that ends the migration.
        unsafe { pagelock::Frozen::from_raw(frozen) }.poison();
        refused(FreezeRule::Unpinned);
    });
    assert_eq!(
        words(stats),
        "frozen_refused_pins: 2, frozen_refused_refs: 1, frozen_refused_other: 3, aborts: 6"
    );
}

#[test]
fn a_migration_around_a_closure_is_committed_or_aborted() {
    let stats = counted(|| {
        let page = PageLock::new();
        page.activate(1).unwrap();
        page.lock().migrate(FreezeRule::Unpinned, |_| Ok::<_, ()>(())).unwrap();
        page.lock().migrate(FreezeRule::Unpinned, |_| Err::<(), _>(())).unwrap_err();
    });
    assert_eq!(words(stats), "aborts: 1, commits: 1");
}

#[test]
fn a_commit_that_keeps_the_lock_is_a_commit() {
    let stats = counted(|| {
        let page = PageLock::new();
        page.activate(1).unwrap();
        drop(page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap().commit_keeping());
    });
    assert_eq!(words(stats), "commits: 1");
}

#[test]
fn migrations_that_end_well_and_not_so_well() {
    let stats = counted(|| {
        let (page, dst) = (PageLock::new(), PageLock::new());
        page.activate(1).unwrap();
        let frozen = || page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap();
        frozen().commit_in_place();
        frozen().abort();
        drop(frozen());
        page.lock().begin_migration().abort();
        drop(page.lock().begin_migration());
        page.lock().begin_migration().cancel().unlock();
        let _ = frozen().commit_to(dst.lock()).unwrap();
        dst.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap().poison();
    });
    assert_eq!(words(stats), "aborts: 6, commits: 2");
}

/// A migration that a fault is for ends as any other does.
#[test]
fn a_page_that_a_fault_brings_back_is_a_commit() {
    use pagelock::mm::drain::Unlocked;
    use pagelock::mm::migrate::{Order, Slot, migrate};
    use pagelock_soft::{Config, Soft, TierId};
    let mm = Soft::new(Config::ram_and_device(8, 8));
    let at = mm.spawn().unwrap().page(0);
    mm.map(at, 1).unwrap();
    mm.write(at, 0, &[1]).unwrap();
    let out = || {
        let summary =
            migrate(&mm, &mut [Slot::at(at)], &Order::to(TierId(1)), &mm, &mut Unlocked::promise());
        assert_eq!(summary.done, 1);
    };
    let there = counted(out);
    let back = counted(|| mm.read(at, 0, &mut [0]).unwrap());
    assert_eq!([(there.commits, there.aborts), (back.commits, back.aborts)], [(1, 0); 2]);
}
