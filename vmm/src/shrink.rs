//! Pushing out as many pages as there are too many.

use crate::evict::{Evict, NotEvicted};
use crate::region::Region;
use std::io;
use std::sync::Arc;

/// What came of [evicting down to a limit](Region::evict_to), in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evicted {
    /// Out.
    pub done: usize,
    /// Passed over: they have owners.
    pub owned: usize,
    /// Passed over: devices use them.
    pub pinned: usize,
    /// Passed over: the kernel keeps them where they are.
    pub kept: usize,
}

impl Region {
    /// Evicts pages until at most `limit` are [in](Self::resident), in the order of `candidates`,
    /// which is the caller's policy; pages that are not in are passed over. `save` writes each page
    /// to the store. Never sleeps for a page.
    ///
    /// Several threads may do this at once: none of them evicts more than is needed then, but for
    /// the page that it is at.
    ///
    /// # Errors
    ///
    /// What `save` failed with, or the system; that page is back in. Pages before it are out.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// for fetch in region.prefetch(0..8) {
    ///     fetch.fill(&[7; 4096])?;
    /// }
    /// let mut store = std::collections::HashMap::new();
    /// let evicted = region.evict_to(3, 0..8, |evict| {
    ///     store.insert(evict.page(), evict.bytes().to_vec());
    ///     Ok(())
    /// })?;
    /// assert_eq!((evicted.done, store.len(), region.resident()), (5, 5, 3));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn evict_to(
        self: &Arc<Self>,
        limit: usize,
        candidates: impl IntoIterator<Item = usize>,
        mut save: impl FnMut(&Evict) -> io::Result<()>,
    ) -> io::Result<Evicted> {
        let (mut sum, mut candidates) = (Evicted::default(), candidates.into_iter());
        while self.resident() > limit {
            let Some(page) = candidates.next() else { break };
            match self.evict(page) {
                Ok(evict) => {
                    save(&evict)?;
                    evict.done();
                    sum.done += 1;
                }
                Err(NotEvicted::NotIn) => {}
                Err(NotEvicted::Owned) => sum.owned += 1,
                Err(NotEvicted::Pinned(_)) => sum.pinned += 1,
                Err(NotEvicted::Kept) => sum.kept += 1,
                Err(NotEvicted::Io(error)) => {
                    let what = format!("page {page} cannot be evicted: {error}");
                    return Err(io::Error::new(error.kind(), what));
                }
            }
        }
        Ok(sum)
    }
}
