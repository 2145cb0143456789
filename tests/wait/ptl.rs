//! Release, then sleep: the wait that holds neither the page-table lock (PTL) nor a reference (I5
//! to I7, I9, I10, I24, I27, I34, I35; failure classes L1, L6, L7, L10, L14).
//!
//! The value passed as `ptl` is dropped between registering and sleeping, so a test that acts in
//! its drop acts at exactly that point, without a second thread.

use crate::common::{
    OnDrop, Ptl, page_on,
    sim::{Sim, at},
    watched, with_threads,
};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::MonotonicTime;
use pagelock::{Cancel, Limits, PageGuard, PageLock, Wait, Wake};
use std::thread;

type Page = PageLock<Sim>;

pub(crate) fn text(page: &impl core::fmt::Debug) -> String {
    format!("{page:?}")
}

/// Every form of the wait.
#[derive(Clone, Copy, Debug)]
enum Form {
    Unlocked,
    Migration,
    UnlockedFor,
    MigrationUntil,
    UnlockedCancellable,
    MigrationCancellable,
    With,
}

const FORMS: [Form; 7] = [
    Form::Unlocked,
    Form::Migration,
    Form::UnlockedFor,
    Form::MigrationUntil,
    Form::UnlockedCancellable,
    Form::MigrationCancellable,
    Form::With,
];

impl Form {
    /// Waits, with an hour to go and a switch that is not thrown where there are such things.
    fn wait<G>(self, page: &Page, ptl: G, cancel: &Cancel<Sim>) -> Wake {
        let hour = Duration::from_secs(3600);
        match self {
            Self::Unlocked => page.wait_unlocked(ptl),
            Self::Migration => page.wait_migration(ptl),
            Self::UnlockedFor => page.wait_unlocked_for(ptl, hour),
            Self::MigrationUntil => page
                .wait_with(ptl, Wait::migration().within(Limits::none().until(MonotonicTime::MAX))),
            Self::UnlockedCancellable => {
                page.wait_with(ptl, Wait::unlocked().within(Limits::none().unless(cancel)))
            }
            Self::MigrationCancellable => {
                page.wait_with(ptl, Wait::migration().within(Limits::none().unless(cancel)))
            }
            Self::With => page.wait_with(
                ptl,
                Wait::unlocked().within(Limits::none().until(MonotonicTime::MAX).unless(cancel)),
            ),
        }
    }
}

#[test]
fn the_ptl_is_dropped_once_when_there_is_nothing_to_wait_for() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
        for form in FORMS {
            let (ptl, before) = (Ptl::new(), text(page));
            assert_eq!(form.wait(page, ptl.hold(), &cancel), Wake::NotLocked, "{form:?}");
            assert_eq!(ptl.drops(), 1, "{form:?}");
            assert_eq!(text(page), before, "{form:?}");
        }
        assert_eq!(sim.slept(), 0);
    });
}

#[test]
fn the_ptl_is_dropped_once_when_the_page_is_poisoned_and_nobody_sleeps() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
        page.lock().poison();
        for owned in [false, true] {
            let guard = owned.then(|| page.lock().begin_migration());
            for form in FORMS {
                let ptl = Ptl::new();
                assert_eq!(form.wait(page, ptl.hold(), &cancel), Wake::Poisoned, "{form:?}");
                assert_eq!(ptl.drops(), 1, "{form:?}");
            }
            drop(guard);
        }
        assert_eq!(sim.slept(), 0);
    });
}

#[test]
fn the_ptl_is_dropped_once_when_the_wait_is_cancelled_before_it_begins() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
        cancel.cancel();
        let _migration = page.lock().begin_migration();
        for form in [Form::UnlockedCancellable, Form::MigrationCancellable, Form::With] {
            let (ptl, before) = (Ptl::new(), text(page));
            assert_eq!(form.wait(page, ptl.hold(), &cancel), Wake::Cancelled, "{form:?}");
            assert_eq!(ptl.drops(), 1, "{form:?}");
            assert_eq!(text(page), before, "{form:?}");
        }
        assert_eq!(sim.slept(), 0);
    });
}

#[test]
fn the_ptl_is_dropped_once_when_the_deadline_has_passed_before_the_call() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        sim.advance(Duration::from_nanos(7));
        let _migration = page.lock().begin_migration();
        for wait in [Wait::unlocked(), Wait::migration()] {
            let (ptl, before) = (Ptl::new(), text(page));
            let late = page.wait_with(ptl.hold(), wait.within(Limits::none().until(at(5))));
            assert_eq!(late, Wake::TimedOut);
            assert_eq!(ptl.drops(), 1);
            assert_eq!(text(page), before, "nothing else changed");
        }
        let ptl = Ptl::new();
        assert_eq!(page.wait_unlocked_for(ptl.hold(), Duration::ZERO), Wake::TimedOut);
        assert_eq!(ptl.drops(), 1);
        assert_eq!(sim.slept(), 0);
    });
}

#[test]
fn a_deadline_that_has_passed_is_no_error_if_there_is_nothing_to_wait_for() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        sim.advance(Duration::from_nanos(7));
        assert_eq!(
            page.wait_with((), Wait::unlocked().within(Limits::none().until(at(5)))),
            Wake::NotLocked
        );
        let guard = page.lock();
        assert_eq!(
            page.wait_with((), Wait::migration().within(Limits::none().until(at(5)))),
            Wake::NotLocked
        );
        guard.poison();
        assert_eq!(
            page.wait_with((), Wait::unlocked().within(Limits::none().until(at(5)))),
            Wake::Poisoned
        );
    });
}

#[test]
fn the_ptl_is_dropped_before_any_sleep_and_only_once() {
    for form in FORMS {
        let sim = Sim::new(1);
        let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
        let ptl: &'static Ptl = Box::leak(Box::default());
        with_threads(&[page], |s| {
            let migration = page.lock().begin_migration();
            sim.at_sleep(|| assert!(!ptl.is_held(), "asleep with the page-table lock"));
            let waiter = s.spawn(|| form.wait(page, ptl.hold(), &cancel));
            sim.until_asleep(1);
            assert_eq!(ptl.drops(), 1, "{form:?}");
            migration.abort();
            assert_eq!(waiter.join().unwrap(), Wake::Released, "{form:?}");
            assert_eq!(ptl.drops(), 1, "{form:?}");
        });
    }
}

#[test]
fn the_waiter_has_registered_when_the_ptl_is_dropped() {
    let sim = Sim::new(1);
    let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
    for form in FORMS {
        let mut migration = Some(page.lock().begin_migration());
        // The owner releases right here, without ever having taken the PTL.
        let ptl = OnDrop(|| {
            assert!(text(page).contains("awaited"), "{form:?}: {page:?}");
            let released = migration.take().unwrap().abort();
            assert!(released.event_waiters, "{form:?}");
        });
        let wake = watched(&[page], || form.wait(page, ptl, &cancel));
        assert_eq!(wake, Wake::Released, "{form:?}");
    }
    assert_eq!(sim.slept(), 0, "the release was seen before any sleep");
}

/// The owner may release at any moment while the waiter registers, for it need not hold the PTL.
/// The moments here are those at which the waiter asks for its event slot, whatever it has read or
/// written by then.
#[test]
fn a_release_while_the_waiter_registers_is_not_lost() {
    for moment in 0..4 {
        on_a_page!(|s, sim, page| {
            page.lock().into_raw();
            let released: &'static AtomicBool = Box::leak(Box::default());
            let release = move || {
                // SAFETY: the hold was made raw above, and is released once: by the hook, or
                // below if that is not run.
                unsafe { PageGuard::from_raw(page) }.unlock();
                released.store(true, SeqCst);
            };
            sim.at_later_event(moment, release);
            let waiter = s.spawn(|| page.wait_unlocked(()));
            while !waiter.is_finished() && sim.asleep() == 0 {
                thread::yield_now();
            }
            if released.load(SeqCst) {
                assert_eq!(sim.asleep(), 0, "asleep on a free page (moment {moment})");
                assert!(moment > 0 || sim.slept() == 0);
            } else {
                sim.at_later_event(usize::MAX, || {});
                release();
            }
            assert_ne!(waiter.join().unwrap(), Wake::TimedOut);
        });
    }
}

/// As above, and another thread owns the page by the time the waiter looks: then it is that one's
/// release that counts.
#[test]
fn a_release_and_another_hold_while_the_waiter_registers_are_waited_for() {
    on_a_page!(|s, sim, page| {
        page.lock().into_raw();
        sim.at_event(move || {
            // SAFETY: the hold was made raw above, and this runs once.
            unsafe { PageGuard::from_raw(page) }.unlock();
            page.lock().into_raw();
        });
        let waiter = s.spawn(|| page.wait_unlocked(()));
        sim.until_asleep(1);
        // SAFETY: the hold that the hook has made.
        unsafe { PageGuard::from_raw(page) }.unlock();
        assert_eq!(waiter.join().unwrap(), Wake::Released);
    });
}

#[test]
fn a_panic_in_the_ptl_goes_on_and_costs_one_needless_wake() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let guard = page.lock();
        let said = crate::common::panic_of(|| {
            _ = page.wait_unlocked(OnDrop(|| panic!("from the page-table lock")))
        });
        assert_eq!(said, "from the page-table lock");
        assert!(guard.unlock().event_waiters);
        assert!(!page.lock().unlock().event_waiters);
    });
}
