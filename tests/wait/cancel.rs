//! A wait that is cancelled, at every step (I3, I4, I28, I39).
//!
//! The outcome says so, and nothing is stranded: the page works as if that waiter had never come.

use crate::common::{
    OnDrop,
    sim::{Sim, at},
    watched, with_threads,
};
use core::time::Duration;
use pagelock::futex::MonotonicTime;
use pagelock::{Cancel, FreezeRule, Limits, PageLock, Wait, Wake};

type Page = PageLock<Sim>;

/// Nanoseconds after the beginning.
pub(crate) const NANOS: u64 = 1000;
pub(crate) const NOON: MonotonicTime = at(NANOS);

pub(crate) fn page_on(sim: Sim) -> &'static Page {
    let page = crate::common::page_on(sim);
    page.activate(1).unwrap();
    page
}

/// Waits for a release, unless the switch is thrown.
fn wait_unless<const CLASSES: bool>(
    page: &PageLock<Sim<CLASSES>>,
    cancel: &Cancel<Sim<CLASSES>>,
) -> Wake {
    page.wait_with((), Wait::unlocked().within(Limits::none().unless(cancel)))
}

pub(crate) fn wait_until(page: &Page, at: MonotonicTime) -> Wake {
    page.wait_with((), Wait::unlocked().within(Limits::none().until(at)))
}

/// A page of its own, with a reference, and what threads do to it; it [works] when they have ended.
macro_rules! on_a_live_page {
    (|$s:ident, $sim:ident, $page:ident| $body:block) => {{
        let $sim = $crate::common::sim::Sim::new(1);
        let $page = $crate::cancel::page_on($sim);
        $crate::common::with_threads(&[$page], |$s| $body);
        $crate::cancel::works($sim, $page);
    }};
}

pub(crate) fn until_noon(sim: Sim) {
    sim.advance(Duration::from_nanos(NANOS));
}

/// Locks, waits and migrates, with a thread asleep for each.
pub(crate) fn works(sim: Sim, page: &Page) {
    assert_eq!(sim.asleep(), 0, "somebody is stranded: {page:?}");
    with_threads(&[page], |s| {
        let guard = page.try_lock().expect("free");
        let locker = s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        let waiter = s.spawn(|| page.wait_unlocked(()));
        sim.until_asleep(2);
        drop(guard);
        locker.join().unwrap();
        assert_eq!(waiter.join().unwrap(), Wake::Released);

        let migration = page.try_lock().expect("free").begin_migration();
        let waiter = s.spawn(|| page.wait_migration(()));
        sim.until_asleep(1);
        migration.freeze(FreezeRule::ExactRefs(1)).unwrap().commit_in_place();
        assert_eq!(waiter.join().unwrap(), Wake::Released);
    });
    let text = format!("{page:?}");
    assert!(text.starts_with("PageLock { free, generation "), "{text}");
    assert!(text.ends_with("; 1 references, 0 pins }"), "{text}");
}

// ---- waits, cancelled ----

#[test]
fn a_wait_cancelled_before_the_call_does_not_begin() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
        cancel.cancel();
        let guard = page.lock();
        assert_eq!(wait_unless(page, &cancel), Wake::Cancelled);
        assert!(!guard.unlock().event_waiters, "there is nobody to tell");
        works(sim, page);
    });
}

/// At each step on the way: as the page-table lock is dropped, as the waiter reads the sequence
/// before it has joined the switch, and just before the word is compared.
#[test]
fn a_wait_cancelled_on_its_way_to_sleep_does_not_sleep() {
    for moment in 0..3 {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let cancel: &'static Cancel<Sim> = Box::leak(Box::new(Cancel::with_futex(sim)));
        let guard = page.lock();
        match moment {
            1 => sim.at_event(|| cancel.cancel()),
            2 => sim.at_sleep(|| cancel.cancel()),
            _ => (),
        }
        let ptl = OnDrop(|| {
            if moment == 0 {
                cancel.cancel();
            }
        });
        let wake = watched(&[page], || {
            page.wait_with(ptl, Wait::unlocked().within(Limits::none().unless(cancel)))
        });
        assert_eq!(wake, Wake::Cancelled, "at step {moment}");
        assert_eq!(sim.slept(), 0, "at step {moment}");
        drop(guard);
        works(sim, page);
    }
}

#[test]
fn a_wait_cancelled_asleep_wakes() {
    let sim = Sim::new(4);
    let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
    with_threads(&[page], |s| {
        let migration = page.lock().begin_migration();
        let timed = Wait::migration().within(Limits::none().until(NOON).unless(&cancel));
        let waiters = [
            s.spawn(|| wait_unless(page, &cancel)),
            s.spawn(|| {
                page.wait_with((), Wait::migration().within(Limits::none().unless(&cancel)))
            }),
            s.spawn(move || page.wait_with((), timed)),
        ];
        sim.until_asleep(3);
        cancel.cancel();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
        }
        migration.abort();
    });
    works(sim, page);
}

#[test]
fn a_wait_cancelled_after_the_release_says_so() {
    let sim = Sim::new(1);
    let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
    with_threads(&[page], |s| {
        let guard = page.lock();
        let waiter = s.spawn(|| wait_unless(page, &cancel));
        sim.until_asleep(1);
        sim.hold();
        drop(guard);
        cancel.cancel();
        sim.resume();
        assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
    });
    works(sim, page);
}

#[test]
fn cancelling_reaches_every_page_and_nobody_elses_waiters_for_good() {
    let sim = Sim::new(64);
    let pages: Vec<_> = (0..16).map(|_| page_on(sim)).collect();
    let (ours, theirs) = (Cancel::with_futex(sim), Cancel::with_futex(sim));
    with_threads(&[&pages], |s| {
        let guards: Vec<_> = pages.iter().map(|p| p.lock()).collect();
        let cancelled: Vec<_> = pages.iter().map(|p| s.spawn(|| wait_unless(p, &ours))).collect();
        let others: Vec<_> = pages
            .iter()
            .map(|p| {
                s.spawn(|| {
                    // A spurious return is allowed; being cancelled by another's switch
                    // is not.
                    while p.is_locked() {
                        assert_ne!(wait_unless(p, &theirs), Wake::Cancelled);
                    }
                })
            })
            .collect();
        sim.until_asleep(32);
        ours.cancel();
        for waiter in cancelled {
            assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
        }
        drop(guards);
        others.into_iter().for_each(|w| w.join().unwrap());
    });
    pages.into_iter().for_each(|p| works(sim, p));
}

#[test]
fn a_switch_stays_thrown_until_it_is_reset() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, mut cancel) = (page_on(sim), Cancel::with_futex(sim));
        assert!(!cancel.is_cancelled());
        cancel.cancel();
        cancel.cancel();
        assert!(cancel.is_cancelled());
        assert_eq!(wait_unless(page, &cancel), Wake::Cancelled);
        cancel.reset();
        assert!(!cancel.is_cancelled());
        assert_eq!(wait_unless(page, &cancel), Wake::NotLocked);
        with_threads(&[page], |s| {
            let guard = page.lock();
            let waiter = s.spawn(|| wait_unless(page, &cancel));
            sim.until_asleep(1);
            cancel.cancel();
            assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
            drop(guard);
        });
        works(sim, page);
    });
}

#[test]
fn cancelling_a_waiter_leaves_the_others_their_wake() {
    let sim = Sim::with_classes(1);
    let page = PageLock::with_futex(sim);
    let cancel = Cancel::with_futex(sim);
    const OTHERS: usize = 20;
    with_threads(&[&page], |s| {
        let guard = page.lock();
        let cancelled = s.spawn(|| wait_unless(&page, &cancel));
        sim.until_asleep(1);
        let others: Vec<_> = (0..OTHERS).map(|_| s.spawn(|| page.wait_unlocked(()))).collect();
        sim.until_asleep(1 + OTHERS);
        // The one that is cancelled is the oldest: the release's first wake is for it.
        sim.hold();
        drop(guard);
        cancel.cancel();
        sim.resume();
        assert_eq!(cancelled.join().unwrap(), Wake::Cancelled);
        others.into_iter().for_each(|w| assert_eq!(w.join().unwrap(), Wake::Released));
    });
}
