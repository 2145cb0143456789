//! Forks while pages are pinned or on their way.

use crate::common::{
    machine::{FAR, check_all, machine, written},
    watched,
};
use pagelock::leaf::Leaf;
use pagelock::mm::Access;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect};
use pagelock::mm::pin::Term;
use pagelock_soft::{Config, Kind, MapError, Soft, TierConfig, TierId};

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
