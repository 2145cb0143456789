//! The stages of a migration, as others see them: the page is locked throughout, and every
//! reference has an owner.

use crate::common::{
    machine::{DEVICE, RAM, check_all, is_migrating, machine, machine_with, move_one, written},
    with_threads,
};
use crate::order;
use pagelock::mm::Tiers;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect};
use pagelock::{GetError, PinError};
use pagelock_soft::At;

/// I12, I13, I15: from the first entry that is taken down to the last that is put up.
#[test]
fn a_page_is_locked_as_long_as_it_has_a_migration_entry() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 1);
    let child = mm.fork(parent).unwrap().page(0);
    let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    let mut slots = [Slot::at(at)];
    let collected = collect(mm, &mut slots, &order(), unlocked);
    assert!(is_migrating(mm, at) && !is_migrating(mm, child));
    assert!(page.is_locked() && page.is_migrating() && !page.is_frozen());
    assert_eq!(
        page.refs(),
        3,
        "the other entry's, the migrator's, and that of the entry which he has in hand"
    );
    assert!(matches!(page.try_pin(), Err(PinError::Migrating)));
    let unmapped = collected.unmap();
    assert!(is_migrating(mm, at) && is_migrating(mm, child));
    assert_eq!(page.refs(), 3, "migration entries own none: the migrator has those");
    assert!(!page.is_frozen());
    let checked = unmapped.check();
    assert!(page.is_locked() && page.is_frozen());
    assert!(matches!(page.try_get(), Err(GetError::Frozen)));
    let copied = checked.copy();
    assert!(is_migrating(mm, at) && is_migrating(mm, child) && page.is_locked());
    let _ = copied.finalize();
    assert!(!page.is_locked() && page.refs() == 0);
    assert_eq!(mm.frame_at(at), mm.frame_at(child));
    mm.audit().unwrap();
}

/// I14: whose the references are, step by step, with one of every kind; and what the freeze expects
/// are those of the migrator.
#[test]
fn every_reference_has_an_owner_at_every_step() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 1);
    let child = mm.fork(parent).unwrap().page(0);
    let old = mm.frame_at(at).unwrap();
    mm.cache(5, old).unwrap();
    let owned = |pfn| {
        mm.balance().unwrap();
        pagelock::mm::ledger::OWNERS.map(|owner| mm.owned(pfn, owner))
    };
    // Mapping, entry, cache, batch, get.
    assert_eq!(owned(old), [2, 0, 1, 0, 0]);
    let mut slots = [Slot::at(at)];
    let collected = collect(mm, &mut slots, &order(), unlocked);
    assert_eq!(
        owned(old),
        [1, 0, 1, 0, 2],
        "that of an entry is the migrator's until it is up again"
    );
    let unmapped = collected.unmap();
    assert_eq!(owned(old), [0, 0, 1, 0, 3]);
    let checked = unmapped.check();
    assert_eq!((owned(old), checked.in_work()), ([0, 0, 1, 0, 3], 1));
    let copied = checked.copy();
    assert_eq!(owned(old), [0, 0, 1, 0, 3]);
    let _ = copied.finalize();
    let new = mm.frame_at(child).unwrap();
    assert_eq!((owned(old), owned(new)), ([0; 5], [0, 2, 1, 0, 0]));
    assert_eq!(mm.cached_at(5), Some(new));
    // And back, put back at the last moment.
    let copied = collect(mm, &mut [Slot::at(child)], &Order::to(RAM), unlocked)
        .unmap()
        .check()
        .copy()
        .in_work();
    assert_eq!((copied, owned(new)), (1, [0, 2, 1, 0, 0]));
    mm.audit().unwrap();
}

/// I14: the same with a batch's reference and a stranger's, which put the page back; with a
/// faulter's; with a hole that is filled; and with a page that is lost on the way.
#[test]
fn every_kind_of_reference_has_an_owner_at_every_step() {
    let unlocked = &mut Unlocked::promise();
    // New pages are in a batch.
    let (mm, _) = machine_with(1);
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 1);
    let child = mm.fork(parent).unwrap().page(0);
    let old = mm.frame_at(at).unwrap();
    mm.cache(5, old).unwrap();
    mm.get(old).unwrap();
    let owned = move |pfn| {
        mm.balance().unwrap();
        pagelock::mm::ledger::OWNERS.map(|owner| mm.owned(pfn, owner))
    };
    // Mapping, entry, cache, batch, get.
    assert_eq!(owned(old), [2, 0, 1, 1, 1]);
    let mut slots = [Slot::at(at)];
    let collected = collect(mm, &mut slots, &order(), unlocked);
    assert_eq!(owned(old), [1, 0, 1, 1, 3]);
    let unmapped = collected.unmap();
    assert_eq!(owned(old), [0, 0, 1, 1, 4]);
    let unmapped = unmapped.drain_local(mm);
    assert_eq!(owned(old), [0, 0, 1, 0, 4]);
    let checked = unmapped.check();
    assert_eq!((owned(old), checked.in_work()), ([2, 0, 1, 0, 1], 0));
    let _ = checked.copy().finalize();
    // SAFETY: got above.
    unsafe { mm.put(old) };
    assert!(move_one(mm, at, &order()).is_done());
    let new = mm.frame_at(at).unwrap();
    mm.get(new).unwrap();
    assert_eq!((owned(old), owned(new)), ([0; 5], [0, 2, 1, 0, 1]));
    // SAFETY: got above.
    unsafe { mm.put(new) };

    // A faulter has one of its own, and so has the migrator.
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = seen.clone();
    mm.on_prepare(move |pfn| note.lock().unwrap().push(owned(pfn)));
    mm.read(child, 0, &mut [0]).unwrap();
    assert_eq!(*seen.lock().unwrap(), [[0, 2, 1, 0, 2]]);
    let back = mm.frame_at(at).unwrap();
    assert_eq!((owned(new), owned(back)), ([0; 5], [2, 0, 1, 0, 0]));

    // A hole.
    mm.on_prepare(|_| ());
    let hole = parent.page(1);
    mm.map(hole, 1).unwrap();
    let mut slots = [Slot::at(hole)];
    let order = Order::to(DEVICE).tries(1).filling_holes();
    let copied = collect(mm, &mut slots, &order, unlocked).unmap().check().copy();
    mm.balance().unwrap();
    let _ = copied.finalize();
    assert_eq!(owned(mm.frame_at(hole).unwrap()), [0, 1, 0, 0, 0]);

    // And a loss.
    mm.set_lost(back, true);
    let mut slots = [Slot::at(child)];
    let copied = collect(mm, &mut slots, &order, unlocked).unmap().check().copy();
    mm.balance().unwrap();
    let _ = copied.finalize();
    assert_eq!(slots[0].outcome(), Outcome::Poisoned);
    assert_eq!(owned(back), [0, 0, 1, 0, 0], "the cache still has it");
    mm.audit().unwrap();
}

/// I14: and with a large page that is split on the way. Most of its frames move, one is put back
/// and one is lost.
#[test]
fn every_reference_of_a_page_that_is_split_has_an_owner_at_every_step() {
    const SIZE: u32 = 2;
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let parent = mm.spawn().unwrap();
    let at = parent.page(0);
    let head = mm.map_large_by_pages(at, SIZE, RAM).unwrap();
    let frames = head..head + (1 << SIZE);
    let owned = move |pfn| {
        mm.balance().unwrap();
        pagelock::mm::ledger::OWNERS.map(|owner| mm.owned(pfn, owner))
    };
    // Mapping, entry, cache, batch, get.
    assert_eq!(owned(head), [4, 0, 0, 0, 0]);
    mm.fork(parent).unwrap();
    assert_eq!(owned(head), [8, 0, 0, 0, 0]);
    mm.set_lost(head + 3, true);
    let mut slots = [Slot::at(at)];
    let collected = collect(mm, &mut slots, &order(), unlocked);
    assert_eq!(owned(head), [7, 0, 0, 0, 2]);
    let unmapped = collected.unmap();
    assert_eq!(owned(head), [0, 0, 0, 0, 9]);
    let checked = unmapped.check();
    assert_eq!((owned(head), checked.in_work()), ([0, 0, 0, 0, 9], 1));
    let mut new = Vec::new();
    let copied = checked.copy_to(|from, size| {
        let from = from.unwrap();
        if size > 0 {
            assert_eq!(owned(head), [0, 0, 0, 0, 9], "with one header");
            return Err(Abort::NoDestination);
        }
        // Those before this one are through, this one and those after it have the migrator's.
        for pfn in frames.clone() {
            let expected = match pfn.checked_sub(head) {
                // Not split before there is a place for the first.
                _ if from == head => [0, 0, 0, 0, 9],
                Some(1) if pfn < from => [2, 0, 0, 0, 0],
                _ if pfn < from => [0; 5],
                _ => [0, 0, 0, 0, 1],
            };
            assert_eq!(owned(pfn), expected, "frame {pfn} before {from} is copied");
        }
        for &pfn in &new {
            assert_eq!(owned(pfn), [0, 2, 0, 0, 0], "a frame that has arrived");
        }
        if from == head + 1 {
            return Err(Abort::Declined);
        }
        let pfn = mm.allocate(DEVICE, 0).ok_or(Abort::NoDestination)?;
        if from != head + 3 {
            new.push(pfn);
        }
        Ok(pfn)
    });
    assert_eq!(copied.in_work(), 0);
    let _ = copied.finalize();
    assert_eq!((slots[0].outcome(), slots[0].lost()), (Outcome::Split { moved: 2, of: 4 }, 1));
    assert_eq!(frames.map(owned).collect::<Vec<_>>(), [[0; 5], [2, 0, 0, 0, 0], [0; 5], [0; 5]]);
    assert_eq!(new.into_iter().map(owned).collect::<Vec<_>>(), [[0, 2, 0, 0, 0]; 2]);
    mm.audit().unwrap();
}

/// I9, I31, I35: sleepers change no count, and a migration that comes to nothing wakes the same
/// ones as one that does not.
#[test]
fn sleepers_are_invisible_and_all_are_told_either_way() {
    let unlocked = &mut Unlocked::promise();
    for succeeds in [true, false] {
        let (mm, own) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 1);
        let mappings: Vec<At> =
            [at].into_iter().chain((0..3).map(|_| mm.fork(parent).unwrap().page(0))).collect();
        let pfn = mm.frame_at(at).unwrap();
        let page = mm.page(pfn).unwrap();
        with_threads(&[page], |s| {
            let mut slots = [Slot::at(at)];
            let unmapped = collect(mm, &mut slots, &order(), unlocked).unmap();
            for i in 0..12 {
                let at = mappings[i % mappings.len()];
                s.spawn(move || check_all(mm, at, 1));
            }
            own.until_asleep(12);
            assert_eq!((page.refs(), page.pins()), (5, 0), "the migrator's");
            let copied = unmapped.check().copy();
            assert_eq!(copied.in_work(), 1, "nobody was in the way");
            if succeeds {
                let _ = copied.finalize();
            } else {
                drop(copied);
            }
        });
        mm.audit().unwrap();
    }
}
