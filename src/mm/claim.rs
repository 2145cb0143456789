//! Locking many pages without waiting for any of them.

use super::{Memory, Span, Tiers};
use crate::lock::PageGuard;
use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;

/// Locks the pages of frames `pfns` one after the other, and passes over those that are busy.
///
/// For a caller that goes through a range and does something to each page that it can lock:
/// prefault, trim, write protect. A large page comes once, when its first frame that is in the
/// range does. Nothing here sleeps, so a caller may keep pages while it claims others.
///
/// A busy page is left as it is: its owner is not asked to tell anybody. To wait for one page, use
/// [`PageLock::claim`](crate::PageLock::claim).
///
/// ```
/// use pagelock::mm::claim_range;
/// # let (mm, at) = pagelock_soft::example();
/// let pfn = mm.frame_at(at).unwrap();
/// let mut claimed = claim_range(&mm, pfn..pfn + 1);
/// let (span, guard) = claimed.next().unwrap();
/// assert_eq!(span.head, pfn);
/// assert!(guard.page().is_locked());
/// ```
pub fn claim_range<M: Tiers>(mm: &M, pfns: Range<u64>) -> ClaimRange<'_, M> {
    ClaimRange { mm, pfns, busy: 0, poisoned: 0 }
}

/// The iterator of [`claim_range`]: each item is a page and its lock.
///
/// ```
/// use pagelock::mm::claim_range;
/// # let (mm, at) = pagelock_soft::example();
/// let kept: Vec<_> = claim_range(&mm, 1..5).collect();
/// assert_eq!(kept.len(), 4);
/// ```
#[must_use = "nothing is claimed before it is asked for"]
pub struct ClaimRange<'m, M> {
    mm: &'m M,
    pfns: Range<u64>,
    busy: u64,
    poisoned: u64,
}

impl<M> ClaimRange<'_, M> {
    /// How many pages were passed over so far because another thread owns them.
    ///
    /// ```
    /// use pagelock::mm::claim_range;
    /// # let (mm, at) = pagelock_soft::example();
    /// let owned = mm.page(1).unwrap().lock();
    /// let mut claimed = claim_range(&mm, 1..3);
    /// assert_eq!(claimed.by_ref().count(), 1);
    /// assert_eq!(claimed.busy(), 1);
    /// # drop(owned);
    /// ```
    #[must_use]
    pub fn busy(&self) -> u64 {
        self.busy
    }

    /// How many pages were passed over so far because their contents are lost.
    ///
    /// ```
    /// use pagelock::mm::claim_range;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.page(1).unwrap().lock().poison();
    /// let mut claimed = claim_range(&mm, 1..3);
    /// assert_eq!(claimed.by_ref().count(), 1);
    /// assert_eq!(claimed.poisoned(), 1);
    /// ```
    #[must_use]
    pub fn poisoned(&self) -> u64 {
        self.poisoned
    }
}

impl<'m, M: Tiers> Iterator for ClaimRange<'m, M> {
    type Item = (Span, PageGuard<'m, M::Futex>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let pfn = self.pfns.next()?;
            let span = self.mm.span(pfn);
            let Some(page) = Memory::header(self.mm, span.head) else { continue };
            match page.try_lock() {
                // Split, or merged into a larger page, before this thread had the lock: ask again.
                Some(guard) if self.mm.span(pfn) != span => {
                    drop(guard);
                    self.pfns.start = pfn;
                }
                Some(guard) if !guard.is_poisoned() => {
                    self.pfns.start = span.frames().end.min(self.pfns.end);
                    return Some((span, guard));
                }
                _ => {
                    self.pfns.start = span.frames().end.clamp(self.pfns.start, self.pfns.end);
                    *if page.is_poisoned() { &mut self.poisoned } else { &mut self.busy } += 1;
                }
            }
        }
    }
}

impl<M: Tiers> FusedIterator for ClaimRange<'_, M> {}

impl<M> fmt::Debug for ClaimRange<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mm: _, pfns, busy, poisoned } = self;
        f.debug_struct("ClaimRange")
            .field("left", pfns)
            .field("busy", busy)
            .field("poisoned", poisoned)
            .finish_non_exhaustive()
    }
}
