//! The page's lock as a `lock_api` mutex.

#![cfg(feature = "lock_api")]

use crate::common::{rounds, with_threads};
use core::mem::size_of;
use pagelock::lock_api::{
    MappedMutexGuard, Mutex, MutexGuard, RawMutex, RawMutexFair, RawPageLock,
};
use std::thread;

static TOTAL: Mutex<u64> = Mutex::new(0);

#[test]
fn a_static_mutex_counts_right() {
    const THREADS: usize = 4;
    let each = rounds(10_000);
    with_threads(&[&TOTAL], |s| {
        for t in 0..THREADS {
            s.spawn(move || {
                for i in 0..each {
                    let mut total = TOTAL.lock();
                    *total += 1;
                    if (i + t) % 8 == 0 {
                        MutexGuard::unlock_fair(total);
                    }
                }
            });
        }
    });
    assert_eq!(*TOTAL.lock(), (THREADS * each) as u64);
}

#[test]
fn a_mutex_that_is_held_cannot_be_taken() {
    let mutex = Mutex::new(7);
    let guard = mutex.lock();
    assert!(mutex.is_locked());
    assert!(mutex.try_lock().is_none());
    drop(guard);
    assert_eq!(*mutex.try_lock().unwrap(), 7);
    assert_eq!(mutex.into_inner(), 7);
}

#[test]
#[cfg(all(feature = "std", any(target_os = "linux", target_os = "android")))]
fn attempts_can_be_timed() {
    use std::time::{Duration, Instant};
    let mutex = Mutex::new(());
    let guard = mutex.lock();
    let moment = Duration::from_millis(1);
    assert!(mutex.try_lock_for(moment).is_none());
    assert!(mutex.try_lock_until(Instant::now() + moment).is_none());
    drop(guard);
    assert!(mutex.try_lock_for(moment).is_some());
    assert!(mutex.try_lock_until(Instant::now()).is_some());
}

#[test]
#[cfg(all(feature = "std", any(target_os = "linux", target_os = "android")))]
fn a_timed_attempt_sleeps_no_longer_than_until_its_instant_and_is_woken_before() {
    use std::time::{Duration, Instant};
    let mutex = Mutex::new(0);
    // SAFETY: the raw lock is only looked at.
    let page = unsafe { mutex.raw() }.page();
    with_threads(&[page], |s| {
        let guard = mutex.lock();
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(mutex.try_lock_until(soon).is_none());
        assert!(Instant::now() >= soon);
        s.spawn(|| {
            let hour = Instant::now() + Duration::from_secs(3600);
            *mutex.try_lock_until(hour).expect("it is released before") += 1;
        });
        while page.sleepers() == 0 {
            thread::yield_now();
        }
        drop(guard);
    });
    assert_eq!(mutex.into_inner(), 1);
}

#[test]
fn guards_may_be_sent() {
    let mutex = Mutex::new(0);
    let mut guard = mutex.lock();
    thread::scope(|s| {
        s.spawn(move || *guard += 1);
    });
    assert_eq!(*mutex.lock(), 1);
}

#[test]
fn a_fair_release_with_nobody_waiting_frees() {
    let mutex = Mutex::new(0);
    MutexGuard::unlock_fair(mutex.lock());
    assert!(!mutex.is_locked());
    let mut guard = mutex.lock();
    MutexGuard::bump(&mut guard);
    assert!(mutex.is_locked());
}

#[test]
fn the_raw_lock_is_a_header_and_nothing_else() {
    assert_eq!(size_of::<RawPageLock>(), 8);
    assert_eq!(size_of::<Mutex<u64>>(), 16);
    let raw = RawPageLock::INIT;
    raw.lock();
    assert!(raw.is_locked() && raw.page().is_locked() && !raw.try_lock());
    // SAFETY: it was locked above.
    unsafe { raw.unlock() };
    assert!(raw.try_lock());
    // SAFETY: it was locked above.
    unsafe { raw.unlock_fair() };
    assert!(!raw.page().is_locked());
}

#[test]
fn a_mapped_guard_keeps_the_mutex_locked_and_shows_the_part() {
    let pair = Mutex::new((1, [2, 3]));
    let part: MappedMutexGuard<'_, _> = MutexGuard::map(pair.lock(), |pair| &mut pair.1);
    let mut last = MappedMutexGuard::map(part, |part| &mut part[1]);
    *last += 1;
    assert!(pair.try_lock().is_none());
    MappedMutexGuard::unlock_fair(last);
    assert_eq!(*pair.lock(), (1, [2, 4]));
}

/// The header below the mutex takes part in everything else: here a thread waits for the release
/// without taking the lock.
#[test]
fn a_mutex_can_be_waited_for() {
    let mutex = Mutex::new(());
    // SAFETY: the raw lock is only looked at and waited for.
    let page = unsafe { mutex.raw() }.page();
    with_threads(&[page], |s| {
        let guard = mutex.lock();
        let waiter = s.spawn(|| page.wait_unlocked(()));
        while !format!("{page:?}").contains("awaited") {
            thread::yield_now();
        }
        drop(guard);
        assert_eq!(waiter.join().unwrap(), pagelock::Wake::Released);
    });
}
