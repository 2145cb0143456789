//! The page of a fault handler, which keeps its lock.

use crate::futex::{Futex, OsFutex};
use crate::lock::PageGuard;
use crate::page::PageLock;
use crate::refs::{PageRef, Put};

/// A page whose lock a fault handler owns already, and keeps: a migration neither locks nor unlocks
/// it, and counts the faulter's reference among those that it expects.
#[derive(Debug)]
pub struct FaultPage<'p, F: Futex = OsFutex> {
    pub(super) page: &'p PageLock<F>,
    /// With a migration for as long as that has it in work.
    pub(super) guard: Option<PageGuard<'p, F>>,
    pub(super) reference: Option<PageRef<'p, F>>,
    pub(super) is_lost: bool,
}

impl<'p, F: Futex> FaultPage<'p, F> {
    /// The page that `guard` owns, and the reference that the faulter has.
    #[must_use]
    pub fn new(guard: PageGuard<'p, F>, reference: Option<PageRef<'p, F>>) -> Self {
        Self { page: guard.page(), guard: Some(guard), reference, is_lost: false }
    }

    pub(super) fn is_of(&self, page: &PageLock<F>) -> bool {
        core::ptr::eq(self.page, page)
    }

    /// Whether the faulter owns the lock, as it does whenever no migration is under way.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.guard.is_some()
    }

    /// What the fault handler does when all is over: puts its reference, then releases the lock, in
    /// this order. Whether the page is free now.
    ///
    /// A page whose contents are lost is poisoned first: whoever else has got a reference to it by
    /// its number since, and puts that as the last, is to find it so.
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
