//! The stages of a migration: begin, a migration around a closure, and errors that leave the
//! function.

use crate::common::{panic_of, watched};
use FreezeRule::{ExactRefs, Unpinned};
use core::fmt::Debug;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use pagelock::{FreezeRule, GetError, NotMigrated, PageLock, UserBits, Wake};
use std::thread;
use std::time::Duration;

/// A page with `refs` references, which belong to the test.
pub(crate) fn live(refs: u32) -> PageLock {
    let page = PageLock::new();
    if refs > 0 {
        page.activate(refs).unwrap();
    }
    page
}

/// Unlocked, not migrating, not frozen, with these counts.
pub(crate) fn is_at_rest(page: &PageLock, refs: u32, pins: u32) {
    assert!(!page.is_locked() && !page.is_migrating() && !page.is_frozen(), "{page:?}");
    assert_eq!((page.refs(), page.pins()), (refs, pins), "{page:?}");
    drop(page.try_lock().expect("free"));
}

pub(crate) fn says(error: &dyn core::fmt::Display, what: &[&str]) {
    let text = error.to_string();
    assert!(what.iter().all(|w| text.contains(w)), "{text:?} does not say {what:?}");
}

pub(crate) fn text(x: &impl Debug) -> String {
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

/// The cancel wakes the sleepers. The platform, which may want to lock the page, is told
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
    assert_eq!(
        commit(&page, &lost).unwrap_err().downcast_ref(),
        Some(&pagelock::CommitRefused::Poisoned)
    );
    is_at_rest(&page, 2, 0);
    assert!(!lost.is_locked());
}
