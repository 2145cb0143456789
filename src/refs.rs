//! References and pins.
//!
//! A **reference** keeps the page's identity: while there is one, the header stands for the same page. A **pin** keeps its place as
//! well: while there is one, the page cannot be migrated, whatever the rule. The kernel has only the first and makes every reference
//! a pin; its developers asked for the difference (pins, not references, should decide whether device memory may move).
//!
//! A page with neither is *free*. Waiters touch the counts at no time: that is the whole point.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | get, pin: compare-exchange | Acquire | activate and thaw (Release): the holder sees the page as it was made or where it was moved to |
//! | put, unpin: subtraction | AcqRel | Release: the freeze and the last put (Acquire) see all that the holder did; Acquire: the last one sees what all others did |
//! | activate: compare-exchange | AcqRel | Release: get and pin; Acquire: the last put of the page's previous life |

use crate::futex::{Futex, OsFutex};
use crate::lock::Released;
use crate::page::PageLock;
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::word::{Count, MAX_PINS, MAX_REFS};
use core::fmt;

impl<F: Futex> PageLock<F> {
    /// The end of a hold whose owner has found the contents lost: no reference and no pin is given any more, from before the page
    /// is released.
    pub(crate) fn poison(&self, migrating: bool) -> Released {
        // Relaxed: the compare-exchange of get and pin fails on the bit itself.
        self.count.fetch_or(Count::FROZEN, Relaxed);
        self.release(migrating, true)
    }

    /// Makes a free page live, with `refs` references. They are the caller's to [put](Self::put_raw) or to
    /// [adopt](PageRef::from_raw).
    ///
    /// Release: whoever gets a reference afterwards sees what the caller did before.
    ///
    /// # Errors
    ///
    /// [`CountError`], with nothing changed: the page is live, frozen or poisoned, or `refs` is 0 or above [`MAX_REFS`]. A page that
    /// is frozen and has references is reported as live.
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
        // AcqRel: Release pairs with the Acquire of get and pin; Acquire with the last put, so that whoever makes the page live
        // again sees what its holders did before.
        match self.count.compare_exchange(0, refs, AcqRel, Relaxed) {
            Ok(_) => Ok(()),
            Err(now) => {
                let seen = Count(now);
                Err(if seen.is_free() { CountError::Frozen } else { CountError::Live { refs: seen.refs(), pins: seen.pins() } })
            }
        }
    }

    /// Takes a reference.
    ///
    /// Succeeds on a page that is locked or migrating; only while its counts are frozen it does not. Acquire.
    ///
    /// # Errors
    ///
    /// [`GetError`], with nothing changed: the page is free, frozen or poisoned, or has [`MAX_REFS`] references.
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
                Ok(_) => return Ok(PageRef { page: self }),
                Err(now) => seen = Count(now),
            }
        }
    }

    /// Pins the page where it is.
    ///
    /// A pin that races the beginning of a migration either fails or is seen by its freeze, which then fails. Acquire.
    ///
    /// # Errors
    ///
    /// [`PinError`], with nothing changed: the page is free, frozen, migrating or poisoned, or has [`MAX_PINS`] pins.
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
                Ok(_) => return Ok(PagePin { page: self }),
                Err(now) => seen = Count(now),
            }
        }
    }

    /// Drops a reference that no [`PageRef`] stands for, such as one of those that [`activate`](Self::activate) made.
    ///
    /// # Safety
    ///
    /// The reference is the caller's. Otherwise somebody's reference ends early, and the page is reused under their hands. A debug
    /// build panics, with nothing changed, if there is none at all; a release build then leaves the counts as they were.
    pub unsafe fn put_raw(&self) -> Put {
        debug_assert!(self.refs() > 0, "put of a page without references: {self:?}");
        self.put()
    }

    /// Drops a pin that no [`PagePin`] stands for.
    ///
    /// # Safety
    ///
    /// As for [`put_raw`](Self::put_raw): the pin is the caller's.
    pub unsafe fn unpin_raw(&self) -> Put {
        debug_assert!(self.pins() > 0, "unpin of a page without pins: {self:?}");
        self.unpin()
    }

    #[inline]
    fn put(&self) -> Put {
        // AcqRel: Release pairs with the Acquire of a freeze, and of the last put; Acquire makes this the last put's other half.
        let held = Count(self.count.fetch_sub(Count::REF, AcqRel));
        if held.refs() == 0 {
            return self.undo(Count::REF);
        }
        Put::of(Count(held.0 - Count::REF))
    }

    #[inline]
    fn unpin(&self) -> Put {
        // Read before: after the subtraction the page may be somebody else's.
        let futex = self.futex;
        // AcqRel: as for `put`.
        let held = Count(self.count.fetch_sub(Count::PIN, AcqRel));
        if held.is_plain_unpin() {
            return Put::of(Count(held.0 - Count::PIN));
        }
        self.unpin_cold(held, futex)
    }

    /// There was no pin to drop, or somebody [waits](crate::Migration::wait_unpinned) for the last. (On a poisoned page, whose counts are
    /// frozen too, nobody does, and is told in vain.)
    #[cold]
    fn unpin_cold(&self, held: Count, futex: F) -> Put {
        if held.pins() == 0 {
            return self.undo(Count::PIN);
        }
        let left = Count(held.0 - Count::PIN);
        if left.pins() == 0 {
            // The address only, as for any release.
            futex.tell_event(self.key());
        }
        Put::of(left)
    }

    /// An unbalanced release was caught: give back what it took.
    #[cold]
    fn undo(&self, amount: u32) -> Put {
        // Relaxed: takes back a step that must not have happened; nothing was released by it.
        self.count.fetch_add(amount, Relaxed);
        debug_assert!(false, "unbalanced release of {self:?}");
        Put::Kept
    }
}

/// What was left after a reference or a pin was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// Others are left.
    Kept,
    /// It was the last of the references and pins: the page is free. Said exactly once, to whoever dropped it.
    ///
    /// A page can become free while somebody owns its lock or migrates it, unless that one has a reference too.
    Last,
}

impl Put {
    pub(crate) fn of(left: Count) -> Self {
        if left.is_free() { Self::Last } else { Self::Kept }
    }
}

/// A reference to a page: it stays the same page while this exists. Dropping it puts the reference.
#[must_use = "the reference is put when this is dropped"]
pub struct PageRef<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> PageRef<'a, F> {
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

    /// Forgets the guard and keeps the reference, for [`from_raw`](Self::from_raw), [`PageLock::put_raw`], or a migration that
    /// moves it.
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
        self.page.put();
    }
}

/// A pin of a page: it stays where it is while this exists. Dropping it unpins.
///
/// A leaked pin keeps the page in its place for ever, which is the safe way to be wrong.
#[must_use = "the page is unpinned when this is dropped"]
pub struct PagePin<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> PagePin<'a, F> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Drops the pin and says whether anything is left.
    pub fn unpin(self) -> Put {
        self.into_raw().unpin()
    }

    /// Forgets the guard and keeps the pin, for [`from_raw`](Self::from_raw) or [`PageLock::unpin_raw`].
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
        self.page.unpin();
    }
}

impl<F: Futex> fmt::Debug for PageRef<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PageRef").field(self.page).finish()
    }
}

impl<F: Futex> fmt::Debug for PagePin<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PagePin").field(self.page).finish()
    }
}

/// Why a page was not made live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CountError {
    /// It is live already.
    Live {
        /// Its references.
        refs: u32,
        /// Its pins.
        pins: u32,
    },
    /// It is frozen by a migration.
    Frozen,
    /// Its contents are lost for good.
    Poisoned,
    /// A live page has at least one reference.
    Zero,
    /// More references than can be counted.
    Overflow {
        /// How many there are.
        have: u32,
        /// How many more were asked for.
        asked: u32,
    },
}

/// Why a reference was not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GetError {
    /// The page is free.
    Free,
    /// A migration has frozen the counts. [Wait](PageLock::wait_migration) and look again.
    Frozen,
    /// The contents are lost for good.
    Poisoned,
    /// It has [`MAX_REFS`] references.
    Overflow,
}

/// Why a pin was not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PinError {
    /// The page is free.
    Free,
    /// A migration has frozen the counts. [Wait](PageLock::wait_migration) and look again.
    Frozen,
    /// The page is being migrated. [Wait](PageLock::wait_migration) and look again.
    Migrating,
    /// The contents are lost for good.
    Poisoned,
    /// It has [`MAX_PINS`] pins.
    Overflow,
}

impl fmt::Display for CountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live { refs, pins } => write!(f, "the page is live already, with {refs} references and {pins} pins"),
            Self::Frozen => f.write_str("the page is frozen by a migration"),
            Self::Poisoned => f.write_str("the page is poisoned"),
            Self::Zero => f.write_str("a live page needs at least one reference, and 0 were asked for"),
            Self::Overflow { have, asked } => {
                write!(f, "{asked} references on top of {have} are more than the {MAX_REFS} that can be counted")
            }
        }
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("the page is free: it has neither references nor pins"),
            Self::Frozen => f.write_str("the page is frozen by a migration"),
            Self::Poisoned => f.write_str("the page is poisoned"),
            Self::Overflow => write!(f, "the page has {MAX_REFS} references, and more cannot be counted"),
        }
    }
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("the page is free: it has neither references nor pins"),
            Self::Frozen => f.write_str("the page is frozen by a migration"),
            Self::Migrating => f.write_str("the page is being migrated"),
            Self::Poisoned => f.write_str("the page is poisoned"),
            Self::Overflow => write!(f, "the page has {MAX_PINS} pins, and more cannot be counted"),
        }
    }
}

impl core::error::Error for CountError {}
impl core::error::Error for GetError {}
impl core::error::Error for PinError {}
