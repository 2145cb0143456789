//! Many pages at once, without waiting for any of them.

use super::{Memory, Span, Tiers};
use crate::lock::PageGuard;
use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;

/// Locks the pages of frames `pfns` one after the other, and passes over those that are busy.
///
/// For whoever has to go through a range and does something to each page that it can have:
/// prefault, trim, write protect. A large page comes once, when its first frame that is in the
/// range does. Nothing here sleeps, so pages may be kept while others are claimed.
///
/// A page that is busy is left as it is. Nobody waits for it here, so its owner has nobody to tell;
/// whoever does, leaves word by [`PageLock::claim`](crate::PageLock::claim).
pub fn claim_range<M: Tiers>(mm: &M, pfns: Range<u64>) -> ClaimRange<'_, M> {
    ClaimRange { mm, pfns, busy: 0, poisoned: 0 }
}

/// See [`claim_range`].
#[must_use = "nothing is claimed before it is asked for"]
pub struct ClaimRange<'m, M> {
    mm: &'m M,
    pfns: Range<u64>,
    busy: u64,
    poisoned: u64,
}

impl<M> ClaimRange<'_, M> {
    /// How many pages were passed over because somebody has them.
    #[must_use]
    pub fn busy(&self) -> u64 {
        self.busy
    }

    /// How many were passed over because their contents are lost.
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
                // Split, or made part of a larger page, before it was ours: what it is now is what
                // counts.
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
