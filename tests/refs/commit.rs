//! A commit to another header: what moves along, and what is refused.

use crate::common::sim::Sim;
use crate::common::{rounds, with_threads};
use crate::stages::{is_at_rest, live, says, text};
use FreezeRule::{ExactRefs, Unpinned};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use pagelock::{
    CommitRefused, FreezeRule, Frozen, GetError, MAX_REFS, PageLock, PageRef, Put, UserBits, Wake,
};
use std::thread;

#[test]
fn references_move_along_with_the_identity() {
    let (src, dst) = (live(3), live(2));
    let frozen = src.lock().begin_migration().freeze(ExactRefs(3)).unwrap();
    // SAFETY: those that `live` made, or were turned raw.
    let _ = unsafe { frozen.commit_to_moving(dst.lock(), 3) }.unwrap();
    is_at_rest(&src, 0, 0);
    is_at_rest(&dst, 5, 0);
    assert_eq!(src.try_get().unwrap_err(), GetError::Free, "nobody can reach the old header");
    src.activate(1).expect("it can be used for another page");
}

#[test]
fn a_free_header_comes_to_life_by_a_commit() {
    let (src, dst) = (live(2), live(0));
    let frozen = src.lock().begin_migration().freeze(ExactRefs(2)).unwrap();
    // SAFETY: those that `live` made.
    let _ = unsafe { frozen.commit_to_moving(dst.lock(), 2) }.unwrap();
    is_at_rest(&src, 0, 0);
    is_at_rest(&dst, 2, 0);
}

#[test]
fn a_reference_that_moved_is_put_on_the_new_header() {
    let (src, dst) = (live(1), live(0));
    let reference = src.try_get().unwrap();
    let frozen = src.lock().begin_migration().freeze(ExactRefs(2)).unwrap();
    reference.into_raw();
    // SAFETY: those that `live` made, or were turned raw.
    let _ = unsafe { frozen.commit_to_moving(dst.lock(), 2) }.unwrap();
    // SAFETY: the reference, and the one that `live` made, are the test's, and are counted here
    // now.
    let reference = unsafe { PageRef::from_raw(&dst) };
    assert_eq!(reference.put(), Put::Kept);
    // SAFETY: as above.
    assert_eq!(unsafe { dst.put_raw() }, Put::Last);
}

/// A reference that has a guard cannot be taken from under it by safe code, whatever the freeze
/// counted.
#[test]
fn references_move_only_if_the_caller_vouches_for_them() {
    for rule in [ExactRefs(3), Unpinned] {
        let (src, dst) = (live(2), live(1));
        let guard = src.try_get().unwrap();
        let committed =
            src.lock().begin_migration().freeze(rule).unwrap().commit_to(dst.lock()).unwrap();
        assert_eq!(committed.source, Put::Kept);
        is_at_rest(&src, 3, 0);
        is_at_rest(&dst, 1, 0);
        src.activate(1).expect_err("the guard keeps it live");
        drop(guard);
        let frozen = src.lock().begin_migration().freeze(Unpinned).unwrap();
        // SAFETY: the two that `live` made.
        assert_eq!(unsafe { frozen.commit_to_moving(dst.lock(), 2) }.unwrap().source, Put::Last);
        is_at_rest(&src, 0, 0);
        is_at_rest(&dst, 3, 0);
    }
}

/// The caller's bits belong to the page and not to the frame: they go where its identity goes.
#[test]
fn the_callers_bits_travel_with_the_identity() {
    for moving in [0, 1] {
        let (src, dst) = (live(1), live(1));
        src.lock().set_user(UserBits::new(2));
        dst.lock().set_user(UserBits::new(1));
        let frozen = src.lock().begin_migration().freeze(ExactRefs(1)).unwrap();
        // SAFETY: the one that `live` made, or none.
        let _ = unsafe { frozen.commit_to_moving(dst.lock(), moving) }.unwrap();
        assert_eq!((src.user(), dst.user()), (UserBits::new(0), UserBits::new(2)));
    }
    let page = live(1);
    page.lock().set_user(UserBits::new(3));
    page.lock().begin_migration().freeze(Unpinned).unwrap().commit_in_place();
    assert_eq!(page.user(), UserBits::new(3), "the identity stays");
}

#[test]
fn the_callers_bits_can_be_written_at_every_stage() {
    let page = live(1);
    let mut migration = page.lock().begin_migration();
    migration.set_user(UserBits::new(1));
    assert_eq!(page.user(), UserBits::new(1));
    assert!(page.is_migrating());
    let mut frozen = migration.freeze(Unpinned).unwrap();
    frozen.set_user(UserBits::new(2));
    assert_eq!(page.user(), UserBits::new(2));
    frozen.abort();
    is_at_rest(&page, 1, 0);
    assert_eq!(page.user(), UserBits::new(2));
}

#[test]
fn a_commit_tells_those_who_wait_for_either_header() {
    let sim = Sim::new(1);
    let (src, dst) = (PageLock::with_futex(sim), PageLock::with_futex(sim));
    src.activate(1).unwrap();
    with_threads(&[&src, &dst], |s| {
        let frozen = src.lock().begin_migration().freeze(ExactRefs(1)).unwrap();
        let held = dst.lock();
        let waiters = [s.spawn(|| src.wait_migration(())), s.spawn(|| dst.wait_unlocked(()))];
        sim.until_asleep(2);
        assert!(frozen.commit_to(held).unwrap().event_waiters);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        }
    });
}

/// The commit is refused, both come back as they were, and both can go on.
fn is_refused(src: &PageLock, dst: &PageLock, refs: u32, why: CommitRefused, what: &[&str]) {
    let (src_refs, dst_refs) = (src.refs(), dst.refs());
    let frozen = src.lock().begin_migration().freeze(Unpinned).unwrap();
    let held = dst.lock();
    let before = (text(src), text(dst));
    // SAFETY: those that `live` made; it is refused.
    let error = unsafe { frozen.commit_to_moving(held, refs) }.unwrap_err();
    assert_eq!((text(src), text(dst)), before, "a refusal changes nothing");
    assert_eq!(error.why, why);
    says(&error, what);
    says(&error.why, what);
    assert!(core::ptr::eq(error.frozen.page(), src) && core::ptr::eq(error.dst.page(), dst));
    drop(error);
    is_at_rest(src, src_refs, 0);
    is_at_rest(dst, dst_refs, 0);
}

#[test]
fn a_commit_to_a_poisoned_header_is_refused() {
    let (src, dst) = (live(1), live(0));
    dst.lock().poison();
    is_refused(&src, &dst, 1, CommitRefused::Poisoned, &["poisoned"]);
    is_refused(&src, &dst, 0, CommitRefused::Poisoned, &["poisoned"]);
}

#[test]
fn a_commit_of_more_references_than_there_are_is_refused() {
    let (src, dst) = (live(3), live(1));
    is_refused(&src, &dst, 4, CommitRefused::TooFew { have: 3, move_: 4 }, &["4", "3"]);
}

#[test]
fn a_commit_of_references_that_were_put_meanwhile_is_refused() {
    let (src, dst) = (live(2), live(0));
    let frozen = src.lock().begin_migration().freeze(ExactRefs(2)).unwrap();
    // SAFETY: one of the two that `live` made.
    assert_eq!(unsafe { src.put_raw() }, Put::Kept);
    // SAFETY: not so: one of them is gone. It is refused.
    let error = unsafe { frozen.commit_to_moving(dst.lock(), 2) }.unwrap_err();
    assert_eq!(error.why, CommitRefused::TooFew { have: 1, move_: 2 });
    drop(error);
    is_at_rest(&src, 1, 0);
    is_at_rest(&dst, 0, 0);
}

#[test]
fn a_commit_that_the_destination_cannot_count_is_refused() {
    let (src, dst) = (live(2), live(MAX_REFS - 1));
    let have = MAX_REFS - 1;
    is_refused(
        &src,
        &dst,
        2,
        CommitRefused::Overflow { have, move_: 2 },
        &["2", &have.to_string()],
    );
}

#[test]
fn a_commit_to_a_frozen_header_is_refused() {
    let (src, dst) = (live(1), live(1));
    dst.lock().begin_migration().freeze(ExactRefs(1)).unwrap().into_raw();
    let frozen = src.lock().begin_migration().freeze(ExactRefs(1)).unwrap();
    // SAFETY: `dst` is locked, and its stage was made raw: this guard stands in for it until it is
    // forgotten below.
    let held = unsafe { pagelock::PageGuard::from_raw(&dst) };
    let before = (text(&src), text(&dst));
    let error = frozen.commit_to(held).unwrap_err();
    assert_eq!(error.why, CommitRefused::Frozen);
    says(&error, &["frozen"]);
    assert_eq!((text(&src), text(&dst)), before);
    error.dst.into_raw();
    drop(error.frozen);
    // SAFETY: the stage that was made raw above.
    drop(unsafe { Frozen::from_raw(&dst) });
    is_at_rest(&src, 1, 0);
    is_at_rest(&dst, 1, 0);
}

#[test]
fn a_commit_of_a_page_to_itself_is_refused() {
    let page = live(1);
    let frozen = page.lock().begin_migration().freeze(ExactRefs(1)).unwrap();
    // SAFETY: there is an owner, `frozen`, and this second guard is forgotten below.
    let held = unsafe { pagelock::PageGuard::from_raw(&page) };
    let before = text(&page);
    let error = frozen.commit_to(held).unwrap_err();
    assert_eq!(error.why, CommitRefused::SamePage);
    says(&error, &["same"]);
    assert_eq!(text(&page), before);
    error.dst.into_raw();
    error.frozen.abort();
    is_at_rest(&page, 1, 0);
}

/// A refused commit changes nothing, at no moment: a thread that puts a reference meanwhile is not
/// told that it was the last.
#[test]
fn a_refused_commit_is_not_seen_by_those_who_put() {
    let dst = live(MAX_REFS);
    for round in 0..rounds(400) {
        let src = live(2);
        let (go, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let put = with_threads(&[&src], |s| {
            let mut frozen = src.lock().begin_migration().freeze(Unpinned).unwrap();
            let mut held = dst.lock();
            let putter = s.spawn(|| {
                while !go.load(SeqCst) {
                    thread::yield_now();
                }
                (0..round % 64).for_each(|_| core::hint::spin_loop());
                // SAFETY: one of the two that `live` made.
                let put = unsafe { src.put_raw() };
                done.store(true, SeqCst);
                put
            });
            go.store(true, SeqCst);
            while !done.load(SeqCst) {
                // SAFETY: one of those that the page was made with; it is refused.
                let refused =
                    unsafe { frozen.commit_to_moving(held, 1) }.expect_err("there is no room");
                (frozen, held) = (refused.frozen, refused.dst);
            }
            putter.join().unwrap()
        });
        assert_eq!(put, Put::Kept, "there is another: {src:?} (round {round})");
        assert_eq!(src.refs(), 1);
    }
}
