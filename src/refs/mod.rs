//! References and pins.
//!
//! A **reference** keeps the page's identity: while there is one, the header stands for the same
//! page. A **pin** keeps its place as well: while there is one, the page cannot be migrated,
//! whatever the rule. The kernel has only the first and makes every reference a pin; its developers
//! asked for the difference (pins, not references, should decide whether device memory may move).
//!
//! A page with neither is *free*. Waiters never touch the counts: that is the whole point.
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
//! instant, so a freeze never succeeds on a page that is pinned.
//!
//! # Who hears of the last
//!
//! [`PageRef::put`] and [`PagePin::unpin`] answer [`Put::Last`], exactly once for each life of the
//! page. A guard that is simply dropped has no caller to tell, and calls the platform's
//! [`last_put`](Futex::last_put) instead. Code that frees pages by their references acts in both
//! places.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | get, pin: compare-exchange | Acquire | activate and thaw (Release): the holder sees the page as it was made or where it was moved to |
//! | put, unpin: compare-exchange | AcqRel | Release: the freeze and the last put (Acquire) see all that the holder did; Acquire: the last one sees what all others did |
//! | activate: compare-exchange | AcqRel | Release: get and pin; Acquire: the last put of the page's previous life |
//! | unpoison: store | Release | activate (Acquire): the new life sees how the memory was prepared |

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
    /// Makes a free page live, with `refs` references. They are the caller's to
    /// [put](Self::put_raw) or to [adopt](PageRef::from_raw).
    ///
    /// Release: whoever gets a reference afterwards sees what the caller did before.
    ///
    /// # Errors
    ///
    /// [`CountError`], with nothing changed: the page is live, frozen or poisoned, or `refs` is 0
    /// or above [`MAX_REFS`]. A page that is frozen and has references is reported as live.
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
        // whoever makes the page live again sees what its holders did before.
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

    /// Takes a reference.
    ///
    /// Succeeds on a page that is locked or migrating; only while its counts are frozen it does
    /// not. Acquire.
    ///
    /// # Errors
    ///
    /// [`GetError`], with nothing changed: the page is free, frozen or poisoned, or has
    /// [`MAX_REFS`] references.
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

    /// Pins the page where it is.
    ///
    /// A pin that races the beginning of a migration either fails or is seen by its freeze, which
    /// then fails. Acquire.
    ///
    /// # Errors
    ///
    /// [`PinError`], with nothing changed: the page is free, frozen, migrating or poisoned, or has
    /// [`MAX_PINS`](crate::MAX_PINS) pins.
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

    /// Drops a reference that no [`PageRef`] stands for, such as one of those that
    /// [`activate`](Self::activate) made. After a death it gives back what the dead held.
    ///
    /// # Safety
    ///
    /// The reference is raw, and the caller's. Otherwise somebody's reference ends early, and the
    /// page is reused under their hands. If the page has no reference at all, nothing changes: a
    /// debug build panics, a release build answers [`Put::Kept`].
    pub unsafe fn put_raw(&self) -> Put {
        self.put()
    }

    /// [`put_raw`](Self::put_raw) of so many references in one step.
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

    /// Drops a pin that no [`PagePin`] stands for. After a death it gives back what the dead held.
    ///
    /// # Safety
    ///
    /// As for [`put_raw`](Self::put_raw): the pin is raw, and the caller's.
    pub unsafe fn unpin_raw(&self) -> Put {
        self.unpin()
    }

    /// The end of a guard that was dropped: whether it was the last, the platform is told.
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
        // Read before: once the pin is gone the page may be somebody else's.
        let (futex, key) = (self.futex, self.key());
        match self.give_back(Count::minus_pin) {
            Some(left) => {
                // Somebody waits for the last unpin. (Or the page is poisoned, and is told in
                // vain.)
                if left.is_frozen() && left.pins() == 0 {
                    tell_drained(futex, key);
                }
                Put::of(left)
            }
            None => self.unbalanced("unpin of a page without pins"),
        }
    }

    /// Lowers the counts by `fewer`, and says what is left. `None`, with nothing changed, if there
    /// is not so much.
    ///
    /// A compare-exchange and not a subtraction: the word never holds what was not counted, so no
    /// freeze can see it.
    #[inline]
    pub(crate) fn give_back(&self, fewer: impl Fn(Count) -> Option<Count>) -> Option<Count> {
        let mut seen = self.counts();
        loop {
            let left = fewer(seen)?;
            // AcqRel: Release pairs with the Acquire of a freeze, and of the last put; Acquire
            // makes this the last put's other half.
            match self.count.compare_exchange_weak(seen.0, left.0, AcqRel, Relaxed) {
                Ok(_) => return Some(left),
                Err(now) => seen = Count(now),
            }
        }
    }

    /// Somebody broke the promise of an unsafe function. Nothing has changed.
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
#[must_use = "whoever drops the last one is the only one who is told that the page is free"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// Others are left.
    Kept,
    /// It was the last of the references and pins: the page is free. Said exactly once, to whoever
    /// dropped it.
    ///
    /// A page can become free while somebody owns its lock or migrates it, unless that one has a
    /// reference too.
    Last,
}

impl Put {
    pub(crate) fn of(left: Count) -> Self {
        if left.is_free() { Self::Last } else { Self::Kept }
    }
}
