//! Every way in which a sleep can end, on a platform that says how and on one that does not.

use crate::cancel::{NOON, page_on, wait_until, works};
use crate::common::sim::{Call, Sim, at, script};
use crate::common::{OnDrop, watched, with_threads};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::{EventSlot, MonotonicTime, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{Futex, FutexTimed, Limits, LockError, PageLock, Wait, Wake};

const OUTCOMES: [Sleep; 5] =
    [Sleep::Woken, Sleep::Changed, Sleep::Interrupted, Sleep::TimedOut, Sleep::Unknown];

#[test]
fn a_waiter_that_is_disturbed_sleeps_on() {
    for disturbance in [Sleep::Changed, Sleep::Interrupted, Sleep::Unknown] {
        on_a_live_page!(|s, sim, page| {
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
        assert_eq!(wait_until(page, NOON), Wake::TimedOut);
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
        on_a_live_page!(|s, sim, page| {
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
        on_a_live_page!(|s, sim, page| {
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
    }
}

#[test]
fn a_disturbed_sleep_wakes_nobody_else() {
    let sim = Sim::with_classes(1);
    let page = PageLock::with_futex(sim);
    with_threads(&[&page], |s| {
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
        assert!(calls[2..].iter().all(|call| matches!(call, Call::WakeClass { .. })), "{calls:?}");
    });
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
