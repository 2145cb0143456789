//! However a migration ends, its waiters return.

use crate::wait::{assert_over, wait};
use crate::{In, Page, explore, on};
use pagelock::FreezeRule;

/// A waiter for the migration against every way to end one.
fn ends(end: impl Fn(pagelock::Migration<'_, In<0>>) + Send + Sync + Copy + 'static) {
    explore(move || {
        let page = Page::<0>::new();
        page.lock.activate(1).unwrap();
        let migration = page.lock.lock().begin_migration();
        let a = on(&page, |page| page.lock.wait_migration(()));
        let b = on(&page, |page| drop(page.lock.lock()));
        end(migration);
        assert_over(a.join().unwrap());
        b.join().unwrap();
        page.assert_idle();
        assert!(!page.lock.is_migrating() && !page.lock.is_frozen());
    });
}

#[test]
fn a_migration_that_is_aborted() {
    ends(|migration| _ = migration.abort());
}

#[test]
fn a_migration_that_is_dropped_while_frozen() {
    ends(|migration| drop(migration.freeze(FreezeRule::ExactRefs(1)).unwrap()));
}

#[test]
fn a_migration_that_is_committed() {
    ends(|migration| _ = migration.freeze(FreezeRule::Unpinned).unwrap().commit_in_place());
}

/// The copy panics: unwinding ends the migration like an abort.
#[test]
fn a_migration_whose_copy_panics() {
    ends(|migration| {
        let frozen = migration.freeze(FreezeRule::ExactRefs(1)).unwrap();
        let copy = std::panic::AssertUnwindSafe(move || {
            let _frozen = frozen;
            // As a panic, but without a report, which would look like a failure of the model.
            std::panic::resume_unwind(Box::new("the source is unreadable"))
        });
        assert!(std::panic::catch_unwind::<_, ()>(copy).is_err());
    });
}

/// A cancelled migration is over for its waiters, though its owner keeps the
/// lock.
#[test]
fn a_migration_that_is_cancelled() {
    explore(|| {
        let page = Page::<0>::new();
        let migration = page.lock.lock().begin_migration();
        let waiter = on(&page, |page| page.lock.wait_migration(()));
        let guard = migration.cancel();
        assert_over(waiter.join().unwrap());
        drop(guard);
    });
}

/// Both pages of a commit to another header have waiters; they share a slot.
#[test]
fn a_migration_that_moves_to_another_header() {
    explore(|| {
        let (src, dst) = (Page::<0>::new(), Page::<0>::new());
        src.lock.activate(1).unwrap();
        let migration = src.lock.lock().begin_migration();
        let there = dst.lock.lock();
        let a = on(&src, |page| page.lock.wait_migration(()));
        let b = on(&dst, wait);
        let frozen = migration.freeze(FreezeRule::ExactRefs(1)).unwrap();
        // SAFETY: the reference that the page was made with.
        let _ = unsafe { frozen.commit_to_moving(there, 1) }.unwrap();
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        assert_eq!((src.lock.refs(), dst.lock.refs()), (0, 1));
        src.assert_idle();
        dst.assert_idle();
    });
}
