//! What a migrator may wait for, and with what in its hands (I23): one page alone, no pin, nothing
//! in a fault.

use crate::common::{
    machine::{FAR, Mm, RAM, check_all, machine, move_one, written},
    with_threads,
};
use crate::order;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use pagelock::Limits;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Mode, Order, Slot, collect, evict, migrate};
use pagelock::mm::pin::{Backing, PinOrder, PinSlot, Term, pin_range};
use pagelock::mm::{Access, Tiers};
use pagelock_soft::{Backed, Config, Kind, Soft, TierConfig, TierId};
use std::sync::{Arc, Mutex};

/// A machine that one test has to itself: `pages` pages of 64 bytes in a space.
pub(crate) fn small(pages: usize, tiers: &[(Kind, usize)]) -> &'static Soft {
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
            // Here it would sleep, for a thread that wants the lock of another of these pages.
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

/// And a migrator with a faulter's page in hand waits for nothing, however few pages there are.
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
    let own = crate::common::own::Own::new(64);
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
    with_threads(&[mm.page(pfn).unwrap()], |s| {
        // Two frames of it, something else, and another frame.
        let mut slots: Vec<_> = [1, 2, 8, 3].map(|page| PinSlot::new(at.space.page(page))).into();
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
        let tiers: Vec<_> = slots.iter().map(|slot| slot.pfn.map(|pfn| mm.tier(pfn).0)).collect();
        assert_eq!(tiers, [Some(1), Some(1), Some(0), Some(1)]);
    });
    assert!(mm.pin_balance().is_even());
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
