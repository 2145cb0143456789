//! Waits that are cancelled, and switches that are seen thrown.

use crate::wait::{assert_nobody_counted, assert_over, wait};
use crate::{In, Page, explore, explore_with, on};
use loom::thread;
use pagelock::futex::MonotonicTime;
use pagelock::{Cancel, Limits, Wait, Wake};
use std::sync::Arc;

fn cancelled(with: impl Fn(&Page, &Cancel<In<0>>) -> Wake + Send + Sync + Copy + 'static) {
    explore_with(3, move || {
        let page = Page::<0>::new();
        let switch = Arc::new(Cancel::<In<0>>::default());
        let guard = page.lock.lock().begin_migration();
        let for_waiter = switch.clone();
        let a = on(&page, move |page| {
            // Nobody releases before the waiter is back.
            assert_eq!(with(page, &for_waiter), Wake::Cancelled);
            assert_eq!(page.read(), 1, "what the canceller did before is seen");
        });
        page.add();
        switch.cancel();
        a.join().unwrap();
        drop(guard);
        page.assert_idle();
    });
}

#[test]
fn a_cancelled_wait() {
    cancelled(|page, switch| {
        page.lock.wait_with((), Wait::unlocked().within(Limits::none().unless(switch)))
    });
}

#[test]
fn a_cancelled_wait_for_migration_with_a_deadline() {
    cancelled(|page, switch| {
        page.lock.wait_with(
            (),
            Wait::migration().within(Limits::none().until(MonotonicTime::MAX).unless(switch)),
        )
    });
}

/// A thread that sees the switch thrown sees what the canceller did before, without having waited.
#[test]
fn a_switch_that_is_seen_thrown() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let switch = Arc::new(Cancel::<In<0>>::default());
        let for_watcher = switch.clone();
        let watcher = on(&page, move |page| {
            while !for_watcher.is_cancelled() {
                thread::yield_now();
            }
            assert_eq!(page.read(), 1);
        });
        page.add();
        switch.cancel();
        watcher.join().unwrap();
    });
}

/// Two waiters under one switch, and one under none, which returns with the release.
#[test]
fn a_switch_ends_all_of_its_waits() {
    explore(|| {
        let page = Page::<0>::new();
        let switch = Arc::new(Cancel::<In<0>>::default());
        let guard = page.lock.lock();
        let under = |switch: Arc<Cancel<In<0>>>| {
            move |page: &Page| {
                page.lock.wait_with((), Wait::unlocked().within(Limits::none().unless(&switch)))
            }
        };
        let (a, b) = (on(&page, under(switch.clone())), on(&page, under(switch.clone())));
        let c = on(&page, wait);
        switch.cancel();
        assert_eq!(a.join().unwrap(), Wake::Cancelled);
        assert_eq!(b.join().unwrap(), Wake::Cancelled);
        drop(guard);
        assert_over(c.join().unwrap());
        assert_nobody_counted();
    });
}
