//! What a migration puts back: each is, bit by bit, as it was (I21), and the others of the batch
//! move all the same.

use crate::common::machine::{DEVICE, Mm, RAM, exclusive, machine, move_one, picture, written};
use crate::moved::{only_the_first_stays, order, two_pages};
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Outcome, Slot, collect, migrate};
use pagelock::mm::{Memory, Tiers};
use pagelock_soft::{At, Refusal};

#[test]
fn an_unexpected_reference_puts_the_page_back() {
    let (mm, at) = two_pages();
    let pfn = mm.frame_at(at).unwrap();
    mm.get(pfn).unwrap();
    let why = only_the_first_stays(mm, at, &order());
    assert_eq!(why, Outcome::Aborted(Abort::Referenced { refs: 3, expected: 2 }));
    mm.audit().unwrap();
    // SAFETY: taken above.
    unsafe { mm.put(pfn) };
    assert!(move_one(mm, at, &order()).is_done());
    mm.audit().unwrap();
}

/// The freeze sees a pin taken between the look and the announcement. One that comes
/// later is refused.
#[test]
fn a_pin_in_the_last_moment_puts_the_page_back() {
    let (mm, at) = two_pages();
    let pfn = mm.frame_at(at).unwrap();
    let page = mm.page(pfn).unwrap();
    let before = picture(mm, at);
    mm.on_prepare(move |of| {
        if of == pfn && page.pins() == 0 {
            page.try_pin().unwrap().into_raw();
        }
    });
    assert_eq!(move_one(mm, at, &order().tries(1)), Outcome::Aborted(Abort::Pinned { pins: 1 }));
    // SAFETY: pinned above.
    let _ = unsafe { page.unpin_raw() };
    assert_eq!(picture(mm, at), before);
    mm.audit().unwrap();
}

#[test]
fn a_mapping_that_a_device_has_to_itself_puts_the_page_back() {
    let unlocked = &mut Unlocked::promise();
    let (mm, at) = two_pages();
    let pfn = exclusive(mm, at).unwrap();
    let before = picture(mm, at);
    // By frame, so that the entry is found by the walk only.
    let mut slots = [Slot::frame(pfn)];
    let _ = migrate(mm, &mut slots, &order(), mm, unlocked);
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::Exclusive));
    assert_eq!(picture(mm, at), before);
    mm.audit().unwrap();
}

#[test]
fn a_mapping_that_comes_up_late_puts_the_page_back() {
    let unlocked = &mut Unlocked::promise();
    let (mm, at) = two_pages();
    let late = at.space.page(9);
    mm.map(late, 1).unwrap();
    let leaf = mm.leaf(at);
    let pfn = leaf.pfn().unwrap();
    let mut slots = [Slot::at(at)];
    let unmapped = collect(mm, &mut slots, &order(), unlocked).unmap();
    // The holder of a reference makes it a mapping.
    mm.page(pfn).unwrap().try_get().unwrap().into_raw();
    mm.account(pfn, pagelock::mm::ledger::Owner::Mapping, pagelock::mm::ledger::Change::Taken);
    mm.entry(late).set_leaf(leaf);
    let _ = unmapped.check().copy().finalize();
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::StillMapped));
    mm.audit().unwrap();
    // Next time it is known.
    assert!(move_one(mm, at, &order()).is_done());
    assert!(matches!(mm.leaf(late), Leaf::DevicePrivate { .. }));
    mm.audit().unwrap();
}

#[test]
fn without_a_frame_to_go_to_the_page_is_put_back() {
    let (mm, at) = two_pages();
    mm.fail_allocations(DEVICE, 1);
    assert_eq!(only_the_first_stays(mm, at, &order()), Outcome::Aborted(Abort::NoDestination));
    mm.audit().unwrap();
}

#[test]
fn a_destination_may_be_declined() {
    let unlocked = &mut Unlocked::promise();
    let (mm, at) = two_pages();
    let before = picture(mm, at);
    let mut slots = [Slot::at(at)];
    let _ = collect(mm, &mut slots, &order(), unlocked)
        .unmap()
        .check()
        .copy_to(|_, _| Err(Abort::Declined))
        .finalize();
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::Declined));
    assert_eq!(picture(mm, at), before);
}

/// A destination that is not as it should be, by number.
pub(crate) fn to(mm: &'static Mm, at: At, pfn: u64) -> Outcome<Refusal> {
    let unlocked = &mut Unlocked::promise();
    let before = picture(mm, at).normal();
    let mut slots = [Slot::at(at)];
    let _ = collect(mm, &mut slots, &order(), unlocked)
        .unmap()
        .check()
        .copy_to(|_, _| Ok(pfn))
        .finalize();
    assert_eq!(picture(mm, at).normal(), before);
    slots[0].outcome()
}

#[test]
fn a_locked_destination_puts_the_page_back() {
    let (mm, at) = two_pages();
    let pfn = mm.allocate(DEVICE, 0).unwrap();
    let guard = mm.page(pfn).unwrap().lock();
    assert_eq!(to(mm, at, pfn), Outcome::Aborted(Abort::DestinationBusy));
    drop(guard);
    mm.audit().unwrap();
}

#[test]
fn a_destination_that_is_no_free_page_puts_the_page_back() {
    let (mm, at) = two_pages();
    let other = mm.frame_at(at.space.page(1)).unwrap();
    assert_eq!(to(mm, at, other), Outcome::Aborted(Abort::BadDestination));
    assert_eq!(
        to(mm, at, mm.frame_at(at).unwrap()),
        Outcome::Aborted(Abort::BadDestination),
        "itself"
    );
    assert_eq!(to(mm, at, 1 << 40), Outcome::Aborted(Abort::BadDestination));
    mm.audit().unwrap();
}

#[test]
fn a_destination_of_another_size_puts_the_page_back() {
    let (mm, at) = two_pages();
    let pfn = mm.allocate(DEVICE, 3).unwrap();
    assert_eq!(to(mm, at, pfn), Outcome::Aborted(Abort::SizeMismatch));
    mm.audit().unwrap();
}

#[test]
fn a_failed_copy_puts_the_page_back() {
    let (mm, at) = two_pages();
    mm.fail_copies(DEVICE, 1);
    assert_eq!(only_the_first_stays(mm, at, &order()), Outcome::Aborted(Abort::CopyFailed));
    mm.audit().unwrap();
}

#[test]
fn a_cache_that_has_changed_puts_the_page_back() {
    let (mm, at) = two_pages();
    mm.cache(1, mm.frame_at(at).unwrap()).unwrap();
    mm.fail_cache(1);
    assert_eq!(
        only_the_first_stays(mm, at, &order().tries(1)),
        Outcome::Aborted(Abort::CacheChanged)
    );
    mm.audit().unwrap();
}

/// The cache is made to forget the page, at the last moment at which that is not too late: of
/// two places one is left, and no reference is taken for the other.
#[test]
fn a_cache_that_forgets_the_page_on_its_way_puts_it_back() {
    let (mm, at) = two_pages();
    let pfn = mm.frame_at(at).unwrap();
    mm.cache(1, pfn).unwrap();
    mm.cache(2, pfn).unwrap();
    let mut times = 0;
    mm.on_move_cached(move |_, _| {
        times += 1;
        if times == 1 {
            mm.uncache(2);
        }
    });
    assert_eq!(move_one(mm, at, &order().tries(1)), Outcome::Aborted(Abort::CacheChanged));
    assert_eq!((mm.frame_at(at), mm.cached_at(1), mm.cached_at(2)), (Some(pfn), Some(pfn), None));
    assert_eq!(mm.page(pfn).unwrap().refs(), 2, "the entry's and the cache's");
    mm.audit().unwrap();
    let Outcome::Moved { pfn } = move_one(mm, at, &order()) else {
        panic!("what it is now is known next time")
    };
    assert_eq!((mm.cached_at(1), mm.page(pfn).unwrap().refs()), (Some(pfn), 2));
    mm.audit().unwrap();
}

/// And right after it: what is put is a reference to the new page that was the cache's already,
/// even if nothing else has one.
#[test]
fn a_cache_that_forgets_the_page_as_it_arrives_puts_its_own_reference() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let old = mm.frame_at(at).unwrap();
    mm.cache(1, old).unwrap();
    mm.unmap(at, 1).unwrap();
    mm.on_move_cached(move |now, _| {
        if now != old {
            mm.uncache(1);
            assert_eq!(mm.page(now).unwrap().refs(), 1, "the migrator's");
        }
    });
    let mut slots = [Slot::frame(old)];
    assert_eq!(migrate(mm, &mut slots, &order(), mm, unlocked).done, 1);
    assert_eq!(slots[0].outcome(), Outcome::Freed);
    assert_eq!((mm.free_frames(RAM), mm.free_frames(DEVICE)), (127, 128));
    mm.audit().unwrap();
}

#[test]
fn a_hole_that_a_fault_fills_first_stays_filled() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = mm.spawn().unwrap().page(0);
    mm.map(at, 1).unwrap();
    let mut slots = [Slot::at(at)];
    let copied = collect(mm, &mut slots, &order().filling_holes(), unlocked).unmap().check().copy();
    mm.write(at, 8, &[7]).unwrap();
    let _ = copied.finalize();
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::HoleFilled));
    let mut byte = [0];
    mm.read(at, 8, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    mm.audit().unwrap();
}

/// And one that is unmapped meanwhile stays unmapped.
#[test]
fn a_hole_that_is_unmapped_on_the_way_stays_empty() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = mm.spawn().unwrap().page(0);
    mm.map(at, 1).unwrap();
    let mut slots = [Slot::at(at)];
    let copied = collect(mm, &mut slots, &order().filling_holes(), unlocked).unmap().check().copy();
    mm.unmap(at, 1).unwrap();
    let _ = copied.finalize();
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::HoleFilled));
    assert_eq!(mm.leaf(at), Leaf::None);
    mm.audit().unwrap();
}

/// Dropped at each of the stages, with every kind of entry.
#[test]
fn a_stage_that_is_dropped_puts_everything_back() {
    let unlocked = &mut Unlocked::promise();
    for stage in 0..4 {
        let (mm, _) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 2);
        let _child = mm.fork(parent).unwrap();
        mm.write(parent.page(1), 8, &[1]).unwrap();
        let before = [picture(mm, at), picture(mm, parent.page(1))];
        let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
        let collected = collect(mm, &mut slots, &order(), unlocked);
        assert_eq!(collected.in_work(), 2);
        match stage {
            0 => drop(collected),
            1 => drop(collected.unmap()),
            2 => drop(collected.unmap().check()),
            _ => drop(collected.unmap().check().copy()),
        }
        assert!(
            slots.iter().all(|slot| slot.outcome() == Outcome::Aborted(Abort::Abandoned)),
            "{slots:?}"
        );
        assert_eq!([picture(mm, at), picture(mm, parent.page(1))], before, "stage {stage}");
        mm.audit().unwrap();
    }
}

/// A panic in the middle of it is a drop like any other.
#[test]
fn a_panic_in_the_middle_puts_everything_back() {
    let unlocked = &mut Unlocked::promise();
    let (mm, at) = two_pages();
    let before = picture(mm, at);
    let text = crate::common::panic_of(|| {
        let mut slots = [Slot::at(at)];
        let _ = collect(mm, &mut slots, &order(), unlocked)
            .unmap()
            .check()
            .copy_to(|_, _| panic!("the driver"));
    });
    assert_eq!(text, "the driver");
    assert_eq!(picture(mm, at), before);
    mm.audit().unwrap();
}
