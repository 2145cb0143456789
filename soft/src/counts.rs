//! What the protocol has asked for so far, for those who count what a page costs.

use super::Soft;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use pagelock::futex::Futex;
use pagelock::mm::drain::Cpus;

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) locks: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) invalidations: AtomicU64,
    pub(super) walks: AtomicU64,
}

/// How often something was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// A page-table lock was taken, for one entry.
    pub locks: u64,
    /// Translations were flushed.
    pub flushes: u64,
    /// An invalidation was begun.
    pub invalidations: u64,
    /// The reverse map of a page was walked.
    pub walks: u64,
}

impl Counted {
    /// How often since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            locks: self.locks - before.locks,
            flushes: self.flushes - before.flushes,
            invalidations: self.invalidations - before.invalidations,
            walks: self.walks - before.walks,
        }
    }
}

impl<F: Futex, C: Cpus> Soft<F, C> {
    // Relaxed, here and below: read when nobody is at work.
    pub(super) fn count(&self, of: impl FnOnce(&Counts) -> &AtomicU64) {
        of(&self.counts).fetch_add(1, Relaxed);
    }

    /// What was done so far, by everybody.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let Counts { locks, flushes, invalidations, walks } = &self.counts;
        let [locks, flushes, invalidations, walks] =
            [locks, flushes, invalidations, walks].map(|count| count.load(Relaxed));
        Counted { locks, flushes, invalidations, walks }
    }
}
