//! References and pins as values that give back what they stand for.

use super::{GetError, Put};
use crate::futex::{Futex, OsFutex};
use crate::page::PageLock;

/// A reference to a page: it stays the same page while this exists. Dropping it puts the reference;
/// if that was the last, the platform's [`last_put`](Futex::last_put) is called.
#[must_use = "the reference is put when this is dropped"]
pub struct PageRef<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> PageRef<'a, F> {
    /// The guard of a reference that was counted just now.
    pub(super) const fn counted(page: &'a PageLock<F>) -> Self {
        Self { page }
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Another reference, for somebody else.
    ///
    /// # Errors
    ///
    /// As [`PageLock::try_get`]: the page may be frozen while references to it exist.
    pub fn try_clone(&self) -> Result<Self, GetError> {
        self.page.try_get()
    }

    /// Drops the reference and says whether it was the last.
    pub fn put(self) -> Put {
        self.into_raw().put()
    }

    /// Forgets the guard and keeps the reference, for [`from_raw`](Self::from_raw),
    /// [`PageLock::put_raw`], or [a commit](crate::Frozen::commit_to_moving) that moves it.
    pub fn into_raw(self) -> &'a PageLock<F> {
        let page = self.page;
        core::mem::forget(self);
        page
    }

    /// The guard of a reference that has none.
    ///
    /// # Safety
    ///
    /// The reference is the caller's, as for [`PageLock::put_raw`].
    pub unsafe fn from_raw(page: &'a PageLock<F>) -> Self {
        debug_assert!(page.refs() > 0, "from_raw of a page without references: {page:?}");
        Self { page }
    }
}

impl<F: Futex> Drop for PageRef<'_, F> {
    #[inline]
    fn drop(&mut self) {
        self.page.dropped(PageLock::put);
    }
}

/// A pin of a page: it stays where it is while this exists. Dropping it unpins; if nothing
/// else is left, the platform's [`last_put`](Futex::last_put) is called.
///
/// A leaked pin keeps the page in its place for ever, which is the safe way to be wrong.
#[must_use = "the page is unpinned when this is dropped"]
pub struct PagePin<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> PagePin<'a, F> {
    /// The guard of a pin that was counted just now.
    pub(super) const fn counted(page: &'a PageLock<F>) -> Self {
        Self { page }
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Drops the pin and says whether anything is left.
    pub fn unpin(self) -> Put {
        self.into_raw().unpin()
    }

    /// Forgets the guard and keeps the pin, for [`from_raw`](Self::from_raw) or
    /// [`PageLock::unpin_raw`].
    pub fn into_raw(self) -> &'a PageLock<F> {
        let page = self.page;
        core::mem::forget(self);
        page
    }

    /// The guard of a pin that has none.
    ///
    /// # Safety
    ///
    /// The pin is the caller's, as for [`PageLock::unpin_raw`].
    pub unsafe fn from_raw(page: &'a PageLock<F>) -> Self {
        debug_assert!(page.pins() > 0, "from_raw of a page without pins: {page:?}");
        Self { page }
    }
}

impl<F: Futex> Drop for PagePin<'_, F> {
    #[inline]
    fn drop(&mut self) {
        self.page.dropped(PageLock::unpin);
    }
}
