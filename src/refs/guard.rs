//! References and pins as guards that give back their count.

use super::{GetError, Put};
use crate::futex::{Futex, OsFutex};
use crate::page::PageLock;

/// A reference to a page, which stays the same page while this exists. Dropping it puts the
/// reference, and calls the platform's [`last_put`](Futex::last_put) if that was the last.
#[must_use = "the reference is put when this is dropped"]
pub struct PageRef<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> PageRef<'a, F> {
    /// The guard of a reference that the caller has just counted.
    pub(super) const fn counted(page: &'a PageLock<F>) -> Self {
        Self { page }
    }

    /// Returns the page.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let reference = page.try_get().unwrap();
    /// assert!(std::ptr::eq(reference.page(), &page));
    /// ```
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Takes another reference to the page.
    ///
    /// # Errors
    ///
    /// As [`PageLock::try_get`]: the page may be frozen while references to it exist.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let one = page.try_get().unwrap();
    /// let another = one.try_clone().unwrap();
    /// assert_eq!(page.refs(), 3);
    /// # drop((one, another));
    /// ```
    pub fn try_clone(&self) -> Result<Self, GetError> {
        self.page.try_get()
    }

    /// Drops the reference and returns whether it was the last (Linux: `folio_put`).
    ///
    /// ```
    /// use pagelock::{PageLock, PageRef, Put};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// // SAFETY: the reference is the one that `activate` made.
    /// let first = unsafe { PageRef::from_raw(&page) };
    /// let second = first.try_clone().unwrap();
    /// assert_eq!(second.put(), Put::Kept);
    /// assert_eq!(first.put(), Put::Last);
    /// ```
    pub fn put(self) -> Put {
        self.into_raw().put()
    }

    /// Forgets the guard and keeps the reference, for [`from_raw`](Self::from_raw),
    /// [`PageLock::put_raw`], or [a commit](crate::Frozen::commit_to_moving) that moves it.
    ///
    /// ```
    /// use pagelock::{PageLock, PageRef};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// page.try_get().unwrap().into_raw(); // belongs to a page-table entry now
    /// assert_eq!(page.refs(), 2);
    /// // SAFETY: the reference is the one that the entry had.
    /// drop(unsafe { PageRef::from_raw(&page) });
    /// assert_eq!(page.refs(), 1);
    /// ```
    pub fn into_raw(self) -> &'a PageLock<F> {
        let page = self.page;
        core::mem::forget(self);
        page
    }

    /// Makes the guard of a reference that has none.
    ///
    /// # Safety
    ///
    /// The reference is the caller's, as for [`PageLock::put_raw`].
    ///
    /// # Panics
    ///
    /// In a debug build, if the page has no references.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{PageLock, PageRef, Put};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// // SAFETY: the reference is the one that `activate` made.
    /// let reference = unsafe { PageRef::from_raw(&page) };
    /// assert_eq!(reference.put(), Put::Last);
    /// ```
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

/// A pin of a page, which stays where it is while this exists. Dropping it unpins, and calls the
/// platform's [`last_put`](Futex::last_put) if no reference or pin is left.
///
/// A leaked pin keeps the page in its place for ever, which is the safe failure.
#[must_use = "the page is unpinned when this is dropped"]
pub struct PagePin<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> PagePin<'a, F> {
    /// The guard of a pin that the caller has just counted.
    pub(super) const fn counted(page: &'a PageLock<F>) -> Self {
        Self { page }
    }

    /// Returns the page.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let pin = page.try_pin().unwrap();
    /// assert!(std::ptr::eq(pin.page(), &page));
    /// ```
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Drops the pin and returns whether references or other pins are left.
    ///
    /// ```
    /// use pagelock::{PageLock, Put};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let pin = page.try_pin().unwrap();
    /// assert_eq!(pin.unpin(), Put::Kept); // the reference
    /// ```
    pub fn unpin(self) -> Put {
        self.into_raw().unpin()
    }

    /// Forgets the guard and keeps the pin, for [`from_raw`](Self::from_raw) or
    /// [`PageLock::unpin_raw`].
    ///
    /// ```
    /// use pagelock::{PageLock, PagePin};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// page.try_pin().unwrap().into_raw(); // handed to a device
    /// // ... the device is done.
    /// // SAFETY: the pin is the one of the line above.
    /// drop(unsafe { PagePin::from_raw(&page) });
    /// assert_eq!(page.pins(), 0);
    /// ```
    pub fn into_raw(self) -> &'a PageLock<F> {
        let page = self.page;
        core::mem::forget(self);
        page
    }

    /// Makes the guard of a pin that has none.
    ///
    /// # Safety
    ///
    /// The pin is the caller's, as for [`PageLock::unpin_raw`].
    ///
    /// # Panics
    ///
    /// In a debug build, if the page has no pins.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{PageLock, PagePin};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let raw = page.try_pin().unwrap().into_raw();
    /// // SAFETY: the pin is the one of the line above.
    /// let pin = unsafe { PagePin::from_raw(raw) };
    /// # drop(pin);
    /// ```
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
