//! Ranges of page tables for a reader with a table of its own: what is told apart, what is brought
//! in, and that it ends. Nothing that was found is believed if an invalidation came between (I19's
//! other half: a reader that validates saw no half of a change); poison is an error and never a
//! wait (I25); a range that never keeps still, and a page that can never be brought in, end with an
//! error for everybody (I29, I37); whoever waits holds no lock (I38).

#![cfg(all(feature = "std", target_os = "linux", not(pagelock_loom)))]

mod common;

use common::machine::{DEVICE, FAR, Mm, RAM, check_all, exclusive, machine, move_one, written};
use common::own::{Own, within};
use common::{Lots, OnDrop, rounds, turns, watched};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::leaf::{Leaf, Marker, Rights, UnknownLeaf};
use pagelock::mm::drain::{ThreadCpus, Unlocked};
use pagelock::mm::migrate::{self, Abort, Outcome, Slot, collect};
use pagelock::mm::range::{
    self, Found, Notifier, Page, Progress, RangeErrorOf, RangeOrder as Order, Read, Stop, Want,
    fault_range, snapshot,
};
use pagelock::mm::{Entry, FaultError, Faulter, Strategy, Tiers};
use pagelock::{Cancel, Limits};
use pagelock_soft::{AccessError, At, Config, Kind, Soft, SpaceId, TierConfig, TierId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

type Pages = Vec<Page<At>>;

fn pages(at: At, count: usize, want: Want) -> Pages {
    at.pages(count).map(|at| Page::new(at, want)).collect()
}

fn no_limit<'c>() -> Order<'c, Mm> {
    Order::new(Limits::none())
}

fn notifier(mm: &'static Mm, space: SpaceId) -> &'static Notifier<Own> {
    mm.notifier(space).unwrap()
}

fn fault(
    mm: &'static Mm,
    pages: &mut Pages,
    order: &Order<'_, Mm>,
) -> Result<Read, RangeErrorOf<Mm>> {
    fault_range(mm, notifier(mm, pages[0].at.space), pages, order)
}

fn look(mm: &'static Mm, at: At, order: &Order<'_, Mm>) -> Found {
    let mut pages = pages(at, 1, Want::Write);
    let read = snapshot(mm, notifier(mm, at.space), &mut pages, order).unwrap();
    assert_eq!(read.progress, Progress { attempts: 1, ..Progress::default() });
    pages[0].found
}

/// A page whose lock is somebody else's for as long as `body` runs, in the device's memory.
fn with_stuck_page(body: impl FnOnce(&'static Mm, Own, At, u64)) {
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 3);
    assert!(move_one(mm, at.space.page(1), &migrate::Order::to(DEVICE)).is_done());
    let pfn = mm.frame_at(at.space.page(1)).unwrap();
    let guard = mm.page(pfn).unwrap().lock();
    let refs = mm.page(pfn).unwrap().refs();
    watched(&[mm.page(pfn).unwrap()], || body(mm, own, at, pfn));
    assert_eq!(mm.page(pfn).unwrap().refs(), refs);
    drop(guard);
    check_all(mm, at, 3);
    mm.audit().unwrap();
}

/// `hmm2.snapshot`, and what that has not: every kind of entry is told apart, and nothing is
/// faulted in or waited for.
#[test]
fn a_snapshot_tells_everything_apart() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 8);
    let p = |n| space.page(n);
    let own = no_limit().own(DEVICE);

    let Found::Local { pfn, rights: Rights::Write } = look(mm, p(0), &own) else { panic!() };
    assert_eq!(Some(pfn), mm.frame_at(p(0)));
    mm.protect(p(1), 1, Some(Rights::Read)).unwrap();
    assert!(matches!(look(mm, p(1), &own), Found::Local { rights: Rights::Read, .. }));
    mm.protect(p(2), 1, None).unwrap();
    assert_eq!(look(mm, p(2), &own), Found::Forbidden);
    mm.protect(p(2), 1, Some(Rights::Write)).unwrap();

    let Outcome::Moved { pfn } = move_one(mm, p(3), &migrate::Order::to(DEVICE)) else { panic!() };
    assert_eq!(look(mm, p(3), &own), Found::Own { pfn, rights: Rights::Write });
    assert_eq!(look(mm, p(3), &no_limit()), Found::Remote { pfn, rights: Rights::Write });
    assert_eq!(look(mm, p(3), &no_limit().own(FAR)), Found::Remote { pfn, rights: Rights::Write });
    let Outcome::Moved { pfn } = move_one(mm, p(4), &migrate::Order::to(FAR)) else { panic!() };
    assert_eq!(look(mm, p(4), &no_limit().own(FAR)), Found::Own { pfn, rights: Rights::Write });

    let pfn = exclusive(mm, p(5)).unwrap();
    assert_eq!(look(mm, p(5), &own), Found::Exclusive { pfn });
    let pfn = mm.frame_at(p(6)).unwrap();
    let mut slots = [Slot::at(p(6))];
    let order = migrate::Order::to(FAR);
    let unmapped = collect(mm, &mut slots, &order, unlocked).unmap();
    assert_eq!(look(mm, p(6), &own), Found::Migrating { pfn });
    drop(unmapped);

    mm.map(p(8), 8).unwrap();
    assert_eq!(look(mm, p(8), &own), Found::Hole);
    mm.read(p(9), 0, &mut [0]).unwrap();
    assert_eq!(look(mm, p(9), &own), Found::Zero);
    mm.replace(p(10), Leaf::Poison { pfn: 7 });
    assert_eq!(look(mm, p(10), &own), Found::Poisoned { pfn: 7 });
    mm.replace(p(11), Leaf::Marker(Marker::Guard));
    assert_eq!(look(mm, p(11), &own), Found::Marker(Marker::Guard));
    mm.replace(p(12), Leaf::Swap { slot: 9, tracking: Default::default() });
    assert_eq!(look(mm, p(12), &own), Found::Swapped { slot: 9 });
    mm.entry(p(13)).set_word(0xf);
    assert_eq!(look(mm, p(13), &own), Found::Unknown(UnknownLeaf { word: 0xf }));
    assert_eq!(look(mm, p(16), &own), Found::Forbidden);
    assert_eq!(look(mm, p(usize::MAX - 1), &own), Found::Forbidden);
    mm.entry(p(13)).set_word(0);
    check_all(mm, at, 1);
    mm.audit().unwrap();
}

/// Whatever it is, it is brought to where it can be read or written, and what is there already is
/// left alone.
#[test]
fn what_is_wanted_is_brought_in() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 6);
    let p = |n| space.page(n);
    mm.map(p(6), 4).unwrap();
    mm.read(p(7), 0, &mut [0]).unwrap();
    for n in [1, 2] {
        assert!(move_one(mm, p(n), &migrate::Order::to(DEVICE)).is_done());
    }
    exclusive(mm, p(3)).unwrap();
    let child = mm.fork(space).unwrap();

    let mut range = pages(at, 10, Want::Read);
    let read = fault(mm, &mut range, &no_limit().own(DEVICE)).unwrap();
    assert!(matches!(range[1].found, Found::Own { .. }), "it is where the reader can read it");
    assert_eq!((range[6].found, range[7].found), (Found::Zero, Found::Zero));
    // Fork has brought the exclusive page back; two holes were filled.
    assert_eq!(read.progress.faults, 3, "{range:?}");
    assert!(notifier(mm, space).is_good(read.ticket));

    let mut range = pages(at, 10, Want::Write);
    let read = fault(mm, &mut range, &no_limit()).unwrap();
    assert!(
        range.iter().all(|page| matches!(page.found, Found::Local { rights: Rights::Write, .. })),
        "{range:?}"
    );
    assert_eq!(read.progress.faults, 10);
    // Again: there is nothing to do.
    let again = fault(mm, &mut range, &no_limit()).unwrap();
    assert_eq!(again.progress, Progress { attempts: 1, ..Progress::default() });
    for (n, page) in range.iter().enumerate() {
        let Found::Local { pfn, .. } = page.found else { unreachable!() };
        assert_eq!((mm.tier(pfn), mm.frame_at(p(n))), (RAM, Some(pfn)));
    }
    check_all(mm, at, 6);
    check_all(mm, child.page(0), 6);
    mm.audit().unwrap();
}

/// A mixed range: what is not wanted is not touched, wherever it is.
#[test]
fn what_is_not_wanted_is_left_alone() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 4);
    mm.map(space.page(4), 2).unwrap();
    assert!(move_one(mm, space.page(1), &migrate::Order::to(DEVICE)).is_done());
    mm.replace(space.page(3), Leaf::Poison { pfn: 7 });
    let mut range = pages(at, 6, Want::Nothing);
    range[5].want = Want::Write;
    let read = fault(mm, &mut range, &no_limit()).unwrap();
    assert_eq!(read.progress.faults, 1);
    assert!(matches!(range[1].found, Found::Remote { .. }));
    assert_eq!((range[3].found, range[4].found), (Found::Poisoned { pfn: 7 }, Found::Hole));
    assert!(matches!(range[5].found, Found::Local { .. }));
}

/// Whatever cannot be had is an error with a type, names the page by what came before it, and what
/// came before stays brought in. None of them waits: not for the poisoned page's lock either, which
/// somebody has (I25).
#[test]
fn what_cannot_be_had_is_an_error_and_no_progress_is_lost() {
    type Spoil = fn(&'static Mm, At);
    let spoilers: [(&str, Spoil, Want, Stop<_, _>); 8] = [
        ("not mapped", |mm, at| mm.unmap(at, 1).unwrap(), Want::Read, Stop::NotAllowed),
        ("for no access", |mm, at| mm.protect(at, 1, None).unwrap(), Want::Read, Stop::NotAllowed),
        (
            "to read",
            |mm, at| mm.protect(at, 1, Some(Rights::Read)).unwrap(),
            Want::Write,
            Stop::NotAllowed,
        ),
        (
            "poison",
            |mm, at| mm.replace(at, Leaf::Poison { pfn: 7 }),
            Want::Read,
            Stop::Fault(FaultError::Poisoned { pfn: 7 }),
        ),
        (
            "marker",
            |mm, at| mm.replace(at, Leaf::Marker(Marker::Guard)),
            Want::Read,
            Stop::Unsettled(AccessError::Marker(Marker::Guard)),
        ),
        (
            "swap",
            |mm, at| mm.replace(at, Leaf::Swap { slot: 9, tracking: Default::default() }),
            Want::Read,
            Stop::Unsettled(AccessError::Swapped { slot: 9 }),
        ),
        (
            "unknown",
            |mm, at| {
                mm.discard(at, 1).unwrap();
                mm.entry(at).set_word(0xf);
            },
            Want::Read,
            Stop::Fault(FaultError::Unknown(UnknownLeaf { word: 0xf })),
        ),
        (
            "no memory",
            |mm, at| {
                mm.discard(at, 1).unwrap();
                mm.read(at, 0, &mut [0]).unwrap();
                mm.fail_allocations(RAM, 1);
            },
            Want::Write,
            Stop::Unsettled(AccessError::NoMemory),
        ),
    ];
    for (name, spoil, want, why) in spoilers {
        let (mm, _) = machine();
        let space = mm.spawn().unwrap();
        let at = written(mm, space, 4);
        for n in [0, 1, 3] {
            assert!(move_one(mm, space.page(n), &migrate::Order::to(DEVICE)).is_done());
        }
        spoil(mm, space.page(2));
        let mut range = pages(at, 4, want);
        if name == "no memory" {
            // It must not be used up by the pages before.
            for page in &mut range[..2] {
                page.want = Want::Nothing;
            }
        }
        let error = fault(mm, &mut range, &no_limit()).unwrap_err();
        assert_eq!((error.why, error.done), (why, 2), "{name}");
        if name != "no memory" {
            assert_eq!(error.progress.faults, 2, "{name}");
            assert!((0..2).all(|n| mm.tier(mm.frame_at(space.page(n)).unwrap()) == RAM), "{name}");
        }
        assert_eq!(mm.tier(mm.frame_at(space.page(3)).unwrap()), DEVICE, "{name}");
        assert!(!error.to_string().is_empty());
        if mm.entry(space.page(2)).get().is_err() {
            mm.entry(space.page(2)).set_word(0);
        }
        mm.audit().unwrap();
    }
}

/// A page that was lost while it was on the device: the same error for whoever asks, and whoever
/// asks again.
#[test]
fn a_lost_page_is_an_error_for_every_reader() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let Outcome::Moved { pfn } = move_one(mm, at, &migrate::Order::to(DEVICE)) else { panic!() };
    mm.set_lost(pfn, true);
    watched(&[mm.page(pfn).unwrap()], || {
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    let error = fault(mm, &mut pages(at, 1, Want::Read), &no_limit()).unwrap_err();
                    let is_typed = matches!(
                        error.why,
                        Stop::Fault(
                            FaultError::Poisoned { .. }
                                | FaultError::ToRam(Outcome::Poisoned | Outcome::Skipped(_))
                        )
                    );
                    assert!(is_typed, "{error:?}");
                });
            }
        });
    });
    let error = fault(mm, &mut pages(at, 1, Want::Read), &no_limit()).unwrap_err();
    assert_eq!(error.why, Stop::Fault(FaultError::Poisoned { pfn }));
}

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
    watched(&[], || {
        thread::scope(|s| {
            s.spawn(|| {
                while !stop.load(SeqCst) {
                    notifier.begin_raw();
                    notifier.end_raw();
                }
            });
            let _ends = OnDrop(|| stop.store(true, SeqCst));
            let began = Instant::now();
            let mut range = pages(at, 16, Want::Write);
            let error = fault(mm, &mut range, &Order::new(within(own, 50))).unwrap_err();
            assert_eq!((error.why, error.done), (Stop::TimedOut, 0), "nobody has looked");
            assert!(began.elapsed() >= Duration::from_millis(50));
        });
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
        let error = fault(mm, &mut range, &Order::new(limits).attempts(u32::MAX)).unwrap_err();
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
        let error =
            fault(mm, &mut pages(at, 1, Want::Read), &Order::new(within(own, 20))).unwrap_err();
        assert_eq!((error.why, error.done, error.progress.attempts), (Stop::TimedOut, 0, 1));
        let cancel = Cancel::with_futex(own);
        thread::scope(|s| {
            let reader = s.spawn(|| {
                let order = Order::new(Limits::none().unless(&cancel));
                fault(mm, &mut pages(at, 1, Want::Read), &order).unwrap_err().why
            });
            own.until_asleep(1);
            cancel.cancel();
            assert_eq!(reader.join().unwrap(), Stop::Cancelled);
        });
        // Cancelled before it begins.
        let order = Order::new(Limits::none().unless(&cancel));
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
    watched(&[], || {
        thread::scope(|s| {
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
    });
}

/// Within an attempt: a page of the range is somebody else's for good. The wait for it takes no
/// reference, holds no page-table lock (I38), and ends with the time; the page before it was
/// brought in, and is still.
#[test]
fn a_page_that_is_locked_for_good_is_not_waited_for_for_ever() {
    with_stuck_page(|mm, own, at, pfn| {
        let refs = mm.page(pfn).unwrap().refs();
        mm.discard(at, 1).unwrap();
        let began = Instant::now();
        let error =
            fault(mm, &mut pages(at, 3, Want::Write), &Order::new(within(own, 30))).unwrap_err();
        assert_eq!((error.why, error.done), (Stop::TimedOut, 1));
        assert_eq!(error.progress, Progress { attempts: 1, invalidated: 0, faults: 1 });
        assert!(began.elapsed() >= Duration::from_millis(30));

        // Nor by those who would sleep for the lock, if they were let.
        for strategy in [Strategy::WaitThenLock { after: 0 }, Strategy::ReferenceAndSleep] {
            let mut order = Order::new(within(own, 10));
            order.strategy = strategy;
            let error = fault(mm, &mut pages(at, 3, Want::Write), &order).unwrap_err();
            assert_eq!((error.why, error.done), (Stop::TimedOut, 1), "{strategy:?}");
        }

        let cancel = Cancel::with_futex(own);
        thread::scope(|s| {
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    s.spawn(|| {
                        let order = Order::new(Limits::none().unless(&cancel));
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
    let past = Order::new(within(own, 0));
    thread::sleep(Duration::from_millis(1));
    assert!(fault(mm, &mut pages(at, 2, Want::Write), &past).is_ok());
    let on = notifier(mm, at.space).begin();
    assert_eq!(fault(mm, &mut pages(at, 2, Want::Write), &past).unwrap_err().why, Stop::TimedOut);
    drop(on);
    with_stuck_page(|mm, own, at, _| {
        let error =
            fault(mm, &mut pages(at, 3, Want::Read), &Order::new(within(own, 0))).unwrap_err();
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
    watched(&[mm.page(pfn).unwrap()], || {
        thread::scope(|s| {
            for n in 0..6 {
                s.spawn(move || match n % 3 {
                    0 => {
                        let error =
                            fault(mm, &mut pages(at, 1, Want::Read), &no_limit().patience(20))
                                .unwrap_err();
                        assert!(
                            matches!(error.why, Stop::Fault(FaultError::Busy { .. })),
                            "{error:?}"
                        );
                    }
                    1 => {
                        let error =
                            fault(mm, &mut pages(at, 1, Want::Write), &Order::new(within(own, 50)))
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
    });
    // SAFETY: the reference taken above.
    unsafe { mm.put(pfn) };
    check_all(mm, at, 1);

    // The same where the memory says so itself.
    assert!(move_one(mm, at, &migrate::Order::to(DEVICE)).is_done());
    mm.fail_copies(RAM, usize::MAX);
    watched(&[], || {
        thread::scope(|s| {
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
    });
    mm.fail_copies(RAM, 0);
    check_all(mm, at, 1);
    mm.audit().unwrap();
}

/// Nothing, the same page twice, no patience, an address of nowhere.
#[test]
fn odd_ranges() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let notifier = notifier(mm, at.space);
    assert_eq!(fault_range(mm, notifier, &mut [], &no_limit()).unwrap().progress.attempts, 1);
    let mut twice = vec![Page::new(at, Want::Write), Page::new(at, Want::Read)];
    mm.discard(at, 1).unwrap();
    let read = fault(mm, &mut twice, &no_limit()).unwrap();
    assert_eq!(twice[0].found, twice[1].found);
    assert!(read.progress.faults >= 1);
    assert!(
        fault(mm, &mut pages(at, 1, Want::Write), &no_limit().patience(0)).is_ok(),
        "nothing to be patient about"
    );
    mm.discard(at, 1).unwrap();
    let error = fault(mm, &mut pages(at, 1, Want::Write), &no_limit().patience(0)).unwrap_err();
    assert_eq!(error.why, Stop::Fault(FaultError::Busy { rounds: 0 }));
    let nowhere = SpaceId(u32::MAX).page(0);
    assert!(mm.notifier(SpaceId(u32::MAX)).is_none());
    let mut range = vec![Page::new(nowhere, Want::Read)];
    let error = fault_range(mm, notifier, &mut range, &no_limit()).unwrap_err();
    assert_eq!((error.why, range[0].found), (Stop::NotAllowed, Found::Forbidden));
}

/// What the software memory manager announces, and what it does not.
#[test]
fn whatever_takes_something_away_is_announced() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 16);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    mm.on_invalidate(move |at, count| tell.lock().unwrap().push((at, count)));
    let notifier = notifier(mm, space);
    let p = |n| space.page(n);
    let announced = |what: &str, expected: &[(At, usize)], act: &dyn Fn()| {
        told.lock().unwrap().clear();
        let ticket = notifier.try_ticket().unwrap();
        act();
        assert_eq!(notifier.is_good(ticket), expected.is_empty(), "{what}");
        assert_eq!(*told.lock().unwrap(), expected, "{what}");
        assert_eq!(notifier.active(), 0, "{what}");
    };
    announced("map", &[], &|| mm.map(p(20), 4).unwrap());
    announced("read and write", &[], &|| {
        mm.read(p(20), 0, &mut [0]).unwrap();
        mm.write(p(21), 0, &[1]).unwrap();
        mm.write(p(0), 0, &[0]).unwrap();
    });
    announced("write to a page of zeroes", &[(p(20), 1)], &|| mm.write(p(20), 0, &[1]).unwrap());
    announced("protect", &[(p(0), 3)], &|| mm.protect(p(0), 3, Some(Rights::Read)).unwrap());
    announced("unmap", &[(p(20), 2)], &|| mm.unmap(p(20), 2).unwrap());
    announced("discard", &[(p(22), 2)], &|| mm.discard(p(22), 2).unwrap());
    announced("remap", &[(p(4), 2)], &|| mm.remap(p(4), p(40), 2, false).unwrap());
    announced("replace", &[(p(22), 1)], &|| mm.replace(p(22), Leaf::Marker(Marker::Guard)));
    announced("exclusive", &[(p(6), 1)], &|| {
        exclusive(mm, p(6)).unwrap();
    });
    // To look, and then to fill.
    announced("fill a hole by migration", &[(p(23), 1); 2], &|| {
        assert!(move_one(mm, p(23), &migrate::Order::to(DEVICE).filling_holes()).is_done());
    });
    told.lock().unwrap().clear();
    let ticket = notifier.try_ticket().unwrap();
    let child = mm.fork(space).unwrap();
    assert!(!notifier.is_good(ticket) && told.lock().unwrap().contains(&(p(7), 1)), "fork");
    announced("copy on write", &[(p(7), 1)], &|| mm.write(p(7), 0, &[0]).unwrap());
    // Through both mappings of a page, each in its space.
    told.lock().unwrap().clear();
    let (ticket, other) =
        (notifier.try_ticket().unwrap(), mm.notifier(child).unwrap().try_ticket().unwrap());
    assert!(move_one(mm, p(8), &migrate::Order::to(FAR)).is_done());
    assert!(!notifier.is_good(ticket) && !mm.notifier(child).unwrap().is_good(other), "migration");
    let told = told.lock().unwrap();
    assert!(told.contains(&(p(8), 1)) && told.contains(&(child.page(8), 1)), "{told:?}");
    let _ = at;
}

/// Two entries that are changed together, in one invalidation: a reader whose ticket is good never
/// sees one changed and the other not. Neither one that had looked at one of them when it began,
/// nor one that comes in the middle of it.
#[test]
fn a_good_ticket_never_goes_with_half_a_change() {
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    mm.map(space.page(0), 128).unwrap();
    let ends = [space.page(0), space.page(100)]; // two tables, of 64 entries each
    let change = |at: At, n: usize| {
        mm.entry(at).set_leaf(Leaf::Marker([Marker::Guard, Marker::Poison][n % 2]))
    };
    ends.into_iter().for_each(|at| change(at, 1));
    // Between the ends it asks for the time.
    let limits = within(own, 1 << 30);
    let asked: &AtomicUsize = Box::leak(Box::default());
    own.at_clock(|| _ = asked.fetch_add(1, SeqCst));
    let start = || {
        asked.store(0, SeqCst);
        thread::spawn(move || {
            let mut range = pages(ends[0], 101, Want::Nothing);
            let read = snapshot(mm, notifier(mm, space), &mut range, &Order::new(limits)).unwrap();
            assert_eq!(range[0].found, range[100].found, "half a change");
            read.progress.attempts
        })
    };
    watched(&[], || {
        for n in (0..rounds(20)).map(|n| 2 * n) {
            // It has seen the first end, and waits for the table of the second.
            let mut second = mm.entry(ends[1]);
            let reader = start();
            while asked.load(SeqCst) == 0 {
                thread::yield_now();
            }
            let on = notifier(mm, space).begin();
            second.set_leaf(Leaf::Marker(Marker::Guard));
            drop(second);
            change(ends[0], n);
            drop(on);
            assert_eq!(reader.join().expect("it saw no half"), 2, "it looked again");

            // It comes when one end has changed and the other has not, and waits for the end of
            // that.
            let on = notifier(mm, space).begin();
            change(ends[0], n + 1);
            let reader = start();
            own.until_asleep_or(1, || reader.is_finished());
            change(ends[1], n + 1);
            drop(on);
            assert_eq!(reader.join().expect("it saw no half"), 1);
        }
    });
}

/// `anon_read`, `anon_teardown`: a device with a table of its own reads pages while they are thrown
/// away, written anew, moved between three tiers, forked and copied. It never reads a frame that
/// was taken from the page: every page has its own number in it.
#[test]
fn a_device_never_reads_what_was_taken_away() {
    const PAGES: usize = 12;
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    let p = |n| space.page(n);
    let tag = |n: usize| [n as u8 + 1; 16];
    mm.map(p(0), PAGES).unwrap();
    for n in 0..PAGES {
        mm.write(p(n), 0, &tag(n)).unwrap();
    }
    let table: Arc<Mutex<BTreeMap<usize, u64>>> = Arc::default();
    let device = table.clone();
    mm.on_invalidate(move |at, count| {
        if at.space == space {
            device.lock().unwrap().retain(|page, _| !(at.page..at.page + count).contains(page));
        }
    });
    let notifier = notifier(mm, space);
    let stop = AtomicBool::new(false);
    let read = AtomicUsize::new(0);
    watched(&[], || {
        thread::scope(|s| {
            let changers: Vec<_> = (0..2)
                .map(|seed| {
                    s.spawn(move || {
                        let mut lots = Lots::of(seed);
                        for _ in turns(3_000) {
                            // The changers have pages of their own, so that each knows what to
                            // write.
                            let n = lots.draw(PAGES as u64 / 2) as usize * 2 + seed;
                            match lots.draw(5) {
                                0 => {
                                    mm.discard(p(n), 1).unwrap();
                                    // Whoever gets the frame next writes something else.
                                    mm.write(p(n), 0, &tag(n)).unwrap();
                                }
                                1 => drop(move_one(mm, p(n), &migrate::Order::to(DEVICE))),
                                2 => drop(move_one(mm, p(n), &migrate::Order::to(FAR))),
                                3 => {
                                    if let Ok(child) = mm.fork(space) {
                                        mm.write(p(n), 0, &tag(n)).unwrap();
                                        mm.write(child.page(n), 0, &[0xee; 16]).unwrap();
                                        mm.exit(child);
                                    }
                                }
                                _ => mm.write(p(n), 0, &tag(n)).unwrap(),
                            }
                        }
                    })
                })
                .collect();
            for seed in 2..4 {
                let (stop, read, table) = (&stop, &read, &table);
                s.spawn(move || {
                    let mut lots = Lots::of(seed);
                    while !stop.load(SeqCst) || read.load(SeqCst) == 0 {
                        let first = lots.draw(PAGES as u64 - 3) as usize;
                        let mut range = pages(p(first), 4, Want::Read);
                        let order = Order::new(within(own, 20)).own(DEVICE);
                        if let Ok(known) = fault(mm, &mut range, &order) {
                            let mut table = table.lock().unwrap();
                            if notifier.is_good(known.ticket) {
                                for (n, page) in range.iter().enumerate() {
                                    if let Found::Local { pfn, .. } | Found::Own { pfn, .. } =
                                        page.found
                                    {
                                        table.insert(first + n, pfn);
                                    }
                                }
                            }
                        }
                        for (&n, &pfn) in &*table.lock().unwrap() {
                            let mut bytes = [0; 16];
                            mm.read_frame(pfn, 0, &mut bytes);
                            // Zeroes: thrown away and not written yet, or not to the end.
                            assert!(
                                bytes.iter().all(|&byte| byte == 0 || byte == tag(n)[0]),
                                "page {n} in frame {pfn:#x} is {bytes:?}"
                            );
                            read.fetch_add(1, SeqCst);
                        }
                    }
                });
            }
            for changer in changers {
                changer.join().unwrap();
            }
            stop.store(true, SeqCst);
        });
    });
    for n in 0..PAGES {
        let mut bytes = [0; 16];
        mm.read(p(n), 0, &mut bytes).unwrap();
        assert_eq!(bytes, tag(n));
    }
    mm.audit().unwrap();
}

/// A range of a million pages of zeroes, and something outside of it.
fn million() -> (&'static Mm, Own, SpaceId, Vec<Page<At>>) {
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
    let error = snapshot(mm, notifier, &mut pages, &range::RangeOrder::new(limits)).unwrap_err();
    assert_eq!(error.why, Stop::Cancelled);
    assert!((1..=1024).contains(&error.done), "{} pages were looked at", error.done);
}

/// One page moves all the time, as often as the reader asks for the time, and is not one of those
/// that are read.
#[test]
fn a_reader_is_not_disturbed_by_what_happens_elsewhere() {
    let (mm, own, space, mut pages) = million();
    let n = pages.len();
    pages.truncate(n.min(1 << 14));
    let (notifier, log) = (mm.notifier(space).unwrap(), mm.log(space).unwrap());
    let moves = move |at| {
        for tier in [1, 0] {
            let order = migrate::Order::to(TierId(tier));
            assert_eq!(
                migrate::migrate(mm, &mut [Slot::at(at)], &order, mm, &mut Unlocked::promise())
                    .done,
                1
            );
        }
    };
    let order = range::RangeOrder::new(within(own, 1 << 30)).part(log, 0..n).attempts(1);
    let moved: &AtomicUsize = Box::leak(Box::default());
    own.at_clock(move || {
        moves(space.page(n));
        moved.fetch_add(1, SeqCst);
    });
    let read = snapshot(mm, notifier, &mut pages, &order).unwrap();
    own.at_clock(|| ());
    assert!(moved.load(SeqCst) > 0);
    let mut ticket = read.ticket;
    moves(space.page(n));
    assert!(!notifier.is_good(ticket) && log.keeps(notifier, &mut ticket, &(0..n)));
    // And one that is, does.
    mm.write(space.page(1), 0, &[1]).unwrap();
    let order = range::RangeOrder::new(Limits::none()).part(log, 0..n);
    let mut ticket = snapshot(mm, notifier, &mut pages, &order).unwrap().ticket;
    moves(space.page(1));
    assert!(!log.keeps(notifier, &mut ticket, &(0..n)));
}
