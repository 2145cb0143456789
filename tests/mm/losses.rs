//! A page that cannot be read is lost to every entry, and no summary calls that done.

use crate::common::machine::{DEVICE, RAM, check_all, exclusive, machine, picture, written};
use crate::order;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Outcome, Slot, collect};
use pagelock::mm::pin::Term;
use pagelock::mm::{Access, CopyError, Tiers, condemn};
use pagelock_soft::{AccessError, MapError};
use std::sync::Arc;

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

/// A copy that failed says nothing about its source.
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
