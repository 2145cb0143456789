//! What every way out of a migration leaves behind, panics among them (I21).

use crate::common::sim::Sim;
use crate::common::{panic_of, watched, with_threads};
use crate::stages::{is_at_rest, live};
use FreezeRule::{ExactRefs, Unpinned};
use pagelock::futex::Sleep;
use pagelock::{FreezeRule, Frozen, Limits, Migration, PageLock, Wake};
use std::thread;

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
        with_threads(&[&page], |s| {
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

/// The platform panics when it should tell a waiter. The stage is over then, and the pages are
/// released all the same.
#[test]
fn a_panic_in_telling_leaves_no_page_locked() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (src, dst) = (PageLock::with_futex(sim), PageLock::with_futex(sim));
        src.activate(1).unwrap();
        let over =
            |page: &PageLock<Sim>| !page.is_locked() && !page.is_migrating() && !page.is_frozen();

        // A thread sleeps for the page, or the platform would not be asked.
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
