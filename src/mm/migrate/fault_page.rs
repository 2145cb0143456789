//! The page of a fault handler, which keeps its lock.

use crate::futex::{Futex, OsFutex};
use crate::lock::PageGuard;
use crate::page::PageLock;
use crate::refs::{PageRef, Put};

/// A page whose lock a fault handler owns already, and keeps. A migration neither locks nor unlocks
/// it, and counts the faulter's reference among those that it expects.
///
/// [`collect_for_fault`](super::collect_for_fault) has an example.
///
/// ```
/// use pagelock::PageLock;
/// use pagelock::mm::migrate::FaultPage;
/// let page = PageLock::new();
/// page.activate(1).unwrap();
/// let fault = FaultPage::new(page.lock(), Some(page.try_get().unwrap()));
/// assert!(fault.is_owned());
/// ```
#[derive(Debug)]
pub struct FaultPage<'p, F: Futex = OsFutex> {
    pub(super) page: &'p PageLock<F>,
    /// A migration has it for as long as the page is in its work.
    pub(super) guard: Option<PageGuard<'p, F>>,
    pub(super) reference: Option<PageRef<'p, F>>,
    pub(super) is_lost: bool,
}

impl<'p, F: Futex> FaultPage<'p, F> {
    /// The page that `guard` owns, and the faulter's reference, if it has one.
    ///
    /// ```
    /// use pagelock::PageLock;
    /// use pagelock::mm::migrate::FaultPage;
    /// let page = PageLock::new();
    /// let fault = FaultPage::new(page.lock(), None);
    /// assert!(fault.is_owned());
    /// ```
    #[must_use]
    pub fn new(guard: PageGuard<'p, F>, reference: Option<PageRef<'p, F>>) -> Self {
        Self { page: guard.page(), guard: Some(guard), reference, is_lost: false }
    }

    pub(super) fn is_of(&self, page: &PageLock<F>) -> bool {
        core::ptr::eq(self.page, page)
    }

    /// Whether the faulter owns the lock, as it does whenever no migration is under way.
    ///
    /// ```
    /// use pagelock::PageLock;
    /// use pagelock::mm::migrate::FaultPage;
    /// let page = PageLock::new();
    /// assert!(FaultPage::new(page.lock(), None).is_owned());
    /// ```
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.guard.is_some()
    }

    /// Ends the fault: puts the reference, then releases the lock, in this order. Returns whether
    /// the page is free now.
    ///
    /// A page whose contents are lost is poisoned first: another thread may have got a reference to
    /// it by its number since, and if that is the last to be put, that thread must find the page
    /// poisoned.
    ///
    /// ```
    /// use pagelock::PageLock;
    /// use pagelock::mm::migrate::FaultPage;
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// // SAFETY: the reference that the page was made live with.
    /// unsafe { FaultPage::new(page.lock(), Some(page.try_get().unwrap())).release() };
    /// assert!(!page.is_locked() && page.refs() == 1);
    /// ```
    pub fn release(self) -> bool {
        let Self { page: _, guard, reference, is_lost } = self;
        if is_lost {
            let _ = guard.map(PageGuard::poison);
            drop(reference);
            return false;
        }
        let put = reference.map(PageRef::put);
        drop(guard);
        put == Some(Put::Last)
    }
}
