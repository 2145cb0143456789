//! Pages that cannot be read: poisoned, and no other with them (I25).

use crate::common::machine::{RAM, check_all, machine, move_one, picture, written};
use crate::moved::order;
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Outcome, Skip, Slot, migrate};
use pagelock_soft::AccessError;

/// One page of three cannot be read. It is lost, and every access to it says so; the others are
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
