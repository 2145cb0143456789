//! The edges of moving pages: what may be waited for with what in hand, what is never lost, what
//! does not happen for nothing.

#![cfg(all(feature = "std", not(pagelock_loom)))]

mod common;

use common::machine::{
    DEVICE, FAR, Mm, RAM, check_all, exclusive, machine, move_one, picture, written,
};
use common::own::within;
use common::watched;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::exclusive::make_exclusive;
use pagelock::mm::migrate::{Abort, Mode, Order, Outcome, Skip, Slot, collect, evict, migrate};
use pagelock::mm::pin::{Backing, PinOrder, PinSlot, Term, pin_range};
use pagelock::mm::{
    Access, Cause, CopyError, Fault, Faulter, Memory, Notice, Span, Strategy, Tiers, Why,
    claim_range, condemn, fault, resolve,
};
use pagelock::{Limits, UserBits};
use pagelock_soft::{AccessError, Backed, Config, Kind, MapError, Soft, TierConfig, TierId};
use std::sync::{Arc, Mutex};
use std::thread;

fn order() -> Order<Mm> {
    Order::to(DEVICE).tries(1)
}

/// A machine that one test has to itself: pages of 64 bytes, so many of them in a space.
fn small(pages: usize, tiers: &[(Kind, usize)]) -> &'static Soft {
    let tiers = tiers.iter().map(|&(kind, frames)| TierConfig { kind, frames }).collect();
    Box::leak(Box::new(Soft::new(Config { page_size: 64, pages, spaces: 4, tiers, batches: 0 })))
}

/// I23: what may sleep is asked for one page alone, and the batch waits for nothing. A page whose
/// `prepare` is refused for that is not given up.
#[test]
fn a_page_that_has_to_be_waited_for_is_waited_for_alone() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 3);
    let frames: Vec<u64> = at.pages(3).map(|at| mm.frame_at(at).unwrap()).collect();
    let slow = frames[1];
    let asked = Arc::new(Mutex::new(Vec::new()));
    let note = asked.clone();
    mm.on_ask(move |pfn, mode| {
        if mode != Mode::Async {
            // This is where it would sleep, for somebody who wants another of these pages' locks.
            assert!(
                frames.iter().all(|&other| other == pfn || !mm.page(other).unwrap().is_locked())
            );
        }
        note.lock().unwrap().push((pfn, mode));
        pfn != slow || mode == Mode::Sync
    });
    let mut slots: Vec<_> = at.pages(3).map(Slot::at).collect();
    let summary = migrate(mm, &mut slots, &order().mode(Mode::Sync), mm, &mut Unlocked::promise());
    assert_eq!(
        (summary.done, slots.iter().filter(|slot| slot.outcome().is_done()).count()),
        (3, 3),
        "{slots:?}"
    );
    assert_eq!(
        asked.lock().unwrap().iter().filter(|(_, mode)| *mode == Mode::Sync).collect::<Vec<_>>(),
        [&(slow, Mode::Sync)]
    );
    mm.audit().unwrap();
}

/// And whoever has a faulter's page in hand waits for nothing, however few pages there are.
#[test]
fn a_fault_is_never_asked_to_wait() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    assert!(move_one(mm, at, &order()).is_done());
    mm.on_ask(|_, mode| {
        assert_eq!(mode, Mode::Async);
        true
    });
    check_all(mm, at, 1);
}

/// A large page is being taken away, which waits for its pins; a pinner that has some of it waits
/// for the page, without a pin in hand.
#[test]
fn a_pinner_of_a_range_holds_no_pin_while_it_waits() {
    let tier = |kind| TierConfig { kind, frames: 128 };
    let own = common::own::Own::new(64);
    let config = Config {
        page_size: 64,
        pages: 64,
        spaces: 2,
        tiers: vec![tier(Kind::System), tier(Kind::Coherent { owner: 1 })],
        batches: 0,
    };
    let mm: &'static Mm =
        Box::leak(Box::new(Soft::on(own, pagelock::mm::drain::ThreadCpus, config)));
    let at = mm.spawn().unwrap().page(1);
    mm.map_large_by_pages(at, 2, RAM).unwrap();
    mm.map(at.space.page(8), 1).unwrap();
    let pfn = mm.frame_at(at).unwrap();
    let policy = Backed(|_| Backing::Anonymous);
    let order = PinOrder::new(Access::Write, Term::Short, Limits::none());
    watched(&[mm.page(pfn).unwrap()], || {
        thread::scope(|s| {
            // Two frames of it, something else, and another frame.
            let mut slots: Vec<_> =
                [1, 2, 8, 3].map(|page| PinSlot::new(at.space.page(page))).into();
            pin_range(mm, &mut slots[..2], &order, &policy, mm, &mut Unlocked::promise()).unwrap();
            assert_eq!(mm.page(pfn).unwrap().pins(), 1, "one for the whole");
            let evictor = s.spawn(move || {
                evict(mm, pfn, &Order::to(TierId(1)), Limits::none(), mm, &mut Unlocked::promise())
            });
            own.until_asleep(1);
            // The last cannot be pinned any more, so it is waited for; and that would be for ever,
            // with the pin of the first two.
            pin_range(mm, &mut slots, &order, &policy, mm, &mut Unlocked::promise()).unwrap();
            assert!(evictor.join().unwrap().is_done());
            let tiers: Vec<_> =
                slots.iter().map(|slot| slot.pfn.map(|pfn| mm.tier(pfn).0)).collect();
            assert_eq!(tiers, [Some(1), Some(1), Some(0), Some(1)]);
        });
    });
    assert!(mm.pin_balance().is_even());
    mm.audit().unwrap();
}

/// A page that is pinned is copied by a fork, also while its entry is down: the forker's own pin is
/// not waited for.
#[test]
fn a_fork_copies_a_pinned_page_that_is_on_its_way() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 1);
    let pin = mm.pin(at, Access::Write, Term::Long, unlocked).unwrap();
    let mut slots = [Slot::at(at)];
    let unmapped = collect(mm, &mut slots, &Order::to(FAR).even_pinned(), unlocked).unmap();
    let child = watched(&[], || mm.fork(space).unwrap());
    assert!(matches!(mm.leaf(child.page(0)), Leaf::Present { pfn, .. } if pfn != pin.pfn()));
    let _ = unmapped.check().copy().finalize();
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::Pinned { pins: 1 }));
    assert_eq!(mm.frame_at(at), Some(pin.pfn()), "and the parent keeps it");
    check_all(mm, child.page(0), 1);
    drop(pin);
    mm.audit().unwrap();
}

/// A migration entry owns no reference, so a fork is refused while there is still one for each that
/// comes up again.
#[test]
fn forks_in_the_middle_are_refused_before_a_mapping_is_lost() {
    const SIZE: u32 = 9;
    let frames = 2048;
    let tiers = vec![
        TierConfig { kind: Kind::System, frames },
        TierConfig { kind: Kind::Device { owner: 1 }, frames },
    ];
    let mm = Soft::new(Config { page_size: 8, pages: 513, spaces: 1100, tiers, batches: 0 });
    let parent = mm.spawn().unwrap();
    // Not where a large entry could be: every page has an entry of its own, and a reference.
    let at = parent.page(1);
    mm.map_large_by_pages(at, SIZE, TierId(0)).unwrap();
    mm.write(at, 0, &[42]).unwrap();
    let mut all = vec![parent];
    while let Ok(child) = mm.fork(parent) {
        all.push(child);
    }
    assert!(all.len() > 1000);
    let mut slots = [Slot::at(at)];
    let order = Order::to(TierId(1)).tries(1);
    let unlocked = &mut Unlocked::promise();
    let checked = collect(&mm, &mut slots, &order, unlocked).unmap().check();
    assert_eq!(checked.in_work(), 1);
    for _ in 0..3 {
        assert!(matches!(mm.fork(parent), Err(MapError::Uncountable(_))), "nobody could count it");
    }
    let summary = checked.copy().finalize();
    assert_eq!((summary.done, summary.poisoned), (1, 0));
    for space in all {
        assert!(
            matches!(mm.leaf(space.page(1)), Leaf::DevicePrivate { .. }),
            "{:?}",
            mm.leaf(space.page(1))
        );
    }
    mm.audit().unwrap();
}

/// If they are not refused, the loss is no success.
#[test]
fn a_summary_never_calls_a_loss_done() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 1);
    let other = space.page(9);
    mm.map(other, 1).unwrap();
    let mut slots = [Slot::at(at)];
    let order = order();
    let copied = collect(mm, &mut slots, &order, unlocked).unmap().check().copy_to(|_, size| {
        let pfn = mm.allocate(DEVICE, size).ok_or(Abort::NoDestination)?;
        Ok(pfn)
    });
    let source = mm.frame_at(at).unwrap();
    // One more entry, by somebody who does not count, and as many references to where the page goes
    // as there can be.
    let leaf = mm.leaf(at);
    mm.entry(other).set_leaf(leaf);
    let new = mm.frames_of(DEVICE).find(|&pfn| mm.page(pfn).unwrap().refs() > 0).unwrap();
    let page = mm.page(new).unwrap();
    let taken = pagelock::MAX_REFS - page.refs();
    for _ in 0..taken {
        page.try_get().unwrap().into_raw();
    }
    let summary = copied.finalize();
    assert_eq!((summary.done, summary.poisoned, summary.left), (0, 1, 1));
    assert_eq!(slots[0].outcome(), Outcome::Uncounted { pfn: new, entries: 1 });
    let leaves = [mm.leaf(at), mm.leaf(other)];
    assert_eq!(
        leaves.iter().filter(|leaf| **leaf == Leaf::Poison { pfn: source }).count(),
        1,
        "{leaves:?}"
    );
}

/// What belongs to the page goes with it, both ways, and nothing stays with the frame.
#[test]
fn what_belongs_to_the_page_moves_with_it() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let old = mm.frame_at(at).unwrap();
    mm.header(old).unwrap().lock().set_user(UserBits::new(3));
    let moved = Arc::new(Mutex::new(Vec::new()));
    let note = moved.clone();
    mm.on_moved(move |from, to| {
        assert!(mm.page(from).unwrap().is_frozen() && mm.page(to).unwrap().is_locked());
        note.lock().unwrap().push((from, to));
    });
    let user = |pfn| mm.header(pfn).unwrap().user().get();
    let Outcome::Moved { pfn: new } = move_one(mm, at, &order()) else { panic!() };
    assert_eq!((user(old), user(new)), (0, 3));
    check_all(mm, at, 1); // back, by a fault
    let back = mm.frame_at(at).unwrap();
    assert_eq!((user(new), user(back)), (0, 3));
    assert_eq!(*moved.lock().unwrap(), [(old, new), (new, back)]);
    // What is put back keeps it, and nothing is told.
    mm.fail_copies(DEVICE, 1);
    assert_eq!(move_one(mm, at, &order()), Outcome::Aborted(Abort::CopyFailed));
    assert_eq!((user(back), moved.lock().unwrap().len()), (3, 2));
}

/// Until the driver has programmed its device nobody takes the page away; and afterwards the device
/// is told before anybody does.
#[test]
fn an_exclusive_page_is_handed_over_locked_and_revoked_with_notice() {
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = told.clone();
    mm.on_notice(move |at, _, notice: Option<Notice>| {
        if let Some(notice) = notice {
            note.lock().unwrap().push((at, notice.cause, notice.owner));
        }
    });
    let device = Arc::new(Mutex::new(None));
    let revoked = device.clone();
    mm.on_revoke(move |pfn| assert_eq!(revoked.lock().unwrap().take(), Some(pfn)));
    let exclusive = pagelock::mm::exclusive::make_exclusive_for(mm, at, 7).unwrap();
    let page = mm.page(exclusive.pfn()).unwrap();
    assert!(page.is_locked() && page.refs() == 2);
    let ticket = thread::scope(|s| {
        let reader = s.spawn(move || check_all(mm, at, 1));
        own.until_asleep(1);
        *device.lock().unwrap() = Some(exclusive.pfn());
        let ticket = mm.notifier(space).unwrap().try_ticket().unwrap();
        drop(exclusive);
        reader.join().unwrap();
        ticket
    });
    assert!(
        !mm.notifier(space).unwrap().is_good(ticket),
        "whoever keeps a copy of the entry is told"
    );
    assert_eq!(*told.lock().unwrap(), [(at, Cause::Exclusive, 7), (at, Cause::Revoke, 0)]);
    mm.audit().unwrap();
}

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

/// A memory error in a page that is mapped, in several places, one of them a device's own.
#[test]
fn a_page_that_is_found_lost_is_lost_to_every_entry() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 2);
    let child = mm.fork(space).unwrap();
    let pfn = mm.frame_at(at).unwrap();
    let pin = mm.page(pfn).unwrap().try_pin().unwrap();
    let condemned = condemn(mm, pfn, mm.page(pfn).unwrap().lock());
    assert_eq!((condemned.entries, condemned.pins), (2, 1));
    drop(pin);
    for space in [space, child] {
        assert_eq!(mm.read(space.page(0), 0, &mut [0]), Err(AccessError::Poisoned { pfn }));
    }
    mm.exit(child);
    let other = space.page(1);
    mm.write(other, 0, &[1]).unwrap();
    let pfn = exclusive(mm, other).unwrap();
    let stopped = Arc::new(AtomicUsize::new(0));
    let told = stopped.clone();
    mm.on_revoke(move |_| {
        told.fetch_add(1, SeqCst);
    });
    assert_eq!(condemn(mm, pfn, mm.page(pfn).unwrap().lock()).entries, 1);
    assert_eq!(stopped.load(SeqCst), 1);
    assert_eq!(mm.write(other, 0, &[1]), Err(AccessError::Poisoned { pfn }));
    mm.balance().unwrap();
    assert!(mm.allocate(RAM, 0).is_none_or(|free| free != pfn));
}

/// A device that has a page to itself does not keep it for ever: whoever may wait has it stopped.
#[test]
fn an_exclusive_page_can_be_taken_away() {
    for by_frame in [false, true] {
        let (mm, own) = machine();
        let at = written(mm, mm.spawn().unwrap(), 2);
        let stopped = Arc::new(AtomicUsize::new(0));
        let told = stopped.clone();
        let frames = [0, 1].map(|page| mm.frame_at(at.space.page(page)).unwrap());
        mm.on_revoke(move |pfn| {
            assert!(
                frames.iter().all(|&other| other == pfn || !mm.page(other).unwrap().is_locked()),
                "with nothing else in hand"
            );
            told.fetch_add(1, SeqCst);
        });
        let slots =
            || -> Vec<Slot<'static, Mm>> {
                at.pages(2)
                    .map(|at| {
                        if by_frame { Slot::frame(mm.frame_at(at).unwrap()) } else { Slot::at(at) }
                    })
                    .collect()
            };
        exclusive(mm, at).unwrap();
        let mut some = slots();
        let _ = migrate(mm, &mut some, &order(), mm, &mut Unlocked::promise());
        assert!(
            !some[0].outcome().is_done()
                && some[1].outcome().is_done()
                && stopped.load(SeqCst) == 0,
            "{some:?}"
        );
        check_all(mm, at.space.page(1), 1);
        let mut all = slots();
        let summary =
            migrate(mm, &mut all, &order().mode(Mode::SyncLight), mm, &mut Unlocked::promise());
        assert_eq!((summary.done, stopped.load(SeqCst)), (2, 1), "{all:?}");
        check_all(mm, at, 2);
        let pfn = exclusive(mm, at).unwrap();
        let outcome =
            evict(mm, pfn, &Order::to(FAR), within(own, 5000), mm, &mut Unlocked::promise());
        assert!(outcome.is_done(), "{outcome:?}");
        check_all(mm, at, 2);
        mm.audit().unwrap();
    }
}

/// A free frame whose lock somebody has is not handed out again until the batch has its places.
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

/// RAM that is full for a moment is no error, if there is somebody who makes room.
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

/// A copy that did not work says nothing about what was to be copied.
#[test]
fn a_failed_copy_of_a_whole_page_loses_nothing() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 1);
    let pin = mm.pin(at, Access::Write, Term::Long, unlocked).unwrap();
    let before = picture(mm, at);
    mm.fail_copies(RAM, 1);
    assert_eq!(mm.fork(space), Err(MapError::CopyFailed));
    assert_eq!(picture(mm, at), before);
    mm.set_lost(pin.pfn(), true);
    let child = mm.fork(space).unwrap();
    assert_eq!(mm.leaf(child.page(0)), Leaf::Poison { pfn: pin.pfn() });
    mm.set_lost(pin.pfn(), false);
    drop(pin);
    mm.exit(child);
    // To pin for reading what is shared gives it a page of its own.
    let child = mm.fork(space).unwrap();
    mm.fail_copies(RAM, 1);
    let error = mm.pin(at, Access::Read, Term::Short, unlocked).unwrap_err();
    assert_eq!(
        error,
        pagelock::mm::pin::NotPinned::Unsettled(AccessError::NotBrought(Outcome::Aborted(
            Abort::CopyFailed
        )))
    );
    check_all(mm, child.page(0), 1);
    let _ = CopyError::Failed;
    mm.audit().unwrap();
}

/// Whoever has pinned a page would go on writing to what is at no address.
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

/// A long list is moved in batches, and between two of them nothing is held.
#[test]
fn a_batch_is_capped_and_others_get_a_turn() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 100);
    let rests = Arc::new(AtomicUsize::new(0));
    let note = rests.clone();
    mm.on_rest(move || {
        assert!((1..mm.frame_count() as u64).all(|pfn| !mm.page(pfn).unwrap().is_locked()));
        note.fetch_add(1, SeqCst);
    });
    let mut slots: Vec<_> = at.pages(100).map(Slot::at).collect();
    let summary = migrate(mm, &mut slots, &order().batch(8), mm, &mut Unlocked::promise());
    assert_eq!((summary.done, summary.left, summary.tries), (100, 0, 1));
    assert_eq!(rests.load(SeqCst), 12);
    // The stages take no more either.
    let mut slots: Vec<_> = at.pages(100).map(Slot::at).collect();
    let order = Order::to(FAR).batch(8);
    let unlocked = &mut Unlocked::promise();
    assert_eq!(collect(mm, &mut slots, &order, unlocked).in_work(), 8);
    mm.audit().unwrap();
}

/// Whether instructions may be fetched is not in a leaf: the entry is asked, and the answer is one
/// that ends.
#[test]
fn a_page_without_the_right_to_execute_has_an_answer_of_its_own() {
    use pagelock::leaf::UnknownLeaf;
    use pagelock::mm::{Brought, Entry, Tables, ToRam};
    use pagelock::{OsFutex, PageLock};
    struct Nx(PageLock);
    struct Pte(bool);
    impl Entry for Pte {
        fn get(&self) -> Result<Leaf, UnknownLeaf> {
            Ok(Leaf::Present { pfn: 0, rights: Rights::Write, tracking: Tracking::default() })
        }
        fn set(&mut self, _leaf: Leaf) {}
        fn may_execute(&self) -> bool {
            self.0
        }
    }
    impl Tables for Nx {
        type Address = usize;
        type Entry<'t> = Pte;
        fn lock(&self, at: usize) -> Option<Pte> {
            (at < 2).then_some(Pte(at == 1))
        }
    }
    impl Memory for Nx {
        type Futex = OsFutex;
        type Error = ();
        fn header(&self, _pfn: u64) -> Option<&PageLock> {
            Some(&self.0)
        }
        fn migrate_to_ram(&self, _request: ToRam<'_, usize, OsFutex>) -> Result<Brought, ()> {
            Err(())
        }
    }
    let nx = Nx(PageLock::new());
    let what = |at, access| resolve(&nx, at, access, &mut Faulter::new(Strategy::Wait));
    assert_eq!(what(0, Access::Execute), Ok(Fault::NotExecutable));
    assert_eq!(what(1, Access::Execute), Ok(Fault::Present));
    assert_eq!(
        [Access::Read, Access::Write].map(|access| what(0, access)),
        [Ok(Fault::Present); 2]
    );
    // And where there is no table, there is nothing.
    assert_eq!(what(2, Access::Execute), Ok(Fault::Missing));
}

/// Batches and what holds them, without an allocator and before anything runs.
#[test]
fn batches_can_be_statics() {
    use pagelock::futex::SpinFutex;
    use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu};
    static EACH: [CachePadded<Batch<SpinFutex>>; 4] =
        [const { CachePadded::new(Batch::with_futex(SpinFutex)) }; 4];
    static ALL: Batches<&[CachePadded<Batch<SpinFutex>>], OneCpu, SpinFutex> =
        Batches::new(OneCpu, SpinFutex, &EACH);
    let put = AtomicUsize::new(0);
    assert!(ALL.add(7, |_| ()));
    ALL.drain_all(&mut Unlocked::promise(), |pfn| {
        assert_eq!(pfn, 7);
        put.fetch_add(1, SeqCst);
    });
    assert_eq!(put.load(SeqCst), 1);
}

/// Scanners that try every frame, beside those who migrate: nobody's migration fails for a
/// reference of theirs.
#[test]
fn scanners_by_frame_disturb_no_migration() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 32);
    let referenced = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let unlocked = &mut Unlocked::promise();
                while !STOP.load(SeqCst) {
                    let mut slots: Vec<_> =
                        mm.frames_of(RAM).filter(|&pfn| pfn > 0).map(Slot::frame).collect();
                    let _ = migrate(mm, &mut slots, &order().from(RAM), mm, unlocked);
                    let aborted = |slot: &&Slot<'_, Mm>| {
                        matches!(slot.outcome(), Outcome::Aborted(Abort::Referenced { .. }))
                    };
                    referenced.fetch_add(slots.iter().filter(aborted).count(), SeqCst);
                }
            });
        }
        for n in 0..common::rounds(40) {
            check_all(mm, at.space.page(n % 32), 1);
            thread::yield_now();
        }
        STOP.store(true, SeqCst);
    });
    assert_eq!(referenced.load(SeqCst), 0);
    mm.audit().unwrap();
    let _ = make_exclusive::<Mm>;
}

/// A thread pool copies for a migrator. It may go about it in any order; what fails, or is not
/// reported, is put back, and the others arrive.
#[test]
fn an_engine_copies_a_batch_and_answers_for_each_page() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 16);
    let frames: Vec<u64> = at.pages(16).map(|at| mm.frame_at(at).unwrap()).collect();
    mm.set_lost(frames[5], true);
    let mut slots: Vec<_> = at.pages(16).map(Slot::at).collect();
    let order = order();
    let checked = collect(mm, &mut slots, &order, unlocked).unmap().check();
    let copied = checked.copy_by(|jobs| {
        let all: Vec<_> = jobs.iter().collect();
        assert_eq!(all.len(), 16);
        let mut done = thread::scope(|s| {
            let pool: Vec<_> = all
                .chunks(4)
                .map(|jobs| {
                    s.spawn(move || {
                        jobs.iter().map(|job| (job.index, job.copy(mm))).collect::<Vec<_>>()
                    })
                })
                .collect();
            pool.into_iter().rev().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for (index, copied) in done.iter_mut() {
            match *index {
                3 => jobs.done(3, Err(CopyError::Failed)),
                7 => {} // lost by the engine
                index => jobs.done(index, *copied),
            }
        }
        assert_eq!(jobs.iter().map(|job| job.index).collect::<Vec<_>>(), [7]);
    });
    let summary = copied.finalize();
    assert_eq!((summary.done, summary.poisoned, summary.left), (13, 1, 2));
    assert_eq!(slots[5].outcome(), Outcome::Poisoned);
    for put_back in [3, 7] {
        assert_eq!(slots[put_back].outcome(), Outcome::Aborted(Abort::CopyFailed));
        assert_eq!(mm.frame_at(at.space.page(put_back)), Some(frames[put_back]));
    }
    for at in at.pages(16).filter(|at| at.page != 5) {
        check_all(mm, at, 1);
    }
    mm.audit().unwrap();
}
