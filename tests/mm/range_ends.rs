//! A range that never keeps still, or a page that never comes in, ends with an error for everybody
//! (I29, I37); a waiter holds no lock (I38).

#![cfg(target_os = "linux")]

use crate::common::machine::{DEVICE, Mm, RAM, check_all, exclusive, machine, move_one, written};
use crate::common::own::{Own, within};
use crate::common::{OnDrop, watched, with_threads};
use crate::range::{Pages, fault, no_limit, notifier, pages, with_stuck_page};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::mm::drain::ThreadCpus;
use pagelock::mm::migrate::{self, Abort, Outcome};
use pagelock::mm::range::{Page, Progress, RangeOrder, Stop, Want, snapshot};
use pagelock::mm::{FaultError, Faulter, Strategy, Tiers};
use pagelock::{Cancel, Limits};
use pagelock_soft::{AccessError, At, Config, Kind, Soft, SpaceId, TierConfig};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// The range never keeps still: it ends at the deadline, and everything that was wanted is where it
/// was wanted.
#[test]
fn a_permanent_invalidator_ends_at_the_deadline_and_nothing_is_lost() {
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 16);
    for n in 0..16 {
        assert!(move_one(mm, at.space.page(n), &migrate::Order::to(DEVICE)).is_done());
    }
    let notifier = notifier(mm, at.space);
    let stop = AtomicBool::new(false);
    // One begins before the other ends: there is no ticket to be had.
    notifier.begin_raw();
    with_threads(&[], |s| {
        s.spawn(|| {
            while !stop.load(SeqCst) {
                notifier.begin_raw();
                notifier.end_raw();
            }
        });
        let _ends = OnDrop(|| stop.store(true, SeqCst));
        let began = Instant::now();
        let mut range = pages(at, 16, Want::Write);
        let error = fault(mm, &mut range, &RangeOrder::new(within(own, 50))).unwrap_err();
        assert_eq!((error.why, error.done), (Stop::TimedOut, 0), "nobody has looked");
        assert!(began.elapsed() >= Duration::from_millis(50));
    });
    notifier.end_raw();
    assert_eq!(notifier.active(), 0);
    let mm_invalidates = Arc::new(AtomicUsize::new(0));
    let count = mm_invalidates.clone();
    mm.on_invalidate(move |_, _| {
        count.fetch_add(1, SeqCst);
    });
    // Now one that leaves a gap each time, so that there are tickets, and none is good: in every
    // look, which asks for the time in the middle.
    let limits = within(own, 100);
    own.at_clock(move || drop(notifier.begin()));
    watched(&[], || {
        let mut range: Pages = (0..16).flat_map(|_| pages(at, 16, Want::Write)).collect();
        // As many attempts as there is time for, on a machine of any speed.
        let error = fault(mm, &mut range, &RangeOrder::new(limits).attempts(u32::MAX)).unwrap_err();
        assert_eq!(error.why, Stop::TimedOut, "{error}");
        assert!(error.progress.invalidated > 0, "{error}");
    });
    own.at_clock(|| ());
    assert!(
        mm_invalidates.load(SeqCst) >= 16,
        "bringing back is an invalidation of the device's entry"
    );
    assert!(
        (0..16).all(|n| mm.tier(mm.frame_at(at.space.page(n)).unwrap()) == RAM),
        "what was brought in has stayed"
    );
    check_all(mm, at, 16);
    mm.audit().unwrap();
}

/// Without a deadline the attempts are counted. The range changes in every attempt,
/// deterministically: the page wanted last is taken away again whenever it was brought in.
#[test]
fn attempts_are_counted() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    let away = at.space.page(1);
    mm.on_revoke(move |_| {
        // The fault ends the exclusive access under the page's lock; the notifier needs no lock.
        mm.notifier(at.space).unwrap().begin_raw();
        mm.notifier(at.space).unwrap().end_raw();
    });
    let mut range = pages(at, 2, Want::Write);
    for attempts in [1, 2] {
        exclusive(mm, away).unwrap();
        let result = fault(mm, &mut range, &no_limit().attempts(attempts));
        match attempts {
            1 => {
                let error = result.unwrap_err();
                assert_eq!((error.why, error.done), (Stop::Attempts, 2));
                assert_eq!(error.progress, Progress { attempts: 1, invalidated: 0, faults: 1 });
            }
            _ => assert_eq!(
                result.unwrap().progress,
                Progress { attempts: 2, invalidated: 0, faults: 1 }
            ),
        }
    }
    // None is one.
    assert!(fault(mm, &mut range, &no_limit().attempts(0)).is_ok());
    mm.audit().unwrap();
}

/// An invalidation that is never over: the wait for it ends with the time, or with a cancellation
/// while it sleeps.
#[test]
fn an_invalidation_that_is_never_over_is_not_waited_for_for_ever() {
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let notifier = notifier(mm, at.space);
    let _on = notifier.begin();
    watched(&[], || {
        let error = fault(mm, &mut pages(at, 1, Want::Read), &RangeOrder::new(within(own, 20)))
            .unwrap_err();
        assert_eq!((error.why, error.done, error.progress.attempts), (Stop::TimedOut, 0, 1));
        let cancel = Cancel::with_futex(own);
        thread::scope(|s| {
            let reader = s.spawn(|| {
                let order = RangeOrder::new(Limits::none().unless(&cancel));
                fault(mm, &mut pages(at, 1, Want::Read), &order).unwrap_err().why
            });
            own.until_asleep(1);
            cancel.cancel();
            assert_eq!(reader.join().unwrap(), Stop::Cancelled);
        });
        // Cancelled before it begins.
        let order = RangeOrder::new(Limits::none().unless(&cancel));
        assert_eq!(
            fault(mm, &mut pages(at, 1, Want::Read), &order).unwrap_err().why,
            Stop::Cancelled
        );
    });
}

/// A reader sleeps until the last of several invalidations is over, and is woken by that.
#[test]
fn a_reader_is_woken_by_the_end_of_the_last_invalidation() {
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let notifier = notifier(mm, at.space);
    let (first, second) = (notifier.begin(), notifier.begin());
    with_threads(&[], |s| {
        let readers: Vec<_> = (0..3)
            .map(|_| s.spawn(|| fault(mm, &mut pages(at, 1, Want::Read), &no_limit()).unwrap()))
            .collect();
        own.until_asleep(3);
        drop(first);
        own.until_asleep(3);
        drop(second);
        for reader in readers {
            assert!(notifier.is_good(reader.join().unwrap().ticket));
        }
    });
}

/// Within an attempt: another thread owns a page of the range for good. The wait for it takes no
/// reference, holds no page-table lock (I38), and ends with the time; the page before it was
/// brought in, and is still.
#[test]
fn a_page_that_is_locked_for_good_is_not_waited_for_for_ever() {
    with_stuck_page(|mm, own, at, pfn| {
        let refs = mm.page(pfn).unwrap().refs();
        mm.discard(at, 1).unwrap();
        let began = Instant::now();
        let error = fault(mm, &mut pages(at, 3, Want::Write), &RangeOrder::new(within(own, 30)))
            .unwrap_err();
        assert_eq!((error.why, error.done), (Stop::TimedOut, 1));
        assert_eq!(error.progress, Progress { attempts: 1, invalidated: 0, faults: 1 });
        assert!(began.elapsed() >= Duration::from_millis(30));

        // Nor by strategies that would sleep for the lock, if they could.
        for strategy in [Strategy::WaitThenLock { after: 0 }, Strategy::ReferenceAndSleep] {
            let mut order = RangeOrder::new(within(own, 10));
            order.strategy = strategy;
            let error = fault(mm, &mut pages(at, 3, Want::Write), &order).unwrap_err();
            assert_eq!((error.why, error.done), (Stop::TimedOut, 1), "{strategy:?}");
        }

        let cancel = Cancel::with_futex(own);
        thread::scope(|s| {
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    s.spawn(|| {
                        let order = RangeOrder::new(Limits::none().unless(&cancel));
                        fault(mm, &mut pages(at, 3, Want::Write), &order).unwrap_err()
                    })
                })
                .collect();
            own.until_asleep(4);
            assert_eq!(mm.page(pfn).unwrap().refs(), refs, "waiters have no references (I9)");
            for at in at.pages(3) {
                drop(mm.entry(at));
            }
            assert!(notifier(mm, at.space).active() == 0);
            cancel.cancel();
            for reader in readers {
                let error = reader.join().unwrap();
                assert_eq!((error.why, error.done), (Stop::Cancelled, 1));
            }
        });
        mm.write(at, 8, &core::array::from_fn::<u8, 32, _>(|i| i as u8)).unwrap();
    });
}

/// A deadline in the past does not matter where there is nothing to wait for, and is at once where
/// there is.
#[test]
fn a_deadline_in_the_past() {
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    let past = RangeOrder::new(within(own, 0));
    thread::sleep(Duration::from_millis(1));
    assert!(fault(mm, &mut pages(at, 2, Want::Write), &past).is_ok());
    let on = notifier(mm, at.space).begin();
    assert_eq!(fault(mm, &mut pages(at, 2, Want::Write), &past).unwrap_err().why, Stop::TimedOut);
    drop(on);
    with_stuck_page(|mm, own, at, _| {
        let error =
            fault(mm, &mut pages(at, 3, Want::Read), &RangeOrder::new(within(own, 0))).unwrap_err();
        assert_eq!((error.why, error.done), (Stop::TimedOut, 1));
    });
}

/// A migration that always fails, with the device page referred to for good: an error for every
/// faulter and every reader (I37). Those with patience lose it; those with a deadline come to it.
#[test]
fn a_migration_that_always_fails_is_an_error_for_everybody() {
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let Outcome::Moved { pfn } = move_one(mm, at, &migrate::Order::to(DEVICE)) else { panic!() };
    mm.get(pfn).unwrap();
    with_threads(&[mm.page(pfn).unwrap()], |s| {
        for n in 0..6 {
            s.spawn(move || match n % 3 {
                0 => {
                    let error = fault(mm, &mut pages(at, 1, Want::Read), &no_limit().patience(20))
                        .unwrap_err();
                    assert!(matches!(error.why, Stop::Fault(FaultError::Busy { .. })), "{error:?}");
                }
                1 => {
                    let error = fault(
                        mm,
                        &mut pages(at, 1, Want::Write),
                        &RangeOrder::new(within(own, 50)),
                    )
                    .unwrap_err();
                    assert_eq!(error.why, Stop::TimedOut);
                }
                _ => {
                    let mut faulter = Faulter::new(Strategy::Wait).patience(20);
                    let error = mm.read_with(at, 0, &mut [0], &mut faulter).unwrap_err();
                    assert!(matches!(error, AccessError::Busy { rounds: 20 }), "{error:?}");
                }
            });
        }
    });
    // SAFETY: the reference taken above.
    unsafe { mm.put(pfn) };
    check_all(mm, at, 1);

    // The same where the memory says so itself.
    assert!(move_one(mm, at, &migrate::Order::to(DEVICE)).is_done());
    mm.fail_copies(RAM, usize::MAX);
    with_threads(&[], |s| {
        for _ in 0..4 {
            s.spawn(|| {
                let error = fault(mm, &mut pages(at, 1, Want::Read), &no_limit()).unwrap_err();
                assert_eq!(
                    error.why,
                    Stop::Fault(FaultError::ToRam(Outcome::Aborted(Abort::CopyFailed)))
                );
            });
        }
    });
    mm.fail_copies(RAM, 0);
    check_all(mm, at, 1);
    mm.audit().unwrap();
}

/// A range of a million pages of zeroes, and something outside of it.
pub(crate) fn million() -> (&'static Mm, Own, SpaceId, Vec<Page<At>>) {
    const LOG: u32 = if cfg!(miri) { 10 } else { 20 };
    let n = 1_usize << LOG;
    let tier = |kind| TierConfig { kind, frames: 64 };
    let tiers = vec![tier(Kind::System), tier(Kind::Device { owner: 1 })];
    let own = Own::new(64);
    let config = Config { page_size: 8, pages: n + 64, spaces: 1, batches: 0, tiers };
    let mm: &'static Mm = Box::leak(Box::new(Soft::on(own, ThreadCpus, config)));
    let space = mm.spawn().unwrap();
    mm.map(space.page(0), n + 64).unwrap();
    mm.write(space.page(n), 0, &[1]).unwrap();
    (mm, own, space, space.page(0).pages(n).map(|at| Page::new(at, Want::Nothing)).collect())
}

/// The limits end a look, and not the looks between two: what is late is late by some dozens of
/// pages.
#[test]
fn a_look_ends_at_its_deadline() {
    let (mm, own, space, mut pages) = million();
    let notifier = mm.notifier(space).unwrap();
    let cancel = Cancel::with_futex(own);
    cancel.cancel();
    let limits = Limits::none().unless(&cancel);
    let error = snapshot(mm, notifier, &mut pages, &RangeOrder::new(limits)).unwrap_err();
    assert_eq!(error.why, Stop::Cancelled);
    assert!((1..=1024).contains(&error.done), "{} pages were looked at", error.done);
}
