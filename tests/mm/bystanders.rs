//! What others may do while a page is on its way: fault, write, fork, protect, move the mapping.

use crate::common::machine::{FAR, Mm, RAM, check_all, machine, move_one, written};
use crate::common::with_threads;
use crate::order;
use pagelock::Cancel;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Order, Slot, collect};
use pagelock::mm::{Faulter, Strategy, Tiers};
use pagelock_soft::{AccessError, At};

fn tier_of(mm: &Mm, at: At) -> pagelock_soft::TierId {
    mm.tier(mm.frame_at(at).unwrap())
}

/// A faulter of a mapping that is still to be taken down finds a device's page that is locked. It
/// waits for that, too, and is not in the way: the window in which the kernel's livelock was.
#[test]
fn a_faulter_of_another_mapping_waits_before_that_is_taken_down() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 1);
    let child = mm.fork(parent).unwrap().page(0);
    move_one(mm, at, &order());
    let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    with_threads(&[page], |s| {
        let mut slots = [Slot::at(at)];
        let collected = collect(mm, &mut slots, &Order::to(RAM), unlocked);
        assert!(matches!(mm.leaf(child), Leaf::DevicePrivate { .. }));
        s.spawn(move || check_all(mm, child, 1));
        own.until_asleep(1);
        let _ = collected.unmap().check().copy().finalize();
        assert!(slots[0].outcome().is_done(), "{slots:?}");
    });
    mm.audit().unwrap();
}

/// I17: what is written while the page is on its way is written to where it goes.
#[test]
fn a_writer_waits_and_writes_to_the_new_page() {
    let unlocked = &mut Unlocked::promise();
    for succeeds in [true, false] {
        let (mm, own) = machine();
        let at = written(mm, mm.spawn().unwrap(), 1);
        with_threads(&[], |s| {
            let mut slots = [Slot::at(at)];
            let copied = collect(mm, &mut slots, &Order::to(FAR), unlocked).unmap().check().copy();
            let pfn = mm.frame_at(at).unwrap();
            s.spawn(move || mm.write(at, 100, b"late").unwrap());
            own.until_asleep(1);
            let mut bytes = [0; 4];
            mm.read_frame(pfn, 100, &mut bytes);
            assert_eq!(bytes, [0; 4], "a write to the source while it is copied");
            if succeeds {
                let _ = copied.finalize();
            } else {
                drop(copied);
            }
        });
        let mut bytes = [0; 4];
        mm.read(at, 100, &mut bytes).unwrap();
        assert_eq!(&bytes, b"late");
        assert_eq!(tier_of(mm, at) == FAR, succeeds);
        check_all(mm, at, 1);
        mm.audit().unwrap();
    }
}

/// I13, I18: a fork in the middle. The child's entry is found again, and neither may write without
/// a copy.
#[test]
fn a_fork_in_the_middle_is_followed() {
    let unlocked = &mut Unlocked::promise();
    for (stage, succeeds) in [(0, true), (1, true), (2, true), (3, true), (1, false), (3, false)] {
        let (mm, _) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 1);
        let mut slots = [Slot::at(at)];
        let mut child = None;
        let mut fork = |now| {
            if now == stage {
                child = Some(mm.fork(parent).unwrap());
            }
        };
        let collected = collect(mm, &mut slots, &Order::to(FAR), unlocked);
        fork(0);
        let unmapped = collected.unmap();
        fork(1);
        let checked = unmapped.check();
        fork(2);
        let copied = checked.copy();
        fork(3);
        if succeeds {
            let _ = copied.finalize();
        } else {
            drop(copied);
        }
        let child = child.unwrap();
        for at in [at, child.page(0)] {
            assert!(
                matches!(mm.leaf(at), Leaf::Present { rights: Rights::Read, .. }),
                "{:?}",
                mm.leaf(at)
            );
        }
        assert_eq!(mm.frame_at(at), mm.frame_at(child.page(0)));
        mm.audit().unwrap();
        mm.write(child.page(0), 8, &[0]).unwrap();
        check_all(mm, at, 1);
        mm.audit().unwrap();
    }
}

/// I18: what is taken away while the page is on its way is not there when it arrives.
#[test]
fn protection_in_the_middle_holds_on_arrival() {
    let unlocked = &mut Unlocked::promise();
    for succeeds in [true, false] {
        let (mm, _) = machine();
        let at = written(mm, mm.spawn().unwrap(), 1);
        let mut slots = [Slot::at(at)];
        let copied = collect(mm, &mut slots, &Order::to(FAR), unlocked).unmap().check().copy();
        mm.protect(at, 1, Some(Rights::Read)).unwrap();
        if succeeds {
            let _ = copied.finalize();
        } else {
            drop(copied);
        }
        assert_eq!(mm.leaf(at).rights(), Some(Rights::ReadExclusive));
        assert_eq!(mm.write(at, 0, &[1]), Err(AccessError::NotAllowed));
        check_all(mm, at, 1);
        // Given back, it is nobody else's still, and needs no copy.
        let pfn = mm.frame_at(at);
        mm.protect(at, 1, Some(Rights::Write)).unwrap();
        mm.write(at, 100, &[1]).unwrap();
        assert_eq!(mm.frame_at(at), pfn);
        mm.audit().unwrap();
    }
}

#[test]
fn a_page_that_is_moved_to_another_address_in_the_middle_is_found_there() {
    let unlocked = &mut Unlocked::promise();
    for (to, succeeds) in [(1, true), (100, true), (1, false), (100, false)] {
        let (mm, _) = machine();
        let at = written(mm, mm.spawn().unwrap(), 1);
        let new = at.space.page(to);
        let mut slots = [Slot::at(at)];
        let copied = collect(mm, &mut slots, &Order::to(FAR), unlocked).unmap().check().copy();
        mm.remap(at, new, 1, false).unwrap();
        if succeeds {
            let _ = copied.finalize();
        } else {
            drop(copied);
        }
        assert_eq!(mm.leaf(at), Leaf::None);
        mm.remap(new, at, 1, false).unwrap();
        check_all(mm, at, 1);
        assert_eq!(tier_of(mm, at) == FAR, succeeds);
        mm.audit().unwrap();
    }
}

#[test]
fn a_waiter_that_is_cancelled_is_gone_without_a_trace() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let kill = Cancel::with_futex(own);
    with_threads(&[], |s| {
        let mut slots = [Slot::at(at)];
        let unmapped = collect(mm, &mut slots, &Order::to(FAR), unlocked).unmap();
        let waiter = s.spawn(|| {
            mm.read_with(at, 0, &mut [0], &mut Faulter::new(Strategy::Wait).cancellable(&kill))
        });
        own.until_asleep(1);
        kill.cancel();
        assert_eq!(waiter.join().unwrap(), Err(AccessError::Cancelled));
        let _ = unmapped.check().copy().finalize();
        assert!(slots[0].outcome().is_done());
    });
    mm.audit().unwrap();
}

/// Waiters of a page whose contents are lost get the error and do not sleep for ever (I25).
#[test]
fn waiters_of_a_page_that_is_lost_are_told() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let pfn = mm.frame_at(at).unwrap();
    with_threads(&[mm.page(pfn).unwrap()], |s| {
        let mut slots = [Slot::at(at)];
        let checked = collect(mm, &mut slots, &order(), unlocked).unmap().check();
        let waiters: Vec<_> = (0..4).map(|_| s.spawn(move || mm.read(at, 0, &mut [0]))).collect();
        own.until_asleep(4);
        mm.set_lost(pfn, true);
        let _ = checked.copy().finalize();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(AccessError::Poisoned { pfn }));
        }
    });
    mm.audit().unwrap();
}
