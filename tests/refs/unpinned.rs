//! A migrator that waits for the last unpin, and nothing else than the page: what wakes it, what
//! limits end, what is as it was then; and pins are counted exactly (I20, I25, I29).

#![cfg(all(feature = "std", target_os = "linux", not(pagelock_shuttle)))]

use crate::common::{
    own::{Own, within},
    watched,
};
use core::time::Duration;
use pagelock::refs::{GetError, PinError};
use pagelock::{Cancel, FreezeRule, Limits, PageLock, PagePin, Put, StillPinned, Wake};
use std::thread;
use std::time::Instant;

fn parts(still: StillPinned) -> (u32, Wake) {
    (still.pins, still.wake)
}

fn live(own: Own) -> PageLock<Own> {
    let page = PageLock::with_futex(own);
    page.activate(2).unwrap();
    page
}

/// The migrator that must win sleeps until the last pin is dropped, and is woken by that one. New
/// pins and references fail meanwhile and say why; afterwards the page is frozen, with no moment in
/// between.
#[test]
fn the_last_unpin_ends_the_wait() {
    let own = Own::new(4);
    let page = live(own);
    watched(&[&page], || {
        let (a, b) = (page.try_pin().unwrap(), page.try_pin().unwrap());
        thread::scope(|s| {
            let migrator = s.spawn(|| {
                let migration = page.lock().begin_migration();
                let frozen =
                    migration.freeze_unpinned(FreezeRule::ExactRefs(2), Limits::none()).unwrap();
                assert!(page.is_frozen());
                frozen.commit_in_place()
            });
            own.until_asleep(1);
            assert_eq!(page.try_pin().unwrap_err(), PinError::Frozen);
            assert_eq!(page.try_get().unwrap_err(), GetError::Frozen);
            let wakes = own.wakes();
            assert_eq!(a.unpin(), Put::Kept);
            assert_eq!(own.wakes(), wakes, "there is another");
            own.until_asleep(1);
            assert_eq!(b.unpin(), Put::Kept);
            assert!(own.wakes() > wakes);
            let _ = migrator.join().unwrap();
        });
        // With nobody waiting an unpin tells nobody.
        let wakes = own.wakes();
        drop(page.try_pin().unwrap());
        assert_eq!(own.wakes(), wakes);
        assert!(page.try_get().is_ok() && !page.is_frozen());
    });
}

/// Limits, and what is as it was when they are reached.
#[test]
fn a_wait_for_the_last_unpin_within_limits() {
    let own = Own::new(4);
    let page = live(own);
    watched(&[&page], || {
        let pin = page.try_pin().unwrap();
        let mut migration = page.lock().begin_migration();
        let began = Instant::now();
        assert_eq!(
            migration.wait_unpinned(within(own, 20)).map_err(parts),
            Err((1, Wake::TimedOut))
        );
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert_eq!(
            migration.wait_unpinned(within(own, 0)).map_err(parts),
            Err((1, Wake::TimedOut))
        );
        assert!(page.try_get().is_ok(), "references are given again");
        assert_eq!(page.try_pin().unwrap_err(), PinError::Migrating);

        let cancel = Cancel::with_futex(own);
        thread::scope(|s| {
            s.spawn(|| {
                own.until_asleep(1);
                cancel.cancel();
            });
            let still = migration.wait_unpinned(Limits::none().unless(&cancel)).unwrap_err();
            assert_eq!(parts(still), (1, Wake::Cancelled));
            assert!(
                still.to_string().contains("1 pins") && still.to_string().contains("Cancelled"),
                "{still}"
            );
        });
        let busy = migration.freeze_unpinned(FreezeRule::Unpinned, within(own, 5)).unwrap_err();
        assert_eq!((busy.pins(), busy.refs(), busy.reason().frozen), (1, 2, false));
        let mut migration = busy.into_migration();
        drop(pin);
        // Without pins there is nothing to wait for, whatever the time is, or who has cancelled.
        migration.wait_unpinned(within(own, 0).unless(&cancel)).unwrap();
        // References are not waited for.
        let busy = migration.freeze_unpinned(FreezeRule::ExactRefs(1), Limits::none()).unwrap_err();
        assert_eq!((busy.pins(), busy.refs()), (0, 2));
        assert!(page.try_get().is_ok());
        drop(busy);
        assert!(page.try_pin().is_ok() && !page.is_locked());
    });
}

/// A poisoned page stays frozen, and is not waited for (I25).
#[test]
fn a_wait_for_the_last_unpin_of_a_poisoned_page() {
    let own = Own::new(4);
    let page = live(own);
    watched(&[&page], || {
        page.try_pin().unwrap().into_raw();
        let _ = page.lock().poison();
        let mut migration = page.lock().begin_migration();
        assert_eq!(
            migration.wait_unpinned(Limits::none()).map_err(parts),
            Err((1, Wake::Poisoned))
        );
        let busy = migration.freeze_unpinned(FreezeRule::Unpinned, Limits::none()).unwrap_err();
        assert!(busy.reason().poisoned && busy.pins() == 1);
        // SAFETY: the pin above.
        drop(unsafe { PagePin::from_raw(&page) });
        let mut migration = busy.into_migration();
        migration.wait_unpinned(Limits::none()).unwrap();
        drop(migration);
        assert_eq!(page.try_get().unwrap_err(), GetError::Poisoned);
    });
}

/// I20: pins are counted apart from references, exactly: a thousand references are no pin, and one
/// pin is one.
#[test]
fn pins_are_exact() {
    let own = Own::new(4);
    let page = live(own);
    let references: Vec<_> = (0..5000).map(|_| page.try_get().unwrap()).collect();
    assert_eq!(page.pins(), 0);
    let mut migration = page.lock().begin_migration();
    migration.wait_unpinned(within(own, 0)).unwrap();
    drop(migration);
    let pin = page.try_pin().unwrap();
    assert_eq!((page.pins(), page.refs()), (1, 5002));
    drop(references);
    assert_eq!(page.pins(), 1);
    drop(pin);
    assert_eq!(page.pins(), 0);
}

/// A platform without a clock waits for pins as well, as long as it takes or until it is cancelled.
#[test]
fn a_platform_without_a_clock_waits_for_the_last_unpin() {
    use pagelock::futex::SpinFutex;

    static PAGE: PageLock<SpinFutex> = PageLock::with_futex(SpinFutex);
    PAGE.activate(1).unwrap();
    watched(&[&PAGE], || {
        let pin = PAGE.try_pin().unwrap();
        let cancel = Cancel::with_futex(SpinFutex);
        cancel.cancel();
        let mut migration = PAGE.lock().begin_migration();
        let still = migration.wait_unpinned(Limits::none().unless(&cancel)).unwrap_err();
        assert_eq!(parts(still), (1, Wake::Cancelled));
        let holder = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            drop(pin);
        });
        migration
            .freeze_unpinned(FreezeRule::ExactRefs(1), Limits::none())
            .unwrap()
            .commit_in_place();
        holder.join().unwrap();
    });
}
