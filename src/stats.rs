//! Counters: how often lockers and waiters slept, were woken for nothing, or got the page behind a
//! closed gate, and why pages did not move. With feature `stats`; without it, counting compiles to
//! nothing and `snapshot` does not exist.
//!
//! The counters are for the whole program and only ever go up, wrapping at the word size. Take a
//! `snapshot` before and after and look at the difference, `Stats::since`. They are relaxed: a
//! snapshot taken while threads run is not of one instant.
//!
//! ```
//! # #[cfg(feature = "stats")] {
//! use pagelock::{FreezeRule, PageLock, stats};
//!
//! let before = stats::snapshot();
//! let page = PageLock::new();
//! page.activate(2).unwrap();
//! assert!(page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).is_err());
//! assert!(stats::snapshot().since(before).frozen_refused_refs >= 1);
//! # }
//! ```

/// What is counted.
#[cfg_attr(not(feature = "stats"), allow(dead_code))]
#[derive(Clone, Copy)]
pub(crate) enum Counter {
    LockWaits,
    LostWakes,
    GatedLocks,
    LockWakes,
    EventWaits,
    EventWakes,
    SpuriousReturns,
    FreezeRefusedPins,
    FreezeRefusedRefs,
    FreezeRefusedOther,
    Aborts,
    Commits,
}

/// Counts one. Compiles to nothing without feature `stats`.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    #[cfg(feature = "stats")]
    on::add(counter);
    #[cfg(not(feature = "stats"))]
    let _ = counter;
}

#[cfg(feature = "stats")]
pub use on::{Stats, snapshot};

#[cfg(feature = "stats")]
mod on {
    use super::Counter;
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use crossbeam_utils::CachePadded;

    const COUNTERS: usize = Counter::Commits as usize + 1;

    // Padded: unrelated threads count unrelated things. Plain core atomics also under the model
    // checker: the counters order nothing and decide nothing.
    static TOTALS: [CachePadded<AtomicUsize>; COUNTERS] =
        [const { CachePadded::new(AtomicUsize::new(0)) }; COUNTERS];

    pub(super) fn add(counter: Counter) {
        // Relaxed: a statistic.
        TOTALS[counter as usize].fetch_add(1, Relaxed);
    }

    /// The counters at some time, or what was added between two times.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[non_exhaustive]
    pub struct Stats {
        /// Times a locker went to sleep.
        pub lock_waits: usize,
        /// Rounds lost: times a locker was woken, or slept when the page was released, and then
        /// found the page not its to take.
        pub lost_wakes: usize,
        /// Acquisitions behind a closed gate: a registered sleeper took the page while newcomers
        /// were kept out.
        pub gated_locks: usize,
        /// Releases that woke a locker.
        pub lock_wakes: usize,
        /// Times a waiter for a release registered and slept.
        pub event_waits: usize,
        /// Releases that told an event slot.
        pub event_wakes: usize,
        /// Waiters that were woken although nothing was released on their event slot since they
        /// registered. (A release of another page of the slot is not told apart from one's own.)
        pub spurious_returns: usize,
        /// Freezes refused because of pins.
        pub frozen_refused_pins: usize,
        /// Freezes refused because the references were not the expected ones.
        pub frozen_refused_refs: usize,
        /// Freezes refused because the page was frozen already, or by the caller's own freeze.
        pub frozen_refused_other: usize,
        /// Migrations that were aborted, at whatever stage and for whatever reason.
        pub aborts: usize,
        /// Migrations that were committed.
        pub commits: usize,
    }

    /// Returns the counters as they are now.
    ///
    /// ```
    /// let before = pagelock::stats::snapshot();
    /// pagelock::PageLock::new().lock().begin_migration().abort();
    /// assert!(pagelock::stats::snapshot().aborts > before.aborts);
    /// ```
    #[must_use]
    pub fn snapshot() -> Stats {
        let read = |counter: Counter| TOTALS[counter as usize].load(Relaxed);
        Stats {
            lock_waits: read(Counter::LockWaits),
            lost_wakes: read(Counter::LostWakes),
            gated_locks: read(Counter::GatedLocks),
            lock_wakes: read(Counter::LockWakes),
            event_waits: read(Counter::EventWaits),
            event_wakes: read(Counter::EventWakes),
            spurious_returns: read(Counter::SpuriousReturns),
            frozen_refused_pins: read(Counter::FreezeRefusedPins),
            frozen_refused_refs: read(Counter::FreezeRefusedRefs),
            frozen_refused_other: read(Counter::FreezeRefusedOther),
            aborts: read(Counter::Aborts),
            commits: read(Counter::Commits),
        }
    }

    impl Stats {
        /// Returns the counts from `earlier` to `self`.
        ///
        /// ```
        /// use pagelock::stats;
        ///
        /// let before = stats::snapshot();
        /// pagelock::PageLock::new().lock().begin_migration().abort();
        /// assert!(stats::snapshot().since(before).aborts >= 1);
        /// ```
        #[must_use]
        pub fn since(self, earlier: Self) -> Self {
            Self {
                lock_waits: self.lock_waits.wrapping_sub(earlier.lock_waits),
                lost_wakes: self.lost_wakes.wrapping_sub(earlier.lost_wakes),
                gated_locks: self.gated_locks.wrapping_sub(earlier.gated_locks),
                lock_wakes: self.lock_wakes.wrapping_sub(earlier.lock_wakes),
                event_waits: self.event_waits.wrapping_sub(earlier.event_waits),
                event_wakes: self.event_wakes.wrapping_sub(earlier.event_wakes),
                spurious_returns: self.spurious_returns.wrapping_sub(earlier.spurious_returns),
                frozen_refused_pins: self
                    .frozen_refused_pins
                    .wrapping_sub(earlier.frozen_refused_pins),
                frozen_refused_refs: self
                    .frozen_refused_refs
                    .wrapping_sub(earlier.frozen_refused_refs),
                frozen_refused_other: self
                    .frozen_refused_other
                    .wrapping_sub(earlier.frozen_refused_other),
                aborts: self.aborts.wrapping_sub(earlier.aborts),
                commits: self.commits.wrapping_sub(earlier.commits),
            }
        }
    }
}
