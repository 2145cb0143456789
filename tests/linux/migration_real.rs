//! The tests of `migration.rs` over real memory, with page faults that are signals.

use crate::common::with_threads;
use crate::migration::{PAGES, READERS, Tally, WAITS, turn};
use crate::real::region::{Kind, PAGE};
use crate::real::{At, Real, Side, handling_faults, open};
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use pagelock::mm::migrate::{Abort, Outcome, Slot};
use std::io::Write as _;
use std::thread;
use std::time::Instant;

/// Memory whose faults are real, or a word about why it is not, past the harness, which would
/// keep it to itself.
fn opened(test: &str, kind: Kind) -> Option<Real> {
    match open(kind, PAGES) {
        Ok(real) => Some(real),
        Err(why) => {
            let _ =
                writeln!(std::io::stderr(), "\n{test}: SKIPPED, not run over real memory: {why}");
            None
        }
    }
}

fn text(page: usize, word: usize) -> u64 {
    0x0101_0101_0101_0101 * (page as u64 + 1) + word as u64
}

const WORDS: usize = PAGE / 8;

/// Threads read what is there, and count in a word of their own, by plain instructions, which
/// trap when they trap. How far each page was counted.
fn worker(real: &Real, mapping: usize, number: usize, stop: &AtomicBool) -> u64 {
    let mut count = 0;
    while !stop.load(SeqCst) {
        for step in 0..8 {
            for page in 0..PAGES {
                let at = At { mapping, page };
                let word = READERS + (number * 61 + step * 97) % (WORDS - READERS);
                assert_eq!(
                    real.word(at, word).load(Relaxed),
                    text(page, word),
                    "page {page}, mapping {mapping}"
                );
                // One after the other: a store that goes to the source after its copy was made
                // is one that is lost.
                for _ in 0..8 {
                    real.word(at, number).fetch_add(1, Relaxed);
                }
            }
            count += 8;
        }
    }
    count
}

fn ping_pong(real: &Real) {
    let mappings = if real.describe().contains("memfd") { READERS } else { 1 };
    for page in 0..PAGES {
        for word in READERS..WORDS {
            real.word(At { mapping: 0, page }, word).store(text(page, word), Relaxed);
        }
    }
    let (stop, mut tally, mut refused_by_system) = (AtomicBool::new(false), Tally::default(), 0);
    let counts: Vec<u64> = with_threads(&[], |s| {
        let stop = &stop;
        let workers: Vec<_> =
            (0..READERS).map(|i| s.spawn(move || worker(real, i % mappings, i, stop))).collect();
        let began = Instant::now();
        for round in 1.. {
            let to = if round % 2 == 1 { Side::Cold } else { Side::Hot };
            let mut slots: Vec<_> =
                (0..PAGES).map(|page| Slot::at(At { mapping: 0, page })).collect();
            real.migrate(&mut slots, to, thread::yield_now);
            for slot in &slots {
                match slot.outcome() {
                    // What the kernel would not move at that moment, it has in hand itself.
                    Outcome::Aborted(Abort::CopyFailed) => {
                        refused_by_system += 1;
                        tally.was_tried(false);
                    }
                    outcome => tally.count(outcome),
                }
            }
            let is_enough = real.waits.load(SeqCst) >= WAITS && tally.moved > 0;
            // Longer than over soft: a store in the few microseconds of a copy is what is
            // to be met.
            if tally.aborted_by_waiters > 0 || began.elapsed() >= 4 * turn() && is_enough {
                break;
            }
        }
        stop.store(true, SeqCst);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(tally.aborted_by_waiters, 0, "{tally:?}, {refused_by_system} by the system");
    for page in 0..PAGES {
        for (number, count) in counts.iter().enumerate() {
            let counted = real.word(At { mapping: 0, page }, number).load(Relaxed);
            assert_eq!(counted, *count, "page {page}: additions of thread {number} were lost");
        }
        for word in READERS..WORDS {
            assert_eq!(
                real.word(At { mapping: mappings - 1, page }, word).load(Relaxed),
                text(page, word)
            );
        }
    }
    real.audit();
}

#[test]
fn private_anon() {
    if let Some(real) = opened("private_anon", Kind::Anon) {
        handling_faults(&real, || ping_pong(&real));
    }
}

#[test]
fn shared_anon() {
    if let Some(real) = opened("shared_anon", Kind::Memfd { mappings: READERS }) {
        handling_faults(&real, || ping_pong(&real));
    }
}
