//! A migrator that waits for the last unpin.

use crate::{In, Page, explore, explore_with, on};
use pagelock::futex::{Futex, MonotonicTime, model};
use pagelock::{FreezeRule, Limits, PagePin, Wake};

fn live(refs: u32) -> std::sync::Arc<Page> {
    let page = Page::<0>::new();
    page.lock.activate(refs).unwrap();
    page
}

/// Pins the page for good, for another thread to unpin.
fn pinned(page: &Page) {
    page.lock.try_pin().unwrap().into_raw();
}

fn unpin(page: &Page) {
    page.add();
    // SAFETY: a pin that `pinned` has left.
    drop(unsafe { PagePin::from_raw(&page.lock) });
}

/// The last unpin is never missed, and the migrator sees what its holder did.
#[test]
fn the_last_unpin_ends_the_wait() {
    explore_with(3, || {
        let page = live(1);
        pinned(&page);
        let holder = on(&page, unpin);
        let migration = page.lock.lock().begin_migration();
        let frozen = migration.freeze_unpinned(FreezeRule::ExactRefs(1), Limits::none()).unwrap();
        assert_eq!(page.read(), 1);
        page.add();
        frozen.commit_in_place();
        holder.join().unwrap();
        assert!(!page.lock.is_frozen() && page.lock.refs() == 1);
    });
}

/// With two holders it is whichever is last that tells.
#[test]
fn the_last_of_two_unpins_ends_the_wait() {
    explore(|| {
        let page = live(1);
        pinned(&page);
        pinned(&page);
        let holder = |page: &Page| {
            page.read();
            // SAFETY: a pin that `pinned` has left.
            drop(unsafe { PagePin::from_raw(&page.lock) });
        };
        let (a, b) = (on(&page, holder), on(&page, holder));
        let mut migration = page.lock.lock().begin_migration();
        migration.wait_unpinned(Limits::none()).unwrap();
        page.add();
        drop(migration);
        a.join().unwrap();
        b.join().unwrap();
        assert!(!page.lock.is_frozen() && page.lock.pins() == 0);
    });
}

/// Another page's release is told to the same slot: the migrator looks, and sleeps on, and is not
/// missed by the last unpin.
#[test]
fn somebody_elses_release_does_not_hide_the_last_unpin() {
    explore_with(3, || {
        let page = live(1);
        pinned(&page);
        let other = loom::thread::spawn(|| In::<0>.tell_event(0));
        let holder = on(&page, unpin);
        let mut migration = page.lock.lock().begin_migration();
        migration.wait_unpinned(Limits::none()).unwrap();
        assert_eq!(page.read(), 1);
        drop(migration);
        other.join().unwrap();
        holder.join().unwrap();
    });
}

/// A pin that is tried meanwhile is refused or waited for, and never there during the copy (I19).
#[test]
fn a_late_pin_is_refused_or_waited_for() {
    explore(|| {
        let page = live(1);
        pinned(&page);
        let holder = on(&page, |page| {
            // SAFETY: the pin that `pinned` has left.
            drop(unsafe { PagePin::from_raw(&page.lock) });
        });
        let late = on(&page, |page| {
            if let Ok(pin) = page.lock.try_pin() {
                page.read();
                drop(pin);
            }
        });
        let migration = page.lock.lock().begin_migration();
        let frozen = migration.freeze_unpinned(FreezeRule::ExactRefs(1), Limits::none()).unwrap();
        page.add();
        frozen.commit_in_place();
        holder.join().unwrap();
        late.join().unwrap();
        assert!(!page.lock.is_frozen() && page.lock.pins() == 0);
    });
}

/// A wait whose time is up leaves the page as it was, also if the last unpin comes just then; and
/// if it came first, that counts.
#[test]
fn the_end_of_the_time_against_the_last_unpin() {
    explore_with(3, || {
        let page = live(1);
        pinned(&page);
        let clock = loom::thread::spawn(model::expire);
        let holder = on(&page, unpin);
        let mut migration = page.lock.lock().begin_migration();
        match migration.wait_unpinned(Limits::none().until(MonotonicTime::MAX)) {
            Ok(()) => assert_eq!((page.read(), page.lock.pins()), (1, 0)),
            Err(still) => assert_eq!((still.pins, still.wake), (1, Wake::TimedOut)),
        }
        assert!(!page.lock.is_frozen());
        migration.abort();
        clock.join().unwrap();
        holder.join().unwrap();
        assert_eq!((page.lock.refs(), page.lock.pins()), (1, 0));
        let _ = page.lock.try_pin().unwrap().unpin();
    });
}

/// The unpin that leaves nothing at all says so once, with a migrator waiting or not.
#[test]
fn the_last_unpin_may_be_the_last_put() {
    explore_with(3, || {
        let page = live(1);
        pinned(&page);
        let holder = on(&page, |page| {
            // SAFETY: the pin that `pinned` has left.
            u32::from(unsafe { page.lock.unpin_raw() } == pagelock::Put::Last)
        });
        // SAFETY: the reference that the page was made with.
        let last = u32::from(unsafe { page.lock.put_raw() } == pagelock::Put::Last);
        let mut migration = page.lock.lock().begin_migration();
        migration.wait_unpinned(Limits::none()).unwrap();
        drop(migration);
        assert_eq!(last + holder.join().unwrap(), 1);
    });
}
