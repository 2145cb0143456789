//! Waits and lockers that run out of time, at every step.

use crate::cancel::{NANOS, NOON, page_on, until_noon, wait_until, works};
use crate::common::sim::{Sim, at};
use crate::common::{OnDrop, watched};
use core::time::Duration;
use pagelock::futex::MonotonicTime;
use pagelock::{Limits, LockError, Wait, Wake};

#[test]
fn a_wait_that_is_late_before_the_call_does_not_begin() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        until_noon(sim);
        let guard = page.lock();
        let late = wait_until(page, at(NANOS - 1));
        assert_eq!(late, Wake::TimedOut);
        assert!(!guard.unlock().event_waiters);
        works(sim, page);
    });
}

#[test]
fn a_wait_whose_time_is_up_between_registering_and_sleeping_does_not_sleep() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let guard = page.lock();
        let wake = page.wait_with(
            OnDrop(|| until_noon(sim)),
            Wait::unlocked().within(Limits::none().until(NOON)),
        );
        assert_eq!(wake, Wake::TimedOut);
        assert_eq!(sim.slept(), 0);
        drop(guard);
        works(sim, page);
    });
}

#[test]
fn a_wait_whose_time_is_up_asleep_times_out() {
    on_a_live_page!(|s, sim, page| {
        let migration = page.lock().begin_migration();
        let waiters = [
            s.spawn(|| wait_until(page, NOON)),
            s.spawn(|| page.wait_unlocked_for((), Duration::from_nanos(NANOS))),
            s.spawn(|| page.wait_with((), Wait::migration().within(Limits::none().until(NOON)))),
        ];
        sim.until_asleep(3);
        until_noon(sim);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Wake::TimedOut);
        }
        migration.abort();
    });
}

#[test]
fn a_wait_whose_time_is_up_after_the_release_was_released() {
    on_a_live_page!(|s, sim, page| {
        let guard = page.lock();
        let waiter = s.spawn(|| wait_until(page, NOON));
        sim.until_asleep(1);
        sim.hold();
        drop(guard);
        until_noon(sim);
        sim.resume();
        assert_eq!(waiter.join().unwrap(), Wake::Released);
    });
}

#[test]
fn a_wait_that_timed_out_leaves_the_others_their_wake() {
    on_a_live_page!(|s, sim, page| {
        let guard = page.lock();
        let impatient = s.spawn(|| wait_until(page, NOON));
        let patient = s.spawn(|| page.wait_unlocked(()));
        sim.until_asleep(2);
        until_noon(sim);
        assert_eq!(impatient.join().unwrap(), Wake::TimedOut);
        assert!(guard.unlock().event_waiters, "the other one still waits");
        assert_eq!(patient.join().unwrap(), Wake::Released);
    });
}

#[test]
fn a_time_that_the_clock_cannot_hold_is_no_limit() {
    on_a_live_page!(|s, sim, page| {
        let migration = page.lock().begin_migration();
        let waiters = [
            s.spawn(|| page.wait_unlocked_for((), Duration::MAX)),
            s.spawn(|| {
                page.wait_with(
                    (),
                    Wait::migration().within(Limits::none().until(MonotonicTime::MAX)),
                )
            }),
        ];
        let locker = s.spawn(|| page.try_lock_for(Duration::MAX).map(drop));
        sim.until_asleep(3);
        until_noon(sim);
        assert_eq!(sim.asleep(), 3);
        migration.abort();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        }
        assert_eq!(locker.join().unwrap(), Some(()));
    });
}

// ---- lockers, out of time ----

#[test]
fn a_locker_that_is_late_before_the_call_does_not_begin() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        until_noon(sim);
        let guard = page.lock();
        let before = format!("{page:?}");
        let late = page.lock_within(Limits::none().until(at(NANOS - 3))).map(drop);
        assert_eq!(late, Err(LockError::TimedOut));
        assert_eq!(page.try_lock_for(Duration::ZERO).map(drop), None);
        assert_eq!(format!("{page:?}"), before);
        drop(guard);
        works(sim, page);
    });
}

#[test]
fn a_late_locker_still_takes_a_page_that_is_free() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        until_noon(sim);
        assert!(page.lock_within(Limits::none().until(at(1))).is_ok());
        assert!(page.try_lock_for(Duration::ZERO).is_some());
        works(sim, page);
    });
}

#[test]
fn a_locker_whose_time_is_up_between_registering_and_sleeping_leaves() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let guard = page.lock();
        sim.at_sleep(move || until_noon(sim));
        assert_eq!(
            page.lock_within(Limits::none().until(NOON)).map(drop),
            Err(LockError::TimedOut)
        );
        assert_eq!(sim.slept(), 0);
        assert!(!format!("{page:?}").contains("sleepers"), "{page:?}");
        drop(guard);
        works(sim, page);
    });
}

#[test]
fn a_locker_whose_time_is_up_asleep_leaves() {
    on_a_live_page!(|s, sim, page| {
        let guard = page.lock();
        let lockers = [
            s.spawn(|| page.lock_within(Limits::none().until(NOON)).map(drop).err()),
            s.spawn(|| {
                page.try_lock_for(Duration::from_nanos(NANOS))
                    .map(drop)
                    .is_none()
                    .then_some(LockError::TimedOut)
            }),
        ];
        sim.until_asleep(2);
        until_noon(sim);
        for locker in lockers {
            assert_eq!(locker.join().unwrap(), Some(LockError::TimedOut));
        }
        assert!(!format!("{page:?}").contains("sleepers"), "{page:?}");
        drop(guard);
        assert_eq!(sim.calls(), [], "there was nobody left to wake");
    });
}

#[test]
fn a_locker_whose_time_is_up_after_the_release_owns_the_page() {
    on_a_live_page!(|s, sim, page| {
        let guard = page.lock();
        let locker = s.spawn(|| page.lock_within(Limits::none().until(NOON)).map(drop));
        sim.until_asleep(1);
        sim.hold();
        drop(guard);
        until_noon(sim);
        sim.resume();
        assert_eq!(locker.join().unwrap(), Ok(()), "the wake was its own");
    });
}
