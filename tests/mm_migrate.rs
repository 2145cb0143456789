//! What becomes of a page that is to be moved: every outcome there is, each brought about on
//! purpose. Whatever is put back is, bit by bit, as it was (I21), the others of the batch move all
//! the same, and every reference has its owner (I14).

#![cfg(all(feature = "std", not(pagelock_loom)))]

mod common;

use common::machine::{
    DEVICE, FAR, Mm, RAM, check_all, exclusive, is_migrating, machine, move_one, picture, written,
};
use common::watched;
use pagelock::leaf::{Leaf, Marker, Rights, Tracking, UnknownLeaf};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{
    Abort, FaultPage, Mode, Order, Outcome, Skip, Slot, bring_back, collect, collect_for_fault,
    migrate,
};
use pagelock::mm::{Access, Brought, Fault, Faulter, Memory, Strategy, Tiers, ToRam};
use pagelock::{MAX_REFS, PageRef};
use pagelock_soft::{AccessError, Area, AreaKind, At, Refusal};
use std::thread;

fn order() -> Order<Mm> {
    Order::to(DEVICE).tries(2)
}

/// Two pages, of which the first cannot be moved, whatever the reason, and the second is: the
/// first's outcome.
fn only_the_first_stays(mm: &Mm, at: At, order: &Order<Mm>) -> Outcome<Refusal> {
    let unlocked = &mut Unlocked::promise();
    let before = picture(mm, at).normal();
    let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
    let summary = migrate(mm, &mut slots, order, mm, unlocked);
    assert!(matches!(slots[1].outcome(), Outcome::Moved { .. }), "{slots:?}");
    assert_eq!((summary.done, summary.left), (1, 1), "{slots:?}");
    assert_eq!(picture(mm, at).normal(), before, "it is not as it was");
    slots[0].outcome()
}

impl common::machine::Picture {
    /// Without what the other page changes.
    fn normal(mut self) -> Self {
        self.forget_free();
        self
    }
}

fn two_pages() -> (&'static Mm, At) {
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
    // With somebody's reference it is not free.
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
    // Without being asked to, not; and not where nothing is to be.
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

/// What was to be reported of a page of zeroes is to be reported of the page that takes its place:
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

// ---- what is not touched

#[test]
fn entries_that_are_no_pages_are_skipped() {
    let unlocked = &mut Unlocked::promise();
    let (mm, at) = two_pages();
    for (leaf, why) in [
        (Leaf::None, Skip::Hole),
        (Leaf::Swap { slot: 3, tracking: Tracking::default() }, Skip::Swapped),
        (Leaf::Marker(Marker::Guard), Skip::Marker(Marker::Guard)),
        (Leaf::Poison { pfn: 3 }, Skip::Poisoned),
    ] {
        mm.replace(at, leaf);
        assert_eq!(move_one(mm, at, &order()), Outcome::Skipped(why));
        assert_eq!(mm.leaf(at), leaf);
    }
    mm.audit().unwrap();
    let none = Leaf::Present { pfn: 1 << 40, rights: Rights::Write, tracking: Tracking::default() };
    for (word, why) in
        [(15, Skip::Unknown(UnknownLeaf { word: 15 })), (none.encode().unwrap(), Skip::NoFrame)]
    {
        mm.entry(at).set_word(word);
        assert_eq!(move_one(mm, at, &order()), Outcome::Skipped(why));
        mm.entry(at).set_word(0);
    }
    let mut slots = [Slot::frame(1 << 40)];
    let _ = migrate(mm, &mut slots, &order(), mm, unlocked);
    assert_eq!(slots[0].outcome(), Outcome::Skipped(Skip::NoFrame));
}

#[test]
fn a_page_of_another_tier_is_not_selected() {
    let (mm, at) = two_pages();
    assert_eq!(move_one(mm, at, &order().from(FAR)), Outcome::Skipped(Skip::NotSelected));
    assert!(move_one(mm, at, &order().from(RAM)).is_done());
}

#[test]
fn a_page_that_somebody_else_moves_is_skipped() {
    let unlocked = &mut Unlocked::promise();
    let (mm, at) = two_pages();
    let mut first = [Slot::at(at)];
    // Somebody else's, whose thread this is not.
    let somebody = &mut Unlocked::promise();
    let other = collect(mm, &mut first, &order(), somebody).unmap();
    assert_eq!(move_one(mm, at, &order()), Outcome::Skipped(Skip::Migrating));
    let mut by_frame = [Slot::frame(mm.frame_at(at).unwrap())];
    let _ = migrate(mm, &mut by_frame, &order(), mm, unlocked);
    assert_eq!(by_frame[0].outcome(), Outcome::Skipped(Skip::Locked));
    let checked = other.check();
    let _ = migrate(mm, &mut by_frame, &order(), mm, unlocked);
    assert_eq!(by_frame[0].outcome(), Outcome::Skipped(Skip::Locked), "frozen");
    drop(checked);
    assert_eq!(first[0].outcome(), Outcome::Aborted(Abort::Abandoned));
    mm.audit().unwrap();
}

#[test]
fn a_locked_page_is_skipped_and_never_waited_for_by_async() {
    let (mm, at) = two_pages();
    let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    let guard = page.lock();
    assert_eq!(only_the_first_stays(mm, at, &order()), Outcome::Skipped(Skip::Locked));
    drop(guard);
    mm.audit().unwrap();
}

#[test]
fn a_pinned_page_is_skipped() {
    let (mm, at) = two_pages();
    let pin = mm.page(mm.frame_at(at).unwrap()).unwrap().try_pin().unwrap();
    assert_eq!(only_the_first_stays(mm, at, &order()), Outcome::Skipped(Skip::Pinned { pins: 1 }));
    drop(pin);
    mm.audit().unwrap();
    assert!(move_one(mm, at, &order()).is_done());
}

#[test]
fn a_page_that_a_device_has_to_itself_is_skipped() {
    let (mm, at) = two_pages();
    exclusive(mm, at).unwrap();
    assert_eq!(only_the_first_stays(mm, at, &order()), Outcome::Skipped(Skip::Exclusive));
    mm.audit().unwrap();
}

#[test]
fn a_refused_page_is_skipped() {
    let (mm, at) = two_pages();
    let before = picture(mm, at);
    mm.set_immovable(true);
    assert_eq!(move_one(mm, at, &order()), Outcome::Skipped(Skip::Refused(Refusal::Immovable)));
    assert_eq!(picture(mm, at), before);
    mm.audit().unwrap();
}

#[test]
fn a_page_with_as_many_references_as_can_be_counted_is_skipped() {
    let (mm, at) = two_pages();
    let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    let most = if cfg!(miri) { return } else { MAX_REFS - 1 };
    let refs: Vec<PageRef<'_, _>> = (0..most).map(|_| page.try_get().unwrap()).collect();
    assert_eq!(only_the_first_stays(mm, at, &order()), Outcome::Skipped(Skip::Uncountable));
    drop(refs);
    mm.audit().unwrap();
}

/// What is at the address changes while the page's lock is waited for.
#[test]
fn a_page_that_is_gone_when_its_lock_is_had_is_skipped() {
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let pfn = mm.frame_at(at).unwrap();
    let page = mm.page(pfn).unwrap();
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let order = order().mode(Mode::SyncLight).tries(1);
            let moved = s.spawn(move || move_one(mm, at, &order));
            own.until_asleep(1);
            mm.discard(at, 1).unwrap();
            drop(guard);
            assert_eq!(moved.join().unwrap(), Outcome::Skipped(Skip::Changed));
        });
    });
    mm.audit().unwrap();
}

// ---- what is put back

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

/// A pin that is had between the look and the announcement is seen by the freeze. One that comes
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
    // Somebody who had a reference makes it a mapping.
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
fn to(mm: &'static Mm, at: At, pfn: u64) -> Outcome<Refusal> {
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

/// Somebody makes the cache forget the page, at the last moment at which that is not too late: of
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
    let text = common::panic_of(|| {
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

// ---- what is lost

/// One page of three cannot be read. It is lost, and says so to whoever touches it; the others are
/// not concerned (I25).
#[test]
fn a_page_that_cannot_be_read_is_poisoned_and_no_other() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 3);
    let child = mm.fork(parent).unwrap();
    let lost = mm.frame_at(parent.page(1)).unwrap();
    mm.set_lost(lost, true);
    let free = mm.free_frames(RAM);
    let mut slots: Vec<_> = at.pages(3).map(Slot::at).collect();
    let summary = migrate(mm, &mut slots, &order(), mm, unlocked);
    assert_eq!((summary.done, summary.poisoned, summary.left), (2, 1, 0));
    assert_eq!(slots[1].outcome(), Outcome::Poisoned);
    for space in [parent, child] {
        assert_eq!(mm.leaf(space.page(1)), Leaf::Poison { pfn: lost });
        assert_eq!(mm.read(space.page(1), 0, &mut [0]), Err(AccessError::Poisoned { pfn: lost }));
        assert_eq!(mm.write(space.page(1), 0, &[0]), Err(AccessError::Poisoned { pfn: lost }));
    }
    assert_eq!(mm.free_frames(RAM), free + 2, "its frame is not used again");
    assert_eq!(move_one(mm, parent.page(1), &order()), Outcome::Skipped(Skip::Poisoned));
    let mut by_frame = [Slot::frame(lost)];
    let _ = migrate(mm, &mut by_frame, &order(), mm, unlocked);
    assert_eq!(by_frame[0].outcome(), Outcome::Skipped(Skip::Poisoned));
    mm.exit(child);
    mm.audit().unwrap();
}

/// The same when it is a fault that finds out: the faulter is told as everybody will be.
#[test]
fn a_faulter_that_finds_a_page_lost_is_told_so() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
    assert_eq!(migrate(mm, &mut slots, &order(), mm, unlocked).done, 2);
    let pfn = mm.frame_at(at).unwrap();
    mm.set_lost(pfn, true);
    for _ in 0..2 {
        assert_eq!(mm.read(at, 0, &mut [0]), Err(AccessError::Poisoned { pfn }));
    }
    check_all(mm, at.space.page(1), 1);
    mm.audit().unwrap();
}

/// A copy on write that fails leaves both sides as they are.
#[test]
fn a_copy_on_write_that_fails_changes_nothing() {
    let (mm, _) = machine();
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 1);
    let child = mm.fork(parent).unwrap().page(0);
    let before = picture(mm, at);
    mm.fail_copies(RAM, 1);
    assert_eq!(
        mm.write(child, 0, &[1]),
        Err(AccessError::NotBrought(Outcome::Aborted(Abort::CopyFailed)))
    );
    mm.fail_allocations(RAM, 1);
    assert_eq!(mm.write(child, 0, &[1]), Err(AccessError::NoMemory));
    mm.set_lost(mm.frame_at(at).unwrap(), true);
    assert!(matches!(mm.write(child, 0, &[1]), Err(AccessError::Poisoned { .. })));
    mm.set_lost(mm.frame_at(at).unwrap(), false);
    assert_eq!(picture(mm, at), before);
    mm.write(child, 0, &[1]).unwrap();
    check_all(mm, at, 1);
    mm.audit().unwrap();
}

// ---- the page of a fault

/// I22: locked before, locked after, by the same guard, whatever becomes of it.
#[test]
fn the_page_of_a_fault_stays_locked_by_the_faulter() {
    let unlocked = &mut Unlocked::promise();
    for outcome in ["moved", "put back", "dropped", "skipped", "lost"] {
        let (mm, _) = machine();
        let at = written(mm, mm.spawn().unwrap(), 2);
        let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
        assert_eq!(migrate(mm, &mut slots, &order(), mm, unlocked).done, 2);
        let pfn = mm.frame_at(at).unwrap();
        let page = mm.page(pfn).unwrap();
        let guard = page.try_lock().unwrap();
        mm.get(pfn).unwrap();
        // SAFETY: taken above.
        let reference = unsafe { PageRef::from_raw(page) };
        let mut fault = FaultPage::new(guard, Some(reference));
        match outcome {
            "put back" => mm.fail_allocations(RAM, 1),
            "skipped" => mm.set_immovable(true),
            "lost" => mm.set_lost(pfn, true),
            _ => {}
        }
        let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
        let copied =
            collect_for_fault(mm, &mut slots, &Order::to(RAM), &mut fault).unmap().check().copy();
        if outcome == "dropped" {
            drop(copied);
        } else {
            let _ = copied.finalize();
        }
        assert!(
            fault.is_owned() && page.is_locked() && !page.is_migrating() && !page.is_frozen(),
            "{outcome}"
        );
        assert_eq!(slots[0].outcome().is_done(), outcome == "moved");
        assert_eq!(
            slots[1].outcome().is_done(),
            !matches!(outcome, "dropped" | "skipped"),
            "the other page"
        );
        mm.account(pfn, pagelock::mm::ledger::Owner::Get, pagelock::mm::ledger::Change::Put);
        let is_free = fault.release();
        assert_eq!(is_free, outcome == "moved");
        if is_free {
            mm.free(pfn);
        }
        assert!(!page.is_locked());
        assert_eq!(page.is_poisoned(), outcome == "lost");
        mm.audit().unwrap();
    }
}

/// The entry was replaced by the fault path already; its reference is not lost.
#[test]
fn an_entry_in_the_fault_is_taken_over() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    for fail in [1, 0] {
        move_one(mm, at, &order());
        mm.fail_allocations(RAM, fail);
        let mut faulter = Faulter::new(Strategy::EntryInFault).patience(20);
        let read = mm.read_with(at, 0, &mut [0], &mut faulter);
        if fail == 1 {
            assert_eq!(read, Err(AccessError::NoMemory));
            assert!(matches!(mm.leaf(at), Leaf::DevicePrivate { .. }));
        } else {
            read.unwrap();
        }
        mm.audit().unwrap();
    }
}

/// The entry was replaced by the fault path, and then the migration does not even begin with the
/// page: the entry is put up again all the same, with its reference, and nothing is lost.
#[test]
fn an_entry_in_the_fault_of_a_page_that_is_skipped_is_put_up_again() {
    for why in ["immovable", "pinned"] {
        let (mm, _) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 1);
        mm.fork(parent).unwrap();
        move_one(mm, at, &order());
        let before = picture(mm, at);
        let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
        let pin = (why == "pinned").then(|| page.try_pin().unwrap());
        mm.set_immovable(why == "immovable");
        let expected = match why {
            "pinned" => AccessError::Busy { rounds: 3 },
            _ => AccessError::NotBrought(Outcome::Skipped(Skip::Refused(Refusal::Immovable))),
        };
        for _ in 0..2 {
            let mut faulter = Faulter::new(Strategy::EntryInFault).patience(3);
            assert_eq!(mm.read_with(at, 0, &mut [0], &mut faulter), Err(expected), "{why}");
            assert!(!is_migrating(mm, at), "{why}: an entry is left that nobody puts up");
        }
        drop(pin);
        mm.set_immovable(false);
        assert_eq!(picture(mm, at), before, "{why}");
        mm.audit().unwrap();
        check_all(mm, at, 1);
        mm.audit().unwrap();
    }
}

/// Whoever is asked whether the page may move panics. The page is as it was, and so is its entry: a
/// migration entry that nobody puts up would lead all that fault later to a page that nobody owns.
#[test]
fn a_panic_before_the_page_is_begun_with_puts_its_entry_up_again() {
    for strategy in [Some(Strategy::EntryInFault), Some(Strategy::Wait), None] {
        let (mm, _) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 1);
        mm.fork(parent).unwrap();
        if strategy.is_some() {
            assert!(move_one(mm, at, &order()).is_done());
        }
        let before = picture(mm, at);
        mm.on_prepare(|_| panic!("the driver"));
        for _ in 0..2 {
            let text = common::panic_of(|| match strategy {
                Some(strategy) => {
                    let mut faulter = Faulter::new(strategy).patience(1);
                    let _ = mm.read_with(at, 0, &mut [0], &mut faulter);
                }
                None => drop(move_one(mm, at, &order())),
            });
            assert_eq!(text, "the driver");
            assert!(!is_migrating(mm, at), "{strategy:?}: an entry is left that nobody puts up");
            assert_eq!(picture(mm, at), before, "{strategy:?}");
            mm.audit().unwrap();
        }
        mm.on_prepare(|_| ());
        check_all(mm, at, 1);
        mm.audit().unwrap();
    }
}

/// The entry that was replaced is unmapped before the page is begun with: the reference is put
/// once, by whoever replaced it.
#[test]
fn an_entry_in_the_fault_that_is_unmapped_meanwhile_puts_no_reference() {
    for is_skipped in [false, true] {
        let (mm, _) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 1);
        let child = mm.fork(parent).unwrap().page(0);
        move_one(mm, at, &order());
        let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
        // With the page's lock held and the entry replaced: the one moment at which a test gets in
        // between.
        mm.on_prepare(move |_| {
            assert!(is_migrating(mm, at) && page.is_locked());
            mm.unmap(at, 1).unwrap();
            assert_eq!(page.refs(), 3, "the other entry's, the faulter's, the migrator's");
            mm.set_immovable(is_skipped);
        });
        let read =
            mm.read_with(at, 0, &mut [0], &mut Faulter::new(Strategy::EntryInFault).patience(1));
        assert!(read.is_err(), "{read:?}");
        mm.on_prepare(|_| {});
        mm.set_immovable(false);
        mm.audit().unwrap();
        check_all(mm, child, 1);
        mm.audit().unwrap();
    }
}

/// I37: whoever faults on a page that cannot be brought back is told so, all of them; nobody goes
/// round for ever.
#[test]
fn every_faulter_of_a_page_that_cannot_come_back_gets_an_error() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    move_one(mm, at, &order());
    let pfn = mm.frame_at(at).unwrap();
    let before = picture(mm, at);
    let all = |expected: fn(AccessError) -> bool| {
        watched(&[mm.page(pfn).unwrap()], || {
            thread::scope(|s| {
                for _ in 0..8 {
                    s.spawn(move || {
                        let mut faulter = Faulter::new(Strategy::Wait).patience(20);
                        let e = mm.read_with(at, 0, &mut [0], &mut faulter).unwrap_err();
                        assert!(expected(e), "{e}");
                    });
                }
            });
        });
    };
    mm.fail_allocations(RAM, usize::MAX);
    all(|e| e == AccessError::NoMemory);
    mm.fail_allocations(RAM, 0);
    let pin = mm.page(pfn).unwrap().try_pin().unwrap();
    all(|e| e == AccessError::Busy { rounds: 20 });
    drop(pin);
    assert_eq!(picture(mm, at), before);
    mm.audit().unwrap();
    check_all(mm, at, 1);
}

/// What `bring_back` does if the entry is not what it was when the page was locked.
#[test]
fn a_fault_whose_page_is_unmapped_meanwhile_ends() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    move_one(mm, at, &order());
    let leaf = mm.leaf(at);
    let pfn = leaf.pfn().unwrap();
    let page = mm.page(pfn).unwrap();
    let guard = page.try_lock().unwrap();
    let reference = page.try_get().unwrap();
    mm.account(pfn, pagelock::mm::ledger::Owner::Get, pagelock::mm::ledger::Change::Taken);
    mm.unmap(at, 1).unwrap();
    let request =
        ToRam { at, access: Access::Read, leaf, pfn, reference: Some(reference), page: guard };
    assert_eq!(bring_back(mm, request, RAM, mm), Ok(Brought::Back));
    assert!(!is_migrating(mm, at));
    mm.audit().unwrap();
    assert_eq!((mm.free_frames(RAM), mm.free_frames(DEVICE)), (127, 128));
}
