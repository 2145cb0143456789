//! The sequence count by which a reader of page tables knows that what it read was true all at
//! once.
//!
//! Whoever takes away what an entry allows (unmap, protect, move, fork, copy on write, migrate)
//! *invalidates*: announces it, makes the change, and says that it is made. A reader that keeps
//! copies of entries, such as a device with a table of its own, takes a [`Ticket`] when no
//! invalidation is on, reads as long as it likes without keeping anybody out, and finally asks
//! whether the ticket is still good. It is if no invalidation has begun since.
//!
//! ```text
//!  invalidator                             reader
//!  ──────────────────────────────────      ──────────────────────────────────────────
//!  (A) begin: sequence + 1, active + 1     (1) ticket = load sequence, active is 0
//!  (B) change entries, tell the devices    (2) read entries
//!  (C) end: active - 1                     (3) device's lock: is the sequence the
//!                                              ticket's? then use what was read
//! ```
//!
//! * *What a good ticket says*: (2) has seen nothing of any (B) that came after (1), and all of
//!   every (B) that was over by then. Had (2) seen a change, then by the fences at (A) and (3), (3)
//!   would see (A). By the Acquire at (1), which pairs with (C), the reader sees what was over.
//! * *What it does not say*: that an invalidation does not begin right after (3). So (B) includes
//!   telling the device, and the device's lock decides: an invalidator that comes to it after the
//!   reader finds the reader's copy, and takes it away; a reader that comes to it after the
//!   invalidator sees (A) at (3).
//!
//! This is `mmu_interval_read_begin` and `mmu_interval_read_retry`, with an end to the wait: a
//! reader that finds an invalidation under way sleeps, as whoever waits for a page does, until it
//! is over, or until its time is.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | begin (A): compare-exchange | Acquire | earlier ends |
//! | begin (A): fence | Release | fence at (3): a reader of a change sees the beginning |
//! | end (C): compare-exchange | Release | (1), and begin: all changes are made |
//! | ticket (1): load | Acquire | (C) |
//! | check (3): fence, load | Acquire, Relaxed | fence at (A) |
//! | WAITERS: compare-exchange | Relaxed | the word's order, as for a [wait](crate::wait) |

use super::Invalidation;
use crate::futex::{Futex, FutexTimed, OsFutex};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU32, const_unless_loom, fence};
use crate::wait::{Limits, Registered, Wake};
use core::fmt;

/// A reader sleeps until the last invalidation is over.
const WAITERS: u32 = 1 << ACTIVE_BITS;
const ACTIVE_BITS: u32 = if cfg!(pagelock_loom) { 1 } else { 8 };
/// The most invalidations at a time; one more waits until there are fewer.
const MAX_ACTIVE: u32 = WAITERS - 1;
const BEGUN: u32 = WAITERS << 1;

/// Counts invalidations of some range of page tables: a whole address space, or the part that one
/// device mirrors.
///
/// Four bytes, all zero when nothing was ever invalidated. A ticket could be taken for good by
/// mistake if exactly 2^23 invalidations, or a multiple of that, began between its being taken and
/// its being checked.
///
/// # Example
///
/// ```
/// use pagelock::mm::range::Notifier;
/// use pagelock::Limits;
///
/// static NOTIFIER: Notifier = Notifier::new();
/// let ticket = NOTIFIER.ticket(Limits::none()).unwrap();
/// // ... read entries ...
/// assert!(NOTIFIER.is_good(ticket));
///
/// let invalidation = NOTIFIER.begin();
/// assert!(!NOTIFIER.is_good(ticket));
/// assert!(NOTIFIER.try_ticket().is_none());
/// drop(invalidation);
/// assert!(!NOTIFIER.is_good(ticket)); // for good
/// ```
pub struct Notifier<F: Futex = OsFutex> {
    word: AtomicU32,
    pub(super) futex: F,
}

/// A reader's ticket, from before it read. Good as long as no invalidation has begun since.
///
/// ```
/// use pagelock::mm::range::Notifier;
/// let notifier = Notifier::new();
/// let ticket = notifier.try_ticket().unwrap();
/// assert!(notifier.is_good(ticket));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "what was read is of no use until the ticket was found to be good"]
pub struct Ticket(u32);

impl Notifier<OsFutex> {
    const_unless_loom! {
        /// A notifier of a range that was never invalidated.
        ///
        /// ```
        /// use pagelock::mm::range::Notifier;
        /// static NOTIFIER: Notifier = Notifier::new();
        /// assert_eq!(NOTIFIER.active(), 0);
        /// ```
        #[must_use]
        pub fn new() -> Self {
            Self::with_futex(OsFutex)
        }
    }
}

impl<F: Futex> Notifier<F> {
    const_unless_loom! {
        /// The same, on platform `futex`.
        ///
        /// ```
        /// use pagelock::futex::SpinFutex;
        /// use pagelock::mm::range::Notifier;
        /// static NOTIFIER: Notifier<SpinFutex> = Notifier::with_futex(SpinFutex);
        /// assert!(NOTIFIER.try_ticket().is_some());
        /// ```
        #[must_use]
        pub fn with_futex(futex: F) -> Self {
            Self { word: AtomicU32::new(0), futex }
        }
    }

    /// (A): an invalidation begins. It is over when the guard is dropped.
    ///
    /// Do not wait for a ticket on the same thread meanwhile: that would wait for itself.
    ///
    /// ```
    /// use pagelock::mm::range::Notifier;
    /// let notifier = Notifier::new();
    /// let invalidation = notifier.begin();
    /// // ... change entries, tell the devices ...
    /// drop(invalidation);
    /// assert_eq!(notifier.active(), 0);
    /// ```
    pub fn begin(&self) -> Invalidation<'_, F> {
        self.begin_raw();
        Invalidation::of(self)
    }

    /// [`begin`](Self::begin) without a guard; [`end_raw`](Self::end_raw) ends it.
    ///
    /// ```
    /// use pagelock::mm::range::Notifier;
    /// let notifier = Notifier::new();
    /// notifier.begin_raw();
    /// assert_eq!(notifier.active(), 1);
    /// notifier.end_raw();
    /// ```
    pub fn begin_raw(&self) {
        self.begin_numbered();
    }

    /// The same. Returns the invalidation's number.
    pub(super) fn begin_numbered(&self) -> u32 {
        // Relaxed: a look.
        let mut seen = self.word.load(Relaxed);
        loop {
            if active(seen) == MAX_ACTIVE {
                // More at a time than there are processors; one of them will be over.
                self.futex.relax();
                seen = self.word.load(Relaxed);
                continue;
            }
            // Acquire: what follows comes after the changes of earlier invalidations. The sequence
            // wraps around off the end.
            match self.word.compare_exchange_weak(
                seen,
                seen.wrapping_add(BEGUN) + 1,
                Acquire,
                Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        // Release: a reader that sees a change made from here on, and then fences, sees the
        // sequence as it is now.
        fence(Release);
        sequence(seen.wrapping_add(BEGUN))
    }

    /// The latest invalidation's number, as a ticket. Relaxed: for a caller that has fenced.
    pub(super) fn now(&self) -> Ticket {
        Ticket(sequence(self.word.load(Relaxed)))
    }

    /// How many invalidations have begun from `ticket` to `now`.
    pub(super) fn between(ticket: Ticket, now: Ticket) -> u32 {
        now.0.wrapping_sub(ticket.0) & (u32::MAX / BEGUN)
    }

    /// The number of the `n`th invalidation after `ticket`.
    pub(super) fn after(ticket: Ticket, n: u32) -> u32 {
        ticket.0.wrapping_add(n) & (u32::MAX / BEGUN)
    }

    /// (C): an invalidation is over. One that was not begun is not ended.
    ///
    /// ```
    /// use pagelock::mm::range::Notifier;
    /// let notifier = Notifier::new();
    /// notifier.begin_raw();
    /// notifier.end_raw();
    /// assert!(notifier.try_ticket().is_some());
    /// ```
    ///
    /// # Panics
    ///
    /// In debug builds, if none was begun.
    pub fn end_raw(&self) {
        let mut seen = self.word.load(Relaxed);
        let is_awaited = loop {
            if active(seen) == 0 {
                debug_assert!(false, "the end of an invalidation that was not begun: {self:?}");
                return;
            }
            let left = seen - 1;
            // The last one tells all waiters; the next to come set the flag anew.
            let next = if active(left) == 0 { left & !WAITERS } else { left };
            // Release: see the table.
            match self.word.compare_exchange_weak(seen, next, Release, Relaxed) {
                Ok(_) => break left & WAITERS != next & WAITERS,
                Err(now) => seen = now,
            }
        };
        if is_awaited {
            self.futex.tell_event(self.key());
        }
    }

    /// (1): a ticket, if no invalidation is on.
    ///
    /// ```
    /// use pagelock::mm::range::Notifier;
    /// let notifier = Notifier::new();
    /// let invalidation = notifier.begin();
    /// assert!(notifier.try_ticket().is_none());
    /// # drop(invalidation);
    /// ```
    pub fn try_ticket(&self) -> Option<Ticket> {
        // Acquire: pairs with the end of whatever came before.
        let seen = self.word.load(Acquire);
        (active(seen) == 0).then_some(Ticket(sequence(seen)))
    }

    /// A ticket, as soon as no invalidation is on. The caller holds no page-table lock: an
    /// invalidator may need it.
    ///
    /// ```
    /// use pagelock::futex::MonotonicTime;
    /// use pagelock::mm::range::Notifier;
    /// use pagelock::{Limits, Wake};
    /// let notifier = Notifier::new();
    /// let invalidation = notifier.begin();
    /// let soon = Limits::none().until(MonotonicTime::now());
    /// assert_eq!(notifier.ticket(soon), Err(Wake::TimedOut));
    /// drop(invalidation);
    /// assert!(notifier.ticket(Limits::none()).is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// [`Wake::TimedOut`] or [`Wake::Cancelled`], within `limits`.
    pub fn ticket(&self, limits: Limits<'_, F>) -> Result<Ticket, Wake>
    where
        F: FutexTimed,
    {
        loop {
            if let Some(ticket) = self.try_ticket() {
                return Ok(ticket);
            }
            self.wait(&limits)?;
        }
    }

    /// (3): whether no invalidation has begun since the ticket was taken. If so, everything that
    /// was read meanwhile was true all at once.
    ///
    /// A caller that goes on to use the findings asks with the lock held that invalidators take
    /// when they tell it.
    ///
    /// ```
    /// use pagelock::mm::range::Notifier;
    /// let notifier = Notifier::new();
    /// let ticket = notifier.try_ticket().unwrap();
    /// drop(notifier.begin());
    /// assert!(!notifier.is_good(ticket));
    /// ```
    #[must_use]
    pub fn is_good(&self, ticket: Ticket) -> bool {
        // Acquire: pairs with the fence of an invalidator whose change was read.
        fence(Acquire);
        // Relaxed: the fence is before it.
        sequence(self.word.load(Relaxed)) == ticket.0
    }

    /// How many invalidations are on. For tests and watchdogs.
    ///
    /// ```
    /// use pagelock::mm::range::Notifier;
    /// let notifier = Notifier::new();
    /// let both = (notifier.begin(), notifier.begin());
    /// assert_eq!(notifier.active(), 2);
    /// # drop(both);
    /// ```
    #[must_use]
    pub fn active(&self) -> u32 {
        active(self.word.load(Relaxed))
    }

    /// Sleeps until the last of the invalidations is over: steps (1) to (4) of a
    /// [wait](crate::wait), with WAITERS for the flag.
    fn wait(&self, limits: &Limits<'_, F>) -> Result<(), Wake>
    where
        F: FutexTimed,
    {
        let ready = Registered::read(self.futex, self.key());
        // Relaxed: a look, which the compare-exchange confirms.
        let seen = self.word.load(Relaxed);
        // Relaxed: the order of this and the end is the word's modification order.
        if active(seen) == 0
            || self.word.compare_exchange(seen, seen | WAITERS, Relaxed, Relaxed).is_err()
        {
            return Ok(());
        }
        match ready.sleep(limits) {
            Wake::Released => Ok(()),
            cut_short => Err(cut_short),
        }
    }

    /// The address that stands for the notifier in the event table.
    fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}

const fn active(word: u32) -> u32 {
    word & MAX_ACTIVE
}

const fn sequence(word: u32) -> u32 {
    word / BEGUN
}

impl<F: Futex + Default> Default for Notifier<F> {
    fn default() -> Self {
        Self::with_futex(F::default())
    }
}

impl<F: Futex> fmt::Debug for Notifier<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: a look.
        let seen = self.word.load(Relaxed);
        f.debug_struct("Notifier")
            .field("sequence", &sequence(seen))
            .field("active", &active(seen))
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(pagelock_loom)))]
mod tests {
    use super::*;

    /// Neither the number of invalidations at a time nor the sequence runs into its neighbour.
    #[test]
    fn the_fields_keep_to_themselves() {
        let notifier = Notifier::new();
        notifier.word.store(0_u32.wrapping_sub(BEGUN), Relaxed); // the last sequence there is
        let ticket = notifier.try_ticket().unwrap();
        for n in 1..=MAX_ACTIVE {
            notifier.begin_raw();
            assert_eq!(notifier.active(), n);
            assert!(notifier.try_ticket().is_none());
        }
        for _ in 0..MAX_ACTIVE {
            notifier.end_raw();
        }
        assert_eq!(notifier.word.load(Relaxed), (MAX_ACTIVE - 1) * BEGUN);
        assert!(!notifier.is_good(ticket) && notifier.try_ticket().is_some());
    }
}
