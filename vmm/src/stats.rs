//! Counters of a region: feature `stats`. Without it nothing is counted, and all are 0.

use crate::region::Region;
#[cfg(feature = "stats")]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident $field:ident,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Counter { $($name,)* }

        /// The counters of a region at one moment.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct Stats { $($(#[$doc])* pub $field: u64,)* }

        impl Region {
            /// What has been counted so far.
            ///
            /// # Example
            ///
            /// ```
            /// # let (_, region) = pagelock_vmm::soft::SoftRam::region(8)?;
            /// let fetches = region.stats().fetches; // 0 without the feature
            /// # Ok::<_, Box<dyn std::error::Error>>(())
            /// ```
            #[must_use]
            pub fn stats(&self) -> Stats {
                Stats { $($field: self.counters.get(Counter::$name),)* }
            }
        }

        #[cfg(feature = "stats")]
        const COUNTERS: usize = [$(Counter::$name),*].len();
    };
}

counters! {
    /// Calls of [`Region::fault`].
    Faults faults,
    /// Faults on pages that were in.
    Present present,
    /// Faults on pages that had an owner.
    InFlight in_flight,
    /// Faults on pages that were write protected.
    WriteFaults write_faults,
    /// Pages put up with bytes of the store.
    Fetches fetches,
    /// Pages put up with zeroes.
    Zeroes zeroes,
    /// Pages that were there already when they were to be put up.
    There there,
    /// Pages taken out.
    Evictions evictions,
    /// Evictions that were given up.
    PutBack put_back,
    /// Pages saved and write protected.
    Cleaned cleaned,
    /// Pages discarded.
    Discards discards,
    /// Pins.
    Pins pins,
    /// Pages whose contents were lost.
    Poisoned poisoned,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    #[cfg(feature = "stats")]
    counts: [AtomicU64; COUNTERS],
}

impl Counters {
    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        #[cfg(feature = "stats")]
        // Relaxed: a count orders nothing.
        self.counts[counter as usize].fetch_add(1, Relaxed);
        #[cfg(not(feature = "stats"))]
        let _ = counter;
    }

    fn get(&self, counter: Counter) -> u64 {
        #[cfg(feature = "stats")]
        return self.counts[counter as usize].load(Relaxed);
        #[cfg(not(feature = "stats"))]
        {
            let _ = counter;
            0
        }
    }
}
