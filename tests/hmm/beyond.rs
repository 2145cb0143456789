//! Tests that Linux does not have, and that would have found the bug with which this crate began:
//! many faulters of one page, the sleepers of a migration that fails, and a sleeper that is called
//! off. (The fourth is in [`mixed`](super::mixed).) Each runs with what was wrong as well, and has
//! to notice.

use crate::common::{
    hmm_soft::{DEVICES, Fixture},
    machine::{Mm, RAM},
    with_threads,
};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect};
use pagelock::mm::{Access, Fault, Faulter, Strategy, Why};
use pagelock::{Cancel, PagePin, PinError};
use pagelock_soft::{AccessError, At, SpaceId};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

/// How many spins in a row are taken for a thread that would spin for ever.
const SPINS: u32 = 1_000;

/// What one access came to.
#[derive(Clone, Copy, Default, Debug)]
struct Toll {
    /// Faults that were to be repeated at once.
    spins: u32,
    /// Sleeps.
    waits: u32,
}

/// Accesses a page until it is there. `spins` counts along, for others to see.
fn touch(mm: &Mm, at: At, strategy: Strategy, spins: &AtomicU32) -> Toll {
    let mut faulter = Faulter::new(strategy);
    let mut toll = Toll::default();
    loop {
        match mm.fault(at, Access::Read, &mut faulter).unwrap() {
            Fault::Retry(Why::Locked) => {
                toll.spins += 1;
                spins.fetch_add(1, SeqCst);
                thread::yield_now();
            }
            Fault::Retry(_) => {}
            _ => return Toll { waits: faulter.waits(), ..toll },
        }
    }
}

// ---- one page, many faulters

struct Crowd {
    /// How often a thread began to move the page.
    moves: usize,
    tolls: Vec<Toll>,
}

const CROWD: usize = 8;

/// As many threads as that touch one page in a device's memory, through one mapping or each through
/// its own. The one that owns the page goes on when all others have run into it.
fn crowd(strategy: Strategy, mappings: usize) -> Crowd {
    let f = Fixture::unbatched();
    let mut b = f.written(1);
    let spaces: Vec<SpaceId> =
        (1..mappings).map(|_| f.mm.fork(f.space).unwrap()).chain([f.space]).collect();
    assert_eq!(b.migrate_to(f.device()), Ok(1));
    let (moves, spins) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU32::new(0)));
    let (own, counted, spun) = (f.own, Arc::clone(&moves), Arc::clone(&spins));
    f.mm.on_prepare(move |_| {
        if counted.fetch_add(1, SeqCst) == 0 {
            // The page is locked, its entries are up.
            match strategy {
                Strategy::TryAndRetry => {
                    while spun.load(SeqCst) < SPINS {
                        thread::yield_now();
                    }
                }
                _ => own.until_asleep(CROWD - 1),
            }
        }
    });
    let page = f.mm.page(f.mm.frame_at(b.at).unwrap()).unwrap();
    let tolls = with_threads(&[page], |s| {
        let threads: Vec<_> = (0..CROWD)
            .map(|i| {
                let (at, mm, spins) = (spaces[i % spaces.len()].page(0), f.mm, &spins);
                s.spawn(move || touch(mm, at, strategy, spins))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    f.mm.on_prepare(|_| ());
    for space in spaces {
        b.of(space).expect(|i| i);
        if space != f.space {
            f.mm.exit(space);
        }
    }
    let moves = moves.load(SeqCst);
    f.close();
    Crowd { moves, tolls }
}

/// Many threads fault on one page: it is moved once, at the first try, by one of them, whatever the
/// number of the others; they sleep meanwhile, once, and spin not at all.
///
/// Seen to fail: [`Strategy::ReferenceAndSleep`], whose sleepers have references, fails that first
/// try, and the losers of [`Strategy::TryAndRetry`] spin for as long as the move takes; both are in
/// the test. With the wait taken out of the fault path the owner waits in vain for the others to be
/// asleep.
#[test]
fn many_threads_fault_on_one_device_page() {
    for mappings in [1, 4] {
        for strategy in [Strategy::Wait, Strategy::WaitThenLock { after: 3 }] {
            let crowd = crowd(strategy, mappings);
            assert_eq!(crowd.moves, 1, "{strategy:?}: a sleeper has made the move fail");
            for toll in crowd.tolls {
                assert!(toll.spins == 0 && toll.waits <= 2, "{strategy:?}: {toll:?}");
            }
        }
        let wrong = crowd(Strategy::ReferenceAndSleep, mappings);
        assert!(
            wrong.moves > 1,
            "sleepers with references have not made the move fail, so this test would not notice"
        );
        let wrong = crowd(Strategy::TryAndRetry, mappings);
        assert!(wrong.tolls.iter().map(|toll| toll.spins).sum::<u32>() >= SPINS);
    }
}

// ---- sleepers of a migration that fails

const SLEEPERS: usize = 6;

/// How a migration of a page can fail when it is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    DroppedUnmapped,
    DroppedChecked,
    DroppedCopied,
    NoFrame,
    CopyFailed,
    Pinned,
    Referenced,
}

const FAILURES: [Failure; 7] = [
    Failure::DroppedUnmapped,
    Failure::DroppedChecked,
    Failure::DroppedCopied,
    Failure::NoFrame,
    Failure::CopyFailed,
    Failure::Pinned,
    Failure::Referenced,
];

/// Moves the page at `at`, has `when_down` done when all its entries are down, and fails. What
/// became of it.
fn fail(
    mm: &'static Mm,
    at: At,
    failure: Failure,
    when_down: impl FnOnce(),
) -> Outcome<pagelock_soft::Refusal> {
    let unlocked = &mut Unlocked::promise();
    let pfn = mm.frame_at(at).unwrap();
    let page = mm.page(pfn).unwrap();
    let mut slots = [Slot::at(at)];
    let order = Order::to(DEVICES[0]);
    if failure == Failure::Pinned {
        // After the look at the pins, and before new ones are refused.
        mm.on_prepare(move |pfn| {
            mm.page(pfn).unwrap().try_pin().unwrap().into_raw();
        });
    }
    let unmapped = collect(mm, &mut slots, &order, unlocked).unmap();
    when_down();
    match failure {
        Failure::DroppedUnmapped => drop(unmapped),
        Failure::DroppedChecked => drop(unmapped.check()),
        Failure::DroppedCopied => drop(unmapped.check().copy()),
        Failure::NoFrame => {
            mm.fail_allocations(DEVICES[0], 1);
            let _ = unmapped.check().copy().finalize();
        }
        Failure::CopyFailed => {
            mm.fail_copies(DEVICES[0], 1);
            let _ = unmapped.check().copy().finalize();
        }
        Failure::Pinned => {
            assert_eq!(page.try_pin().err(), Some(PinError::Migrating));
            let _ = unmapped.check().copy().finalize();
            mm.on_prepare(|_| ());
            // SAFETY: made above.
            drop(unsafe { PagePin::from_raw(page) });
        }
        Failure::Referenced => {
            mm.get(pfn).unwrap();
            let _ = unmapped.check().copy().finalize();
            // SAFETY: taken above.
            unsafe { mm.put(pfn) };
        }
    }
    slots[0].outcome()
}

/// What the sleepers of a failed migration have seen.
struct Woken {
    outcome: Outcome<pagelock_soft::Refusal>,
    /// What each read, and how often it slept.
    found: Vec<(Result<u8, AccessError>, u32)>,
    /// How long it took from the failure to the last of them.
    took: Duration,
}

/// Sleepers on a page of three mappings, or of the one mapping if `together`.
fn failed(failure: Failure, strategy: Strategy, deaf: bool) -> Woken {
    let f = Fixture::unbatched();
    let b = f.written(1);
    let children = [f.mm.fork(f.space).unwrap(), f.mm.fork(f.space).unwrap()];
    let spaces = [f.space, children[0], children[1]];
    let before = spaces.map(|space| f.mm.leaf(space.page(0)));
    let refs = f.mm.page(f.mm.frame_at(b.at).unwrap()).unwrap().refs();
    let last = Cancel::with_futex(f.own);
    let ready = Barrier::new(SLEEPERS + 1);
    let woken = with_threads(&[], |s| {
        let sleepers: Vec<_> = (0..SLEEPERS)
            .map(|i| {
                let (mm, at, last, ready) = (f.mm, spaces[i % 3].page(0), &last, &ready);
                s.spawn(move || {
                    ready.wait();
                    let mut faulter = Faulter::new(strategy).cancellable(last);
                    let mut byte = [0];
                    let read = mm.read_with(at, 4, &mut byte, &mut faulter);
                    (read.map(|()| byte[0]), faulter.waits())
                })
            })
            .collect();
        let outcome = fail(f.mm, b.at, failure, || {
            ready.wait();
            f.own.until_asleep(SLEEPERS);
            f.own.set_deaf(deaf);
        });
        let begin = Instant::now();
        // Those that sleep still after that long are not woken by anything that is to come.
        while sleepers.iter().any(|sleeper| !sleeper.is_finished())
            && begin.elapsed() < patience(deaf)
        {
            thread::yield_now();
        }
        let took = begin.elapsed();
        f.own.set_deaf(false);
        last.cancel();
        Woken {
            outcome,
            found: sleepers.into_iter().map(|sleeper| sleeper.join().unwrap()).collect(),
            took,
        }
    });
    assert_eq!(
        spaces.map(|space| f.mm.leaf(space.page(0)).pfn()),
        before.map(Leaf::pfn),
        "it is the old page"
    );
    assert_eq!(f.mm.page(f.mm.frame_at(b.at).unwrap()).unwrap().refs(), refs);
    assert_eq!(f.tier_at(b.at), RAM);
    b.expect(|i| i);
    children.iter().for_each(|&child| f.mm.exit(child));
    f.close();
    woken
}

fn patience(deaf: bool) -> Duration {
    if deaf { Duration::from_millis(30) } else { Duration::MAX }
}

/// Whatever makes a migration fail, those that sleep for the page are woken, all of them, and find
/// the old one.
///
/// Seen to fail: with a platform that loses the wakes of the failing end they sleep until they are
/// called off (in the test). When what was put back left the entries as they were, they found a
/// migration entry of a page that nobody owned, and went round for ever. When sleepers for
/// migration entries took references, no failure was the one that was meant.
#[test]
fn sleepers_of_a_failed_migration_find_the_old_page() {
    for failure in FAILURES {
        let woken = failed(failure, Strategy::Wait, false);
        let expected = match failure {
            Failure::NoFrame => Abort::NoDestination,
            Failure::CopyFailed => Abort::CopyFailed,
            Failure::Referenced => Abort::Referenced { refs: 5, expected: 4 },
            Failure::Pinned => Abort::Pinned { pins: 1 },
            _ => Abort::Abandoned,
        };
        assert_eq!(woken.outcome, Outcome::Aborted(expected), "{failure:?}");
        assert_eq!(woken.found.len(), SLEEPERS);
        for (read, waits) in woken.found {
            assert_eq!(read, Ok(1_u32.to_ne_bytes()[0]), "{failure:?}, after {:?}", woken.took);
            assert!((1..=2).contains(&waits), "{failure:?}: {waits} sleeps");
        }
    }
    let wrong = failed(Failure::NoFrame, Strategy::Wait, true);
    assert!(
        wrong.found.iter().any(|(read, _)| *read == Err(AccessError::Cancelled)),
        "a lost wake would not be noticed"
    );
}
