//! Large holes: filled by one large page, split only if that is ordered, left alone if a fault
//! comes first.

use crate::common::machine::{DEVICE, Mm, check_all, machine, move_one, write_all};
use crate::large_entries::{ORDER, PAGES, order, order_of};
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Outcome, Skip, Slot, collect, migrate};
use pagelock::mm::{Span, Tiers};
use pagelock_soft::At;

/// A large entry with no page yet, or one of zeroes as a whole.
fn large_hole(is_read: bool) -> (&'static Mm, At) {
    let (mm, _) = machine();
    let at = mm.spawn().unwrap().page(PAGES);
    mm.map_large_hole(at, ORDER).unwrap();
    if is_read {
        mm.read(At { page: at.page + 3, ..at }, 0, &mut [0]).unwrap();
        assert!(
            at.pages(PAGES).all(|at| matches!(
                mm.leaf(at),
                Leaf::Present { pfn: 0, rights: Rights::Read, .. }
            ))
        );
    }
    assert_eq!(order_of(mm, at), ORDER);
    (mm, at)
}

/// Whichever of its addresses is named, alone or with all others: one large page, once, and each
/// address has its own frame of it.
#[test]
fn a_large_hole_gets_a_large_page() {
    let order = order().filling_holes();
    for (named, is_read) in [(0..1, false), (5..6, true), (0..PAGES, false), (3..PAGES, true)] {
        let (mm, at) = large_hole(is_read);
        let free = mm.free_frames(DEVICE);
        let mut slots: Vec<_> =
            at.pages(PAGES).skip(named.start).take(named.len()).map(Slot::at).collect();
        assert_eq!(
            migrate(mm, &mut slots, &order, mm, &mut Unlocked::promise()).done as usize,
            named.len(),
            "{slots:?}"
        );
        let Outcome::Filled { pfn } = slots[0].outcome() else { panic!("{slots:?}") };
        assert!(slots[1..].iter().all(|slot| slot.outcome() == Outcome::AlreadyThere), "{slots:?}");
        assert_eq!(
            (mm.span(pfn), mm.page(pfn).unwrap().refs()),
            (Span { head: pfn, order: ORDER }, 1)
        );
        assert_eq!((order_of(mm, at), mm.free_frames(DEVICE)), (ORDER, free - PAGES));
        for (n, at) in at.pages(PAGES).enumerate() {
            assert!(
                matches!(mm.leaf(at), Leaf::DevicePrivate { pfn: of, .. } if of == pfn + n as u64),
                "{:?}",
                mm.leaf(at)
            );
        }
        for at in at.pages(PAGES) {
            let mut byte = [1];
            mm.read(at, 9, &mut byte).unwrap();
            assert_eq!(byte, [0]);
        }
        assert_eq!(order_of(mm, at), ORDER, "and back as a whole");
        mm.audit().unwrap();
    }
}

/// With no large page to be had, the address that was named gets a page, if the order is to split;
/// and otherwise nothing changes.
#[test]
fn a_large_hole_is_split_only_if_that_is_ordered() {
    for is_read in [false, true] {
        let (mm, at) = large_hole(is_read);
        let named = At { page: at.page + 2, ..at };
        mm.fail_large_allocations(DEVICE, usize::MAX);
        assert_eq!(
            move_one(mm, named, &order().filling_holes().whole()),
            Outcome::Aborted(Abort::NoDestination)
        );
        assert_eq!(order_of(mm, at), ORDER);
        assert_eq!(move_one(mm, named, &order()), Outcome::Skipped(Skip::Hole));
        let Outcome::Filled { pfn } = move_one(mm, named, &order().filling_holes()) else {
            panic!()
        };
        for at in at.pages(PAGES) {
            assert_eq!(order_of(mm, at), 0);
            let expected = if at == named { Some(pfn) } else { is_read.then_some(0) };
            assert_eq!(mm.leaf(at).pfn(), expected, "{at:?}");
        }
        mm.audit().unwrap();
        write_all(mm, at, PAGES);
        check_all(mm, at, PAGES);
        mm.audit().unwrap();
    }
}

/// A write comes first, while the large page is being looked for: it is the page, and no other
/// takes its place.
#[test]
fn a_large_hole_that_a_fault_fills_first_is_left_alone() {
    let unlocked = &mut Unlocked::promise();
    for is_read in [false, true] {
        let (mm, at) = large_hole(is_read);
        let (order, free) = (order().filling_holes(), mm.free_frames(DEVICE));
        let mut slots = [Slot::at(at), Slot::at(At { page: at.page + 1, ..at })];
        let checked = collect(mm, &mut slots, &order, unlocked).unmap().check();
        mm.write(at, 0, &[7]).unwrap();
        let _ = checked.copy().finalize();
        assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::HoleFilled));
        assert!(
            matches!(slots[1].outcome(), Outcome::Filled { .. }),
            "the rest of it is small by now: {slots:?}"
        );
        assert_eq!(mm.free_frames(DEVICE), free - 1);
        let mut byte = [0];
        mm.read(at, 0, &mut byte).unwrap();
        assert_eq!(byte, [7]);
        mm.audit().unwrap();
    }
}
