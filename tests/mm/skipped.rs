//! What a migration does not touch: each reason to skip a page, brought about on purpose.

use crate::common::machine::{FAR, RAM, exclusive, machine, move_one, picture, written};
use crate::common::with_threads;
use crate::moved::{only_the_first_stays, order, two_pages};
use pagelock::leaf::{Leaf, Marker, Rights, Tracking, UnknownLeaf};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Mode, Outcome, Skip, Slot, collect, migrate};
use pagelock::{MAX_REFS, PageRef};
use pagelock_soft::Refusal;

#[test]
fn entries_that_are_no_pages_are_skipped() {
    let unlocked = &mut Unlocked::promise();
    let (mm, at) = two_pages();
    for (leaf, why) in [
        (Leaf::None, Skip::Hole),
        (Leaf::Swap { slot: 3, tracking: Tracking::default() }, Skip::Swapped),
        (Leaf::Marker(Marker::Guard), Skip::Marker(Marker::Guard)),
        (Leaf::Poison { pfn: 3 }, Skip::Poisoned),
    ] {
        mm.replace(at, leaf);
        assert_eq!(move_one(mm, at, &order()), Outcome::Skipped(why));
        assert_eq!(mm.leaf(at), leaf);
    }
    mm.audit().unwrap();
    let none = Leaf::Present { pfn: 1 << 40, rights: Rights::Write, tracking: Tracking::default() };
    for (word, why) in
        [(15, Skip::Unknown(UnknownLeaf { word: 15 })), (none.encode().unwrap(), Skip::NoFrame)]
    {
        mm.entry(at).set_word(word);
        assert_eq!(move_one(mm, at, &order()), Outcome::Skipped(why));
        mm.entry(at).set_word(0);
    }
    let mut slots = [Slot::frame(1 << 40)];
    let _ = migrate(mm, &mut slots, &order(), mm, unlocked);
    assert_eq!(slots[0].outcome(), Outcome::Skipped(Skip::NoFrame));
}

#[test]
fn a_page_of_another_tier_is_not_selected() {
    let (mm, at) = two_pages();
    assert_eq!(move_one(mm, at, &order().from(FAR)), Outcome::Skipped(Skip::NotSelected));
    assert!(move_one(mm, at, &order().from(RAM)).is_done());
}

#[test]
fn a_page_that_somebody_else_moves_is_skipped() {
    let unlocked = &mut Unlocked::promise();
    let (mm, at) = two_pages();
    let mut first = [Slot::at(at)];
    // Another thread's.
    let somebody = &mut Unlocked::promise();
    let other = collect(mm, &mut first, &order(), somebody).unmap();
    assert_eq!(move_one(mm, at, &order()), Outcome::Skipped(Skip::Migrating));
    let mut by_frame = [Slot::frame(mm.frame_at(at).unwrap())];
    let _ = migrate(mm, &mut by_frame, &order(), mm, unlocked);
    assert_eq!(by_frame[0].outcome(), Outcome::Skipped(Skip::Locked));
    let checked = other.check();
    let _ = migrate(mm, &mut by_frame, &order(), mm, unlocked);
    assert_eq!(by_frame[0].outcome(), Outcome::Skipped(Skip::Locked), "frozen");
    drop(checked);
    assert_eq!(first[0].outcome(), Outcome::Aborted(Abort::Abandoned));
    mm.audit().unwrap();
}

#[test]
fn a_locked_page_is_skipped_and_never_waited_for_by_async() {
    let (mm, at) = two_pages();
    let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    let guard = page.lock();
    assert_eq!(only_the_first_stays(mm, at, &order()), Outcome::Skipped(Skip::Locked));
    drop(guard);
    mm.audit().unwrap();
}

#[test]
fn a_pinned_page_is_skipped() {
    let (mm, at) = two_pages();
    let pin = mm.page(mm.frame_at(at).unwrap()).unwrap().try_pin().unwrap();
    assert_eq!(only_the_first_stays(mm, at, &order()), Outcome::Skipped(Skip::Pinned { pins: 1 }));
    drop(pin);
    mm.audit().unwrap();
    assert!(move_one(mm, at, &order()).is_done());
}

#[test]
fn a_page_that_a_device_has_to_itself_is_skipped() {
    let (mm, at) = two_pages();
    exclusive(mm, at).unwrap();
    assert_eq!(only_the_first_stays(mm, at, &order()), Outcome::Skipped(Skip::Exclusive));
    mm.audit().unwrap();
}

#[test]
fn a_refused_page_is_skipped() {
    let (mm, at) = two_pages();
    let before = picture(mm, at);
    mm.set_immovable(true);
    assert_eq!(move_one(mm, at, &order()), Outcome::Skipped(Skip::Refused(Refusal::Immovable)));
    assert_eq!(picture(mm, at), before);
    mm.audit().unwrap();
}

#[test]
fn a_page_with_as_many_references_as_can_be_counted_is_skipped() {
    let (mm, at) = two_pages();
    let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    let most = if cfg!(miri) { return } else { MAX_REFS - 1 };
    let refs: Vec<PageRef<'_, _>> = (0..most).map(|_| page.try_get().unwrap()).collect();
    assert_eq!(only_the_first_stays(mm, at, &order()), Outcome::Skipped(Skip::Uncountable));
    drop(refs);
    mm.audit().unwrap();
}

/// What is at the address changes while the page's lock is waited for.
#[test]
fn a_page_that_is_gone_when_its_lock_is_had_is_skipped() {
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let pfn = mm.frame_at(at).unwrap();
    let page = mm.page(pfn).unwrap();
    with_threads(&[page], |s| {
        let guard = page.lock();
        let order = order().mode(Mode::SyncLight).tries(1);
        let moved = s.spawn(move || move_one(mm, at, &order));
        own.until_asleep(1);
        mm.discard(at, 1).unwrap();
        drop(guard);
        assert_eq!(moved.join().unwrap(), Outcome::Skipped(Skip::Changed));
    });
    mm.audit().unwrap();
}
