//! Waiting without a reference, by many.

use crate::{In, Page, THREADS, below, explore, in_threads};
use pagelock::futex::MonotonicTime;
use pagelock::{Cancel, Limits, Wait, Wake};
use std::sync::Arc;

/// Two pages of one slot, owners of both, and waiters with and without deadlines: everybody
/// returns.
#[test]
fn eight_waiters_and_owners() {
    explore(|| {
        let pages = Arc::new([Page::new(0), Page::new(0), Page::new(1)]);
        in_threads(THREADS, &pages, |pages, i| {
            for _ in 0..2 {
                let page = &pages[below(3)];
                if i < 3 {
                    let guard = page.lock.lock();
                    page.touch();
                    shuttle::thread::yield_now();
                    drop(guard);
                } else {
                    let wake = match below(4) {
                        0 => page.lock.wait_migration(()),
                        1 => page.lock.wait_with(
                            (),
                            Wait::unlocked().within(Limits::none().until(MonotonicTime::MAX)),
                        ),
                        _ => page.lock.wait_unlocked(()),
                    };
                    assert!(!matches!(wake, Wake::Cancelled | Wake::Poisoned), "{wake:?}");
                }
            }
        });
        pages.iter().for_each(Page::assert_idle);
    });
}

/// One release and seven sleepers: the chain reaches them all, however many of them leave early or
/// sleep under a later value.
#[test]
fn one_release_reaches_seven() {
    explore(|| {
        let page = Arc::new(Page::new(0));
        let guard = page.lock.lock().into_raw();
        let _ = guard;
        in_threads(THREADS, &page, |page, i| {
            if i == 0 {
                for _ in 0..below(4) {
                    shuttle::thread::yield_now();
                }
                // SAFETY: the guard that was turned raw before the threads began.
                drop(unsafe { pagelock::PageGuard::from_raw(&page.lock) });
                if below(2) == 0 {
                    drop(page.lock.lock());
                }
            } else if i == 1 {
                let _ = page.lock.wait_with(
                    (),
                    Wait::unlocked().within(Limits::none().until(MonotonicTime::MAX)),
                );
            } else {
                let _ = page.lock.wait_unlocked(());
            }
        });
        page.assert_idle();
    });
}

/// Waits under a switch that is thrown while some sleep: every one of those ends, and nobody else's
/// is stranded.
#[test]
fn a_switch_is_thrown() {
    explore(|| {
        let shared = Arc::new((Page::new(0), Cancel::with_futex(In(0))));
        let _ = shared.0.lock.lock().into_raw();
        in_threads(THREADS, &shared, |(page, switch), i| match i {
            0 => {
                shuttle::thread::yield_now();
                switch.cancel();
            }
            1..5 => {
                // One that begins late finds the page released, or the switch thrown.
                let wake =
                    page.lock.wait_with((), Wait::unlocked().within(Limits::none().unless(switch)));
                assert!(matches!(wake, Wake::Cancelled | Wake::NotLocked), "{wake:?}");
            }
            5 => {
                // Released only once the switch is thrown, so that nobody under it can have been
                // told by this.
                while !switch.is_cancelled() {
                    shuttle::thread::yield_now();
                }
                // SAFETY: the guard that was turned raw before the threads began.
                drop(unsafe { pagelock::PageGuard::from_raw(&page.lock) });
            }
            _ => _ = page.lock.wait_unlocked(()),
        });
        shared.0.assert_idle();
    });
}
