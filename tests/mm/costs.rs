//! What a page costs, counted: page-table locks, invalidations, walks of the reverse map, flushes.
//! Exact, so that one more fails a build.

use crate::common::machine::{DEVICE, Mm, RAM, check_all, machine, written};
use pagelock::mm::Tiers;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Order, Slot, collect, migrate};
use pagelock_soft::{At, Counted, SpaceId};

fn moved(mm: &'static Mm, slots: &mut [Slot<'static, Mm>], order: &Order<Mm>) -> Counted {
    let before = mm.counted();
    let summary = migrate(mm, slots, order, mm, &mut Unlocked::promise());
    assert_eq!((summary.done as usize, summary.tries), (slots.len(), 1), "{slots:?}");
    mm.counted().since(before)
}

/// `pages` pages, each with `mappings` mappings.
fn pages(pages: usize, mappings: usize) -> (&'static Mm, At) {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, pages);
    let spaces: Vec<SpaceId> = (1..mappings).map(|_| mm.fork(space).unwrap()).collect();
    assert!(at.pages(pages).all(|at| mm.mappings(mm.frame_at(at).unwrap()) == spaces.len() + 1));
    (mm, at)
}

/// By address: the entry that leads to the page is visited once on the way down, and so is every
/// other; and once on the way up.
#[test]
fn an_entry_costs_one_lock_and_one_invalidation_each_way() {
    for mappings in [1, 2, 4, 9] {
        let (mm, at) = pages(1, mappings);
        let n = mappings as u64;
        let counted = moved(mm, &mut [Slot::at(at)], &Order::to(DEVICE));
        // One walk for each direction, and none to take down what is taken down already.
        let walks = if mappings == 1 { 1 } else { 2 };
        assert_eq!(
            counted,
            Counted { locks: 2 * n, invalidations: n, walks, flushes: 1 },
            "{mappings} mappings"
        );
    }
}

#[test]
fn the_same_by_frame() {
    for mappings in [1, 4] {
        let (mm, at) = pages(1, mappings);
        let n = mappings as u64;
        let counted = moved(mm, &mut [Slot::frame(mm.frame_at(at).unwrap())], &Order::to(DEVICE));
        assert_eq!(
            counted,
            Counted { locks: 2 * n, invalidations: n, walks: 2, flushes: 1 },
            "{mappings} mappings"
        );
    }
}

/// However many pages there are.
#[test]
fn a_batch_costs_one_flush() {
    let (mm, at) = pages(64, 4);
    let mut slots: Vec<_> = at.pages(64).map(Slot::at).collect();
    let counted = moved(mm, &mut slots, &Order::to(DEVICE));
    assert_eq!(
        counted,
        Counted { locks: 8 * 64, invalidations: 4 * 64, walks: 2 * 64, flushes: 1 }
    );
    let mut slots: Vec<_> = at.pages(64).map(Slot::at).collect();
    assert_eq!(moved(mm, &mut slots, &Order::to(RAM).batch(16)).flushes, 4);
    check_all(mm, at, 64);
}

/// The flush comes when every entry is taken down, and before the page is looked at; what is put
/// back before that is flushed as well, for it may be unmapped meanwhile, and free.
#[test]
fn the_flush_is_between_unmap_and_check() {
    let unlocked = &mut Unlocked::promise();
    let (mm, at) = pages(4, 2);
    let order = Order::to(DEVICE);
    let mut slots: Vec<_> = at.pages(4).map(Slot::at).collect();
    let flushes = || mm.counted().flushes;
    let before = flushes();
    let collected = collect(mm, &mut slots, &order, unlocked);
    assert_eq!(flushes(), before);
    let unmapped = collected.unmap();
    assert_eq!(flushes(), before + 1);
    let _ = unmapped.check().copy().finalize();
    assert_eq!(flushes(), before + 1);
    let order = Order::to(RAM);
    drop(collect(mm, &mut slots[..1], &order, unlocked));
    let mut slots: Vec<_> = at.pages(4).map(Slot::at).collect();
    drop(collect(mm, &mut slots, &order, unlocked));
    assert_eq!(flushes(), before + 2, "once for what was put back");
    mm.audit().unwrap();
}

/// A fault that brings a page back: one lock to look, and each entry once in either direction.
#[test]
fn a_fault_costs_each_entry_once_each_way() {
    for mappings in [1, 4] {
        let (mm, at) = pages(1, mappings);
        let n = mappings as u64;
        moved(mm, &mut [Slot::at(at)], &Order::to(DEVICE));
        let before = mm.counted();
        let mut faulter = pagelock::mm::Faulter::new(pagelock::mm::Strategy::Wait);
        let fault = pagelock::mm::fault(mm, at, pagelock::mm::Access::Read, &mut faulter);
        assert_eq!(fault, Ok(pagelock::mm::Fault::Resolved));
        assert_eq!(
            mm.counted().since(before),
            Counted { locks: 1 + 2 * n, invalidations: n, walks: 2, flushes: 1 }
        );
        assert!(mm.is_accessible(mm.tier(mm.frame_at(at).unwrap())));
    }
}

/// A slot is what a caller has a million of.
#[test]
fn a_slot_is_at_most_64_bytes() {
    assert!(
        size_of::<At>() == 16 && size_of::<Slot<'_, Mm>>() <= 64,
        "{}",
        size_of::<Slot<'_, Mm>>()
    );
}
