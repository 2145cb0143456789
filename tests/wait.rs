//! Release, then sleep: the wait that holds neither the page-table lock (PTL) nor a reference (I5
//! to I7, I9, I10, I24, I27, I34, I35; failure classes L1, L6, L7, L10, L14).
//!
//! The value passed as `ptl` is dropped between registering and sleeping, so a test that acts in
//! its drop acts at exactly that point, without a second thread.

#![cfg(not(pagelock_loom))]

mod common;

use common::own::Own;
use common::sim::{Call, Sim, at, script};
use common::{OnDrop, Ptl, rounds, watched};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::{MonotonicTime, Sleep};
use pagelock::{
    Cancel, Claim, FreezeRule, Futex, Limits, Migration, OsFutex, PageGuard, PageLock, Wait, Wake,
};
use std::sync::Barrier;
use std::thread;

type Page<const CLASSES: bool = false> = PageLock<Sim<CLASSES>>;

fn page_on<const CLASSES: bool>(sim: Sim<CLASSES>) -> &'static Page<CLASSES> {
    Box::leak(Box::new(PageLock::with_futex(sim)))
}

fn text(page: &impl core::fmt::Debug) -> String {
    format!("{page:?}")
}

/// Every form of the wait.
#[derive(Clone, Copy, Debug)]
enum Form {
    Unlocked,
    Migration,
    UnlockedFor,
    MigrationUntil,
    UnlockedCancellable,
    MigrationCancellable,
    With,
}

const FORMS: [Form; 7] = [
    Form::Unlocked,
    Form::Migration,
    Form::UnlockedFor,
    Form::MigrationUntil,
    Form::UnlockedCancellable,
    Form::MigrationCancellable,
    Form::With,
];

impl Form {
    /// Waits, with an hour to go and a switch that is not thrown where there are such things.
    fn wait<G>(self, page: &Page, ptl: G, cancel: &Cancel<Sim>) -> Wake {
        let hour = Duration::from_secs(3600);
        match self {
            Self::Unlocked => page.wait_unlocked(ptl),
            Self::Migration => page.wait_migration(ptl),
            Self::UnlockedFor => page.wait_unlocked_for(ptl, hour),
            Self::MigrationUntil => page
                .wait_with(ptl, Wait::migration().within(Limits::none().until(MonotonicTime::MAX))),
            Self::UnlockedCancellable => {
                page.wait_with(ptl, Wait::unlocked().within(Limits::none().unless(cancel)))
            }
            Self::MigrationCancellable => {
                page.wait_with(ptl, Wait::migration().within(Limits::none().unless(cancel)))
            }
            Self::With => page.wait_with(
                ptl,
                Wait::unlocked().within(Limits::none().until(MonotonicTime::MAX).unless(cancel)),
            ),
        }
    }
}

#[test]
fn the_ptl_is_dropped_once_when_there_is_nothing_to_wait_for() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
        for form in FORMS {
            let (ptl, before) = (Ptl::new(), text(page));
            assert_eq!(form.wait(page, ptl.hold(), &cancel), Wake::NotLocked, "{form:?}");
            assert_eq!(ptl.drops(), 1, "{form:?}");
            assert_eq!(text(page), before, "{form:?}");
        }
        assert_eq!(sim.slept(), 0);
    });
}

#[test]
fn the_ptl_is_dropped_once_when_the_page_is_poisoned_and_nobody_sleeps() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
        page.lock().poison();
        for owned in [false, true] {
            let guard = owned.then(|| page.lock().begin_migration());
            for form in FORMS {
                let ptl = Ptl::new();
                assert_eq!(form.wait(page, ptl.hold(), &cancel), Wake::Poisoned, "{form:?}");
                assert_eq!(ptl.drops(), 1, "{form:?}");
            }
            drop(guard);
        }
        assert_eq!(sim.slept(), 0);
    });
}

#[test]
fn the_ptl_is_dropped_once_when_the_wait_is_cancelled_before_it_begins() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
        cancel.cancel();
        let _migration = page.lock().begin_migration();
        for form in [Form::UnlockedCancellable, Form::MigrationCancellable, Form::With] {
            let (ptl, before) = (Ptl::new(), text(page));
            assert_eq!(form.wait(page, ptl.hold(), &cancel), Wake::Cancelled, "{form:?}");
            assert_eq!(ptl.drops(), 1, "{form:?}");
            assert_eq!(text(page), before, "{form:?}");
        }
        assert_eq!(sim.slept(), 0);
    });
}

#[test]
fn the_ptl_is_dropped_once_when_the_deadline_has_passed_before_the_call() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        sim.advance(Duration::from_nanos(7));
        let _migration = page.lock().begin_migration();
        for wait in [Wait::unlocked(), Wait::migration()] {
            let (ptl, before) = (Ptl::new(), text(page));
            let late = page.wait_with(ptl.hold(), wait.within(Limits::none().until(at(5))));
            assert_eq!(late, Wake::TimedOut);
            assert_eq!(ptl.drops(), 1);
            assert_eq!(text(page), before, "nothing else changed");
        }
        let ptl = Ptl::new();
        assert_eq!(page.wait_unlocked_for(ptl.hold(), Duration::ZERO), Wake::TimedOut);
        assert_eq!(ptl.drops(), 1);
        assert_eq!(sim.slept(), 0);
    });
}

#[test]
fn a_deadline_that_has_passed_is_no_error_if_there_is_nothing_to_wait_for() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        sim.advance(Duration::from_nanos(7));
        assert_eq!(
            page.wait_with((), Wait::unlocked().within(Limits::none().until(at(5)))),
            Wake::NotLocked
        );
        let guard = page.lock();
        assert_eq!(
            page.wait_with((), Wait::migration().within(Limits::none().until(at(5)))),
            Wake::NotLocked
        );
        guard.poison();
        assert_eq!(
            page.wait_with((), Wait::unlocked().within(Limits::none().until(at(5)))),
            Wake::Poisoned
        );
    });
}

#[test]
fn the_ptl_is_dropped_before_any_sleep_and_only_once() {
    for form in FORMS {
        let sim = Sim::new(1);
        let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
        let ptl: &'static Ptl = Box::leak(Box::default());
        watched(&[page], || {
            thread::scope(|s| {
                let migration = page.lock().begin_migration();
                sim.at_sleep(|| assert!(!ptl.is_held(), "asleep with the page-table lock"));
                let waiter = s.spawn(|| form.wait(page, ptl.hold(), &cancel));
                sim.until_asleep(1);
                assert_eq!(ptl.drops(), 1, "{form:?}");
                migration.abort();
                assert_eq!(waiter.join().unwrap(), Wake::Released, "{form:?}");
                assert_eq!(ptl.drops(), 1, "{form:?}");
            });
        });
    }
}

#[test]
fn the_waiter_has_registered_when_the_ptl_is_dropped() {
    let sim = Sim::new(1);
    let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
    for form in FORMS {
        let mut migration = Some(page.lock().begin_migration());
        // The owner releases right here, without ever having taken the PTL.
        let ptl = OnDrop(|| {
            assert!(text(page).contains("awaited"), "{form:?}: {page:?}");
            let released = migration.take().unwrap().abort();
            assert!(released.event_waiters, "{form:?}");
        });
        let wake = watched(&[page], || form.wait(page, ptl, &cancel));
        assert_eq!(wake, Wake::Released, "{form:?}");
    }
    assert_eq!(sim.slept(), 0, "the release was seen before any sleep");
}

/// The owner may release at any moment while the waiter registers, for it need not hold the PTL.
/// The moments here are those at which the waiter asks for its event slot, whatever it has read or
/// written by then.
#[test]
fn a_release_while_the_waiter_registers_is_not_lost() {
    for moment in 0..4 {
        let sim = Sim::new(1);
        let page = page_on(sim);
        watched(&[page], || {
            thread::scope(|s| {
                page.lock().into_raw();
                let released: &'static AtomicBool = Box::leak(Box::default());
                let release = move || {
                    // SAFETY: the hold was made raw above, and is released once: by the hook, or
                    // below if that is not run.
                    unsafe { PageGuard::from_raw(page) }.unlock();
                    released.store(true, SeqCst);
                };
                sim.at_later_event(moment, release);
                let waiter = s.spawn(|| page.wait_unlocked(()));
                while !waiter.is_finished() && sim.asleep() == 0 {
                    thread::yield_now();
                }
                if released.load(SeqCst) {
                    assert_eq!(sim.asleep(), 0, "asleep on a free page (moment {moment})");
                    assert!(moment > 0 || sim.slept() == 0);
                } else {
                    sim.at_later_event(usize::MAX, || {});
                    release();
                }
                assert_ne!(waiter.join().unwrap(), Wake::TimedOut);
            });
        });
    }
}

/// As above, and somebody else owns the page by the time the waiter looks: then it is that one's
/// release that counts.
#[test]
fn a_release_and_another_hold_while_the_waiter_registers_are_waited_for() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            page.lock().into_raw();
            sim.at_event(move || {
                // SAFETY: the hold was made raw above, and this runs once.
                unsafe { PageGuard::from_raw(page) }.unlock();
                page.lock().into_raw();
            });
            let waiter = s.spawn(|| page.wait_unlocked(()));
            sim.until_asleep(1);
            // SAFETY: the hold that the hook has made.
            unsafe { PageGuard::from_raw(page) }.unlock();
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        });
    });
}

#[test]
fn a_panic_in_the_ptl_goes_on_and_costs_one_needless_wake() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let guard = page.lock();
        let said = common::panic_of(|| {
            _ = page.wait_unlocked(OnDrop(|| panic!("from the page-table lock")))
        });
        assert_eq!(said, "from the page-table lock");
        assert!(guard.unlock().event_waiters);
        assert!(!page.lock().unlock().event_waiters);
    });
}

#[test]
fn the_next_hold_has_to_be_waited_for_anew() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let waiter = s
                .spawn(|| [page.wait_unlocked(()), page.wait_unlocked(()), page.wait_unlocked(())]);
            sim.until_asleep(1);
            let mut guard = Some(guard);
            for _ in 0..2 {
                sim.hold();
                assert!(
                    guard.take().unwrap().unlock().event_waiters,
                    "the flag is set for every wait"
                );
                // Before the waiter runs there is another owner, as after a migration at once by
                // the next.
                guard = page.try_lock();
                assert!(!text(page).contains("awaited"), "the flag is for one release: {page:?}");
                sim.resume();
                sim.until_asleep(1);
            }
            drop(guard);
            assert_eq!(waiter.join().unwrap(), [Wake::Released; 3]);
        });
    });
}

#[test]
fn a_wait_for_migration_ignores_other_holds() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let guard = page.lock();
        let before = text(page);
        assert_eq!(page.wait_migration(()), Wake::NotLocked);
        assert_eq!(text(page), before, "the owner has nobody to tell");
        let migration = guard.begin_migration();
        assert!(page.is_migrating());
        let guard = migration.cancel();
        assert!(!page.is_migrating());
        assert_eq!(page.wait_migration(()), Wake::NotLocked);
        drop(guard);
    });
}

/// `cancel` ends a migration and keeps the lock, perhaps for long. Whoever waits for the migration
/// does not wait for that.
#[test]
fn a_wait_for_migration_ends_with_the_migration_and_not_with_the_hold() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let migration = page.lock().begin_migration();
            s.spawn(|| page.wait_migration(()));
            sim.until_asleep(1);
            let guard = migration.cancel();
            let asleep = sim.asleep();
            drop(guard);
            assert_eq!(asleep, 0, "the migration is over and they are asleep");
        });
    });
}

#[test]
fn a_page_that_is_kept_for_a_sleeper_is_waited_for_until_its_next_release() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let sleeper = s.spawn(|| page.lock().unlock().event_waiters);
            sim.until_asleep(1);
            sim.hold();
            guard.unlock_fair();
            let waiter = s.spawn(|| page.wait_unlocked(()));
            sim.until_asleep(1);
            sim.resume();
            assert!(sleeper.join().unwrap(), "the sleeper has somebody to tell");
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        });
    });
}

/// Ends a migration in one of the ways there are.
type End = fn(Migration<'_, Sim<true>>);

const ENDS: [(&str, End); 9] = [
    ("committed in place", |m| _ = m.freeze(FreezeRule::ExactRefs(1)).unwrap().commit_in_place()),
    ("committed to another header", |m| {
        let dst = PageLock::with_futex(Sim::with_classes(1));
        _ = m.freeze(FreezeRule::ExactRefs(1)).unwrap().commit_to(dst.lock()).unwrap();
    }),
    ("aborted", |m| _ = m.abort()),
    ("aborted when frozen", |m| _ = m.freeze(FreezeRule::Unpinned).unwrap().abort()),
    ("refused and dropped", |m| drop(m.freeze(FreezeRule::ExactRefs(7)).unwrap_err())),
    ("dropped", |m| drop(m)),
    ("dropped when frozen", |m| drop(m.freeze(FreezeRule::Unpinned).unwrap())),
    ("cancelled and unlocked", |m| drop(m.cancel())),
    ("poisoned", |m| _ = m.poison()),
];

#[test]
fn however_a_migration_ends_it_wakes_the_same_set() {
    for (how, end) in ENDS {
        for sleepers in [1, 2, 8, 20] {
            let sim = Sim::with_classes(1);
            let page = page_on(sim);
            page.activate(1).unwrap();
            watched(&[page], || {
                thread::scope(|s| {
                    let migration = page.lock().begin_migration();
                    let waiters: Vec<_> = (0..sleepers)
                        .map(|n| {
                            s.spawn(move || {
                                if n % 2 == 0 {
                                    page.wait_migration(())
                                } else {
                                    page.wait_unlocked(())
                                }
                            })
                        })
                        .collect();
                    sim.until_asleep(sleepers);
                    end(migration);
                    for waiter in waiters {
                        assert_eq!(waiter.join().unwrap(), Wake::Released, "{how}");
                    }
                });
            });
            assert!(
                !page.is_locked() && !page.is_migrating() && !page.is_frozen(),
                "{how}: {page:?}"
            );
        }
    }
}

fn all_come_back<const CLASSES: bool>(own: Own<CLASSES>, sleepers: usize) {
    let page = PageLock::with_futex(own);
    watched(&[&page], || {
        thread::scope(|s| {
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
    });
}

#[test]
fn one_sleeper_comes_back() {
    all_come_back(Own::new(1), 1);
    all_come_back(Own::without_classes(1), 1);
}

#[test]
fn two_sleepers_come_back() {
    all_come_back(Own::new(1), 2);
    all_come_back(Own::without_classes(1), 2);
}

#[test]
fn eight_sleepers_come_back() {
    all_come_back(Own::new(1), 8);
    all_come_back(Own::without_classes(1), 8);
}

#[test]
fn sixty_four_sleepers_come_back() {
    all_come_back(Own::new(1), 64);
    all_come_back(Own::without_classes(1), 64);
}

#[test]
fn two_hundred_and_fifty_six_sleepers_come_back() {
    all_come_back(Own::new(1), 256);
    all_come_back(Own::without_classes(1), 256);
}

#[test]
fn the_releaser_wakes_a_few_and_those_wake_the_rest() {
    const SLEEPERS: usize = 100;
    let sim = Sim::with_classes(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
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
    watched(&[page], || {
        thread::scope(|s| {
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
            assert_eq!(
                sim.asleep(),
                SLEEPERS,
                "the newer ones wait for the release that is theirs"
            );
            drop(guard);
            for waiter in new {
                assert_eq!(waiter.join().unwrap(), Wake::Released);
            }
        });
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
    watched(&[&pages], || {
        thread::scope(|s| {
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
            // Somebody unrelated keeps the slot busy.
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
    });
    assert_eq!(back.into_inner(), PAGES * WAITERS);
}

#[test]
fn colliding_headers_of_the_default_platform_get_their_waiters_back() {
    let pages: Vec<PageLock> = (0..2048).map(|_| PageLock::new()).collect();
    let slot = |page: &PageLock| OsFutex.event_index(core::ptr::from_ref(page).addr());
    let colliding: Vec<_> = pages.iter().filter(|p| slot(p) == slot(&pages[0])).take(4).collect();
    assert_eq!(colliding.len(), 4, "2048 pages on {} slots", OsFutex.events());
    watched(&[&colliding], || {
        thread::scope(|s| {
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
    });
}

#[test]
fn sleepers_hold_neither_reference_nor_pin_at_any_moment() {
    const SLEEPERS: usize = 16;
    let page = PageLock::with_futex(Own::new(1));
    page.activate(3).unwrap();
    let (over, start) = (AtomicBool::new(false), Barrier::new(2));
    watched(&[&page], || {
        thread::scope(|s| {
            let sampler = s.spawn(|| {
                start.wait();
                let mut samples = 0u64;
                while samples == 0 || !over.load(SeqCst) {
                    assert_eq!((page.refs(), page.pins(), page.is_frozen()), (3, 0, false));
                    samples += 1;
                    if samples % 50 == 0 {
                        thread::yield_now();
                    }
                }
                samples
            });
            let waiters: Vec<_> = (0..SLEEPERS)
                .map(|_| {
                    s.spawn(|| {
                        while !over.load(SeqCst) {
                            if page.wait_unlocked(()) == Wake::NotLocked {
                                thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            start.wait();
            for _ in 0..rounds(100) {
                let guard = page.lock();
                thread::yield_now();
                drop(guard);
            }
            over.store(true, SeqCst);
            waiters.into_iter().for_each(|w| w.join().unwrap());
            assert!(sampler.join().unwrap() > 0);
        });
    });
}

#[test]
fn a_migration_is_frozen_with_sixty_four_sleepers_on_it() {
    const SLEEPERS: usize = 64;
    let own = Own::new(1);
    let page = PageLock::with_futex(own);
    page.activate(2).unwrap();
    watched(&[&page], || {
        thread::scope(|s| {
            let migration = page.lock().begin_migration();
            let waiters: Vec<_> = (0..SLEEPERS)
                .map(|n| {
                    let page = &page;
                    s.spawn(move || {
                        if n % 2 == 0 { page.wait_unlocked(()) } else { page.wait_migration(()) }
                    })
                })
                .collect();
            own.until_asleep(SLEEPERS);
            let frozen =
                migration.freeze(FreezeRule::ExactRefs(2)).expect("sleepers hold no reference");
            frozen.commit_in_place();
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Wake::Released);
            }
        });
    });
    assert_eq!((page.refs(), page.pins()), (2, 0));
}

/// A pointer to a header that is somebody else's to free.
#[derive(Clone, Copy)]
struct Borrowed<F: Futex>(*const PageLock<F>);

// SAFETY: the tests that use it free the header only when they may.
unsafe impl<F: Futex + Send> Send for Borrowed<F> {}

impl<F: Futex> Borrowed<F> {
    /// Waits, and signals through `ptl` when it has registered.
    ///
    /// # Safety
    ///
    /// The header is alive until `ptl` is dropped.
    unsafe fn wait_unlocked<G>(self, ptl: G) -> Wake {
        // SAFETY: the caller's promise; after the drop of `ptl` the wait does not touch the page,
        // which is what is tested.
        unsafe { &*self.0 }.wait_unlocked(ptl)
    }

    /// # Safety
    ///
    /// It was a Box's, and nobody touches it any more.
    unsafe fn free(self) {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(self.0.cast_mut()) });
    }
}

#[test]
fn the_header_may_be_freed_while_sleepers_return() {
    const SLEEPERS: usize = 8;
    let own = Own::new(1);
    watched(&[], || {
        for _ in 0..rounds(100) {
            let page: *mut PageLock<Own> = Box::into_raw(Box::new(PageLock::with_futex(own)));
            let registered = AtomicUsize::new(0);
            // SAFETY: freed at the end of the round only.
            let guard = unsafe { &*page }.lock();
            thread::scope(|s| {
                for _ in 0..SLEEPERS {
                    let (page, registered) = (Borrowed(page), &registered);
                    s.spawn(move || {
                        let ptl = OnDrop(|| _ = registered.fetch_add(1, SeqCst));
                        // SAFETY: the header is freed once all have registered.
                        assert_eq!(unsafe { page.wait_unlocked(ptl) }, Wake::Released);
                    });
                }
                while registered.load(SeqCst) < SLEEPERS {
                    thread::yield_now();
                }
                drop(guard);
                // SAFETY: it is a Box's, the guard is gone, and those who sleep do not touch it.
                drop(unsafe { Box::from_raw(page) });
            });
        }
    });
}

/// A header in a memory page of its own, which can be made inaccessible.
#[cfg(all(target_os = "linux", not(miri)))]
mod guarded {
    use super::*;

    pub(super) struct Header<F: Futex>(pub(super) *mut PageLock<F>);

    const SIZE: usize = 4096;

    impl<F: Futex> Header<F> {
        pub(super) fn new(futex: F) -> Self {
            // SAFETY: a fresh private mapping; nothing else is affected.
            let at = unsafe {
                libc::mmap(
                    core::ptr::null_mut(),
                    SIZE,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            assert_ne!(at, libc::MAP_FAILED);
            let page = at.cast::<PageLock<F>>();
            // SAFETY: the mapping is writable, large enough and aligned.
            unsafe { page.write(PageLock::with_futex(futex)) };
            Self(page)
        }

        /// From now on any access is a fault.
        pub(super) fn forbid(at: *mut PageLock<F>) {
            // SAFETY: changes the protection of the mapping that `new` made.
            assert_eq!(unsafe { libc::mprotect(at.cast(), SIZE, libc::PROT_NONE) }, 0);
        }
    }
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_sleeper_does_not_touch_the_header_after_it_dropped_the_ptl() {
    let own = Own::new(1);
    let page = guarded::Header::new(own).0;
    watched(&[], || {
        // SAFETY: it is accessible until `forbid`.
        let guard = unsafe { &*page }.lock();
        thread::scope(|s| {
            let borrowed = Borrowed(page);
            // SAFETY: it is accessible until all have registered.
            let waiters: Vec<_> =
                (0..4).map(|_| s.spawn(move || unsafe { borrowed.wait_unlocked(()) })).collect();
            own.until_asleep(4);
            drop(guard);
            guarded::Header::forbid(page);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Wake::Released);
            }
        });
    });
}

/// A waiter registers, and the header goes away in the very drop of the PTL.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn not_even_when_the_header_goes_with_the_ptl() {
    watched(&[], || {
        let own = Own::new(1);
        for timed in [false, true] {
            let page = guarded::Header::new(own).0;
            // SAFETY: it is accessible until `forbid`.
            let header = unsafe { &*page };
            let mut held = Some(header.lock());
            let ptl = OnDrop(|| {
                drop(held.take());
                guarded::Header::forbid(page);
            });
            let wake = if timed {
                header.wait_unlocked_for(ptl, Duration::from_secs(20))
            } else {
                header.wait_unlocked(ptl)
            };
            assert_eq!(wake, Wake::Released);
        }
    });
}

/// Once the page is released it may be somebody else's, or gone: a release wakes by address.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_release_does_not_touch_the_header_after_it_let_go() {
    type Release = fn(PageGuard<'_, Sim>);
    const RELEASES: [Release; 6] = [
        |guard| drop(guard),
        |guard| _ = guard.unlock(),
        |guard| _ = guard.unlock_fair(),
        |guard| _ = guard.poison(),
        |guard| _ = guard.begin_migration().abort(),
        |guard| _ = guard.begin_migration().freeze(FreezeRule::Unpinned).unwrap().commit_in_place(),
    ];
    for release in RELEASES {
        let sim = Sim::new(1);
        let at = guarded::Header::new(sim).0;
        // SAFETY: it is accessible until `forbid`.
        let page = unsafe { &*at };
        watched(&[], || {
            thread::scope(|s| {
                let guard = page.lock();
                let waiter = s.spawn(|| page.wait_unlocked(()));
                sim.until_asleep(1);
                let borrowed = at.addr();
                sim.at_wake(move || {
                    guarded::Header::<Sim>::forbid(core::ptr::with_exposed_provenance_mut(borrowed))
                });
                release(guard);
                assert_eq!(waiter.join().unwrap(), Wake::Released);
            });
        });
    }
}

/// As `a_release_does_not_touch_the_header_after_it_let_go`, but the header is freed, for a
/// sanitizer to see. Not for Miri: this platform is a plain field of the header, and that may not
/// go while a function has a reference to it.
#[test]
#[cfg(not(miri))]
fn the_header_may_be_freed_before_anybody_is_woken() {
    let sim = Sim::new(1);
    let page = Box::into_raw(Box::new(PageLock::with_futex(sim)));
    watched(&[], || {
        thread::scope(|s| {
            // SAFETY: freed when the guard has let go and the waiter is asleep.
            let guard = unsafe { &*page }.lock();
            let borrowed = Borrowed(page);
            // SAFETY: as above.
            let waiter = s.spawn(move || unsafe { borrowed.wait_unlocked(()) });
            sim.until_asleep(1);
            let freed = Borrowed(page);
            // SAFETY: the release has let go of the page, and the waiter has registered and sleeps.
            sim.at_wake(move || unsafe { freed.free() });
            drop(guard);
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        });
    });
}

#[test]
fn a_release_tells_the_platform_which_page_it_was() {
    let sim = Sim::new(1);
    let (a, b) = (page_on(sim), page_on(sim));
    drop(a.lock());
    assert_eq!(sim.calls(), [], "nobody waits");
    for page in [a, b] {
        let guard = page.lock();
        assert!(matches!(page.claim(), Claim::InFlight));
        drop(guard);
        assert_eq!(sim.calls()[0], Call::Tell { page: core::ptr::from_ref(page).addr() });
    }
}

#[test]
fn a_platform_that_spins_waits_as_well() {
    let page = PageLock::with_futex(pagelock::futex::SpinFutex);
    watched(&[&page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let waiter = s.spawn(|| page.wait_unlocked(()));
            while !text(&page).contains("awaited") {
                thread::yield_now();
            }
            drop(guard);
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        });
    });
}
