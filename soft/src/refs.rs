//! References to pages, each with its owner in the ledger.

use super::{Soft, TierId};
use pagelock::futex::Futex;
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::{Change, Owner};
use pagelock::mm::{Memory, Tiers};
use pagelock::refs::{GetError, Put};

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Takes a reference to the page at `pfn`, for work on it, in the ledger too.
    ///
    /// ```
    /// use pagelock::mm::ledger::Owner;
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.get(pfn).unwrap();
    /// assert_eq!(mm.owned(pfn, Owner::Get), 1);
    /// // SAFETY: the reference just taken.
    /// unsafe { mm.put(pfn) };
    /// ```
    ///
    /// # Errors
    ///
    /// As [`PageLock::try_get`](pagelock::PageLock::try_get); a frame that does not exist is free.
    pub fn get(&self, pfn: u64) -> Result<(), GetError> {
        let span = self.span(pfn);
        let page = self.page(span.head).ok_or(GetError::Free)?;
        page.try_get()?.into_raw();
        self.account(span.head, Owner::Get, Change::Taken);
        Ok(())
    }

    /// Puts a reference that [`get`](Self::get) took, and frees the page if it was the last.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.get(pfn).unwrap();
    /// mm.unmap(at, 1).unwrap(); // the page stays for the reference
    /// // SAFETY: the reference just taken.
    /// unsafe { mm.put(pfn) };
    /// assert_eq!(mm.page(pfn).unwrap().refs(), 0);
    /// ```
    ///
    /// # Safety
    ///
    /// The reference is the caller's.
    pub unsafe fn put(&self, pfn: u64) {
        // SAFETY: the caller's promise.
        unsafe { self.put_as(pfn, Owner::Get) };
    }

    /// Puts a reference of `owner`'s, and frees the page if it was the last.
    ///
    /// # Safety
    ///
    /// The reference is the caller's, as `owner`.
    pub(super) unsafe fn put_as(&self, pfn: u64, owner: Owner) {
        let span = self.span(pfn);
        let Some(page) = self.page(span.head) else { return };
        self.account(span.head, owner, Change::Put);
        // SAFETY: the caller's promise.
        if unsafe { page.put_raw() } == Put::Last && !page.is_poisoned() {
            self.free(span.head);
        }
    }

    /// A new page in `tier`, of zeroes or not, with one reference, which is `owner`'s. With
    /// batches, it gets another for those.
    pub(super) fn new_page(&self, tier: TierId, owner: Owner) -> Option<u64> {
        let pfn = self.allocate(tier, 0)?;
        let page = self.page(pfn)?;
        if page.activate(1).is_err() {
            return None;
        }
        self.account(pfn, owner, Change::Taken);
        if let Ok(reference) = page.try_get() {
            self.account(pfn, Owner::Batch, Change::Taken);
            reference.into_raw();
            // SAFETY: the reference just taken, or one that the batch has given back.
            let put = |pfn| unsafe { self.put_as(pfn, Owner::Batch) };
            if !self.batches.add(pfn, put) {
                put(pfn);
            }
        }
        Some(pfn)
    }
}
