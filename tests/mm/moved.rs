//! What a migration moves: pages with all of their mappings, rights and tracking, holes, cached
//! pages.

use crate::common::machine::{
    DEVICE, FAR, Mm, RAM, check_all, machine, move_one, picture, written,
};
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Order, Outcome, Skip, Slot, collect, migrate};
use pagelock::mm::{Access, Fault, Faulter, Strategy, Tiers};
use pagelock_soft::{AccessError, Area, AreaKind, At, Refusal};

pub(crate) fn order() -> Order<Mm> {
    Order::to(DEVICE).tries(2)
}

/// Two pages, of which the first cannot be moved, whatever the reason, and the second is: the
/// first's outcome.
pub(crate) fn only_the_first_stays(mm: &Mm, at: At, order: &Order<Mm>) -> Outcome<Refusal> {
    let unlocked = &mut Unlocked::promise();
    let before = picture(mm, at).normal();
    let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
    let summary = migrate(mm, &mut slots, order, mm, unlocked);
    assert!(matches!(slots[1].outcome(), Outcome::Moved { .. }), "{slots:?}");
    assert_eq!((summary.done, summary.left), (1, 1), "{slots:?}");
    assert_eq!(picture(mm, at).normal(), before, "it is not as it was");
    slots[0].outcome()
}

impl crate::common::machine::Picture {
    /// Without what the other page changes.
    pub(crate) fn normal(mut self) -> Self {
        self.forget_free();
        self
    }
}

pub(crate) fn two_pages() -> (&'static Mm, At) {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    (mm, at)
}

// ---- what moves

#[test]
fn pages_go_out_and_come_back_by_faults() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 8);
    let mut slots: Vec<_> = at.pages(8).map(Slot::at).collect();
    let summary = migrate(mm, &mut slots, &order(), mm, unlocked);
    assert_eq!((summary.done, summary.left, summary.tries), (8, 0, 1), "{slots:?}");
    for (slot, at) in slots.iter().zip(at.pages(8)) {
        let Leaf::DevicePrivate { pfn, rights: Rights::Write, .. } = mm.leaf(at) else {
            panic!("{:?}", mm.leaf(at))
        };
        assert_eq!(slot.outcome(), Outcome::Moved { pfn });
    }
    mm.audit().unwrap();
    check_all(mm, at, 8);
    assert!(at.pages(8).all(|at| mm.tier(mm.frame_at(at).unwrap()) == RAM));
    assert_eq!(mm.free_frames(DEVICE), 128, "nothing is left there");
    mm.audit().unwrap();
}

#[test]
fn a_page_of_many_mappings_moves_in_all_of_them() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 4);
    let children: Vec<_> = (0..5).map(|_| mm.fork(parent).unwrap()).collect();
    let mut slots: Vec<_> = at.pages(4).map(Slot::at).collect();
    assert_eq!(migrate(mm, &mut slots, &order(), mm, unlocked).done, 4);
    for child in &children {
        for page in 0..4 {
            assert!(matches!(
                mm.leaf(child.page(page)),
                Leaf::DevicePrivate { rights: Rights::Read, .. }
            ));
        }
    }
    mm.audit().unwrap();
    for child in children {
        check_all(mm, child.page(0), 4);
        mm.write(child.page(0), 8, &[0]).unwrap();
        mm.exit(child);
    }
    check_all(mm, at, 4);
    mm.exit(parent);
    mm.audit().unwrap();
    assert_eq!((mm.free_frames(RAM), mm.free_frames(DEVICE)), (127, 128));
}

/// I18, and what is observed through an entry, in every combination, there and back.
#[test]
fn rights_and_tracking_travel_with_the_page() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let pfn = mm.frame_at(at).unwrap();
    let _ = pfn;
    for bits in 0..16_u32 {
        for rights in [Rights::Read, Rights::ReadExclusive, Rights::Write] {
            let bit = |n: u32| bits >> n & 1 == 1;
            let tracking =
                Tracking { accessed: bit(0), dirty: bit(1), soft_dirty: bit(2), uffd_wp: bit(3) };
            let pfn = mm.frame_at(at).unwrap();
            mm.entry(at).set_leaf(Leaf::Present { pfn, rights, tracking });
            let Outcome::Moved { pfn } = move_one(mm, at, &order()) else { panic!() };
            assert_eq!(mm.leaf(at), Leaf::DevicePrivate { pfn, rights, tracking });
            let Outcome::Moved { pfn } = move_one(mm, at, &Order::to(RAM)) else { panic!() };
            assert_eq!(mm.leaf(at), Leaf::Present { pfn, rights, tracking });
        }
    }
    mm.audit().unwrap();
}

#[test]
fn a_list_of_frames_moves_whoever_maps_them() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 3);
    let pfns: Vec<_> = at.pages(3).map(|at| mm.frame_at(at).unwrap()).collect();
    let free = mm.frames_of(RAM).end - 1;
    let mut slots: Vec<_> = pfns.iter().copied().chain([free]).map(Slot::frame).collect();
    assert_eq!(migrate(mm, &mut slots, &order(), mm, unlocked).done, 4);
    assert_eq!(slots[3].outcome(), Outcome::Freed, "a free frame has nothing to move");
    assert!(at.pages(3).all(|at| matches!(mm.leaf(at), Leaf::DevicePrivate { .. })));
    mm.audit().unwrap();
    check_all(mm, at, 3);
}

/// Nobody has the page but for a reference that is on its way out: moving it would be a waste.
#[test]
fn a_page_that_turns_out_to_be_free_is_done() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let pfn = mm.frame_at(at).unwrap();
    mm.get(pfn).unwrap();
    mm.unmap(at, 1).unwrap();
    let mut slots = [Slot::frame(pfn)];
    // With a reference it is not free.
    assert_eq!(migrate(mm, &mut slots, &order(), mm, unlocked).done, 0);
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::Referenced { refs: 2, expected: 1 }));
    // SAFETY: taken above.
    unsafe { mm.put(pfn) };
    assert_eq!(migrate(mm, &mut slots, &order(), mm, unlocked).done, 1);
    assert_eq!(slots[0].outcome(), Outcome::Freed);
    mm.audit().unwrap();
}

/// Unmapped by everybody while it was on its way: both frames are free at the end, once each (I16).
#[test]
fn a_page_that_is_unmapped_on_its_way_is_freed() {
    let unlocked = &mut Unlocked::promise();
    for dropped in [false, true] {
        let (mm, _) = machine();
        let at = written(mm, mm.spawn().unwrap(), 1);
        let before = mm.free_frames(DEVICE);
        let mut slots = [Slot::at(at)];
        let copied = collect(mm, &mut slots, &order(), unlocked).unmap().check().copy();
        mm.unmap(at, 1).unwrap();
        if dropped {
            drop(copied);
        } else {
            let _ = copied.finalize();
            assert_eq!(slots[0].outcome(), Outcome::Freed);
        }
        assert_eq!((mm.free_frames(RAM), mm.free_frames(DEVICE)), (127, before));
        mm.audit().unwrap();
    }
}

#[test]
fn a_page_that_is_there_is_done() {
    let (mm, at) = two_pages();
    assert_eq!(move_one(mm, at, &Order::to(RAM)), Outcome::AlreadyThere);
}

#[test]
fn holes_and_zero_pages_become_pages() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = mm.spawn().unwrap().page(0);
    mm.map(at, 3).unwrap();
    mm.read(at, 0, &mut [0]).unwrap();
    assert!(matches!(mm.leaf(at), Leaf::Present { pfn: 0, .. }), "the frame of zeroes");
    let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
    assert_eq!(migrate(mm, &mut slots, &order().filling_holes(), mm, unlocked).done, 2);
    for (slot, at) in slots.iter().zip(at.pages(2)) {
        let pfn = mm.frame_at(at).unwrap();
        assert_eq!(slot.outcome(), Outcome::Filled { pfn });
        assert!(matches!(mm.leaf(at), Leaf::DevicePrivate { rights: Rights::Write, .. }));
        let mut bytes = [1; 16];
        mm.read(at, 0, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 16]);
    }
    mm.audit().unwrap();
    // Not without being asked, and not where nothing may be mapped.
    assert_eq!(move_one(mm, at.space.page(2), &order()), Outcome::Skipped(Skip::Hole));
    assert_eq!(
        move_one(mm, at.space.page(3), &order().filling_holes()),
        Outcome::Skipped(Skip::Hole)
    );
    assert_eq!(
        move_one(mm, at.space.page(10_000), &order().filling_holes()),
        Outcome::Skipped(Skip::Hole)
    );
}

/// As much as the area allows, not more.
#[test]
fn a_hole_gets_the_rights_of_its_area() {
    let (mm, _) = machine();
    let at = mm.spawn().unwrap().page(0);
    mm.map_as(at, 1, Area { kind: AreaKind::Private, rights: Some(Rights::Read) }).unwrap();
    assert!(matches!(move_one(mm, at, &order().filling_holes()), Outcome::Filled { .. }));
    assert_eq!(mm.leaf(at).rights(), Some(Rights::Read));
    assert_eq!(mm.write(at, 0, &[1]), Err(AccessError::NotAllowed));
}

/// Writes to a page of zeroes that must be reported are reported of the page that replaces it:
/// writing to it faults.
#[test]
fn a_zero_page_whose_writes_are_reported_is_filled_write_protected() {
    let (mm, _) = machine();
    let at = mm.spawn().unwrap().page(0);
    mm.map(at, 1).unwrap();
    for uffd_wp in [true, false] {
        let tracking = Tracking { accessed: true, uffd_wp, ..Tracking::default() };
        mm.discard(at, 1).unwrap();
        mm.entry(at).set_leaf(Leaf::Present { pfn: 0, rights: Rights::Read, tracking });
        let Outcome::Filled { pfn } = move_one(mm, at, &order().filling_holes()) else { panic!() };
        let rights = if uffd_wp { Rights::ReadExclusive } else { Rights::Write };
        assert_eq!(mm.leaf(at), Leaf::DevicePrivate { pfn, rights, tracking });
        mm.read(at, 0, &mut [0]).unwrap();
        let mut faulter = Faulter::new(Strategy::Wait);
        let fault = pagelock::mm::fault(mm, at, Access::Write, &mut faulter);
        let expected = if uffd_wp { Fault::Protected { rights } } else { Fault::Present };
        assert_eq!(fault, Ok(expected));
        mm.audit().unwrap();
    }
}

#[test]
fn a_cached_page_takes_the_caches_references_along() {
    let (mm, at) = two_pages();
    let old = mm.frame_at(at).unwrap();
    mm.cache(77, old).unwrap();
    mm.cache(78, old).unwrap();
    let Outcome::Moved { pfn } = move_one(mm, at, &Order::to(FAR)) else { panic!() };
    assert_eq!((mm.cached_at(77), mm.cached_at(78)), (Some(pfn), Some(pfn)));
    mm.audit().unwrap();
    mm.unmap(at, 1).unwrap();
    assert_eq!(mm.page(pfn).unwrap().refs(), 2);
    mm.uncache(77);
    mm.uncache(78);
    mm.audit().unwrap();
}
