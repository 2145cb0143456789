//! How often the protocol has called, to count what a page costs.

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
///
/// ```
/// # let (mm, at) = pagelock_soft::example();
/// let before = mm.counted();
/// mm.unmap(at, 1).unwrap();
/// assert_eq!(mm.counted().since(before).invalidations, 1);
/// ```
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
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let before = mm.counted();
    /// mm.leaf(at);
    /// assert_eq!(mm.counted().since(before).locks, 1);
    /// ```
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

    /// The counts so far, by all threads.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert!(mm.counted().locks > 0);
    /// ```
    #[must_use]
    pub fn counted(&self) -> Counted {
        let Counts { locks, flushes, invalidations, walks } = &self.counts;
        let [locks, flushes, invalidations, walks] =
            [locks, flushes, invalidations, walks].map(|count| count.load(Relaxed));
        Counted { locks, flushes, invalidations, walks }
    }
}
