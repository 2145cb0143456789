//! One interrupt for a batch: what it gains to flush only at the end.

use crate::counters::{SHOOTDOWNS, SHOT};
use crate::frames::Tier;
use crate::kernel::{KERNEL, Kernel};
use crate::paging::At;
use crate::phase::{self, done};
use crate::{clock, cpu, layout};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use pagelock::mm::drain::{NoBatches, Unlocked};
use pagelock::mm::migrate::{Order, Outcome, Slot, migrate};

const PAGES: usize = 64;
const ROUNDS: usize = 7;

static TIMES: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// The same pages, moved together and one by one.
pub fn run() {
    phase::run(100_000, both);
    let [together, alone] = [TIMES[0].load(SeqCst), TIMES[1].load(SeqCst)];
    done(
        "one interrupt for a batch",
        format_args!(
            "{PAGES} pages, {} entries: 1 shootdown and {} us, or {PAGES} and {} us: {}.{} times \
             as long (medians of {ROUNDS})",
            2 * PAGES,
            together / 1000,
            alone / 1000,
            alone / together,
            alone * 10 / together % 10
        ),
    );
}

fn both(index: usize) {
    if index > 0 {
        // It halts, and is interrupted in that.
        return;
    }
    let mut times = [[0; ROUNDS]; 2];
    for round in 0..ROUNDS {
        for (times, (batch, to)) in times.iter_mut().zip([(PAGES, Tier::Slow), (1, Tier::Fast)]) {
            times[round] = one(batch, to);
        }
    }
    for (times, median) in times.iter_mut().zip(&TIMES) {
        times.sort_unstable();
        median.store(times[ROUNDS / 2], SeqCst);
    }
}

fn one(batch: usize, to: Tier) -> u64 {
    let mut slots: [Slot<'_, Kernel>; PAGES] =
        core::array::from_fn(|n| Slot::at(At::new(0, 0, layout::DATA.start + n)));
    let (shootdowns, shot, began) = (SHOOTDOWNS.get(), SHOT.get(), clock::now_ns());
    let _ = migrate(
        &KERNEL,
        &mut slots,
        &Order::to(to).from(other(to)).batch(batch),
        &NoBatches,
        &mut Unlocked::promise(),
    );
    let took = clock::now_ns() - began;
    let (shootdowns, shot) = (SHOOTDOWNS.get() - shootdowns, SHOT.get() - shot);
    // The first time, some are there already.
    if slots.iter().all(|slot| matches!(slot.outcome(), Outcome::Moved { .. })) {
        assert_eq!(
            (shootdowns as usize, shot as usize),
            (PAGES / batch, 2 * PAGES),
            "{} processors",
            cpu::up()
        );
    }
    took
}

fn other(tier: Tier) -> Tier {
    if tier == Tier::Fast { Tier::Slow } else { Tier::Fast }
}
