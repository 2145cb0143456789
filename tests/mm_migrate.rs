//! Migration over the software memory manager: what moves, what does not and why, and that what does not is as it was.

#![cfg(all(feature = "alloc", not(pagelock_loom)))]

mod common;

use pagelock::leaf::Leaf;
use pagelock::mm::Tiers;
use pagelock::mm::migrate::{Abort, Mode, Order, Outcome, Slot, migrate};
use pagelock::mm::soft::{At, Config, Soft, TierId};

const RAM: TierId = TierId(0);
const DEVICE: TierId = TierId(1);

fn written(mm: &Soft, at: At, pages: usize) {
    mm.map(at, pages).unwrap();
    for (i, at) in at.pages(pages).enumerate() {
        mm.write(at, 0, &[i as u8 + 1; 64]).unwrap();
    }
}

fn check(mm: &Soft, at: At, pages: usize) {
    for (i, at) in at.pages(pages).enumerate() {
        let mut bytes = [0; 64];
        mm.read(at, 0, &mut bytes).unwrap();
        assert_eq!(bytes, [i as u8 + 1; 64], "{at:?}");
    }
}

#[test]
fn pages_go_out_and_come_back_by_faults() {
    let mm = Soft::new(Config::ram_and_device(64, 64));
    let at = mm.spawn().unwrap().page(0);
    written(&mm, at, 8);
    let mut slots: Vec<_> = at.pages(8).map(Slot::at).collect();
    let summary = migrate(&mm, &mut slots, &Order::to(DEVICE), &mm);
    assert_eq!((summary.done, summary.left, summary.tries), (8, 0, 1), "{slots:?}");
    for at in at.pages(8) {
        assert!(matches!(mm.leaf(at), Leaf::DevicePrivate { .. }));
    }
    mm.audit().unwrap();
    check(&mm, at, 8);
    for at in at.pages(8) {
        assert_eq!(mm.tier(mm.frame_at(at).unwrap()), RAM);
    }
    mm.audit().unwrap();
    assert_eq!(mm.free_frames(DEVICE), 64);
}

#[test]
fn a_page_of_many_mappings_moves_in_all_of_them() {
    let mm = Soft::new(Config::ram_and_device(64, 64));
    let parent = mm.spawn().unwrap();
    written(&mm, parent.page(0), 4);
    let child = mm.fork(parent).unwrap();
    mm.audit().unwrap();
    let mut slots: Vec<_> = parent.page(0).pages(4).map(Slot::at).collect();
    assert_eq!(migrate(&mm, &mut slots, &Order::to(DEVICE), &mm).done, 4);
    assert!(matches!(mm.leaf(child.page(2)), Leaf::DevicePrivate { .. }));
    mm.audit().unwrap();
    check(&mm, child.page(0), 4);
    mm.write(child.page(0), 0, &[77]).unwrap();
    mm.audit().unwrap();
    check(&mm, parent.page(0), 4);
    mm.exit(child);
    mm.exit(parent);
    mm.audit().unwrap();
    assert_eq!((mm.free_frames(RAM), mm.free_frames(DEVICE)), (63, 64));
}

#[test]
fn a_reference_in_a_batch_is_drained_away() {
    let mm =
        Soft::on(pagelock::OsFutex, pagelock::mm::drain::ThreadCpus, Config { batches: 8, ..Config::ram_and_device(64, 64) });
    let at = mm.spawn().unwrap().page(0);
    mm.map(at, 1).unwrap();
    // Another thread's batch has it.
    std::thread::scope(|s| s.spawn(|| mm.write(at, 0, &[1]).unwrap()).join().unwrap());
    let pfn = mm.frame_at(at).unwrap();
    assert!(mm.is_batched(pfn));
    mm.audit().unwrap();
    let before = mm.leaf(at);
    let mut slots = [Slot::at(at)];
    let summary = migrate(&mm, &mut slots, &Order::to(DEVICE).tries(3), &mm);
    assert_eq!((summary.left, summary.drains), (1, 0), "async waits for no other processor");
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::Referenced { refs: 2, expected: 1 }));
    assert_eq!(mm.leaf(at), before);
    mm.audit().unwrap();
    let summary = migrate(&mm, &mut slots, &Order::to(DEVICE).mode(Mode::SyncLight), &mm);
    assert_eq!((summary.done, summary.drains, summary.tries), (1, 1, 2));
    mm.audit().unwrap();
}
