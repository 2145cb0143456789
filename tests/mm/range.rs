//! Ranges of page tables for a reader with a table of its own: what is told apart, what is brought
//! in, and that it ends. Nothing that was found is believed if an invalidation came between (I19's
//! other half: a reader that validates saw no half of a change); poison is an error and never a
//! wait (I25); a range that never keeps still, and a page that can never be brought in, end with an
//! error for everybody (I29, I37); a waiter holds no lock (I38).

#![cfg(target_os = "linux")]

use crate::common::{
    machine::{DEVICE, FAR, Mm, RAM, check_all, exclusive, machine, move_one, written},
    own::Own,
    watched, with_threads,
};
use pagelock::Limits;
use pagelock::leaf::{Leaf, Marker, Rights, UnknownLeaf};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{self, Outcome, Slot, collect};
use pagelock::mm::range::{
    Found, Notifier, Page, Progress, RangeErrorOf, RangeOrder, Read, Stop, Want, fault_range,
    snapshot,
};
use pagelock::mm::{Entry, FaultError, Tiers};
use pagelock_soft::{AccessError, At, SpaceId};

pub(crate) type Pages = Vec<Page<At>>;

pub(crate) fn pages(at: At, count: usize, want: Want) -> Pages {
    at.pages(count).map(|at| Page::new(at, want)).collect()
}

pub(crate) fn no_limit<'c>() -> RangeOrder<'c, Mm> {
    RangeOrder::new(Limits::none())
}

pub(crate) fn notifier(mm: &'static Mm, space: SpaceId) -> &'static Notifier<Own> {
    mm.notifier(space).unwrap()
}

pub(crate) fn fault(
    mm: &'static Mm,
    pages: &mut Pages,
    order: &RangeOrder<'_, Mm>,
) -> Result<Read, RangeErrorOf<Mm>> {
    fault_range(mm, notifier(mm, pages[0].at.space), pages, order)
}

fn look(mm: &'static Mm, at: At, order: &RangeOrder<'_, Mm>) -> Found {
    let mut pages = pages(at, 1, Want::Write);
    let read = snapshot(mm, notifier(mm, at.space), &mut pages, order).unwrap();
    assert_eq!(read.progress, Progress { attempts: 1, ..Progress::default() });
    pages[0].found
}

/// A page in the device's memory that another thread owns for as long as `body` runs.
pub(crate) fn with_stuck_page(body: impl FnOnce(&'static Mm, Own, At, u64)) {
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

/// A page that was lost while it was on the device: the same error for every reader, and each that
/// asks again.
#[test]
fn a_lost_page_is_an_error_for_every_reader() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let Outcome::Moved { pfn } = move_one(mm, at, &migrate::Order::to(DEVICE)) else { panic!() };
    mm.set_lost(pfn, true);
    with_threads(&[mm.page(pfn).unwrap()], |s| {
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
    let error = fault(mm, &mut pages(at, 1, Want::Read), &no_limit()).unwrap_err();
    assert_eq!(error.why, Stop::Fault(FaultError::Poisoned { pfn }));
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
