//! A pin that frees its page when it is the last to go.

use crate::mm::Mm;
use crate::mm::ledger::Change;
use crate::refs::{PagePin, Put};
use core::fmt;

/// A page that is pinned. Dropping it unpins, and frees the page if nobody else has it any more.
#[must_use = "the page is unpinned when this is dropped"]
pub struct Pinned<'m, M: Mm> {
    pub(super) mm: &'m M,
    pub(super) pfn: u64,
    pub(super) pin: Option<PagePin<'m, M::Futex>>,
}

impl<'m, M: Mm> Pinned<'m, M> {
    /// The frame, which it stays in.
    #[must_use]
    pub fn pfn(&self) -> u64 {
        self.pfn
    }

    /// Forgets the guard and keeps the pin, for [`from_raw`](Self::from_raw). Says which frame it
    /// is.
    pub fn into_raw(mut self) -> u64 {
        if let Some(pin) = self.pin.take() {
            pin.into_raw();
        }
        self.pfn
    }

    /// The guard of a pin that has none. `None` if there is no such frame.
    ///
    /// # Safety
    ///
    /// The pin is the caller's, from one [`into_raw`](Self::into_raw).
    pub unsafe fn from_raw(mm: &'m M, pfn: u64) -> Option<Self> {
        let page = mm.header(pfn)?;
        // SAFETY: the caller's promise.
        Some(Self { mm, pfn, pin: Some(unsafe { PagePin::from_raw(page) }) })
    }
}

impl<M: Mm> Drop for Pinned<'_, M> {
    fn drop(&mut self) {
        let Some(pin) = self.pin.take() else { return };
        // A page that has a pin is not split: it cannot be frozen.
        let head = self.mm.span(self.pfn).head;
        let is_poisoned = pin.page().is_poisoned();
        self.mm.account_pin(head, Change::Put);
        if pin.unpin() == Put::Last && !is_poisoned {
            self.mm.free(head);
        }
    }
}

impl<M: Mm> fmt::Debug for Pinned<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("pfn", &self.pfn).finish_non_exhaustive()
    }
}
