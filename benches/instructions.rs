//! The fast paths, alone, to be counted and read.
//!
//! `ci/instructions.sh` runs this under an instruction counter: `instructions WHAT TIMES`. `ci/assembly.sh` disassembles the
//! functions whose names begin with `fast_`.

use core::hint::black_box;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::PageLock;

#[derive(Default)]
struct Subject {
    page: PageLock,
    word: AtomicU32,
}

/// What the compiler makes of `lock` and `unlock` where they are called from one place.
#[inline(never)]
fn fast_lock_unlock(on: &Subject) {
    drop(on.page.lock());
}

#[inline(never)]
fn fast_try_lock(on: &Subject) -> bool {
    match on.page.try_lock() {
        Some(guard) => {
            guard.into_raw();
            true
        }
        None => false,
    }
}

/// The bound: no other bits to keep, no sleepers to look for.
#[inline(never)]
fn fast_raw_pair(on: &Subject) -> bool {
    on.word.compare_exchange(0, 1, Acquire, Relaxed).is_ok() && on.word.swap(0, Release) == 1
}

/// Calling, returning and the loop, which are to be taken off the others' counts.
#[inline(never)]
fn fast_nothing(_: &Subject) {}

/// One loop for all: compiled by itself, each might get a loop of another length.
#[inline(never)]
fn rounds<R>(times: u64, on: &Subject, body: fn(&Subject) -> R) {
    for _ in 0..times {
        black_box(body)(on);
    }
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench" && a != "--test");
    let what = args.next().unwrap_or_default();
    let times = args.next().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let on = Subject::default();
    match what.as_str() {
        "nothing" => rounds(times, &on, fast_nothing),
        "pair" => rounds(times, &on, fast_lock_unlock),
        "try-fail" => {
            let _held = on.page.lock();
            rounds(times, &on, fast_try_lock);
        }
        "raw-pair" => rounds(times, &on, fast_raw_pair),
        "" => {
            fast_lock_unlock(&on);
            assert!(fast_raw_pair(&on) && fast_try_lock(&on) && !fast_try_lock(&on));
            println!("nothing measured: run ci/instructions.sh for counts, ci/assembly.sh for the code");
        }
        other => {
            eprintln!("`{other}` is none of nothing, pair, try-fail, raw-pair");
            std::process::exit(2);
        }
    }
}
