//! Pages of many frames with one header: moved whole, or split under the frozen header; and claims
//! over ranges.

use crate::common::{
    machine::{DEVICE, Mm, RAM, check_all, machine, move_one, picture, write_all},
    own::Own,
    panic_of,
};
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect, migrate};
use pagelock::mm::{Span, Tiers};
use pagelock_soft::{AccessError, At};

pub(crate) const ORDER: u32 = 3;
pub(crate) const FRAMES: usize = 1 << ORDER;

pub(crate) fn order() -> Order<Mm> {
    Order::to(DEVICE).tries(1)
}

/// A large page in ordinary memory, with something in it.
pub(crate) fn large() -> (&'static Mm, Own, At, u64) {
    let (mm, own) = machine();
    let at = mm.spawn().unwrap().page(0);
    let head = mm.map_large_by_pages(at, ORDER, RAM).unwrap();
    write_all(mm, at, FRAMES);
    mm.audit().unwrap();
    (mm, own, at, head)
}

/// Leaves a tier without two free frames in a row, and with `left` at most.
pub(crate) fn fragment(mm: &Mm, tier: pagelock_soft::TierId, left: usize) {
    let mut taken = Vec::new();
    while let Some(pfn) = mm.allocate(tier, 0) {
        taken.push(pfn);
    }
    let mut free = 0;
    for pfn in taken {
        if pfn % 2 == 1 && free < left {
            mm.free(pfn);
            free += 1;
        } else {
            // In use for good.
            mm.get_free(pfn);
        }
    }
    assert_eq!(mm.free_frames(tier), left);
}

/// Gives an allocated frame an owner.
trait GetFree {
    fn get_free(&self, pfn: u64);
}

impl GetFree for Mm {
    fn get_free(&self, pfn: u64) {
        use pagelock::mm::Memory;
        self.page(pfn).unwrap().activate(1).unwrap();
        self.account(pfn, pagelock::mm::ledger::Owner::Get, pagelock::mm::ledger::Change::Taken);
    }
}

fn is_ordinary(mm: &Mm, at: At) -> bool {
    mm.frame_at(at).is_some_and(|pfn| mm.span(pfn) == Span { head: pfn, order: 0 })
}

#[test]
fn a_large_page_moves_as_one_whichever_of_its_frames_is_named() {
    for named in [0, 5] {
        let (mm, _, at, _) = large();
        let Outcome::Moved { pfn } = move_one(mm, at.space.page(named), &order()) else { panic!() };
        assert_eq!(mm.span(pfn), Span { head: pfn, order: ORDER });
        for (i, at) in at.pages(FRAMES).enumerate() {
            assert_eq!(mm.frame_at(at), Some(pfn + i as u64));
            assert!(matches!(mm.leaf(at), Leaf::DevicePrivate { .. }));
        }
        assert_eq!(mm.page(pfn).unwrap().refs() as usize, FRAMES);
        assert_eq!(mm.free_frames(RAM), 127);
        mm.audit().unwrap();
        // A fault on one frame brings all of them back.
        mm.read(at.space.page(6), 0, &mut [0]).unwrap();
        assert!(at.pages(FRAMES).all(|at| matches!(mm.leaf(at), Leaf::Present { .. })));
        check_all(mm, at, FRAMES);
        mm.audit().unwrap();
    }
}

/// Every frame of it is named in one batch: it is one page all the same.
#[test]
fn a_large_page_in_one_batch_with_itself_moves_once() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _, at, _) = large();
    let mut slots: Vec<_> = at.pages(FRAMES).map(Slot::at).collect();
    let summary = migrate(mm, &mut slots, &order().tries(3), mm, unlocked);
    assert_eq!((summary.done as usize, summary.tries), (FRAMES, 2), "{slots:?}");
    assert_eq!(
        slots.iter().filter(|slot| matches!(slot.outcome(), Outcome::Moved { .. })).count(),
        1
    );
    mm.audit().unwrap();
}

#[test]
fn a_large_page_that_is_partly_unmapped_moves_as_one() {
    let (mm, _, at, _) = large();
    mm.unmap(at.space.page(2), 3).unwrap();
    mm.audit().unwrap();
    let Outcome::Moved { pfn } = move_one(mm, at, &order()) else { panic!() };
    assert_eq!(mm.page(pfn).unwrap().refs() as usize, FRAMES - 3);
    mm.audit().unwrap();
    check_all(mm, at, 2);
    check_all(mm, at.space.page(5), 3);
    assert_eq!(mm.read(at.space.page(3), 0, &mut [0]), Err(AccessError::NotMapped));
    mm.exit(at.space);
    mm.audit().unwrap();
    assert_eq!((mm.free_frames(RAM), mm.free_frames(DEVICE)), (127, 128));
}

#[test]
fn a_large_page_is_split_if_no_such_page_is_free() {
    let (mm, _, at, _) = large();
    fragment(mm, DEVICE, 60);
    assert_eq!(move_one(mm, at, &order()), Outcome::Split { moved: 8, of: 8 });
    assert!(
        at.pages(FRAMES)
            .all(|at| is_ordinary(mm, at) && matches!(mm.leaf(at), Leaf::DevicePrivate { .. }))
    );
    mm.audit().unwrap();
    check_all(mm, at, FRAMES);
    mm.audit().unwrap();
}

#[test]
fn what_finds_no_frame_after_the_split_stays_as_ordinary_pages() {
    let (mm, _, at, head) = large();
    fragment(mm, DEVICE, 5);
    let outcome = move_one(mm, at, &order());
    assert_eq!(outcome, Outcome::Split { moved: 5, of: 8 });
    assert!(!outcome.is_done());
    for (i, at) in at.pages(FRAMES).enumerate() {
        assert!(is_ordinary(mm, at));
        assert_eq!(matches!(mm.leaf(at), Leaf::DevicePrivate { .. }), i < 5);
        if i >= 5 {
            assert_eq!(mm.frame_at(at), Some(head + i as u64), "where it was");
        }
    }
    mm.audit().unwrap();
    check_all(mm, at, FRAMES);
    mm.audit().unwrap();
}

/// Frames that nobody maps any more are free after the split.
#[test]
fn a_large_page_that_is_partly_unmapped_is_split() {
    let (mm, _, at, _) = large();
    mm.unmap(at.space.page(2), 3).unwrap();
    fragment(mm, DEVICE, 6);
    assert_eq!(move_one(mm, at, &order()), Outcome::Split { moved: 8, of: 8 });
    assert_eq!(mm.free_frames(DEVICE), 1);
    mm.audit().unwrap();
    check_all(mm, at, 2);
    check_all(mm, at.space.page(5), 3);
}

/// A fault that cannot have a large page back gets the frame that it wants, and spends no other.
#[test]
fn a_fault_that_has_to_split_brings_back_the_frame_that_it_wants() {
    let (mm, _, at, _) = large();
    move_one(mm, at, &order());
    fragment(mm, RAM, 20);
    mm.read(at.space.page(6), 0, &mut [0]).unwrap();
    for at in at.pages(FRAMES) {
        assert!(is_ordinary(mm, at));
        assert_eq!(matches!(mm.leaf(at), Leaf::Present { .. }), at.page == 6);
    }
    assert_eq!(mm.free_frames(RAM), 19);
    mm.audit().unwrap();
    check_all(mm, at, FRAMES);
    mm.audit().unwrap();
}

/// Some of it comes back, then there is no frame left: the frames that came can be accessed, the
/// others' faults end with the reason.
#[test]
fn a_fault_that_brings_back_a_part_is_no_error_for_that_part() {
    let (mm, _, at, _) = large();
    move_one(mm, at, &order());
    fragment(mm, RAM, 3);
    check_all(mm, at, 3);
    for page in 3..FRAMES {
        let e = mm.read(at.space.page(page), 0, &mut [0]).unwrap_err();
        assert_eq!(e, AccessError::NoMemory);
    }
    check_all(mm, at, 3);
    mm.audit().unwrap();
}

#[test]
fn one_frame_that_cannot_be_read_does_not_take_the_others_with_it() {
    let unlocked = &mut Unlocked::promise();
    for lost in [0, 4, 7] {
        let (mm, _, at, head) = large();
        mm.set_lost(head + lost, true);
        let mut slots = [Slot::at(at)];
        let summary = migrate(mm, &mut slots, &order(), mm, unlocked);
        assert_eq!((slots[0].outcome(), slots[0].lost()), (Outcome::Split { moved: 7, of: 8 }, 1));
        assert_eq!(
            (summary.done, summary.poisoned, summary.left),
            (0, 1, 1),
            "a lost frame is not hidden by the split"
        );
        for at in at.pages(FRAMES) {
            if at.page as u64 == lost {
                assert_eq!(mm.leaf(at), Leaf::Poison { pfn: head + lost });
            } else {
                check_all(mm, at, 1);
            }
        }
        mm.audit().unwrap();
    }
}

#[test]
fn a_split_that_fails_changes_nothing() {
    // A scanner that looks at frames one by one has locked a frame's own header.
    let (mm, _, at, head) = large();
    fragment(mm, DEVICE, 60);
    let before = picture(mm, at);
    let scanned = mm.own_header(head + 5).unwrap().lock();
    assert_eq!(move_one(mm, at, &order()), Outcome::Aborted(Abort::SplitFailed));
    drop(scanned);
    assert_eq!(picture(mm, at), before);
    for pfn in head + 1..head + 8 {
        let own = mm.own_header(pfn).unwrap();
        assert!(
            !own.is_locked() && !own.is_migrating() && !own.is_frozen() && own.refs() == 0,
            "{own:?}"
        );
    }
    mm.audit().unwrap();
    // A cache finds it by its first frame.
    mm.cache(1, head).unwrap();
    let before = picture(mm, at);
    assert_eq!(move_one(mm, at, &order()), Outcome::Aborted(Abort::SplitFailed));
    assert_eq!(picture(mm, at), before);
    mm.audit().unwrap();
}

#[test]
fn a_panic_during_a_split_puts_back_what_is_left() {
    let unlocked = &mut Unlocked::promise();
    for at_frame in [0, 3] {
        let (mm, _, at, head) = large();
        fragment(mm, DEVICE, 60);
        panic_of(|| {
            let mut slots = [Slot::at(at)];
            let _ = collect(mm, &mut slots, &order(), unlocked).unmap().check().copy_to(
                |from, order| match (from, order) {
                    (_, ORDER) => Err(Abort::NoDestination),
                    (Some(pfn), _) if pfn == head + at_frame => panic!("the driver"),
                    _ => mm.allocate(DEVICE, 0).ok_or(Abort::NoDestination),
                },
            );
        });
        for (i, at) in at.pages(FRAMES).enumerate() {
            assert_eq!(
                matches!(mm.leaf(at), Leaf::DevicePrivate { .. }),
                (i as u64) < at_frame,
                "{:?}",
                mm.leaf(at)
            );
        }
        mm.audit().unwrap();
        check_all(mm, at, FRAMES);
    }
}
