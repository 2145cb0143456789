//! A wait that is cancelled or runs out of time, at every step, and every way in which a sleep can
//! end (I3, I4, I28, I39).
//!
//! Whatever happens, the outcome says which, and nothing is stranded: the page works as if that
//! waiter had never come.

#![cfg(not(pagelock_loom))]

mod common;

use common::sim::{Call, Sim, at, script};
use common::{OnDrop, watched};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::{EventSlot, MonotonicTime, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{Cancel, FreezeRule, Futex, FutexTimed, Limits, LockError, PageLock, Wait, Wake};
use std::thread;

type Page = PageLock<Sim>;

/// So many nanoseconds after the beginning.
const NANOS: u64 = 1000;
const NOON: MonotonicTime = at(NANOS);

fn page_on(sim: Sim) -> &'static Page {
    let page = Box::leak(Box::new(PageLock::with_futex(sim)));
    page.activate(1).unwrap();
    page
}

fn until_noon(sim: Sim) {
    sim.advance(Duration::from_nanos(NANOS));
}

/// Locks, waits and migrates, with somebody asleep for each.
fn works(sim: Sim, page: &Page) {
    assert_eq!(sim.asleep(), 0, "somebody is stranded: {page:?}");
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.try_lock().expect("free");
            let locker = s.spawn(|| drop(page.lock()));
            sim.until_asleep(1);
            let waiter = s.spawn(|| page.wait_unlocked(()));
            sim.until_asleep(2);
            drop(guard);
            locker.join().unwrap();
            assert_eq!(waiter.join().unwrap(), Wake::Released);

            let migration = page.try_lock().expect("free").begin_migration();
            let waiter = s.spawn(|| page.wait_migration(()));
            sim.until_asleep(1);
            migration.freeze(FreezeRule::ExactRefs(1)).unwrap().commit_in_place();
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        });
    });
    let text = format!("{page:?}");
    assert!(text.starts_with("PageLock { free, generation "), "{text}");
    assert!(text.ends_with("; 1 references, 0 pins }"), "{text}");
}

// ---- waits, cancelled ----

#[test]
fn a_wait_cancelled_before_the_call_does_not_begin() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
        cancel.cancel();
        let guard = page.lock();
        assert_eq!(
            page.wait_with((), Wait::unlocked().within(Limits::none().unless(&cancel))),
            Wake::Cancelled
        );
        assert!(!guard.unlock().event_waiters, "there is nobody to tell");
        works(sim, page);
    });
}

#[test]
fn a_wait_cancelled_between_registering_and_sleeping_does_not_sleep() {
    let sim = Sim::new(1);
    let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
    let guard = page.lock();
    let wake = watched(&[page], || {
        page.wait_with(
            OnDrop(|| cancel.cancel()),
            Wait::unlocked().within(Limits::none().unless(&cancel)),
        )
    });
    assert_eq!(wake, Wake::Cancelled);
    assert_eq!(sim.slept(), 0);
    drop(guard);
    works(sim, page);
}

#[test]
fn a_wait_cancelled_just_before_the_word_is_compared_does_not_sleep() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let cancel: &'static Cancel<Sim> = Box::leak(Box::new(Cancel::with_futex(sim)));
    let guard = page.lock();
    sim.at_sleep(|| cancel.cancel());
    assert_eq!(
        watched(&[page], || page
            .wait_with((), Wait::unlocked().within(Limits::none().unless(cancel)))),
        Wake::Cancelled
    );
    drop(guard);
    works(sim, page);
}

/// The switch is thrown while the waiter reads the sequence, before it has joined the switch.
#[test]
fn a_wait_cancelled_while_it_registers_does_not_sleep() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let cancel: &'static Cancel<Sim> = Box::leak(Box::new(Cancel::with_futex(sim)));
    let guard = page.lock();
    sim.at_event(|| cancel.cancel());
    assert_eq!(
        watched(&[page], || page
            .wait_with((), Wait::unlocked().within(Limits::none().unless(cancel)))),
        Wake::Cancelled
    );
    drop(guard);
    works(sim, page);
}

#[test]
fn a_wait_cancelled_asleep_wakes() {
    let sim = Sim::new(4);
    let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
    watched(&[page], || {
        thread::scope(|s| {
            let migration = page.lock().begin_migration();
            let timed = Wait::migration().within(Limits::none().until(NOON).unless(&cancel));
            let waiters = [
                s.spawn(|| {
                    page.wait_with((), Wait::unlocked().within(Limits::none().unless(&cancel)))
                }),
                s.spawn(|| {
                    page.wait_with((), Wait::migration().within(Limits::none().unless(&cancel)))
                }),
                s.spawn(move || page.wait_with((), timed)),
            ];
            sim.until_asleep(3);
            cancel.cancel();
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
            }
            migration.abort();
        });
    });
    works(sim, page);
}

#[test]
fn a_wait_cancelled_after_the_release_says_so() {
    let sim = Sim::new(1);
    let (page, cancel) = (page_on(sim), Cancel::with_futex(sim));
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let waiter = s.spawn(|| {
                page.wait_with((), Wait::unlocked().within(Limits::none().unless(&cancel)))
            });
            sim.until_asleep(1);
            sim.hold();
            drop(guard);
            cancel.cancel();
            sim.resume();
            assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
        });
    });
    works(sim, page);
}

#[test]
fn cancelling_reaches_every_page_and_nobody_elses_waiters_for_good() {
    let sim = Sim::new(64);
    let pages: Vec<_> = (0..16).map(|_| page_on(sim)).collect();
    let (ours, theirs) = (Cancel::with_futex(sim), Cancel::with_futex(sim));
    watched(&[&pages], || {
        thread::scope(|s| {
            let guards: Vec<_> = pages.iter().map(|p| p.lock()).collect();
            let cancelled: Vec<_> = pages
                .iter()
                .map(|p| {
                    s.spawn(|| {
                        p.wait_with((), Wait::unlocked().within(Limits::none().unless(&ours)))
                    })
                })
                .collect();
            let others: Vec<_> = pages
                .iter()
                .map(|p| {
                    s.spawn(|| {
                        // A spurious return is allowed; being cancelled by somebody else's switch
                        // is not.
                        while p.is_locked() {
                            assert_ne!(
                                p.wait_with(
                                    (),
                                    Wait::unlocked().within(Limits::none().unless(&theirs))
                                ),
                                Wake::Cancelled
                            );
                        }
                    })
                })
                .collect();
            sim.until_asleep(32);
            ours.cancel();
            for waiter in cancelled {
                assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
            }
            drop(guards);
            others.into_iter().for_each(|w| w.join().unwrap());
        });
    });
    pages.into_iter().for_each(|p| works(sim, p));
}

#[test]
fn a_switch_stays_thrown_until_it_is_reset() {
    watched(&[], || {
        let sim = Sim::new(1);
        let (page, mut cancel) = (page_on(sim), Cancel::with_futex(sim));
        assert!(!cancel.is_cancelled());
        cancel.cancel();
        cancel.cancel();
        assert!(cancel.is_cancelled());
        assert_eq!(
            page.wait_with((), Wait::unlocked().within(Limits::none().unless(&cancel))),
            Wake::Cancelled
        );
        cancel.reset();
        assert!(!cancel.is_cancelled());
        assert_eq!(
            page.wait_with((), Wait::unlocked().within(Limits::none().unless(&cancel))),
            Wake::NotLocked
        );
        watched(&[page], || {
            thread::scope(|s| {
                let guard = page.lock();
                let waiter = s.spawn(|| {
                    page.wait_with((), Wait::unlocked().within(Limits::none().unless(&cancel)))
                });
                sim.until_asleep(1);
                cancel.cancel();
                assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
                drop(guard);
            });
        });
        works(sim, page);
    });
}

#[test]
fn cancelling_a_waiter_leaves_the_others_their_wake() {
    let sim = Sim::with_classes(1);
    let page = PageLock::with_futex(sim);
    let cancel = Cancel::with_futex(sim);
    const OTHERS: usize = 20;
    watched(&[&page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let cancelled = s.spawn(|| {
                page.wait_with((), Wait::unlocked().within(Limits::none().unless(&cancel)))
            });
            sim.until_asleep(1);
            let others: Vec<_> = (0..OTHERS).map(|_| s.spawn(|| page.wait_unlocked(()))).collect();
            sim.until_asleep(1 + OTHERS);
            // The one that is cancelled is the oldest: the release's first wake is for it.
            sim.hold();
            drop(guard);
            cancel.cancel();
            sim.resume();
            assert_eq!(cancelled.join().unwrap(), Wake::Cancelled);
            others.into_iter().for_each(|w| assert_eq!(w.join().unwrap(), Wake::Released));
        });
    });
}

// ---- waits, out of time ----

#[test]
fn a_wait_that_is_late_before_the_call_does_not_begin() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        until_noon(sim);
        let guard = page.lock();
        let late = page.wait_with((), Wait::unlocked().within(Limits::none().until(at(NANOS - 1))));
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
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let migration = page.lock().begin_migration();
            let waiters = [
                s.spawn(|| page.wait_with((), Wait::unlocked().within(Limits::none().until(NOON)))),
                s.spawn(|| page.wait_unlocked_for((), Duration::from_nanos(NANOS))),
                s.spawn(|| {
                    page.wait_with((), Wait::migration().within(Limits::none().until(NOON)))
                }),
            ];
            sim.until_asleep(3);
            until_noon(sim);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Wake::TimedOut);
            }
            migration.abort();
        });
    });
    works(sim, page);
}

#[test]
fn a_wait_whose_time_is_up_after_the_release_was_released() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let waiter =
                s.spawn(|| page.wait_with((), Wait::unlocked().within(Limits::none().until(NOON))));
            sim.until_asleep(1);
            sim.hold();
            drop(guard);
            until_noon(sim);
            sim.resume();
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        });
    });
    works(sim, page);
}

#[test]
fn a_wait_that_timed_out_leaves_the_others_their_wake() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let impatient =
                s.spawn(|| page.wait_with((), Wait::unlocked().within(Limits::none().until(NOON))));
            let patient = s.spawn(|| page.wait_unlocked(()));
            sim.until_asleep(2);
            until_noon(sim);
            assert_eq!(impatient.join().unwrap(), Wake::TimedOut);
            assert!(guard.unlock().event_waiters, "the other one still waits");
            assert_eq!(patient.join().unwrap(), Wake::Released);
        });
    });
    works(sim, page);
}

#[test]
fn a_time_that_the_clock_cannot_hold_is_no_limit() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
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
    });
    works(sim, page);
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
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
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
    });
    works(sim, page);
}

#[test]
fn a_locker_whose_time_is_up_after_the_release_owns_the_page() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let locker = s.spawn(|| page.lock_within(Limits::none().until(NOON)).map(drop));
            sim.until_asleep(1);
            sim.hold();
            drop(guard);
            until_noon(sim);
            sim.resume();
            assert_eq!(locker.join().unwrap(), Ok(()), "the wake was its own");
        });
    });
    works(sim, page);
}

// ---- every way in which a sleep can end ----

const OUTCOMES: [Sleep; 5] =
    [Sleep::Woken, Sleep::Changed, Sleep::Interrupted, Sleep::TimedOut, Sleep::Unknown];

#[test]
fn a_waiter_that_is_disturbed_sleeps_on() {
    for disturbance in [Sleep::Changed, Sleep::Interrupted, Sleep::Unknown] {
        let sim = Sim::new(1);
        let page = page_on(sim);
        watched(&[page], || {
            thread::scope(|s| {
                let guard = page.lock();
                let waiter = s.spawn(move || {
                    script([disturbance; 3]);
                    page.wait_unlocked(())
                });
                sim.until_asleep(1);
                // Once more, in the middle of the real sleep.
                sim.end_all(disturbance);
                sim.until_asleep(1);
                drop(guard);
                assert_eq!(waiter.join().unwrap(), Wake::Released, "{disturbance:?}");
            });
        });
        works(sim, page);
    }
}

#[test]
fn a_waiter_that_is_woken_returns_even_if_the_sequence_is_the_same() {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let guard = page.lock();
    script([Sleep::Woken]);
    assert_eq!(watched(&[page], || page.wait_unlocked(())), Wake::Released, "look again");
    assert!(guard.unlock().event_waiters, "the flag is still there for the release");
    works(sim, page);
}

#[test]
fn a_waiter_whose_sleep_times_out_times_out() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let guard = page.lock();
        script([Sleep::TimedOut]);
        assert_eq!(
            page.wait_with((), Wait::unlocked().within(Limits::none().until(NOON))),
            Wake::TimedOut
        );
        drop(guard);
        works(sim, page);
    });
}

#[test]
fn a_waiter_that_was_released_returns_however_its_sleep_ended() {
    for outcome in OUTCOMES {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let mut held = Some(page.lock());
        script([outcome]);
        let ptl = OnDrop(|| drop(held.take()));
        let wake = watched(&[page], || {
            page.wait_with(ptl, Wait::unlocked().within(Limits::none().until(NOON)))
        });
        assert_eq!(wake, Wake::Released, "{outcome:?}");
        works(sim, page);
    }
}

#[test]
fn a_locker_gets_the_page_however_its_sleeps_end() {
    for outcome in OUTCOMES {
        let sim = Sim::new(1);
        let page = page_on(sim);
        watched(&[page], || {
            thread::scope(|s| {
                let guard = page.lock();
                let locker = s.spawn(move || {
                    script([outcome; 20]);
                    drop(page.lock());
                });
                sim.until_asleep(1);
                sim.end_all(outcome);
                sim.until_asleep(1);
                drop(guard);
                locker.join().unwrap();
            });
        });
        works(sim, page);
    }
}

/// Interruptions and changes are nobody's doing: a locker does not count them as lost rounds.
#[test]
fn only_wakes_for_nothing_make_a_locker_close_the_gate() {
    for (outcome, closes) in [
        (Sleep::Interrupted, false),
        (Sleep::Changed, false),
        (Sleep::Woken, true),
        (Sleep::Unknown, false),
    ] {
        let sim = Sim::new(1);
        let page = page_on(sim);
        watched(&[page], || {
            thread::scope(|s| {
                let guard = page.lock();
                let locker = s.spawn(move || {
                    script([outcome; 20]);
                    drop(page.lock());
                });
                sim.until_asleep(1);
                assert_eq!(
                    format!("{page:?}").contains("gate closed"),
                    closes,
                    "{outcome:?}: {page:?}"
                );
                drop(guard);
                locker.join().unwrap();
            });
        });
        works(sim, page);
    }
}

#[test]
fn a_disturbed_sleep_wakes_nobody_else() {
    let sim = Sim::with_classes(1);
    let page = PageLock::with_futex(sim);
    watched(&[&page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let waiter = s.spawn(|| {
                script([Sleep::Interrupted, Sleep::Changed, Sleep::Unknown]);
                page.wait_unlocked(())
            });
            sim.until_asleep(1);
            assert_eq!(sim.calls(), []);
            drop(guard);
            assert_eq!(waiter.join().unwrap(), Wake::Released);
            // The waiter passes its wake on, unless the release has seen by then that nobody is
            // left.
            let calls = sim.calls();
            assert!(
                matches!(calls[..], [Call::Tell { .. }, Call::WakeClass { .. }, ..])
                    && calls.len() <= 3,
                "{calls:?}"
            );
            assert!(
                calls[2..].iter().all(|call| matches!(call, Call::WakeClass { .. })),
                "{calls:?}"
            );
        });
    });
}

// ---- the real clock ----

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

// ---- a platform that cannot tell how a sleep ended ----

/// Every sleep ends after one tick of the clock, and nobody knows why.
#[derive(Clone, Copy)]
struct Vague;

static TICKS: AtomicU64 = AtomicU64::new(0);

// SAFETY: it stores to none of the words that it is shown.
unsafe impl Futex for Vague {
    fn wait(&self, _word: &AtomicU32, _expected: u32) -> Sleep {
        TICKS.fetch_add(1, SeqCst);
        Sleep::Unknown
    }

    fn wake_one(&self, _word: *const AtomicU32) {}

    fn wake_all(&self, _word: *const AtomicU32) {}

    fn event(&self, _index: usize) -> &EventSlot<Self> {
        static SLOT: EventSlot<Vague> = EventSlot::new();
        &SLOT
    }

    fn events(&self) -> usize {
        1
    }
}

impl FutexTimed for Vague {
    fn now(&self) -> MonotonicTime {
        at(TICKS.load(SeqCst))
    }

    fn wait_until(
        &self,
        word: &AtomicU32,
        expected: u32,
        _class: u32,
        _at: MonotonicTime,
    ) -> Sleep {
        self.wait(word, expected)
    }
}

#[test]
fn a_platform_that_cannot_tell_has_its_clock_asked() {
    let page = PageLock::with_futex(Vague);
    let soon = || Vague.after(Duration::from_nanos(5)).unwrap();
    watched(&[&page], || {
        let guard = page.lock();
        let until =
            |at: MonotonicTime| assert!(Vague.late_by(at).is_some(), "not before it was late");
        let at = soon();
        assert_eq!(page.lock_within(Limits::none().until(at)).map(drop), Err(LockError::TimedOut));
        until(at);
        let at = soon();
        assert_eq!(
            page.lock_releasing_within((), Limits::none().until(at)).map(drop),
            Err(LockError::TimedOut)
        );
        until(at);
        let at = soon();
        assert_eq!(
            page.wait_with((), Wait::unlocked().within(Limits::none().until(at))),
            Wake::TimedOut
        );
        until(at);
        drop(guard);
        assert!(page.try_lock().is_some());
    });
}
