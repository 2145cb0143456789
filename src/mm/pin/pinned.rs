//! A pin that frees its page when it is the last to go.

use crate::mm::Mm;
use crate::mm::ledger::Change;
use crate::refs::{PagePin, Put};
use core::fmt;

/// A page that is pinned. Dropping it unpins, and frees the page if that was the last of its
/// references and pins.
///
/// ```
/// use pagelock::mm::{Access, drain::Unlocked, pin::Term};
/// # let (mm, at) = pagelock_soft::example();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let pinned = mm.pin(at, Access::Read, Term::Long, &mut unlocked).unwrap();
/// assert_eq!(mm.page(pinned.pfn()).unwrap().pins(), 1);
/// mm.unmap(at, 1).unwrap(); // the page stays for the pin
/// let mut bytes = [0; 5];
/// mm.read_frame(pinned.pfn(), 0, &mut bytes);
/// assert_eq!(&bytes, b"hello");
/// ```
#[must_use = "the page is unpinned when this is dropped"]
pub struct Pinned<'m, M: Mm> {
    pub(super) mm: &'m M,
    pub(super) pfn: u64,
    pub(super) pin: Option<PagePin<'m, M::Futex>>,
}

impl<'m, M: Mm> Pinned<'m, M> {
    /// The frame, which it stays in.
    ///
    /// ```
    /// use pagelock::mm::{Access, drain::Unlocked, pin::Term};
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let pinned = mm.pin(at, Access::Read, Term::Short, &mut unlocked).unwrap();
    /// assert_eq!(Some(pinned.pfn()), mm.frame_at(at));
    /// ```
    #[must_use]
    pub fn pfn(&self) -> u64 {
        self.pfn
    }

    /// Forgets the guard and keeps the pin, for [`from_raw`](Self::from_raw). Returns the frame.
    ///
    /// ```
    /// use pagelock::mm::{Access, drain::Unlocked, pin::{Pinned, Term}};
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let pfn = mm.pin(at, Access::Read, Term::Short, &mut unlocked).unwrap().into_raw();
    /// assert_eq!(mm.page(pfn).unwrap().pins(), 1);
    /// // SAFETY: the pin from `into_raw`.
    /// drop(unsafe { Pinned::from_raw(&mm, pfn) });
    /// assert_eq!(mm.page(pfn).unwrap().pins(), 0);
    /// ```
    pub fn into_raw(mut self) -> u64 {
        if let Some(pin) = self.pin.take() {
            pin.into_raw();
        }
        self.pfn
    }

    /// A guard for a pin that [`into_raw`](Self::into_raw) left without one. `None` if there is no
    /// such frame.
    ///
    /// ```
    /// use pagelock::mm::{Access, drain::Unlocked, pin::{Pinned, Term}};
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let pfn = mm.pin(at, Access::Read, Term::Short, &mut unlocked).unwrap().into_raw();
    /// // SAFETY: the pin from `into_raw`.
    /// let pinned = unsafe { Pinned::from_raw(&mm, pfn) }.unwrap();
    /// assert_eq!(pinned.pfn(), pfn);
    /// ```
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
