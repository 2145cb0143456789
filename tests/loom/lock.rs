//! Owning a page.

use crate::{CLOCK_LAST, In, Page, ROUNDS, WAKES, explore, explore_with, keep, on};
use loom::thread;
use pagelock::futex::model::{expire, interrupt};
use pagelock::{Cancel, Claim, Futex, Limits, LockError, OsFutex, PageGuard, UserBits};
use std::sync::Arc;

/// One owner at a time, who sees what those before it did. Three threads lock, one of them twice.
#[test]
fn one_owner_at_a_time() {
    explore(|| {
        let page = Page::<0>::new();
        let lock = |page: &Page| {
            let guard = page.lock.lock();
            page.add();
            drop(guard);
        };
        let (a, b) = (on(&page, lock), on(&page, lock));
        lock(&page);
        a.join().unwrap();
        b.join().unwrap();
        assert_eq!(page.read(), 3);
        page.assert_idle();
    });
}

/// The same, with every other way to own a page and to give it up.
#[test]
fn one_owner_at_a_time_whichever_way() {
    explore(|| {
        let page = Page::<0>::new();
        let a = on(&page, |page| {
            if let Some(guard) = page.lock.try_lock() {
                page.add();
                guard.unlock_fair();
            }
        });
        let b = on(&page, |page| {
            if let Claim::Owner(guard) = page.lock.claim() {
                page.add();
                drop(guard.begin_migration());
            }
        });
        let mut guard = page.lock.lock_releasing(());
        page.add();
        guard.set_user(UserBits::new(2));
        let hold = guard.into_raw();
        // SAFETY: the guard was turned raw just now.
        unsafe { PageGuard::from_raw_of(&page.lock, hold) }.unlock_fair();
        a.join().unwrap();
        b.join().unwrap();
        assert_eq!(page.lock.user().get(), 2);
        page.assert_idle();
    });
}

/// Nobody sleeps on with the page free: three sleepers, ordinary releases, and a sleep that ends
/// for no reason.
#[test]
fn lockers_are_not_stranded_by_barging() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = |page: &Page| drop(page.lock.lock());
        let (a, b) = (on(&page, sleeper), on(&page, sleeper));
        drop(guard);
        // A newcomer: it may drop the waiters' bit, but the sleepers that the release woke set it
        // again.
        if let Some(guard) = page.lock.try_lock() {
            drop(guard);
        }
        a.join().unwrap();
        b.join().unwrap();
        page.assert_idle();
    });
}

#[test]
fn lockers_are_not_stranded_by_signals() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = |page: &Page| drop(page.lock.lock());
        let (a, b) = (on(&page, sleeper), on(&page, sleeper));
        let c = thread::spawn(interrupt);
        drop(guard);
        a.join().unwrap();
        b.join().unwrap();
        c.join().unwrap();
        page.assert_idle();
    });
}

/// A sleeper uses up at most `BYPASS_BOUND` wakes for nothing, whatever newcomers do.
#[test]
fn a_sleeper_loses_no_more_wakes_than_the_bound() {
    explore_with(3, || {
        WAKES.set(0);
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| keep(page.lock.lock()));
        drop(guard);
        for _ in 0..3 {
            if let Some(guard) = page.lock.try_lock() {
                drop(guard);
            }
        }
        sleeper.join().unwrap();
        assert!(WAKES.get() <= OsFutex::BYPASS_BOUND + 1, "woken {} times", WAKES.get());
    });
}

/// Once the gate is closed, a newcomer gets the page only after the sleeper had it.
#[test]
fn a_closed_gate_keeps_newcomers_out() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let starved = on(&page, |page| keep(page.lock.lock_releasing(())));
        page.until_says("gate closed");
        let newcomer = on(&page, |page| assert!(page.lock.try_lock().is_none(), "overtaken"));
        drop(guard);
        assert!(!matches!(page.lock.claim(), Claim::Owner(_)), "overtaken");
        newcomer.join().unwrap();
        starved.join().unwrap();
    });
}

/// The gate stays closed until the turn of whoever closed it, behind those who slept before.
#[test]
fn a_gate_stays_closed_until_the_last_one_inside_had_the_page() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let earlier = on(&page, |page| drop(page.lock.lock()));
        page.until_says("1 sleepers");
        let starved = on(&page, |page| keep(page.lock.lock_releasing(())));
        page.until_says("gate closed");
        drop(guard);
        for _ in 0..3 {
            assert!(page.lock.try_lock().is_none(), "overtaken");
            thread::yield_now();
        }
        starved.join().unwrap();
        // SAFETY: the starved one has kept the page, and is gone.
        drop(unsafe { PageGuard::from_raw(&page.lock) });
        earlier.join().unwrap();
        page.assert_idle();
    });
}

/// A fair release goes to the locker that sleeps, not to a newcomer that tries or locks.
#[test]
fn unlock_fair_hands_over() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| keep(page.lock.lock()));
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let newcomer =
            on(&page, |page| assert!(page.lock.lock_within(timed_out()).is_err(), "overtaken"));
        assert!(page.lock.try_lock().is_none(), "overtaken");
        sleeper.join().unwrap();
        expire();
        newcomer.join().unwrap();
    });
}

/// Whoever a fair release goes to sees what was done before it, also one that was about to sleep
/// and does not.
#[test]
fn a_fair_release_is_seen_by_the_sleeper() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| {
            let guard = page.lock.lock();
            page.add();
            drop(guard);
        });
        page.add();
        page.until_says("1 sleepers");
        guard.unlock_fair();
        sleeper.join().unwrap();
        assert_eq!(page.read(), 2);
    });
}

/// Whoever sees the caller's bits sees what their writer did before, without owning the page.
#[test]
fn the_callers_bits_publish() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let reader = on(&page, |page| {
            if page.lock.user() == UserBits::new(1) {
                assert_eq!(page.read(), 1);
            }
        });
        let mut guard = page.lock.lock();
        page.add();
        guard.set_user(UserBits::new(1));
        drop(guard);
        reader.join().unwrap();
    });
}

/// A fair release with two newcomers that lock: the second one's registration cuts the first one's
/// sleep short.
#[test]
fn unlock_fair_hands_over_past_two_newcomers() {
    explore_with(1, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| keep(page.lock.lock()));
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let newcomer =
            |page: &Page| assert!(page.lock.lock_within(timed_out()).is_err(), "overtaken");
        let (a, b) = (on(&page, newcomer), on(&page, newcomer));
        sleeper.join().unwrap();
        expire();
        a.join().unwrap();
        b.join().unwrap();
    });
}

/// A fair release strands nobody, whoever is asleep, on the way to it, or on the way from it.
#[test]
fn unlock_fair_strands_nobody() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let fair = |page: &Page| _ = page.lock.lock().unlock_fair();
        let (a, b) = (on(&page, fair), on(&page, fair));
        guard.unlock_fair();
        fair(&page);
        a.join().unwrap();
        b.join().unwrap();
        page.assert_idle();
    });
}

fn timed_out<'c>() -> Limits<'c, In<0>> {
    Limits::none().until(pagelock::futex::MonotonicTime::MAX)
}

fn timed(page: &Page) -> Result<(), LockError> {
    page.lock.lock_within(timed_out()).map(drop)
}

/// A locker that gives up passes on the wake that it may have been given.
#[test]
fn a_locker_that_times_out_passes_its_wake_on() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let (a, b) = (on(&page, timed), on(&page, |page| drop(page.lock.lock())));
        let c = thread::spawn(expire);
        drop(guard);
        let _ = a.join().unwrap();
        b.join().unwrap();
        c.join().unwrap();
        page.assert_idle();
    });
}

/// The same for one that may leave a closed gate, which a fair release or its own lost wake has
/// closed. That it does takes three preemptions.
#[test]
fn a_locker_that_times_out_opens_the_gate() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let a = on(&page, timed);
        let b = thread::spawn(expire);
        guard.unlock_fair();
        // A newcomer, which may find the page kept for one that leaves.
        drop(page.lock.lock());
        let _ = a.join().unwrap();
        b.join().unwrap();
        page.assert_idle();
    });
}

#[test]
fn a_starved_locker_that_times_out_strands_nobody() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let (a, b) = (on(&page, timed), on(&page, |page| drop(page.lock.lock())));
        drop(guard);
        drop(page.lock.lock());
        expire();
        let _ = a.join().unwrap();
        b.join().unwrap();
        page.assert_idle();
    });
}

/// Two sleepers inside a closed gate, of which one may leave: the other still gets the page, and
/// before a newcomer.
#[test]
fn a_fair_release_to_two_of_whom_one_times_out() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let (a, b) = (on(&page, timed), on(&page, |page| drop(page.lock.lock_releasing(()))));
        let c = thread::spawn(expire);
        guard.unlock_fair();
        let _ = a.join().unwrap();
        b.join().unwrap();
        c.join().unwrap();
        page.assert_idle();
    });
}

/// `lock_releasing` lets go of the guard before it sleeps: the owner needs that guard before it
/// releases.
#[test]
fn lock_releasing_does_not_sleep_with_the_ptl() {
    explore(|| {
        let page = Page::<0>::new();
        let ptl = Arc::new(loom::sync::Mutex::new(()));
        let guard = page.lock.lock();
        let for_faulter = ptl.clone();
        let faulter = on(&page, move |page| {
            let entry = for_faulter.lock().unwrap();
            let guard = page.lock.lock_releasing(entry);
            page.add();
            drop(guard);
        });
        let other = on(&page, |page| drop(page.lock.lock()));
        page.add();
        drop(ptl.lock().unwrap());
        drop(guard);
        faulter.join().unwrap();
        other.join().unwrap();
        assert_eq!(page.read(), 2);
        page.assert_idle();
    });
}

/// A page that is on its way to somebody inside is not for one that comes later, starved from the
/// start or not.
#[test]
fn lock_releasing_does_not_overtake_a_wake() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let inside = on(&page, |page| {
            keep(page.lock.lock_releasing(()));
            expire();
        });
        page.until_says("gate closed");
        drop(guard);
        assert!(page.lock.lock_releasing_within((), timed_out()).is_err(), "overtaken");
        inside.join().unwrap();
    });
}

/// The deadline has passed before the call: an error at once, and nothing left behind.
#[test]
fn late_is_said_without_registering() {
    explore(|| {
        let page = Page::<0>::new();
        expire();
        let guard = page.lock.lock();
        let a = on(&page, |page: &Page| {
            matches!(page.lock.lock_within(timed_out()), Err(LockError::TimedOut) | Ok(_))
        });
        assert!(!page.says("sleepers"));
        drop(guard);
        assert!(a.join().unwrap());
        page.assert_idle();
    });
}

/// Two sleep for certain, the release wakes one of them, and time is up: the other still gets the
/// page.
#[test]
fn the_one_that_was_woken_times_out() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let (a, b) = (on(&page, timed), on(&page, |page| drop(page.lock.lock())));
        page.until_says("2 sleepers");
        drop(guard);
        expire();
        let _ = a.join().unwrap();
        b.join().unwrap();
        page.assert_idle();
    });
}

/// A platform may report a deadline for a sleep that was woken; the futex under the model checker
/// never does by itself. The locker then leaves with a wake that it has used up, and passes it on,
/// whether the page is free by then or taken again.
#[test]
fn a_wake_that_was_used_up_is_passed_on() {
    explore(|| {
        CLOCK_LAST.set(true);
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let a = on(&page, timed);
        page.until_says("1 sleepers");
        let b = on(&page, |page| drop(page.lock.lock()));
        page.until_says("2 sleepers");
        drop(guard);
        let newcomer = page.lock.try_lock();
        expire();
        drop(newcomer);
        let _ = a.join().unwrap();
        b.join().unwrap();
        page.assert_idle();
    });
}

/// The last sleeper of a page that is kept for it gives up: the page is free again, for anybody.
#[test]
fn a_gate_with_nobody_inside_is_open() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, timed);
        page.until_says("1 sleepers");
        // Its time is up, and it has not left yet when the page is kept for it and the newcomer
        // waits outside.
        expire();
        guard.unlock_fair();
        let newcomer = on(&page, |page| drop(page.lock.lock()));
        let _ = sleeper.join().unwrap();
        newcomer.join().unwrap();
        page.assert_idle();
    });
}

/// One more sleeps than the word can count: it waits in the event table, and is told when there is
/// room.
#[test]
fn a_crowd_is_not_stranded() {
    explore_with(1, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let locker = |page: &Page| drop(page.lock.lock());
        let (a, b) = (on(&page, locker), on(&page, locker));
        page.until_says("2 sleepers");
        let c = on(&page, locker);
        page.until_says("crowd outside");
        drop(guard);
        [a, b, c].into_iter().for_each(|locker| locker.join().unwrap());
        page.assert_idle();
    });
}

/// A locker under a switch sleeps in the event table, also when it is registered: every release
/// tells it, and so does one that leaves a page that nobody owns.
#[test]
fn a_locker_under_a_switch_is_not_stranded() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let under = on(&page, |page| {
            let switch = Cancel::with_futex(In::<0>);
            drop(page.lock.lock_within(Limits::none().unless(&switch)).unwrap());
        });
        let (a, b) = (on(&page, timed), thread::spawn(expire));
        guard.unlock_fair();
        under.join().unwrap();
        let _ = a.join().unwrap();
        b.join().unwrap();
        page.assert_idle();
    });
}

/// A switch that is thrown ends the lock, whatever it is at; and the wake that it had is passed on.
#[test]
fn a_cancelled_locker_leaves_and_passes_its_wake_on() {
    explore(|| {
        let page = Page::<0>::new();
        let switch = Arc::new(Cancel::with_futex(In::<0>));
        let guard = page.lock.lock();
        let for_locker = switch.clone();
        let under = on(&page, move |page| {
            page.lock.lock_within(Limits::none().unless(&for_locker)).map(drop)
        });
        let other = on(&page, |page| drop(page.lock.lock()));
        switch.cancel();
        drop(guard);
        assert!(matches!(under.join().unwrap(), Ok(()) | Err(LockError::Cancelled)));
        other.join().unwrap();
        page.assert_idle();
    });
}

/// With nobody to release the page, the switch alone ends the lock.
#[test]
fn a_cancelled_locker_returns_though_the_page_stays_locked() {
    explore(|| {
        let page = Page::<0>::new();
        let switch = Arc::new(Cancel::with_futex(In::<0>));
        let guard = page.lock.lock();
        let for_locker = switch.clone();
        let under = on(&page, move |page| {
            page.lock.lock_within(Limits::none().unless(&for_locker)).map(drop)
        });
        switch.cancel();
        assert_eq!(under.join().unwrap(), Err(LockError::Cancelled));
        drop(guard);
        page.assert_idle();
    });
}

/// One is outside, one inside, and whoever takes the page meanwhile: the one outside is told by
/// whoever opens the gate.
#[test]
fn one_outside_a_closed_gate_is_told() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let inside = on(&page, |page| drop(page.lock.lock()));
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let outside = on(&page, |page| drop(page.lock.lock()));
        inside.join().unwrap();
        outside.join().unwrap();
        page.assert_idle();
    });
}

/// Outside a closed gate nobody takes the page, and the last one inside tells the crowd.
#[test]
fn the_crowd_outside_a_closed_gate_is_told() {
    explore_with(1, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let inside = on(&page, |page| drop(page.lock.lock()));
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let outside = |page: &Page| drop(page.lock.lock());
        let (a, b) = (on(&page, outside), on(&page, outside));
        [inside, a, b].into_iter().for_each(|locker| locker.join().unwrap());
        page.assert_idle();
    });
}

/// The last one inside gives up instead.
#[test]
fn the_crowd_is_told_by_one_that_gives_up() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let inside = on(&page, timed);
        page.until_says("1 sleepers");
        let outside = on(&page, |page| drop(page.lock.lock()));
        guard.unlock_fair();
        expire();
        let _ = inside.join().unwrap();
        outside.join().unwrap();
        page.assert_idle();
    });
}

/// Three lockers, one of whom may run out of time at any step, and a gate that may be closed or
/// not.
#[test]
fn three_lockers_of_whom_one_times_out_at_the_gate() {
    explore_with(1, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let fair = |page: &Page| _ = page.lock.lock().unlock_fair();
        let (a, b, c) = (on(&page, timed), on(&page, fair), thread::spawn(expire));
        guard.unlock_fair();
        fair(&page);
        let _ = a.join().unwrap();
        b.join().unwrap();
        c.join().unwrap();
        page.assert_idle();
    });
}

/// `lock_releasing` comes to a gate that is closed, or is just being opened: it gets the page, and
/// its gate is opened again.
#[test]
fn lock_releasing_beside_a_closed_gate_is_not_stranded() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let inside = on(&page, |page| drop(page.lock.lock()));
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let faulter = on(&page, |page| drop(page.lock.lock_releasing(())));
        if let Some(guard) = page.lock.try_lock() {
            drop(guard);
        }
        inside.join().unwrap();
        faulter.join().unwrap();
        page.assert_idle();
    });
}

/// The same with one inside that gives up.
#[test]
fn lock_releasing_beside_a_closed_gate_is_told_by_one_that_gives_up() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let inside = on(&page, timed);
        page.until_says("1 sleepers");
        let faulter = on(&page, |page| drop(page.lock.lock_releasing(())));
        guard.unlock_fair();
        expire();
        let _ = inside.join().unwrap();
        faulter.join().unwrap();
        page.assert_idle();
    });
}

/// Each round that a sleeper loses counts, however its sleep ended: by a wake, or by a signal over
/// which the page was released.
#[test]
fn each_lost_round_counts_however_the_sleep_ended() {
    explore(|| {
        ROUNDS.set(0);
        let page = Page::<0>::new();
        let mut guard = Some(page.lock.lock());
        let sleeper = on(&page, |page| keep(page.lock.lock()));
        page.until_says("1 sleepers");
        for _ in 0..4 {
            interrupt();
            drop(guard.take());
            guard = page.lock.try_lock();
            if guard.is_none() {
                break;
            }
            thread::yield_now();
        }
        drop(guard);
        sleeper.join().unwrap();
        assert!(ROUNDS.get() <= OsFutex::BYPASS_BOUND + 1, "{} rounds", ROUNDS.get());
    });
}
