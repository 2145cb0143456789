//! References and pins.
//!
//! A **reference** keeps the page's identity: while there is one, the header stands for the same
//! page. A **pin** keeps its place as well: while there is one, the page cannot be migrated,
//! whatever the rule. The kernel has one count for both, so that every reference is a pin; its
//! developers asked for the difference (pins, not references, should decide whether device memory
//! may move).
//!
//! A page with neither is *free*. Waiters never touch the counts: that is the point of this crate.
//!
//! # Guards and raw references
//!
//! [`PageRef`] and [`PagePin`] each stand for one count and give it back when dropped. Safe code
//! cannot make one that stands for nothing, and cannot take away the count of one that exists.
//! Counts without a guard are *raw*: those that [`activate`](PageLock::activate) makes and those
//! that `into_raw` leaves behind. Whatever consumes a raw count is `unsafe`, because the caller
//! vouches for it: `put_raw`, `unpin_raw`, `from_raw`, and [moving
//! references](crate::Frozen::commit_to_moving) to another header.
//!
//! If that promise is broken and there is nothing to give back, nothing changes: a debug build
//! panics, a release build leaves the word as it was. A put never borrows from the pins, not for an
//! instant, so a freeze never succeeds on a pinned page.
//!
//! # The last reference
//!
//! [`PageRef::put`] and [`PagePin::unpin`] return [`Put::Last`], exactly once for each life of the
//! page. A guard that is simply dropped has no caller to tell, and calls the platform's
//! [`last_put`](Futex::last_put) instead. Code that frees pages by their references must act in
//! both places.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | get, pin: compare-exchange | Acquire | activate and thaw (Release) |
//! | put, unpin: compare-exchange | Release | the freeze and the last put (Acquire) |
//! | | and Acquire | the puts and unpins before (Release) |
//! | activate: compare-exchange | Release | get and pin (Acquire) |
//! | | and Acquire | the last put of the page's previous life (Release) |
//! | unpoison: store | Release | activate (Acquire) |
//!
//! A new holder sees the page as it was made, or where it was moved to. The freeze and the last put
//! see all that earlier holders did. A new life sees how the memory was prepared for it.

mod errors;
mod guard;
mod poison;

pub use errors::{CountError, GetError, PinError};
pub use guard::{PagePin, PageRef};

use crate::futex::Futex;
use crate::page::PageLock;
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::word::{Count, MAX_REFS};

impl<F: Futex> PageLock<F> {
    /// Makes a free page live, with `refs` references. The caller must later
    /// [put](Self::put_raw) them, or [adopt](PageRef::from_raw) them as guards.
    ///
    /// Linux does this where a page leaves the allocator (`set_page_refcounted`). It is not Linux's
    /// `folio_activate`, which moves a page to the active list for reclaim.
    ///
    /// Release: a thread that gets a reference afterwards sees what the caller did before.
    ///
    /// # Errors
    ///
    /// [`CountError`], with nothing changed: the page is live, frozen or poisoned, or `refs` is 0
    /// or above [`MAX_REFS`]. A page that is frozen and has references is reported as live.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{CountError, PageLock};
    ///
    /// let page = PageLock::new();
    /// assert_eq!(page.activate(0), Err(CountError::Zero));
    /// page.activate(2).unwrap(); // one for each of two page-table entries
    /// assert_eq!(page.activate(1), Err(CountError::Live { refs: 2, pins: 0 }));
    /// ```
    pub fn activate(&self, refs: u32) -> Result<(), CountError> {
        if refs == 0 {
            return Err(CountError::Zero);
        }
        if refs > MAX_REFS {
            return Err(CountError::Overflow { have: 0, asked: refs });
        }
        if self.is_poisoned() {
            return Err(CountError::Poisoned);
        }
        // AcqRel: Release pairs with the Acquire of get and pin; Acquire with the last put, so that
        // the caller sees what the holders of the page's previous life did.
        match self.count.compare_exchange(0, refs, AcqRel, Relaxed) {
            Ok(_) => Ok(()),
            Err(now) => {
                let seen = Count(now);
                Err(if seen.is_free() {
                    CountError::Frozen
                } else {
                    CountError::Live { refs: seen.refs(), pins: seen.pins() }
                })
            }
        }
    }

    /// Takes a reference (Linux: `folio_try_get`).
    ///
    /// Succeeds on a page that is locked or migrating, but not while its counts are frozen.
    /// Acquire.
    ///
    /// # Errors
    ///
    /// [`GetError`], with nothing changed: the page is free, frozen or poisoned, or has
    /// [`MAX_REFS`] references.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{GetError, PageLock};
    ///
    /// let page = PageLock::new();
    /// assert_eq!(page.try_get().unwrap_err(), GetError::Free);
    /// page.activate(1).unwrap();
    /// let reference = page.try_get().unwrap();
    /// assert_eq!(page.refs(), 2);
    /// # drop(reference);
    /// ```
    #[inline]
    pub fn try_get(&self) -> Result<PageRef<'_, F>, GetError> {
        let mut seen = self.counts();
        loop {
            if seen.is_frozen() {
                return Err(if self.is_poisoned() { GetError::Poisoned } else { GetError::Frozen });
            }
            if seen.is_free() {
                return Err(GetError::Free);
            }
            let next = seen.plus_refs(1).ok_or(GetError::Overflow)?;
            // Acquire: pairs with the Release of activate and thaw.
            match self.count.compare_exchange_weak(seen.0, next.0, Acquire, Relaxed) {
                Ok(_) => return Ok(PageRef::counted(self)),
                Err(now) => seen = Count(now),
            }
        }
    }

    /// Pins the page where it is (Linux: `pin_user_pages`, for one page).
    ///
    /// A pin that races the beginning of a migration either fails or is seen by its freeze, which
    /// then fails. Acquire.
    ///
    /// # Errors
    ///
    /// [`PinError`], with nothing changed: the page is free, frozen, migrating or poisoned, or has
    /// [`MAX_PINS`](crate::MAX_PINS) pins.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock, PinError};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let pin = page.try_pin().unwrap(); // a device reads or writes the page
    /// let migration = page.lock().begin_migration();
    /// assert_eq!(page.try_pin().unwrap_err(), PinError::Migrating);
    /// assert!(migration.freeze(FreezeRule::Unpinned).is_err());
    /// # drop(pin);
    /// ```
    #[inline]
    pub fn try_pin(&self) -> Result<PagePin<'_, F>, PinError> {
        let mut seen = self.counts();
        loop {
            if seen.is_frozen() {
                return Err(if self.is_poisoned() { PinError::Poisoned } else { PinError::Frozen });
            }
            if self.is_migrating() {
                return Err(PinError::Migrating);
            }
            if seen.is_free() {
                return Err(PinError::Free);
            }
            let next = seen.plus_pin().ok_or(PinError::Overflow)?;
            // Acquire: pairs with the Release of activate and thaw.
            match self.count.compare_exchange_weak(seen.0, next.0, Acquire, Relaxed) {
                Ok(_) => return Ok(PagePin::counted(self)),
                Err(now) => seen = Count(now),
            }
        }
    }

    /// Drops a reference without a [`PageRef`], such as one that [`activate`](Self::activate) made.
    /// After a death it gives back a reference of the dead process.
    ///
    /// # Safety
    ///
    /// The reference is raw, and the caller's. Otherwise another holder's reference ends early, and
    /// the page is reused while that holder uses it. If the page has no reference at all, nothing
    /// changes, and a release build returns [`Put::Kept`].
    ///
    /// # Panics
    ///
    /// In a debug build, with nothing changed, if the page has no reference.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{PageLock, Put};
    ///
    /// let page = PageLock::new();
    /// page.activate(2).unwrap();
    /// // SAFETY: the two references are those that `activate` made.
    /// unsafe {
    ///     assert_eq!(page.put_raw(), Put::Kept);
    ///     assert_eq!(page.put_raw(), Put::Last);
    /// }
    /// ```
    pub unsafe fn put_raw(&self) -> Put {
        self.put()
    }

    /// [`put_raw`](Self::put_raw) of `refs` references in one step.
    ///
    /// # Safety
    ///
    /// All of them are raw, and the caller's.
    pub(crate) unsafe fn put_raw_all(&self, refs: u32) -> Put {
        match self.give_back(|seen| seen.minus_refs(refs)) {
            Some(left) => Put::of(left),
            None => self.unbalanced("put of more references than the page has"),
        }
    }

    /// Drops a pin without a [`PagePin`]. After a death it gives back a pin of the dead process.
    ///
    /// # Safety
    ///
    /// As for [`put_raw`](Self::put_raw): the pin is raw, and the caller's.
    ///
    /// # Panics
    ///
    /// In a debug build, with nothing changed, if the page has no pin.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// page.try_pin().unwrap().into_raw(); // handed to a device
    /// // ... the device is done.
    /// // SAFETY: the pin is the one of the line above.
    /// let _ = unsafe { page.unpin_raw() };
    /// assert_eq!(page.pins(), 0);
    /// ```
    pub unsafe fn unpin_raw(&self) -> Put {
        self.unpin()
    }

    /// The end of a guard that was dropped: tells the platform if it was the last.
    #[inline]
    fn dropped(&self, give_back: impl FnOnce(&Self) -> Put) {
        // Read before, as in `unpin`.
        let (futex, key) = (self.futex, self.key());
        if give_back(self) == Put::Last {
            futex.last_put(key);
        }
    }

    #[inline]
    fn put(&self) -> Put {
        match self.give_back(|seen| seen.minus_refs(1)) {
            Some(left) => Put::of(left),
            None => self.unbalanced("put of a page without references"),
        }
    }

    #[inline]
    fn unpin(&self) -> Put {
        // Read before: once the pin is gone, so may the page be.
        let (futex, key) = (self.futex, self.key());
        match self.give_back(Count::minus_pin) {
            Some(left) => {
                // A migrator waits for the last unpin. (Or the page is poisoned: a needless tell.)
                if left.is_frozen() && left.pins() == 0 {
                    tell_drained(futex, key);
                }
                Put::of(left)
            }
            None => self.unbalanced("unpin of a page without pins"),
        }
    }

    /// Lowers the counts by `fewer`, and returns what is left. `None`, with nothing changed, if the
    /// counts are too low.
    ///
    /// A compare-exchange and not a subtraction: the word never holds a wrong count for a freeze to
    /// see.
    #[inline]
    pub(crate) fn give_back(&self, fewer: impl Fn(Count) -> Option<Count>) -> Option<Count> {
        let mut seen = self.counts();
        loop {
            let left = fewer(seen)?;
            // AcqRel: Release pairs with the Acquire of a freeze and of the last put; Acquire with
            // the Release of earlier puts, if this is the last.
            match self.count.compare_exchange_weak(seen.0, left.0, AcqRel, Relaxed) {
                Ok(_) => return Some(left),
                Err(now) => seen = Count(now),
            }
        }
    }

    /// A caller broke the promise of an unsafe function. Nothing has changed.
    #[cold]
    fn unbalanced(&self, what: &str) -> Put {
        debug_assert!(false, "{what}: {self:?}");
        Put::Kept
    }
}

/// The last pin of a frozen page is gone. `key` is an address only, as for any release.
#[cold]
fn tell_drained<F: Futex>(futex: F, key: usize) {
    futex.tell_event(key);
}

/// What was left after a reference or a pin was dropped.
#[must_use = "only the caller that drops the last one learns that the page is free"]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Put {
    /// Others are left.
    Kept,
    /// It was the last of the references and pins: the page is free. Only the call that dropped it
    /// returns this.
    ///
    /// A page can become free while a thread owns its lock or migrates it, unless that thread has a
    /// reference too.
    Last,
}

impl Put {
    pub(crate) fn of(left: Count) -> Self {
        if left.is_free() { Self::Last } else { Self::Kept }
    }
}
