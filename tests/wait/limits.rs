//! Limits by the real clock, and what their errors say.

use crate::cancel::{NANOS, until_noon};
use crate::common::sim::Sim;
use crate::common::watched;
use core::time::Duration;
use pagelock::{Cancel, FutexTimed, Limits, LockError, PageLock, Wait, Wake};

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use pagelock::futex::MonotonicTime;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn the_systems_own_timeouts_end_waits_and_lockers() {
        let page = PageLock::new();
        let migration = page.lock().begin_migration();
        watched(&[&page], || {
            assert_eq!(page.wait_unlocked_for((), MOMENT), Wake::TimedOut);
            assert_eq!(
                page.wait_with(
                    (),
                    Wait::migration().within(Limits::none().until(MonotonicTime::now() + MOMENT))
                ),
                Wake::TimedOut
            );
            assert!(page.try_lock_for(MOMENT).is_none());
            let soon = || MonotonicTime::now() + MOMENT;
            assert_eq!(
                page.lock_within(Limits::none().until(soon())).map(drop),
                Err(LockError::TimedOut)
            );
            assert_eq!(
                page.wait_with((), Wait::unlocked().within(Limits::none().until(soon()))),
                Wake::TimedOut
            );
        });
        assert!(!format!("{page:?}").contains("sleepers"), "{page:?}");
        migration.abort();
        assert!(page.try_lock().is_some());
    }

    #[test]
    fn a_point_in_the_past_is_late() {
        let (page, past) = (PageLock::new(), MonotonicTime::now());
        let _guard = page.lock();
        while past >= MonotonicTime::now() {}
        assert!(matches!(page.lock_within(Limits::none().until(past)), Err(LockError::TimedOut)));
        assert_eq!(
            page.wait_with((), Wait::unlocked().within(Limits::none().until(past))),
            Wake::TimedOut
        );
    }
}

#[test]
fn limits_are_over_when_cancelled_or_late() {
    fn again<T: Clone>(x: &T) -> T {
        x.clone()
    }
    let sim = Sim::new(1);
    let cancel = Cancel::with_futex(sim);
    assert_eq!(Limits::none().over(sim), None);
    let until = Limits::none().until(sim.after(Duration::from_nanos(NANOS)).unwrap());
    let limits = again(&until.unless(&cancel));
    assert_eq!(limits.over(sim), None);
    until_noon(sim);
    assert_eq!((until.over(sim), limits.over(sim)), (Some(Wake::TimedOut), Some(Wake::TimedOut)));
    cancel.cancel();
    // The deadline has passed as well: that it was cancelled is said first.
    assert_eq!((until.over(sim), limits.over(sim)), (Some(Wake::TimedOut), Some(Wake::Cancelled)));
}

#[test]
fn errors_say_what_was_seen() {
    fn says(error: impl core::error::Error, what: &[&str]) {
        let text = error.to_string();
        assert!(what.iter().all(|w| text.contains(w)), "{text}");
    }
    says(LockError::TimedOut, &["deadline", "released"]);
    says(LockError::Cancelled, &["cancelled", "released"]);
}
