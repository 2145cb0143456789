//! Large pages that are split while others wait for them, lock them, or fault on them.

use crate::common::machine::{DEVICE, Mm, RAM, check_all, move_one, write_all};
use crate::common::with_threads;
use crate::large::{FRAMES, ORDER, fragment, large, order};
use core::cell::Cell;
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Collected, Mode, Order, Outcome, Skip, Slot, collect};
use pagelock::mm::{Faulter, Span, Strategy, Tiers, claim_range};

/// Waiters from before the split wait for the first frame's header, later ones for
/// their own frame's: all are told, and none finds its entry for a page that is not locked (I12).
#[test]
fn a_split_races_waiters() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own, at, head) = large();
    fragment(mm, DEVICE, 60);
    with_threads(&[mm.page(head).unwrap()], |s| {
        let read = |page: usize| {
            s.spawn(move || {
                check_all(mm, at.space.page(page), 1);
            })
        };
        let mut slots = [Slot::at(at)];
        let checked = collect(mm, &mut slots, &order(), unlocked).unmap().check();
        // Before the split, for frames in the middle.
        let mut waiters: Vec<_> = [1, 4, 7].map(read).into();
        own.until_asleep(3);
        assert_eq!(
            mm.page(head + 4).unwrap().refs(),
            1 + FRAMES as u32,
            "those of the migrator: they have none"
        );
        let step = Cell::new(0);
        let summary = checked
            .copy_to(|from, order| {
                if order == ORDER {
                    return Err(Abort::NoDestination);
                }
                let from = from.unwrap();
                // It is split, and no entry is left that leads to a page which nobody has
                // locked.
                for (i, at) in at.pages(FRAMES).enumerate().skip(step.get()) {
                    assert!(
                        matches!(mm.leaf(at), Leaf::Migration { pfn, .. } if pfn == head + i as u64)
                    );
                    assert!(mm.page(head + i as u64).unwrap().is_migrating());
                }
                if step.get() == 2 {
                    // The first frames have arrived. Those who waited for the first header have
                    // been told, found their own frames still on their way, and wait for those;
                    // the one for frame 1 is through.
                    assert_eq!(from, head + 2);
                    own.until_asleep(2);
                    waiters.push(read(6));
                    own.until_asleep(3);
                    assert_eq!(mm.page(head + 6).unwrap().refs(), 1);
                }
                step.set(step.get() + 1);
                mm.allocate(DEVICE, 0).ok_or(Abort::NoDestination)
            })
            .finalize();
        assert_eq!(summary.done, 1);
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(slots[0].outcome(), Outcome::Split { moved: 8, of: 8 });
    });
    check_all(mm, at, FRAMES);
    mm.audit().unwrap();
}

/// Splits the large page that was collected, which is in nobody's way, with its first frame moved:
/// every other entry is the same word as before.
fn split_in_place(collected: Collected<'_, 'static, Mm>, mm: &Mm, to: pagelock_soft::TierId) {
    let checked = collected.unmap().check();
    assert_eq!(checked.in_work(), 1);
    let mut first = mm.allocate(to, 0);
    let _ = checked
        .copy_to(|_, order| {
            if order == ORDER {
                return Err(Abort::NoDestination);
            }
            first.take().ok_or(Abort::Declined)
        })
        .finalize();
}

/// A locker that sleeps on the first frame's header wakes as the owner of a page that is another
/// one by now, though its entry is what it was: each frame has a header of its own.
#[test]
fn a_split_races_a_locker_that_is_asleep() {
    let unlocked = &mut Unlocked::promise();
    for named in [3, 5] {
        let (mm, own, at, head) = large();
        let (page, before) = (mm.page(head).unwrap(), mm.leaf(at.space.page(named)));
        with_threads(&[page], |s| {
            let mut slots = [Slot::frame(head)];
            let collected = collect(mm, &mut slots, &order(), unlocked);
            assert_eq!(collected.in_work(), 1);
            let order = order().mode(Mode::SyncLight);
            let moved = s.spawn(move || move_one(mm, at.space.page(named), &order));
            own.until_asleep(1);
            split_in_place(collected, mm, DEVICE);
            assert_eq!(slots[0].outcome(), Outcome::Split { moved: 1, of: 8 });
            let outcome = moved.join().unwrap();
            assert_eq!(outcome, Outcome::Skipped(Skip::Changed));
        });
        assert_eq!(mm.leaf(at.space.page(named)), before, "the same word, and another page");
        mm.audit().unwrap();
        assert!(move_one(mm, at.space.page(named), &order()).is_done());
        check_all(mm, at, FRAMES);
        mm.audit().unwrap();
    }
}

/// The same with a faulter that queues for the lock itself: it looks again, and brings back its own
/// frame.
#[test]
fn a_split_races_a_faulter_that_queues_for_the_lock() {
    let unlocked = &mut Unlocked::promise();
    for named in [3, 5] {
        let (mm, own, at, _) = large();
        let Outcome::Moved { pfn: head } = move_one(mm, at, &order()) else { panic!() };
        with_threads(&[mm.page(head).unwrap()], |s| {
            let mut slots = [Slot::frame(head)];
            let collected = collect(mm, &mut slots, &Order::to(RAM), unlocked);
            let read = s.spawn(move || {
                let mut faulter = Faulter::new(Strategy::WaitThenLock { after: 0 }).patience(20);
                mm.read_with(at.space.page(named), 0, &mut [0], &mut faulter)
            });
            own.until_asleep(1);
            split_in_place(collected, mm, RAM);
            read.join().unwrap().unwrap();
        });
        assert_eq!(mm.tier(mm.frame_at(at.space.page(named)).unwrap()), RAM);
        mm.audit().unwrap();
        check_all(mm, at, FRAMES);
        mm.audit().unwrap();
    }
}

#[test]
fn a_range_is_claimed_without_the_pages_that_are_busy() {
    let (mm, _, at, head) = large();
    let other = at.space.page(20);
    mm.map(other, 6).unwrap();
    write_all(mm, other, 6);
    let first = mm.frame_at(other).unwrap();
    let busy = mm.page(first + 1).unwrap().lock();
    let lost = mm.frame_at(at.space.page(23)).unwrap();
    mm.page(lost).unwrap().lock().poison();
    let range = mm.frames_of(RAM);
    let mut claims = claim_range(mm, range.clone());
    let claimed: Vec<_> = claims.by_ref().collect();
    assert_eq!((claims.busy(), claims.poisoned()), (1, 1));
    assert_eq!(claimed.iter().filter(|(span, _)| span.order == ORDER).count(), 1);
    assert!(claimed.iter().any(|(span, _)| *span == Span { head, order: ORDER }));
    assert!(claimed.iter().all(|(span, _)| span.head != first + 1 && span.head != lost));
    let frames: u64 = claimed.iter().map(|(span, _)| span.len()).sum();
    assert_eq!(frames, range.end - range.start - 2);
    // Nobody waits for the busy one, so its owner has nobody to tell.
    assert!(!busy.unlock().event_waiters);
    drop(claimed);
    // A range that ends, or begins, in the middle of a large page has it too.
    assert_eq!(
        claim_range(mm, head + 2..head + 4).map(|(span, _)| span.head).collect::<Vec<_>>(),
        [head]
    );
}
