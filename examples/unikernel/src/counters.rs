//! What is counted, for the live line and for the checks at the end.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$attr:meta])* $name:ident)*) => {$(
        $(#[$attr])*
        pub static $name: Counter = Counter(AtomicU64::new(0));
    )*};
}

/// One of them.
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        // Relaxed, here and below: counters order nothing. Those that are compared are read when
        // all processors are at rest.
        self.0.fetch_add(n, Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

counters! {
    /// Page faults that `resolve` was run for.
    FAULTS
    /// Sleeps that came to a halt.
    SLEEPS
    /// Wakes that ended a sleep.
    WAKES
    /// Times that a processor halted.
    HALTS
    /// Pages that the migrator has moved.
    MOVED
    /// Pages that it had to put back.
    PUT_BACK
    /// Pages that faults have brought back.
    BROUGHT
    /// Shootdowns.
    SHOOTDOWNS
    /// Entries that those were for.
    SHOT
    /// Batches that were emptied for a drain.
    DRAINED
    /// References that were put into batches.
    BATCHED
    /// References that were put out of them.
    UNBATCHED
    /// Transfers that the device has made.
    TRANSFERS
    /// Pages that were copied on write.
    COPIED
    /// Instructions that were fetched from data, and not executed.
    REFUSED
    /// Forks.
    FORKS
}
