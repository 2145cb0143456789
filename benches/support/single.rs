//! One thread alone: nanoseconds of one operation, from many.

use super::Padded;
use super::locks::Lock;
use core::hint::black_box;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use pagelock::{FreezeRule, PageLock};
use std::sync::Arc;
use std::time::Instant;

fn nanos_each<T>(on: &T, times: u32, body: impl Fn(&T)) -> f64 {
    let began = Instant::now();
    for _ in 0..times {
        body(black_box(on));
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(times)
}

pub fn pair<L: Lock>(times: u32) -> f64 {
    nanos_each(&Padded(L::new()), times, |lock| lock.0.with(|| ()))
}

pub fn try_pair<L: Lock>(times: u32) -> f64 {
    nanos_each(&Padded(L::new()), times, |lock| assert!(black_box(lock.0.try_pair())))
}

pub fn try_fail<L: Lock>(times: u32) -> f64 {
    let lock = Padded(L::new());
    lock.0.with(|| nanos_each(&lock, times, |lock| assert!(!black_box(lock.0.try_pair()))))
}

/// An add and a subtraction.
pub fn raw_count(times: u32) -> f64 {
    nanos_each(&Padded(AtomicU32::new(1)), times, |word| {
        black_box(word.0.fetch_add(1, Acquire));
        black_box(word.0.fetch_sub(1, AcqRel));
    })
}

pub fn arc(times: u32) -> f64 {
    nanos_each(&Arc::new(()), times, |arc| drop(black_box(Arc::clone(arc))))
}

/// A page with one reference.
fn live() -> Padded<PageLock> {
    let page = Padded(PageLock::new());
    page.0.activate(1).expect("a fresh page");
    page
}

pub fn reference(times: u32) -> f64 {
    nanos_each(&live(), times, |page| drop(black_box(page.0.try_get().expect("it is live"))))
}

pub fn pin(times: u32) -> f64 {
    nanos_each(&live(), times, |page| drop(black_box(page.0.try_pin().expect("it is live"))))
}

/// What freezing and thawing cannot do with less: a compare-exchange, because the counts must be
/// the expected ones in the step that freezes them, and a swap, because a reference may be put
/// meanwhile, which a plain store would undo.
#[inline]
pub fn raw_freeze_thaw(count: &AtomicU32) {
    black_box(count.compare_exchange(1, u32::MAX, Acquire, Relaxed).is_ok());
    black_box(count.swap(1, Release));
}

pub fn raw_freeze(times: u32) -> f64 {
    nanos_each(&Padded(AtomicU32::new(1)), times, |count| raw_freeze_thaw(&count.0))
}

pub fn freeze_thaw(times: u32) -> f64 {
    let page = live();
    let mut stage = Some(page.0.lock().begin_migration());
    let began = Instant::now();
    for _ in 0..times {
        let migration = black_box(&mut stage).take().expect("put back below");
        stage = Some(
            migration.freeze(FreezeRule::ExactRefs(1)).expect("one reference, no pins").thaw(),
        );
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(times)
}

/// What an empty migration cannot do with less while each step is one that others can see: five
/// read-modify-writes on two words of a line. A compare-exchange locks, an or begins, a
/// compare-exchange freezes, a swap thaws, a swap unlocks.
#[inline]
pub fn raw_steps(state: &AtomicU32, count: &AtomicU32) {
    black_box(state.compare_exchange(0, 1, Acquire, Relaxed).is_ok());
    black_box(state.fetch_or(2, Relaxed));
    raw_freeze_thaw(count);
    black_box(state.swap(0, Release));
}

pub fn raw_migration(times: u32) -> f64 {
    let words = Padded((AtomicU32::new(0), AtomicU32::new(1)));
    nanos_each(&words, times, |words| raw_steps(&words.0.0, &words.0.1))
}

/// Lock, begin, freeze, commit.
pub fn empty_migration(times: u32) -> f64 {
    nanos_each(&live(), times, |page| {
        let migration = page.0.lock().begin_migration();
        let _ = black_box(
            migration
                .freeze(FreezeRule::ExactRefs(1))
                .expect("one reference, no pins")
                .commit_in_place(),
        );
    })
}
