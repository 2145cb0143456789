//! A faulter that is called off while it waits leaves no trace.

use crate::common::{
    hmm_soft::{DEVICES, Fixture},
    watched, with_threads,
};
use core::time::Duration;
use pagelock::Cancel;
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect};
use pagelock::mm::{Faulter, Strategy};
use pagelock_soft::AccessError;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

// ---- a wait that is called off

/// What became of those that were called off, and of the migration.
struct CalledOff {
    /// How many of them returned while the migration was still under way.
    returned: usize,
    outcome: Outcome<pagelock_soft::Refusal>,
}

/// Two of four sleepers are called off in the middle of a migration.
fn called_off(strategy: Strategy) -> CalledOff {
    let unlocked = &mut Unlocked::promise();
    let f = Fixture::unbatched();
    let b = f.written(1);
    let child = f.mm.fork(f.space).unwrap();
    let page = f.mm.page(f.mm.frame_at(b.at).unwrap()).unwrap();
    let cancel = Cancel::with_futex(f.own);
    let go = Barrier::new(5);
    let called_off = with_threads(&[page], |s| {
        let sleepers: Vec<_> = (0..4)
            .map(|i| {
                let (mm, at, cancel, go) = (f.mm, [f.space, child][i / 2].page(0), &cancel, &go);
                s.spawn(move || {
                    go.wait();
                    let mut faulter = Faulter::new(strategy);
                    if i % 2 == 0 {
                        faulter = faulter.cancellable(cancel);
                    }
                    let mut byte = [0];
                    mm.read_with(at, 4, &mut byte, &mut faulter).map(|()| byte[0])
                })
            })
            .collect();
        let mut slots = [Slot::at(b.at)];
        let unmapped = collect(f.mm, &mut slots, &Order::to(DEVICES[1]), unlocked).unmap();
        go.wait();
        f.own.until_asleep(4);
        let (refs, leaf) = (page.refs(), f.mm.leaf(b.at));
        assert!(matches!(leaf, Leaf::Migration { .. }));
        cancel.cancel();
        let begin = Instant::now();
        let is_back = |i: &usize| sleepers[*i].is_finished();
        let most =
            if strategy == Strategy::Wait { Duration::MAX } else { Duration::from_millis(30) };
        while ![0, 2].iter().all(is_back) && begin.elapsed() < most {
            thread::yield_now();
        }
        let returned = [0, 2].into_iter().filter(is_back).count();
        f.own.until_asleep(4 - returned);
        assert!(![1, 3].iter().any(is_back), "those that were not called off sleep on");
        assert_eq!((page.refs(), f.mm.leaf(b.at)), (refs, leaf), "nothing of the page has changed");
        let _ = unmapped.check().copy().finalize();
        for (i, sleeper) in sleepers.into_iter().enumerate() {
            let read = sleeper.join().unwrap();
            if i % 2 == 0 && returned == 2 {
                assert_eq!(read, Err(AccessError::Cancelled));
            } else if i % 2 == 1 {
                assert_eq!(read, Ok(1_u32.to_ne_bytes()[0]));
            }
        }
        CalledOff { returned, outcome: slots[0].outcome() }
    });
    // Called off for good: the next fault that would have to wait ends at once as well, and one
    // that need not does not.
    let mut faulter = Faulter::new(Strategy::Wait).cancellable(&cancel);
    assert_eq!(f.mm.read_with(b.at, 0, &mut [0], &mut faulter), Ok(()));
    f.mm.exit(child);
    b.expect(|i| i);
    f.close();
    called_off
}

/// A thread that sleeps for a page and must end does so at once, whatever the owner does and for
/// how long; and to the page, to the migration and to the other sleepers it is as if it had never
/// been there (I39).
///
/// Seen to fail: [`Strategy::ReferenceAndSleep`] sleeps for the lock and cannot be called off, and
/// its reference makes the migration fail (in the test). When the fault path waited without looking
/// at the switch, nobody returned.
#[test]
fn a_faulter_that_is_called_off_leaves_no_trace() {
    let right = called_off(Strategy::Wait);
    assert_eq!(right.returned, 2);
    assert!(matches!(right.outcome, Outcome::Moved { .. }), "{:?}", right.outcome);
    let wrong = called_off(Strategy::ReferenceAndSleep);
    assert_eq!(wrong.returned, 0, "this test would not notice");
    assert!(
        matches!(wrong.outcome, Outcome::Aborted(Abort::Referenced { .. })),
        "{:?}",
        wrong.outcome
    );
}

/// The same at the very moment at which the page is released, over and over: whichever is first,
/// nobody is stranded and nothing is lost.
#[test]
fn called_off_while_the_page_is_released() {
    let unlocked = &mut Unlocked::promise();
    let f = Fixture::unbatched();
    let mut b = f.written(1);
    let page = f.mm.page(f.mm.frame_at(b.at).unwrap()).unwrap();
    let mut outcomes = [0; 2];
    watched(&[page], || {
        for turn in 0..crate::common::rounds(400) {
            let mut slots = [Slot::at(b.at)];
            let unmapped = collect(f.mm, &mut slots, &Order::to(DEVICES[0]), unlocked).unmap();
            let cancel = Cancel::with_futex(f.own);
            let start = Barrier::new(2);
            let read = thread::scope(|s| {
                let sleeper = s.spawn(|| {
                    f.mm.read_with(
                        b.at,
                        4,
                        &mut [0],
                        &mut Faulter::new(Strategy::Wait).cancellable(&cancel),
                    )
                });
                f.own.until_asleep(1);
                s.spawn(|| {
                    start.wait();
                    (0..turn % 16 * 20).for_each(|_| core::hint::spin_loop());
                    cancel.cancel();
                });
                start.wait();
                (0..turn / 16 % 16 * 20).for_each(|_| core::hint::spin_loop());
                let _ = unmapped.check().copy().finalize();
                sleeper.join().unwrap()
            });
            assert!(matches!(slots[0].outcome(), Outcome::Moved { .. }));
            assert!(matches!(read, Ok(()) | Err(AccessError::Cancelled)), "{read:?}");
            outcomes[usize::from(read.is_ok())] += 1;
            b.expect(|i| i);
        }
    });
    assert_eq!(b.migrate_to(f.device()), Ok(1));
    b.expect(|i| i);
    f.close();
    assert_eq!(outcomes.iter().sum::<usize>(), crate::common::rounds(400));
}
