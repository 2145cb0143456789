//! What is counted while a storm runs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that many threads count up. Relaxed: a statistic.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Keeps the largest.
    pub fn at_least(&self, n: u64) {
        self.0.fetch_max(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Default)]
pub struct Counters {
    /// Accesses made.
    pub accesses: Counter,
    /// Accesses that trapped.
    pub faults: Counter,
    /// Attempts of the fault path that came to nothing: the access trapped again.
    pub retries: Counter,
    /// The most of them that one access had.
    pub most_retries: Counter,
    /// Those that found the page locked and did not sleep.
    pub spins: Counter,
    /// Pages moved out.
    pub out: Counter,
    /// Pages moved back, by faults.
    pub back: Counter,
    /// Pages moved back by the migrator, ahead of faults.
    pub ahead: Counter,
    /// Pages that did not move because somebody had locked them.
    pub skipped_locked: Counter,
    /// Migrations aborted because of references.
    pub aborted_refs: Counter,
    /// Migrations aborted, or not begun, because of pins.
    pub aborted_pins: Counter,
    /// Migrations aborted because the system would not move the memory.
    pub aborted_system: Counter,
    /// Pins taken by workers.
    pub pins: Counter,
}

impl Counters {
    /// How many of `pages` pages are hot, all of which were at first.
    pub fn hot_pages(&self, pages: usize) -> usize {
        (pages as u64 + self.back.get() + self.ahead.get()).saturating_sub(self.out.get()) as usize
    }

    /// Migrations that were committed, in either direction.
    pub fn migrations(&self) -> u64 {
        self.out.get() + self.back.get() + self.ahead.get()
    }
}
