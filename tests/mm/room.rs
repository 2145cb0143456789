//! Where a page goes: within its tier, to a destination that is busy, to one that has room made for
//! it.

use crate::common::machine::{DEVICE, RAM, check_all, machine, move_one, written};
use crate::order;
use crate::waiting::small;
use pagelock::Limits;
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Order, Outcome, Skip, Slot, evict, migrate};
use pagelock::mm::pin::Term;
use pagelock::mm::{Access, Fault, Faulter, Span, Strategy, Tiers, Why, claim_range, fault};
use pagelock_soft::{AccessError, Kind, MapError, Soft, TierId};

/// (a) With no room, nothing is split. (b) A fault spends one frame, on what was wanted. (c)
/// Whether to split is the order's.
#[test]
fn no_page_is_split_for_nothing() {
    let tiers = [(Kind::System, 120), (Kind::Device { owner: 1 }, 0)];
    let mm = small(64, &tiers);
    let s = mm.spawn().unwrap();
    let head = mm.map_large_by_pages(s.page(1), 4, TierId(0)).unwrap();
    let moved = |mm: &'static Soft, at, order: Order<Soft>| {
        let mut slots = [Slot::at(at)];
        let _ = migrate(mm, &mut slots, &order, mm, &mut Unlocked::promise());
        slots[0].outcome()
    };
    assert_eq!(moved(mm, s.page(1), Order::to(TierId(1))), Outcome::Aborted(Abort::NoDestination));
    assert_eq!(mm.span(head).order, 4);
    mm.audit().unwrap();

    let mm = small(64, &[(Kind::System, 8), (Kind::Device { owner: 1 }, 64)]);
    let s = mm.spawn().unwrap();
    mm.map_large_by_pages(s.page(1), 4, TierId(1)).unwrap();
    mm.read(s.page(16), 0, &mut [0]).unwrap();
    assert_eq!(mm.free_frames(TierId(0)), 6, "one for the page that was read");
    mm.audit().unwrap();

    let mm = small(64, &[(Kind::System, 120), (Kind::Device { owner: 1 }, 7)]);
    let s = mm.spawn().unwrap();
    let head = mm.map_large_by_pages(s.page(1), 4, TierId(0)).unwrap();
    assert_eq!(
        moved(mm, s.page(1), Order::to(TierId(1)).whole()),
        Outcome::Aborted(Abort::NoDestination)
    );
    assert_eq!(mm.span(head).order, 4);
    assert_eq!(moved(mm, s.page(1), Order::to(TierId(1))), Outcome::Split { moved: 7, of: 16 });
    mm.audit().unwrap();
}

/// Out of a frame and into the same tier: by its number, by a range that is left, by a predicate.
#[test]
fn a_page_moves_within_its_tier() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 4);
    let pfn = mm.frame_at(at).unwrap();
    let outcome = evict(mm, pfn, &Order::to(RAM), Limits::none(), mm, &mut Unlocked::promise());
    assert!(matches!(outcome, Outcome::Moved { pfn: new } if new != pfn), "{outcome:?}");
    // Memory goes offline: none of its frames is used again, though they are free by then.
    let range = 0..mm.frame_at(at).unwrap().max(8) + 1;
    let mut slots: Vec<_> = range.clone().filter(|&pfn| pfn > 0).map(Slot::frame).collect();
    let summary = migrate(
        mm,
        &mut slots,
        &Order::to(RAM).out_of(range.clone()),
        mm,
        &mut Unlocked::promise(),
    );
    assert_eq!(summary.left, 0, "{slots:?}");
    assert!(at.pages(4).all(|at| !range.contains(&mm.frame_at(at).unwrap())));
    // What is not in it is nobody's business.
    assert_eq!(
        move_one(mm, at, &Order::to(RAM).out_of(range)),
        Outcome::Skipped(Skip::NotSelected)
    );
    // Compaction: whatever is in an odd frame.
    let order = Order::to(RAM).only(|_, span: Span| span.head % 2 == 1);
    for at in at.pages(4) {
        let pfn = mm.frame_at(at).unwrap();
        assert_eq!(matches!(move_one(mm, at, &order), Outcome::Moved { .. }), pfn % 2 == 1);
    }
    assert!(matches!(move_one(mm, at, &Order::to(RAM).from(RAM)), Outcome::Moved { .. }));
    assert_eq!(move_one(mm, at, &Order::to(RAM)), Outcome::AlreadyThere);
    check_all(mm, at, 4);
    mm.audit().unwrap();
}

/// A free frame that a thread has locked is not handed out again until the batch has its places.
#[test]
fn a_busy_destination_is_not_tried_twice() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 32);
    let first = mm.frames_of(DEVICE).start;
    let kept: Vec<_> = claim_range(mm, first..first + 1).collect();
    assert_eq!(kept.len(), 1);
    let mut slots: Vec<_> = at.pages(32).map(Slot::at).collect();
    let summary = migrate(mm, &mut slots, &order(), mm, &mut Unlocked::promise());
    assert_eq!((summary.done, summary.left), (32, 0), "{slots:?}");
    assert_eq!(mm.free_frames(DEVICE), 128 - 32, "and it is free again");
    drop(kept);
    // Where there is no other, it is waited for.
    let mm = small(8, &[(Kind::System, 8), (Kind::Device { owner: 1 }, 1)]);
    let at = mm.spawn().unwrap().page(0);
    mm.map(at, 1).unwrap();
    mm.write(at, 0, &[1]).unwrap();
    let kept: Vec<_> = claim_range(mm, mm.frames_of(TierId(1))).collect();
    let mut slots = [Slot::at(at)];
    assert_eq!(
        migrate(mm, &mut slots, &Order::to(TierId(1)).tries(1), mm, &mut Unlocked::promise())
            .transient,
        1
    );
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::DestinationBusy));
    assert_eq!(mm.free_frames(TierId(1)), 1);
    drop(kept);
}

/// RAM that is full for a moment is no error, if the embedder makes room.
#[test]
fn a_fault_without_a_frame_has_room_made_for_it() {
    let mm = small(4, &[(Kind::System, 3), (Kind::Device { owner: 1 }, 4)]);
    let here = mm.spawn().unwrap().page(0);
    mm.map(here, 1).unwrap();
    mm.write(here, 0, b"hello").unwrap();
    let mut slots = [Slot::at(here)];
    assert_eq!(
        migrate(mm, &mut slots, &Order::to(TierId(1)), mm, &mut Unlocked::promise()).done,
        1
    );
    let mut taken: Vec<u64> = std::iter::from_fn(|| mm.allocate(TierId(0), 0)).collect();
    let faulter = || Faulter::new(Strategy::Wait).patience(20);
    assert_eq!(mm.read_with(here, 0, &mut [0], &mut faulter()), Err(AccessError::NoMemory));
    let mut rounds = 0;
    mm.on_full(move |at| {
        assert_eq!(at, here);
        rounds += 1;
        if rounds == 3 {
            mm.free(taken.pop().unwrap());
        }
        true
    });
    assert_eq!(fault(mm, here, Access::Read, &mut faulter()), Ok(Fault::Retry(Why::Full)));
    let mut bytes = [0; 5];
    mm.read_with(here, 0, &mut bytes, &mut faulter()).unwrap();
    assert_eq!(&bytes, b"hello");
}

/// The pin's holder would go on writing to a page that is at no address.
#[test]
fn a_pinned_page_is_not_discarded() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 3);
    let pin = mm.pin(at.space.page(1), Access::Write, Term::Long, unlocked).unwrap();
    assert_eq!(mm.discard(at, 3), Err(MapError::Pinned { pages: 1 }));
    assert_eq!(
        [0, 1, 2].map(|page| mm.leaf(at.space.page(page)) == Leaf::None),
        [true, false, true]
    );
    drop(pin);
    mm.discard(at, 3).unwrap();
    mm.audit().unwrap();
}
