//! A sleeping locker gets the page: how often it can be overtaken, what a promise is, and what is left of it when the locker
//! gives up (I3, I4, I5, I27, I33, I39).
//!
//! Most of this runs on a simulated platform, where a woken sleeper runs when the test says so. That is the moment that matters:
//! the page is released, the sleeper is on its way, and somebody else tries to be faster.

#![cfg(not(pagelock_loom))]

mod common;

use common::own::Own;
use common::sim::{Call, Sim, script};
use common::{OnDrop, Ptl, Unprotected, rounds, watched};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::Sleep;
use pagelock::{BYPASS_BOUND, Claim, LockError, MAX_SLEEPERS, PageGuard, PageLock, Wake};
use std::sync::{Barrier, Mutex, mpsc};
use std::thread;

type Page = PageLock<Sim>;
type Guard<'a> = PageGuard<'a, Sim>;

fn page_on(sim: Sim) -> &'static Page {
    Box::leak(Box::new(PageLock::with_futex(sim)))
}

fn is_promised(page: &Page) -> bool {
    format!("{page:?}").contains("promised")
}

/// The owner releases, the sleeper is woken, and before it runs the page is taken again.
fn overtake<'a>(sim: Sim, guard: Guard<'a>) -> Guard<'a> {
    let (page, asleep) = (guard.page(), sim.asleep());
    sim.hold();
    drop(guard);
    let again = page.try_lock().expect("nothing is promised yet");
    sim.resume();
    sim.until_asleep(asleep);
    again
}

/// Overtakes until the page is promised.
fn starve<'a>(sim: Sim, mut guard: Guard<'a>) -> Guard<'a> {
    let mut overtaken = 0;
    while !is_promised(guard.page()) {
        guard = overtake(sim, guard);
        overtaken += 1;
        assert!(overtaken <= BYPASS_BOUND * sim.asleep() as u32, "{:?}", guard.page());
    }
    guard
}

/// The page is free of owners, sleepers and promises, and works.
fn is_idle(page: &Page) {
    let text = format!("{page:?}");
    assert!(text.starts_with("PageLock { free, generation "), "{text}");
    drop(page.try_lock().expect("a free page can be taken"));
}

#[test]
fn a_sleeper_is_overtaken_at_most_so_often_as_promised() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
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
            sim.resume();
            sleeper.join().unwrap();
        });
        is_idle(page);
    });
}

#[test]
fn a_promised_page_is_taken_for_newcomers() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
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
        is_idle(page);
    });
}

/// The page is released and on its way to a starved sleeper, whose wake takes a moment. Whoever comes now and locks it by `lock` is later.
fn queues_behind_a_promise(lock: impl FnOnce(&'static Page) -> Guard<'static> + Send) {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let order = Mutex::new(Vec::new());
    watched(&[page], || {
        thread::scope(|s| {
            let order = &order;
            let own = move |who: &'static str, guard: Guard<'_>| {
                order.lock().unwrap().push(who);
                drop(guard);
            };
            let guard = page.lock();
            s.spawn(move || own("starved", page.lock()));
            sim.until_asleep(1);
            let guard = starve(sim, guard);
            sim.hold();
            drop(guard);
            s.spawn(move || own("later", lock(page)));
            while sim.asleep() == 0 && order.lock().unwrap().is_empty() {
                thread::yield_now();
            }
            sim.resume();
        });
        is_idle(page);
    });
    assert_eq!(order.into_inner().unwrap(), ["starved", "later"]);
}

#[test]
fn a_newcomer_that_locks_a_promised_page_queues() {
    queues_behind_a_promise(|page| page.lock());
}

#[test]
fn a_promise_covers_those_who_slept_before() {
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
                    // While others are promised the page, it cannot be taken in between.
                    sim.hold();
                    drop(guard);
                    let left = 3 - turns.load(SeqCst);
                    assert!(left == 0 || page.try_lock().is_none(), "{left} were promised the page before this: {page:?}");
                    sim.resume();
                });
                sim.until_asleep(n);
            }
            let guard = starve(sim, guard);
            assert!(format!("{page:?}").contains("3 sleepers, 3 handoffs promised"), "{page:?}");
            drop(guard);
        });
        assert_eq!(turns.load(SeqCst), 3);
        is_idle(page);
    });
}

/// A promise is to those who sleep when it is made. A newcomer that registers afterwards and whose sleep ends early, because
/// somebody else changed the word, is not one of them.
#[test]
fn a_newcomer_whose_sleep_ends_early_does_not_take_what_is_promised() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let order = Mutex::new(Vec::new());
    watched(&[page], || {
        thread::scope(|s| {
            let order = &order;
            let own = move |who: &'static str| {
                let guard = page.lock();
                order.lock().unwrap().push(who);
                drop(guard);
            };
            let guard = page.lock();
            s.spawn(move || own("starved"));
            sim.until_asleep(1);
            let guard = starve(sim, guard);
            sim.hold();
            drop(guard); // The starved sleeper is woken and will run in a moment.
            sim.at_sleep(move || assert!(matches!(page.claim(), Claim::InFlight))); // A fault, just then.
            s.spawn(move || own("newcomer"));
            while sim.asleep() == 0 && order.lock().unwrap().is_empty() {
                thread::yield_now();
            }
            sim.resume();
        });
    });
    assert_eq!(order.into_inner().unwrap(), ["starved", "newcomer"]);
}

/// As above; the newcomer is interrupted, by a signal for instance.
#[test]
fn a_newcomer_that_is_interrupted_does_not_take_what_is_promised() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let order = Mutex::new(Vec::new());
    watched(&[page], || {
        thread::scope(|s| {
            let order = &order;
            let own = move |who: &'static str| {
                let guard = page.lock();
                order.lock().unwrap().push(who);
                drop(guard);
            };
            let guard = page.lock();
            s.spawn(move || own("starved"));
            sim.until_asleep(1);
            let guard = starve(sim, guard);
            sim.hold();
            drop(guard);
            s.spawn(move || {
                script([Sleep::Interrupted]);
                own("newcomer");
            });
            while sim.asleep() == 0 && order.lock().unwrap().is_empty() {
                thread::yield_now();
            }
            sim.resume();
        });
    });
    assert_eq!(order.into_inner().unwrap(), ["starved", "newcomer"]);
}

#[test]
fn a_greedy_thread_cannot_keep_a_sleeper_out() {
    let page = PageLock::with_futex(Own::new(1));
    let (mut counter, start, stop) = (Unprotected::new(), Barrier::new(3), AtomicBool::new(false));
    let turns = rounds(300);
    watched(&[&page], || {
        thread::scope(|s| {
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
            for _ in 0..turns {
                drop(page.lock());
            }
            stop.store(true, SeqCst);
        });
    });
    assert!(counter.get() >= 2);
    assert!(!page.is_locked(), "{page:?}");
}

#[test]
fn a_fair_release_hands_the_page_to_the_sleeper() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let sleeper = s.spawn(|| page.lock().page().generation());
            sim.until_asleep(1);
            sim.hold();
            guard.unlock_fair();
            let released = page.generation();
            assert!(page.is_locked() && page.try_lock().is_none(), "the releaser cannot be faster: {page:?}");
            sim.resume();
            assert_eq!(sleeper.join().unwrap(), released);
        });
        is_idle(page);
    });
}

/// The sleeper has been woken and has lost the page to a newcomer, which then releases it fairly. There is nobody left to wake, and
/// still the page is the sleeper's, not the next newcomer's.
#[test]
fn a_fair_release_hands_the_page_to_a_sleeper_that_is_awake_already() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let order = Mutex::new(Vec::new());
    watched(&[page], || {
        thread::scope(|s| {
            let order = &order;
            let own = move |who: &'static str| {
                let guard = page.lock();
                order.lock().unwrap().push(who);
                drop(guard);
            };
            let guard = page.lock();
            s.spawn(move || own("sleeper"));
            sim.until_asleep(1);
            sim.hold();
            drop(guard);
            page.try_lock().expect("nothing is promised yet").unlock_fair();
            assert!(page.is_locked() && page.try_lock().is_none(), "{page:?}");
            s.spawn(move || own("newcomer"));
            while sim.asleep() == 0 && order.lock().unwrap().is_empty() {
                thread::yield_now();
            }
            sim.resume();
        });
        is_idle(page);
    });
    assert_eq!(order.into_inner().unwrap(), ["sleeper", "newcomer"]);
}

#[test]
fn a_fair_release_with_nobody_asleep_is_a_release() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let released = page.lock().unlock_fair();
        assert!(!released.event_waiters);
        is_idle(page);
        assert_eq!(sim.calls(), [], "nobody to wake");
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
        }
        assert_eq!(sim.calls(), []);
        assert_eq!(sim.slept(), 0);
    });
}

#[test]
fn a_release_wakes_one_locker() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            (0..3).for_each(|_| drop(s.spawn(|| drop(page.lock()))));
            sim.until_asleep(3);
            sim.hold();
            drop(guard);
            assert_eq!(sim.asleep(), 2);
            assert!(matches!(sim.calls()[..], [Call::WakeOne { word }] if !sim.is_event(word)));
            sim.resume();
        });
        is_idle(page);
    });
}

#[test]
fn a_starved_locker_that_times_out_undoes_its_promise() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let sleeper = s.spawn(|| page.try_lock_until(1000).map(drop));
            sim.until_asleep(1);
            let guard = starve(sim, guard);
            sim.advance(Duration::from_nanos(1000));
            assert_eq!(sleeper.join().unwrap(), Err(LockError::TimedOut));
            assert!(!is_promised(page), "{page:?}");
            drop(guard);
        });
        is_idle(page);
    });
}

/// The page is released to a sleeper that is just giving up, so nobody owns it and no release will come.
#[test]
fn a_promise_that_nobody_is_left_to_keep_frees_the_page_and_tells_its_waiters() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let sleeper = s.spawn(|| page.try_lock_until(1000).map(drop));
            sim.until_asleep(1);
            let guard = starve(sim, guard);
            sim.hold();
            sim.advance(Duration::from_nanos(1000)); // It will find out in a moment.
            drop(guard);
            assert!(page.try_lock().is_none(), "promised: {page:?}");
            assert!(matches!(page.claim(), Claim::InFlight));
            let waiter = s.spawn(|| page.wait_unlocked(()));
            sim.until_asleep(1);
            sim.resume();
            assert_eq!(sleeper.join().unwrap(), Err(LockError::TimedOut));
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        });
        is_idle(page);
    });
}

#[test]
fn a_starved_locker_that_gives_up_leaves_the_page_to_the_others() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let timed = s.spawn(|| page.try_lock_until(1000).map(drop));
            sim.until_asleep(1);
            let patient = s.spawn(|| drop(page.lock()));
            sim.until_asleep(2);
            let guard = starve(sim, guard);
            sim.hold();
            drop(guard);
            sim.advance(Duration::from_nanos(1000));
            sim.resume();
            let _ = timed.join().unwrap();
            patient.join().unwrap();
        });
        is_idle(page);
    });
}

/// A wake is for one locker. If that one gives up, it is the next one's (I4; the kernel lost it here).
#[test]
fn a_locker_that_gives_up_passes_on_the_wake_it_was_given() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            // The platform will report the deadline although the wake went to this one.
            let gives_up = s.spawn(|| page.try_lock_until(1000).map(drop));
            sim.until_asleep(1);
            let patient = s.spawn(|| drop(page.lock()));
            sim.until_asleep(2);
            sim.hold();
            sim.end_oldest(Sleep::TimedOut);
            sim.steal_next_wake();
            drop(guard);
            assert_eq!(sim.asleep(), 1, "the other one sleeps, and the page is free");
            sim.resume();
            assert_eq!(gives_up.join().unwrap(), Err(LockError::TimedOut));
            patient.join().unwrap();
        });
        is_idle(page);
    });
}

/// The same, where the page was taken again in between, by somebody who saw no need to wake anyone.
#[test]
fn a_locker_that_gives_up_leaves_the_wake_to_the_next_release() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let gives_up = s.spawn(|| page.try_lock_until(1000).map(drop));
            sim.until_asleep(1);
            let patient = s.spawn(|| drop(page.lock()));
            sim.until_asleep(2);
            sim.hold();
            sim.end_oldest(Sleep::TimedOut);
            sim.steal_next_wake();
            drop(guard);
            let newcomer = page.try_lock().unwrap();
            sim.resume();
            assert_eq!(gives_up.join().unwrap(), Err(LockError::TimedOut));
            assert_eq!(sim.asleep(), 1);
            drop(newcomer);
            patient.join().unwrap();
        });
        is_idle(page);
    });
}

/// A page that nobody else sleeps for, and whose release has told the waiters already: who gives up has nobody to disturb.
#[test]
fn a_locker_that_gives_up_alone_disturbs_nobody() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let gives_up = s.spawn(|| page.try_lock_until(1000).map(drop));
            sim.until_asleep(1);
            let waiter = s.spawn(|| page.wait_unlocked(()));
            sim.until_asleep(2);
            sim.hold();
            sim.end_oldest(Sleep::TimedOut);
            drop(guard);
            assert!(sim.calls().iter().any(|c| matches!(c, Call::Tell { .. })), "that was the release");
            sim.resume();
            assert_eq!(gives_up.join().unwrap(), Err(LockError::TimedOut));
            assert_eq!(waiter.join().unwrap(), Wake::Released);
            assert_eq!(sim.calls(), []);
        });
        is_idle(page);
    });
}

/// Two are promised the page, and one gives up: the page is as taken as before, so nothing has happened that waiters wait for.
#[test]
fn a_locker_that_gives_up_does_not_tell_of_a_page_that_is_promised_to_another() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let gives_up = s.spawn(|| page.lock_releasing_until((), 1000).map(drop));
            sim.until_asleep(1);
            let patient = s.spawn(|| drop(page.lock_releasing(())));
            sim.until_asleep(2);
            sim.hold();
            sim.end_oldest(Sleep::TimedOut);
            drop(guard); // Wakes the other one.
            let waiter = s.spawn(|| page.wait_unlocked(()));
            sim.until_asleep(1);
            sim.calls();
            // Those who run from here on: the one that gives up. The other's wake is held until that is over.
            let calls = {
                let text = || format!("{page:?}");
                assert!(text().contains("promised, 2 sleepers, 2 handoffs promised, awaited"), "{}", text());
                sim.resume_oldest();
                assert_eq!(gives_up.join().unwrap(), Err(LockError::TimedOut));
                assert!(text().contains("promised, 1 sleepers, 1 handoffs promised, awaited"), "{}", text());
                sim.calls()
            };
            assert!(!calls.iter().any(|c| matches!(c, Call::Tell { .. })), "{calls:?}");
            sim.resume();
            patient.join().unwrap();
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        });
        is_idle(page);
    });
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
fn lock_releasing_is_promised_the_page_before_the_ptl_is_dropped() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let mut held = Some(page.lock());
        // The owner releases at the earliest moment, and a newcomer tries to be next.
        let ptl = OnDrop(|| {
            assert!(is_promised(page), "{page:?}");
            drop(held.take());
            assert!(page.try_lock().is_none(), "{page:?}");
        });
        watched(&[page], || drop(page.lock_releasing(ptl)));
        is_idle(page);
    });
}

#[test]
fn lock_releasing_is_not_overtaken_while_it_sleeps() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let faulter = s.spawn(|| drop(page.lock_releasing(())));
            sim.until_asleep(1);
            sim.hold();
            drop(guard);
            assert!(page.try_lock().is_none(), "{page:?}");
            sim.resume();
            faulter.join().unwrap();
        });
        is_idle(page);
    });
}

/// The page is promised to somebody else already when `lock_releasing` is called. The promise that it makes for itself comes after
/// that one, and before all newcomers.
#[test]
fn lock_releasing_is_not_overtaken_while_others_are_promised_the_page() {
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
            sim.hold();
            drop(guard);
            // The starved one becomes the owner; whoever is woken from then on takes a while to run.
            sim.at_wake(move || sim.hold());
            sim.resume();
            owned.recv().unwrap();
            release.send(()).unwrap();
            owned.recv().unwrap();
            let overtaken = page.try_lock().is_some();
            sim.resume();
            faulter.join().unwrap();
            assert!(!overtaken, "by a newcomer");
        });
        is_idle(page);
    });
}

/// To be starved from the start is no reason to be faster than a sleeper that was promised the page.
#[test]
fn lock_releasing_does_not_overtake_a_sleeper_that_is_on_its_way() {
    queues_behind_a_promise(|page| page.lock_releasing(()));
}

/// Promises that are renewed again and again never run out, and until they have the crowd is not told. Who does not stand in it yet
/// stands behind it.
#[test]
fn lock_releasing_does_not_renew_promises_while_there_is_a_crowd() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let order = Mutex::new(Vec::new());
    watched(&[page], || {
        thread::scope(|s| {
            let order = &order;
            let own = move |who: &'static str, guard: Guard<'_>| {
                order.lock().unwrap().push(who);
                drop(guard);
            };
            let guard = page.lock();
            s.spawn(move || own("promised", page.lock_releasing(())));
            sim.until_asleep(1);
            s.spawn(move || own("crowd", page.lock()));
            sim.until_asleep(2);
            assert!(format!("{page:?}").contains("1 sleepers, 1 handoffs promised, crowded"), "{page:?}");
            s.spawn(move || own("later", page.lock_releasing(())));
            sim.until_asleep(3);
            assert!(format!("{page:?}").contains("1 sleepers, 1 handoffs promised, crowded"), "{page:?}");
            drop(guard);
        });
        is_idle(page);
    });
    let order = order.into_inner().unwrap();
    assert_eq!((order[0], order.len()), ("promised", 3), "{order:?}");
}

/// Two that come later keep the page between them: each registers while the other has it, and takes it before the sleeper that was woken
/// runs. Once that one runs it closes the queue, and is the next, and the third has to wait.
#[test]
fn a_promised_sleeper_that_is_overtaken_closes_the_queue() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let order = Mutex::new(Vec::new());
    watched(&[page], || {
        thread::scope(|s| {
            let order = &order;
            let own = move |who: &'static str, guard: Guard<'_>| {
                order.lock().unwrap().push(who);
                drop(guard);
            };
            let mut guard = page.lock();
            s.spawn(move || own("first", page.lock_releasing(())));
            sim.until_asleep(1);
            sim.hold();
            for _ in 0..2 {
                guard = page.lock_releasing(guard); // The first is woken when this is dropped.
                assert!(format!("{page:?}").contains("1 sleepers, 1 handoffs promised"), "{page:?}");
            }
            sim.resume();
            sim.until_asleep(1);
            assert!(format!("{page:?}").contains("1 sleepers, 1 handoffs promised, crowded"), "{page:?}");
            s.spawn(move || own("later", page.lock_releasing(())));
            sim.until_asleep(2);
            assert!(format!("{page:?}").contains("1 sleepers, 1 handoffs promised, crowded"), "{page:?}");
            drop(guard);
        });
        is_idle(page);
    });
    assert_eq!(order.into_inner().unwrap(), ["first", "later"]);
}

#[test]
fn a_panic_in_the_ptl_of_lock_releasing_leaves_nothing_behind() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let guard = page.lock();
        let said = common::panic_of(|| drop(page.lock_releasing(OnDrop(|| panic!("from the page-table lock")))));
        assert_eq!(said, "from the page-table lock");
        assert!(!is_promised(page), "{page:?}");
        drop(guard);
        is_idle(page);
        let said = common::panic_of(|| drop(page.lock_releasing(OnDrop(|| panic!("again, with the page free")))));
        assert_eq!(said, "again, with the page free");
        is_idle(page);
    });
}

/// Somebody stands in the crowd until a promise to another has been kept, is told, and finds the page taken.
fn a_loss_in_the_crowd_counts(lock: impl FnOnce(&'static Page) + Send) {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let (owns, owned) = mpsc::channel();
    let (release, released) = mpsc::channel();
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            s.spawn(move || {
                let guard = page.lock_releasing(());
                owns.send(()).unwrap();
                released.recv().unwrap();
                drop(guard);
                owns.send(()).unwrap();
            });
            sim.until_asleep(1);
            let crowd = s.spawn(move || lock(page));
            sim.until_asleep(2);
            assert!(format!("{page:?}").contains("1 sleepers, 1 handoffs promised, crowded"), "{page:?}");
            drop(guard);
            owned.recv().unwrap();
            // Told and too late: the first loss. It sleeps for the lock now, as others do.
            sim.until_asleep(1);
            assert_eq!(page.sleepers(), 1);
            if BYPASS_BOUND > 1 {
                sim.hold();
                release.send(()).unwrap();
                owned.recv().unwrap();
                let mut guard = page.try_lock().expect("nothing is promised yet");
                sim.resume();
                sim.until_asleep(1);
                for _ in 0..BYPASS_BOUND.saturating_sub(2) {
                    assert!(!is_promised(page), "{page:?}");
                    guard = overtake(sim, guard);
                }
                assert!(is_promised(page), "{page:?}");
                drop(guard);
            } else {
                assert!(is_promised(page), "{page:?}");
                release.send(()).unwrap();
                owned.recv().unwrap();
            }
            crowd.join().unwrap();
        });
        is_idle(page);
    });
}

#[test]
fn to_be_told_in_the_crowd_and_to_be_late_is_to_be_overtaken() {
    a_loss_in_the_crowd_counts(|page| drop(page.lock()));
}

#[test]
fn to_be_told_in_the_crowd_and_to_be_late_is_to_be_overtaken_with_a_deadline_too() {
    a_loss_in_the_crowd_counts(|page| drop(page.try_lock_until(1).unwrap()));
}

#[test]
fn more_lockers_than_can_be_counted_all_get_the_page() {
    const LOCKERS: usize = MAX_SLEEPERS as usize + 45;
    let lockers = if cfg!(miri) { 3 } else { LOCKERS };
    let own = Own::new(1);
    let page = PageLock::with_futex(own);
    let mut counter = Unprotected::new();
    watched(&[&page], || {
        thread::scope(|s| {
            let guard = page.lock();
            for n in 0..lockers {
                let locker = || {
                    let _guard = page.lock();
                    // SAFETY: under the page's lock.
                    unsafe { counter.add_one() };
                };
                let name = format!("locker {n}");
                thread::Builder::new().name(name).stack_size(64 << 10).spawn_scoped(s, locker).unwrap();
            }
            own.until_asleep(lockers);
            let counted = format!("{} sleepers", lockers.min(MAX_SLEEPERS as usize));
            assert!(format!("{page:?}").contains(&counted), "{page:?}");
            drop(guard);
        });
    });
    assert_eq!(counter.get(), lockers as u64);
    let left = format!("{page:?}");
    assert!(left.starts_with("PageLock { free, generation "), "{left}");
}
