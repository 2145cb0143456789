//! Outside a closed gate: waiters there are told when it opens, and a full word closes it.

use crate::common::{
    Unprotected,
    gate::{BYPASS_BOUND, Order, Page, is_closed, is_idle, overtake, says},
    own::Own,
    page_on,
    sim::{Sim, at},
    watched, with_threads,
};
use pagelock::{Limits, LockError, MAX_SLEEPERS, PageGuard, PageLock};
use std::sync::mpsc;
use std::thread;

/// A closed gate is closed for all newcomers: for a starved faulter and for one with a deadline
/// too.
#[test]
fn who_is_outside_comes_after_those_inside_whatever_it_calls() {
    let sim = Sim::new(1);
    let (page, order) = (page_on(sim), Order::default());
    watched(&[page], || {
        thread::scope(|s| {
            let order = &order;
            let guard = page.lock();
            s.spawn(move || order.own("inside", page.lock_releasing(())));
            sim.until_asleep(1);
            s.spawn(move || order.own("outside", page.lock()));
            sim.until_asleep(2);
            s.spawn(move || order.own("outside", page.lock_releasing(())));
            sim.until_asleep(3);
            s.spawn(move || {
                order.own("outside", page.lock_within(Limits::none().until(at(1))).unwrap())
            });
            sim.until_asleep(4);
            assert!(says(page, "1 sleepers, gate closed, crowd outside"), "{page:?}");
            drop(guard);
        });
        is_idle(page);
    });
    order.was(&["inside", "outside", "outside", "outside"]);
}

/// A locker stands outside until the gate opens, is told, and finds the page taken. That is a lost
/// round as any other.
fn a_loss_outside_counts(lock: impl FnOnce(&'static Page) + Send) {
    let sim = Sim::new(1);
    let page = page_on(sim);
    let (owns, owned) = mpsc::channel();
    let (release, released) = mpsc::channel();
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            s.spawn(move || {
                let guard = page.lock_releasing(());
                owns.send(()).unwrap();
                released.recv().unwrap();
                drop(guard);
                owns.send(()).unwrap();
            });
            sim.until_asleep(1);
            let outside = s.spawn(move || lock(page));
            sim.until_asleep(2);
            assert!(says(page, "1 sleepers, gate closed, crowd outside"), "{page:?}");
            drop(guard);
            owned.recv().unwrap();
            // Told and too late: the first loss. It sleeps for the lock now, as others do.
            sim.until_asleep(1);
            assert_eq!(page.sleepers(), 1);
            sim.hold();
            release.send(()).unwrap();
            owned.recv().unwrap();
            let mut guard = page.try_lock().expect("the gate is open");
            sim.resume();
            sim.until_asleep(1);
            for _ in 0..BYPASS_BOUND - 2 {
                assert!(!is_closed(page), "{page:?}");
                guard = overtake(sim, guard);
            }
            assert!(is_closed(page), "{page:?}");
            drop(guard);
            outside.join().unwrap();
        });
        is_idle(page);
    });
}

#[test]
fn to_be_told_outside_and_to_be_late_is_a_lost_round() {
    a_loss_outside_counts(|page| drop(page.lock()));
}

#[test]
fn to_be_told_outside_and_to_be_late_is_a_lost_round_with_a_deadline_too() {
    a_loss_outside_counts(|page| drop(page.lock_within(Limits::none().until(at(1))).unwrap()));
}

/// A header whose state word is `word`. What it counts exists in the number only.
fn left_as(sim: Sim, word: u32) -> &'static Page {
    let page = page_on(sim);
    let at = core::ptr::from_ref(page).cast::<u32>().cast_mut();
    // SAFETY: the word is the header's first field, an atomic; nobody else has seen the page.
    unsafe { core::sync::atomic::AtomicU32::from_ptr(at) }
        .store(word, core::sync::atomic::Ordering::SeqCst);
    page
}

const LOCKED: u32 = 1;
const LOCK_WAITERS: u32 = 2;
const SLEEPERS_SHIFT: u32 = 12;

/// The last one that can be counted is; the next one closes the gate and waits outside, where it is
/// as good as anybody.
#[test]
fn a_full_word_closes_the_gate() {
    let sim = Sim::new(1);
    let page = left_as(sim, LOCKED | LOCK_WAITERS | (MAX_SLEEPERS - 1) << SLEEPERS_SHIFT);
    with_threads(&[page], |s| {
        let last = s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        assert!(says(page, &format!("locked, {MAX_SLEEPERS} sleepers, generation")), "{page:?}");
        let outside = s.spawn(|| page.lock_within(Limits::none().until(at(1000))).map(drop));
        sim.until_asleep(2);
        let crowd =
            format!("locked, {MAX_SLEEPERS} sleepers, gate closed, crowd outside, generation");
        assert!(says(page, &crowd), "{page:?}");
        // SAFETY: `left_as` has locked it.
        drop(unsafe { PageGuard::from_raw(page) });
        last.join().unwrap();
        // One less, and that is not enough: it is told when all have had the page.
        assert!(
            says(page, &format!("{} sleepers, gate closed, crowd outside", MAX_SLEEPERS - 1)),
            "{page:?}"
        );
        assert!(page.try_lock().is_none() && sim.asleep() == 1, "{page:?}");
        sim.advance(core::time::Duration::from_nanos(1000));
        assert_eq!(outside.join().unwrap(), Err(LockError::TimedOut));
    });
}

#[test]
fn more_lockers_than_can_be_counted_all_get_the_page() {
    const LOCKERS: usize = MAX_SLEEPERS as usize + 45;
    let mut lockers = if cfg!(miri) { 3 } else { LOCKERS };
    let own = Own::new(1);
    let page = PageLock::with_futex(own);
    let mut counter = Unprotected::new();
    with_threads(&[&page], |s| {
        let guard = page.lock();
        // As many as the system has room for.
        lockers = (0..lockers)
            .take_while(|n| {
                let locker = || {
                    let _guard = page.lock();
                    // SAFETY: under the page's lock.
                    unsafe { counter.add_one() };
                };
                let thread =
                    thread::Builder::new().name(format!("locker {n}")).stack_size(64 << 10);
                thread
                    .spawn_scoped(s, locker)
                    .map_err(|e| eprintln!("only {n} lockers: {e}"))
                    .is_ok()
            })
            .count();
        own.until_asleep(lockers);
        let counted = format!("{} sleepers", lockers.min(MAX_SLEEPERS as usize));
        assert!(format!("{page:?}").contains(&counted), "{page:?}");
        drop(guard);
    });
    assert_eq!(counter.get(), lockers as u64);
    let left = format!("{page:?}");
    assert!(left.starts_with("PageLock { free, generation "), "{left}");
}
