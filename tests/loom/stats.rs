//! The counters say what happened, however it happened.

use crate::{In, Page, WAKE_ONES, explore, on};
use pagelock::{FreezeRule, Futex, Wake, stats};

/// Lockers, a waiter, and a newcomer: every wake and every sleep is counted once.
#[test]
fn waits_and_wakes_are_counted_once() {
    explore(|| {
        WAKE_ONES.set(0);
        let before = stats::snapshot();
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let waiter = on(&page, |page| page.lock.wait_unlocked(()));
        let locker = on(&page, |page| drop(page.lock.lock()));
        drop(guard);
        drop(page.lock.lock());
        let slept = waiter.join().unwrap() == Wake::Released;
        locker.join().unwrap();
        let counted = stats::snapshot().since(before);
        assert_eq!(counted.lock_wakes, WAKE_ONES.get());
        assert_eq!(counted.event_waits, usize::from(slept));
        assert_eq!(counted.event_wakes, const { &In::<0> }.event(0).sequence() as usize);
        assert_eq!(counted.spurious_returns, 0);
        assert!(
            counted.lost_wakes <= counted.lock_wakes && counted.gated_locks <= counted.lock_waits,
            "{counted:?}"
        );
    });
}

/// Two migrators and a pin: each migration is a commit or an abort, and each abort has a reason.
#[test]
fn migrations_are_counted_once() {
    explore(|| {
        let before = stats::snapshot();
        let page = Page::<0>::new();
        page.lock.activate(1).unwrap();
        let migrate =
            |page: &Page| match page.lock.lock().begin_migration().freeze(FreezeRule::Unpinned) {
                Ok(frozen) => _ = frozen.commit_in_place(),
                Err(busy) => drop(busy),
            };
        let a = on(&page, migrate);
        let b = on(&page, |page: &Page| drop(page.lock.try_pin()));
        migrate(&page);
        a.join().unwrap();
        b.join().unwrap();
        let counted = stats::snapshot().since(before);
        assert_eq!(counted.commits + counted.aborts, 2);
        assert_eq!(counted.frozen_refused_pins, counted.aborts);
        assert_eq!(counted.frozen_refused_refs + counted.frozen_refused_other, 0);
    });
}
