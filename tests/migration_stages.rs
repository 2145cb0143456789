//! The protocol of moving a page, stage by stage: what a freeze demands, what every way out leaves
//! behind, and who wins a race (I1, I15, I16, I19, I21, I25, I35).

#![cfg(not(pagelock_loom))]

mod common;

use common::sim::Sim;
use common::{OnDrop, panic_of, rounds, watched};
use core::fmt::Debug;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pagelock::futex::Sleep;
use pagelock::{
    CommitRefused, FreezeError, FreezeRule, Frozen, GetError, Limits, MAX_REFS, Migration,
    NotMigrated, PageLock, PageRef, PinError, Put, UserBits, Wake,
};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use FreezeRule::{ExactRefs, Unpinned};

/// A page with so many references, which belong to the test.
fn live(refs: u32) -> PageLock {
    let page = PageLock::new();
    if refs > 0 {
        page.activate(refs).unwrap();
    }
    page
}

/// Unlocked, not migrating, not frozen, with these counts.
fn is_at_rest(page: &PageLock, refs: u32, pins: u32) {
    assert!(!page.is_locked() && !page.is_migrating() && !page.is_frozen(), "{page:?}");
    assert_eq!((page.refs(), page.pins()), (refs, pins), "{page:?}");
    drop(page.try_lock().expect("free"));
}

fn says(error: &dyn core::fmt::Display, what: &[&str]) {
    let text = error.to_string();
    assert!(what.iter().all(|w| text.contains(w)), "{text:?} does not say {what:?}");
}

fn text(x: &impl Debug) -> String {
    format!("{x:?}")
}

// ---- begin ----

#[test]
fn a_page_is_migrating_from_begin_to_end() {
    let page = live(1);
    assert!(!page.is_migrating());
    let migration = page.lock().begin_migration();
    assert!(page.is_migrating() && page.is_locked() && !page.is_frozen());
    assert!(page.try_lock().is_none());
    let frozen = migration.freeze(ExactRefs(1)).unwrap();
    assert!(page.is_migrating() && page.is_locked() && page.is_frozen());
    assert!(core::ptr::eq(frozen.page(), &page));
    frozen.commit_in_place();
    is_at_rest(&page, 1, 0);
}

#[test]
fn a_cancelled_migration_keeps_the_lock() {
    let page = live(1);
    let guard = page.lock().begin_migration().cancel();
    assert!(page.is_locked() && !page.is_migrating());
    assert!(page.try_pin().is_ok());
    drop(guard);
    is_at_rest(&page, 1, 0);
}

/// Those who sleep are woken by the cancel. The platform, which may want to lock the page, is told
/// once it can.
#[test]
fn a_cancelled_migration_tells_the_platform_when_the_page_can_be_had() {
    use pagelock::futex::{Adapt, Futex};
    use pagelock::{Claim, OsFutex};

    static TOLD: AtomicUsize = AtomicUsize::new(0);
    #[derive(Clone, Copy)]
    struct Server;
    static PAGE: PageLock<Server> = PageLock::with_futex(Server);
    impl Adapt for Server {
        type Base = OsFutex;
        fn base(&self) -> &OsFutex {
            &OsFutex
        }
        fn tell(&self, page: usize) {
            OsFutex.tell(page);
            assert!(PAGE.try_lock().is_some(), "told of a page that cannot be had");
            TOLD.fetch_add(1, SeqCst);
        }
    }
    watched(&[&PAGE], || {
        let migration = PAGE.lock().begin_migration();
        assert!(matches!(PAGE.claim(), Claim::InFlight));
        thread::scope(|s| {
            let waiter = s.spawn(|| PAGE.wait_migration(()));
            while !waiter.is_finished() && !text(&PAGE).contains("awaited") {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(20));
            let guard = migration.cancel();
            assert!(matches!(waiter.join().unwrap(), Wake::Released | Wake::NotLocked));
            assert_eq!(TOLD.load(SeqCst), 0, "the page is still locked");
            drop(guard);
            assert_eq!(TOLD.load(SeqCst), 1);
        });
    });
}

// ---- a migration around a closure ----

#[test]
fn a_migration_around_a_closure_commits_what_it_says_is_done_and_aborts_the_rest() {
    let page = live(2);
    let (answer, released) = page
        .lock()
        .migrate(ExactRefs(2), |frozen| {
            assert!(frozen.page().is_frozen() && frozen.page().is_migrating());
            frozen.set_user(UserBits::new(1));
            Ok::<_, GetError>(7)
        })
        .unwrap();
    assert_eq!((answer, released.event_waiters, page.user()), (7, false, UserBits::new(1)));
    is_at_rest(&page, 2, 0);

    let error = page.lock().migrate(ExactRefs(2), |_| Err::<(), _>("no")).unwrap_err();
    assert_eq!((error, error.to_string().as_str()), (NotMigrated::Own("no"), "no"));
    is_at_rest(&page, 2, 0);

    let error = page
        .lock()
        .migrate(ExactRefs(1), |_| -> Result<(), GetError> { panic!("it is not called") })
        .unwrap_err();
    assert!(
        matches!(error, NotMigrated::Busy(why) if why.refs == 2 && why.rule == ExactRefs(1)),
        "{error:?}"
    );
    says(&error, &["2 references"]);
    is_at_rest(&page, 2, 0);

    let said = panic_of(|| {
        _ = page
            .lock()
            .migrate(Unpinned, |_| -> Result<(), GetError> { panic!("the disk is on fire") })
    });
    assert_eq!(said, "the disk is on fire");
    is_at_rest(&page, 2, 0);
}

// ---- errors that leave the function ----

/// `?` turns what borrows the page into an error that does not; the stage is dropped, which aborts
/// it.
#[test]
#[cfg(feature = "alloc")]
fn a_refusal_leaves_the_function_that_borrowed_the_page() {
    use pagelock::FreezeRefused;
    type Any = Box<dyn core::error::Error + Send + Sync>;
    fn freeze(page: &PageLock) -> Result<(), Box<dyn core::error::Error>> {
        page.lock().begin_migration().freeze(ExactRefs(1))?.commit_in_place();
        Ok(())
    }
    fn freeze_with(page: &PageLock) -> Result<(), Any> {
        page.lock()
            .begin_migration()
            .freeze_with(Unpinned, |_| Err(GetError::Free))?
            .commit_in_place();
        Ok(())
    }
    fn commit(page: &PageLock, dst: &PageLock) -> Result<(), Any> {
        let _ = page.lock().begin_migration().freeze(Unpinned)?.commit_to(dst.lock())?;
        Ok(())
    }
    fn plain(page: &PageLock) -> Result<(), FreezeRefused> {
        page.lock().begin_migration().freeze(ExactRefs(1))?.commit_in_place();
        Ok(())
    }
    let (page, lost) = (live(2), live(0));
    lost.lock().poison();
    says(&freeze(&page).unwrap_err(), &["2 references"]);
    let why = plain(&page).unwrap_err();
    assert_eq!(
        (why.refs, why.pins, why.frozen, why.poisoned, why.rule),
        (2, 0, false, false, ExactRefs(1))
    );
    assert_eq!(freeze(&page).unwrap_err().downcast_ref(), Some(&why));
    let own = freeze_with(&page).unwrap_err();
    assert_eq!(own.downcast_ref(), Some(&NotMigrated::Own(GetError::Free)));
    assert_eq!(commit(&page, &lost).unwrap_err().downcast_ref(), Some(&CommitRefused::Poisoned));
    is_at_rest(&page, 2, 0);
    assert!(!lost.is_locked());
}

// ---- the rules of the freeze ----

/// The freeze is refused with these counts, the migration comes back as it was, and can be ended.
fn is_busy(page: &PageLock, rule: FreezeRule, refs: u32, pins: u32, what: &[&str]) {
    let migration = page.lock().begin_migration();
    let before = text(page);
    let busy = migration.freeze(rule).unwrap_err();
    assert_eq!(text(page), before, "a refusal changes nothing");
    assert_eq!(
        (busy.refs(), busy.pins(), busy.reason().rule, busy.reason().frozen),
        (refs, pins, rule, false)
    );
    says(&busy, what);
    assert!(text(&busy).contains(&format!("refs: {refs}, pins: {pins}")), "{busy:?}");
    let migration: Migration<'_> = busy.into_migration();
    assert!(core::ptr::eq(migration.page(), page));
    migration.abort();
    is_at_rest(page, refs, pins);
}

#[test]
fn exact_refs_demands_exactly_so_many_references_and_no_pins() {
    let page = live(2);
    is_busy(&page, ExactRefs(1), 2, 0, &["2 references", "0 pins", "1"]);
    is_busy(&page, ExactRefs(3), 2, 0, &["2 references", "3"]);
    let pin = page.try_pin().unwrap();
    is_busy(&page, ExactRefs(2), 2, 1, &["2 references", "1 pins"]);
    drop(pin);
    let unexpected = page.try_get().unwrap();
    is_busy(&page, ExactRefs(2), 3, 0, &["3 references"]);
    drop(unexpected);
    page.lock().begin_migration().freeze(ExactRefs(2)).unwrap().abort();
    is_at_rest(&page, 2, 0);
}

#[test]
fn unpinned_allows_any_references_and_no_pins() {
    for refs in [0, 1, 2, 1000, MAX_REFS] {
        let page = live(refs);
        page.lock().begin_migration().freeze(Unpinned).unwrap().commit_in_place();
        is_at_rest(&page, refs, 0);
        if refs == 0 {
            continue;
        }
        let pins = [page.try_pin().unwrap(), page.try_pin().unwrap()];
        is_busy(&page, Unpinned, refs, 2, &["2 pins"]);
        drop(pins);
        page.lock().begin_migration().freeze(Unpinned).unwrap().commit_in_place();
        is_at_rest(&page, refs, 0);
    }
}

#[test]
fn a_busy_page_can_be_frozen_once_it_is_not_busy() {
    let page = live(1);
    let pin = page.try_pin().unwrap();
    let busy = page.lock().begin_migration().freeze(ExactRefs(1)).unwrap_err();
    drop(pin);
    busy.into_migration().freeze(ExactRefs(1)).expect("the pin is gone").commit_in_place();
    is_at_rest(&page, 1, 0);
}

#[test]
fn dropping_the_refusal_ends_the_migration() {
    let page = live(2);
    drop(page.lock().begin_migration().freeze(ExactRefs(1)));
    is_at_rest(&page, 2, 0);
}

#[test]
fn what_was_held_can_be_given_back_while_frozen() {
    let page = live(1);
    let reference = page.try_get().unwrap();
    let frozen = page.lock().begin_migration().freeze(Unpinned).unwrap();
    assert_eq!(reference.put(), Put::Kept);
    assert!(page.is_frozen() && page.refs() == 1);
    frozen.commit_in_place();
    is_at_rest(&page, 1, 0);
}

// ---- every way out ----

type Out = fn(Frozen<'_>);

/// Every way out of a frozen page that leaves its identity where it was.
const OUTS: [(&str, Out); 8] = [
    ("commit_in_place", |f| _ = f.commit_in_place()),
    ("abort", |f| _ = f.abort()),
    ("drop", |f| drop(f)),
    ("thaw and abort", |f| _ = f.thaw().abort()),
    ("thaw and drop", |f| drop(f.thaw())),
    ("thaw, cancel, unlock", |f| _ = f.thaw().cancel().unlock()),
    ("thaw, freeze again, drop", |f| drop(f.thaw().freeze(Unpinned).unwrap())),
    ("raw and back", |f| {
        let page = f.into_raw();
        assert!(page.is_locked() && page.is_migrating() && page.is_frozen());
        // SAFETY: from `into_raw`, just now; and again below.
        let raw = unsafe { Frozen::from_raw(page) }.thaw().into_raw();
        // SAFETY: as above.
        drop(unsafe { Migration::from_raw(raw) });
    }),
];

#[test]
fn every_way_out_leaves_the_page_as_it_was() {
    for (how, out) in OUTS {
        let page = live(3);
        out(page.lock().begin_migration().freeze(ExactRefs(3)).unwrap());
        is_at_rest(&page, 3, 0);
        assert!(page.try_get().is_ok() && page.try_pin().is_ok(), "{how}");
    }
}

#[test]
fn an_abort_before_the_freeze_leaves_the_page_as_it_was() {
    let page = live(3);
    let _pin = page.try_pin().unwrap();
    page.lock().begin_migration().abort();
    is_at_rest(&page, 3, 1);
    drop(page.lock().begin_migration());
    is_at_rest(&page, 3, 1);
}

#[test]
fn a_panic_in_the_copy_leaves_the_page_as_it_was_and_wakes_its_sleepers() {
    const SLEEPERS: usize = 4;
    let sim = Sim::new(1);
    let page = PageLock::with_futex(sim);
    page.activate(2).unwrap();
    for frozen in [false, true] {
        watched(&[&page], || {
            thread::scope(|s| {
                let migration = page.lock().begin_migration();
                let waiters: Vec<_> =
                    (0..SLEEPERS).map(|_| s.spawn(|| page.wait_migration(()))).collect();
                sim.until_asleep(SLEEPERS);
                let said = panic_of(move || {
                    let _stage = if frozen {
                        Ok(migration.freeze(ExactRefs(2)).unwrap())
                    } else {
                        Err(migration)
                    };
                    panic!("the disk is on fire");
                });
                assert_eq!(said, "the disk is on fire");
                for waiter in waiters {
                    assert_eq!(waiter.join().unwrap(), Wake::Released);
                }
            });
        });
        assert!(!page.is_locked() && !page.is_migrating() && !page.is_frozen(), "{page:?}");
        assert_eq!((page.refs(), page.pins()), (2, 0));
    }
}

#[test]
fn a_panic_in_a_sleep_for_pins_gives_references_again_and_leaves_the_page_as_it_was() {
    let sim = Sim::new(1);
    let page = PageLock::with_futex(sim);
    page.activate(2).unwrap();
    watched(&[&page], || {
        let pin = page.try_pin().unwrap();
        for freezing in [false, true] {
            let mut migration = page.lock().begin_migration();
            sim.at_sleep(|| panic!("the platform is on fire"));
            let said = panic_of(|| {
                if freezing {
                    _ = migration.freeze_unpinned(Unpinned, Limits::none());
                } else {
                    _ = migration.wait_unpinned(Limits::none());
                }
            });
            assert_eq!(said, "the platform is on fire");
            assert!(page.try_get().is_ok());
            assert!(!page.is_locked() && !page.is_migrating() && !page.is_frozen(), "{page:?}");
        }
        drop(pin);
        assert_eq!((page.refs(), page.pins()), (2, 0));
    });
}

/// The platform panics when somebody is to be told. The stage is over then, and the pages are
/// released all the same.
#[test]
fn a_panic_in_telling_leaves_no_page_locked() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (src, dst) = (PageLock::with_futex(sim), PageLock::with_futex(sim));
        src.activate(1).unwrap();
        let over =
            |page: &PageLock<Sim>| !page.is_locked() && !page.is_migrating() && !page.is_frozen();

        // Somebody sleeps for the page, or the platform would not be asked.
        let burns = |awaited: &PageLock<Sim>, act: &mut dyn FnMut()| {
            thread::scope(|s| {
                let sleeper = s.spawn(|| awaited.wait_unlocked(()));
                sim.until_asleep(1);
                sim.at_wake(|| panic!("the platform is on fire"));
                assert_eq!(panic_of(act), "the platform is on fire");
                // It was not woken, but it was told.
                sim.end_all(Sleep::Interrupted);
                assert_eq!(sleeper.join().unwrap(), Wake::Released);
            });
        };

        let mut migration = Some(src.lock().begin_migration());
        burns(&src, &mut || drop(migration.take().map(|m| m.cancel())));
        assert!(over(&src), "{src:?}");

        let frozen = src.lock().begin_migration().freeze(ExactRefs(1)).unwrap();
        let mut both = Some((frozen, dst.lock()));
        burns(&dst, &mut || drop(both.take().map(|(frozen, held)| frozen.commit_to(held))));
        assert!(over(&src) && over(&dst), "{src:?} {dst:?}");
        assert_eq!((src.refs(), dst.refs()), (1, 0));
    });
}

// ---- commits to another header ----

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
    watched(&[&src, &dst], || {
        thread::scope(|s| {
            let frozen = src.lock().begin_migration().freeze(ExactRefs(1)).unwrap();
            let held = dst.lock();
            let waiters = [s.spawn(|| src.wait_migration(())), s.spawn(|| dst.wait_unlocked(()))];
            sim.until_asleep(2);
            assert!(frozen.commit_to(held).unwrap().event_waiters);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Wake::Released);
            }
        });
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

/// A refused commit changes nothing, at no moment: somebody who puts a reference meanwhile is not
/// told that it was the last.
#[test]
fn a_refused_commit_is_not_seen_by_those_who_put() {
    let dst = live(MAX_REFS);
    for round in 0..rounds(400) {
        let src = live(2);
        let (go, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let put = watched(&[&src], || {
            thread::scope(|s| {
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
            })
        });
        assert_eq!(put, Put::Kept, "there is another: {src:?} (round {round})");
        assert_eq!(src.refs(), 1);
    }
}

// ---- the caller's own count ----

#[test]
fn the_callers_own_count_is_frozen_last() {
    let page = live(1);
    let frozen = page
        .lock()
        .begin_migration()
        .freeze_with(ExactRefs(1), |p| {
            assert!(core::ptr::eq(p, &page) && p.is_frozen());
            Ok::<_, GetError>(())
        })
        .unwrap();
    frozen.commit_in_place();
    is_at_rest(&page, 1, 0);
}

#[test]
fn the_callers_own_count_may_refuse() {
    let page = live(1);
    let migration = page.lock().begin_migration();
    let before = text(&page);
    let error = migration.freeze_with(ExactRefs(1), |_| Err(GetError::Free)).unwrap_err();
    assert_eq!(text(&page), before, "a refusal changes nothing");
    says(&error, &["own", "free"]);
    let FreezeError::Refused { error: GetError::Free, migration } = error else {
        panic!("{error:?}")
    };
    migration.abort();
    is_at_rest(&page, 1, 0);
}

#[test]
fn the_callers_own_count_is_not_asked_if_the_page_is_busy() {
    let page = live(2);
    let asked = AtomicBool::new(false);
    let error = page
        .lock()
        .begin_migration()
        .freeze_with(ExactRefs(1), |_| {
            asked.store(true, SeqCst);
            Ok::<_, GetError>(())
        })
        .unwrap_err();
    says(&error, &["2 references"]);
    assert!(matches!(&error, FreezeError::Busy(busy) if busy.refs() == 2), "{error:?}");
    assert!(!asked.into_inner());
    drop(error);
    is_at_rest(&page, 2, 0);
}

#[test]
fn a_panic_in_the_callers_own_count_aborts() {
    let page = live(1);
    let migration = page.lock().begin_migration();
    let said =
        panic_of(|| drop(migration.freeze_with::<GetError>(ExactRefs(1), |_| panic!("own"))));
    assert_eq!(said, "own");
    is_at_rest(&page, 1, 0);
}

// ---- poison ----

#[test]
fn contents_can_be_lost_at_every_stage() {
    watched(&[], || {
        type Lose = fn(&PageLock);
        const LOSSES: [Lose; 4] = [
            |page| _ = page.lock().poison(),
            |page| _ = page.lock().begin_migration().poison(),
            |page| _ = page.lock().begin_migration().freeze(Unpinned).unwrap().poison(),
            |page| {
                // Twice is once.
                page.lock().poison();
                page.lock().begin_migration().poison();
            },
        ];
        for lose in LOSSES {
            let page = live(2);
            lose(&page);
            assert!(page.is_poisoned());
            is_at_rest(&page, 2, 0);
            assert_eq!(page.try_get().unwrap_err(), GetError::Poisoned);
            assert_eq!(page.try_pin().unwrap_err(), PinError::Poisoned);
            for owner in [None, page.try_lock()] {
                assert_eq!(page.wait_unlocked(()), Wake::Poisoned, "nobody sleeps on it");
                assert_eq!(page.wait_migration(()), Wake::Poisoned);
                assert!(matches!(page.claim(), pagelock::Claim::Poisoned));
                assert!(owner.is_none_or(|o| o.is_poisoned()));
            }
            // For good: there is nothing that another migration could move.
            let busy = page.lock().begin_migration().freeze(Unpinned).unwrap_err();
            assert_eq!((busy.reason().poisoned, busy.reason().frozen), (true, false));
            says(&busy, &["poisoned"]);
            drop(busy);
            assert!(page.is_poisoned());
            is_at_rest(&page, 2, 0);
        }
    });
}

#[test]
fn those_who_slept_when_the_contents_were_lost_find_out() {
    let sim = Sim::new(1);
    let page = PageLock::with_futex(sim);
    watched(&[&page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let waiter = s.spawn(|| [page.wait_unlocked(()), page.wait_unlocked(())]);
            sim.until_asleep(1);
            assert!(guard.poison().event_waiters);
            assert_eq!(waiter.join().unwrap(), [Wake::Released, Wake::Poisoned]);
        });
    });
}

// ---- races ----

/// Two threads meet once a round, and each does its own as soon as the other has come; `judge`
/// looks at what both got when they are done. As often as that goes in a second, but not more than
/// `most` times. Every third time one of them is first, every third time the other, and else
/// whoever is, with some lead: on a busy machine, whose threads take turns, that is always the same
/// one.
fn races<A: Send, B: Send>(
    most: usize,
    a: impl Fn() -> A,
    b: impl Fn() -> B + Sync,
    mut judge: impl FnMut(A, B),
) {
    let (come, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (a_is_done, b_is_done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let answer = Mutex::new(None);
    // False: the other is not there any more.
    let until = |count: &AtomicUsize, least: usize| {
        let mut spins = 0;
        while count.load(SeqCst) < least {
            if over.load(SeqCst) {
                return false;
            }
            spins += 1;
            if spins % 100 == 0 { thread::yield_now() } else { core::hint::spin_loop() }
        }
        true
    };
    let meet = |meeting: usize| {
        come.fetch_add(1, SeqCst);
        until(&come, 2 * meeting + 2)
    };
    let late = |by: usize| (0..by).for_each(|_| core::hint::spin_loop());
    thread::scope(|s| {
        s.spawn(|| {
            let _ends_the_other = OnDrop(|| over.store(true, SeqCst));
            // Two meetings a round: one before, one after.
            for round in 0.. {
                if !meet(2 * round) || (round % 3 == 0 && !until(&a_is_done, round + 1)) {
                    return;
                }
                late(round % 10);
                let got = b();
                b_is_done.store(round + 1, SeqCst);
                *answer.lock().unwrap() = Some(got);
                if !meet(2 * round + 1) {
                    return;
                }
            }
        });
        let _ends_the_other = OnDrop(|| over.store(true, SeqCst));
        let began = Instant::now();
        for round in 0..rounds(most) {
            if !meet(2 * round) || (round % 3 == 1 && !until(&b_is_done, round + 1)) {
                return;
            }
            late(round / 10 % 10);
            let got = a();
            a_is_done.store(round + 1, SeqCst);
            if !meet(2 * round + 1) {
                return;
            }
            let other = answer.lock().unwrap().take().expect("it has been there");
            judge(got, other);
            if began.elapsed() > Duration::from_secs(1) {
                break;
            }
        }
    });
}

#[test]
fn a_pin_and_a_freeze_have_one_winner() {
    let page = live(1);
    watched(&[&page], || {
        races(
            200_000,
            || page.lock().begin_migration().freeze(Unpinned),
            || page.try_pin(),
            |migration, pin| {
                match (pin, migration) {
                    (Ok(pin), Err(busy)) => {
                        assert_eq!(busy.pins(), 1);
                        drop(pin);
                        busy.into_migration().freeze(Unpinned).expect("unpinned").commit_in_place();
                    }
                    (Err(error), Ok(moving)) => {
                        assert!(
                            matches!(error, PinError::Frozen | PinError::Migrating),
                            "{error:?}"
                        );
                        moving.commit_in_place();
                    }
                    (Ok(_), Ok(_)) => panic!("pinned and frozen: {page:?}"),
                    (Err(error), Err(busy)) => {
                        // The pin was refused because the migration had begun, and then nothing
                        // stood in the freeze's way.
                        panic!("both lost: {error:?}, {busy:?}");
                    }
                }
                is_at_rest(&page, 1, 0);
            },
        );
    });
}

#[test]
fn a_reference_and_an_exact_freeze_have_one_winner() {
    let page = live(1);
    watched(&[&page], || {
        races(
            200_000,
            || page.lock().begin_migration().freeze(ExactRefs(1)),
            || page.try_get(),
            |migration, reference| {
                match (reference, migration) {
                    (Ok(reference), Err(busy)) => {
                        assert_eq!((busy.refs(), busy.pins()), (2, 0));
                        drop((reference, busy));
                    }
                    (Err(GetError::Frozen), Ok(moving)) => drop(moving),
                    other => panic!("{other:?}"),
                }
                is_at_rest(&page, 1, 0);
            },
        );
    });
}

/// Whoever has a pin says so, for as long as it has it, and takes its time; whoever moves the page
/// looks whether anybody says so.
#[test]
fn pins_that_come_and_go_are_never_there_while_the_page_moves() {
    let page = live(1);
    let (held, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let pinned = AtomicUsize::new(0);
    watched(&[&page], || {
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    while !over.load(SeqCst) {
                        match page.try_pin() {
                            Ok(pin) => {
                                held.fetch_add(1, SeqCst);
                                thread::yield_now();
                                held.fetch_sub(1, SeqCst);
                                pinned.fetch_add(1, SeqCst);
                                drop(pin);
                            }
                            Err(PinError::Frozen | PinError::Migrating) => {
                                let _ = page.wait_migration(());
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            let _ends_the_others = OnDrop(|| over.store(true, SeqCst));
            let began = Instant::now();
            for _ in 0..rounds(2_000) {
                if began.elapsed() > Duration::from_secs(1) {
                    break;
                }
                // There is somebody to be in the way.
                let before = pinned.load(SeqCst);
                while pinned.load(SeqCst) == before && held.load(SeqCst) == 0 {
                    thread::yield_now();
                }
                let mut migration = page.lock().begin_migration();
                let frozen = loop {
                    match migration.freeze(ExactRefs(1)) {
                        Ok(frozen) => break frozen,
                        // There will be no new pins, and those there are will go.
                        Err(busy) => migration = busy.into_migration(),
                    }
                    thread::yield_now();
                };
                // All this time.
                for _ in 0..3 {
                    assert_eq!(held.load(SeqCst), 0, "pinned and moving: {page:?}");
                    thread::yield_now();
                }
                frozen.commit_in_place();
            }
        });
    });
    is_at_rest(&page, 1, 0);
}
