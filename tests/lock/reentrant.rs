//! The reentrant mutex of `lock_api`, over a page.

#![cfg(all(feature = "lock_api", feature = "std"))]

use crate::common::{rounds, watched};
use pagelock::lock_api::{MappedReentrantMutexGuard, ReentrantMutex, ReentrantMutexGuard};
use std::cell::Cell;
use std::thread;

#[test]
fn the_owner_of_a_reentrant_mutex_locks_it_again_and_others_do_not() {
    static COUNT: ReentrantMutex<Cell<usize>> = ReentrantMutex::new(Cell::new(0));
    let is_taken = || thread::spawn(|| COUNT.try_lock().is_none()).join().unwrap();
    let outer = COUNT.lock();
    let inner = COUNT.try_lock().unwrap();
    drop(outer);
    assert!(is_taken(), "one guard is left");
    drop(inner);
    assert!(!is_taken());
}

#[test]
fn a_reentrant_mutex_has_one_thread_inside() {
    const THREADS: usize = 4;
    let (count, each) = (ReentrantMutex::new(Cell::new(0)), rounds(5_000));
    let add = || {
        let outer = count.lock();
        let seen = outer.get();
        let inner: MappedReentrantMutexGuard<'_, Cell<usize>> =
            ReentrantMutexGuard::map(count.lock(), |count| count);
        inner.set(seen + 1);
    };
    // SAFETY: the raw lock is only printed.
    watched(&[unsafe { count.raw() }], || {
        thread::scope(|s| {
            for _ in 0..THREADS {
                s.spawn(|| (0..each).for_each(|_| add()));
            }
        });
    });
    assert_eq!(count.lock().get(), THREADS * each);
}
