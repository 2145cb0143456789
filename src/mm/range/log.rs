//! The parts of a notifier's range that the latest invalidations were for, so that a reader of
//! another part is not disturbed.
//!
//! A notifier counts the invalidations of all its range. By that alone, one page that moves every
//! millisecond keeps a reader of a million others from ever finishing. A log beside it has the
//! ranges of the latest invalidations, by their sequence numbers, and a reader whose pages are
//! elsewhere goes on as if they had not been.
//!
//! Each place of the log is a sequence lock for one number: one writer has the place to itself, and
//! a reader that finds the same number before and after has the range of that number. Nobody waits:
//! a writer that finds another one there leaves its own range out, and a reader that does not find
//! a number takes it for an invalidation of everything.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | number: a write's last store | Release | the next row |
//! | number: a reader's first load | Acquire | who finds it finds its range, or a later one |
//! | number: swap | Acquire | the last writer's store: this range comes after that one |
//! | fence after the swap | Release | the next row |
//! | fence before a reader's second load | Acquire | a later range's word: the number is gone |
//! | fence at the beginning of `keeps` | Acquire | [`Notifier::begin`]'s, as for `is_good` |

use super::notifier::{Notifier, Ticket};
use crate::futex::Futex;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU32, const_unless_loom, fence};
use core::ops::Range;

/// How many invalidations the log remembers. In a model the second takes the place of the first.
const RECENT: usize = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 16 };

/// A writer is at work. Not a number: those have 23 bits.
const BUSY: u32 = u32::MAX;

/// The ranges of the latest invalidations of one notifier, in numbers of the caller's: of pages,
/// say.
///
/// Numbers come again after 2^23 invalidations, as the [notifier](Notifier) says of tickets. So a
/// range that is that old, and whose place no later one has taken, could be taken for the range of
/// an invalidation that was begun without the log.
///
/// ```
/// use pagelock::mm::range::{Log, Notifier};
/// static NOTIFIER: Notifier = Notifier::new();
/// static LOG: Log = Log::new();
/// let mut ticket = NOTIFIER.try_ticket().unwrap();
/// LOG.begin_raw(&NOTIFIER, 10..20);
/// NOTIFIER.end_raw();
/// assert!(!NOTIFIER.is_good(ticket));
/// assert!(LOG.keeps(&NOTIFIER, &mut ticket, &(0..10))); // for these pages it still is
/// ```
#[derive(Debug)]
pub struct Log {
    recent: [Place; RECENT],
}

#[derive(Debug)]
struct Place {
    /// One more than the sequence number; 0 while there is none, [`BUSY`] while the range is
    /// written.
    number: AtomicU32,
    first: Wide,
    end: Wide,
}

/// A number of the caller's: its lower and its upper half. A read during a write gives neither the
/// old number nor the new one.
#[derive(Debug)]
struct Wide(AtomicU32, AtomicU32);

impl Wide {
    const_unless_loom! {
        fn new() -> Self {
            Self(AtomicU32::new(0), AtomicU32::new(0))
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "that is how it is cut in two")]
    fn write(&self, value: usize) {
        let Self(low, high) = self;
        // Relaxed, twice: the number orders them.
        low.store(value as u32, Relaxed);
        high.store((value as u64 >> 32) as u32, Relaxed);
    }

    #[expect(clippy::cast_possible_truncation, reason = "it was a usize")]
    fn read(&self) -> usize {
        let Self(low, high) = self;
        // Relaxed, twice: the number orders them.
        (u64::from(high.load(Relaxed)) << 32 | u64::from(low.load(Relaxed))) as usize
    }
}

impl Place {
    const_unless_loom! {
        fn new() -> Self {
            Self { number: AtomicU32::new(0), first: Wide::new(), end: Wide::new() }
        }
    }
}

impl Log {
    const_unless_loom! {
        /// A log that knows of no invalidation.
        ///
        /// ```
        /// use pagelock::mm::range::Log;
        /// static LOG: Log = Log::new();
        /// # let _ = &LOG;
        /// ```
        #[must_use]
        pub fn new() -> Self {
            #[cfg(not(pagelock_loom))]
            let recent = [const { Place::new() }; RECENT];
            #[cfg(pagelock_loom)]
            let recent = core::array::from_fn(|_| Place::new());
            Self { recent }
        }
    }

    /// [`Notifier::begin_raw`] for `range`; [`Notifier::end_raw`] ends it.
    ///
    /// ```
    /// use pagelock::mm::range::{Log, Notifier};
    /// let (notifier, log) = (Notifier::new(), Log::new());
    /// log.begin_raw(&notifier, 10..20);
    /// assert_eq!(notifier.active(), 1);
    /// notifier.end_raw();
    /// ```
    pub fn begin_raw<F: Futex>(&self, notifier: &Notifier<F>, range: Range<usize>) {
        // Its fence comes before the stores that follow.
        let number = notifier.begin_numbered();
        let place = self.place(number);
        // Acquire: this range comes after the one that was there.
        if place.number.swap(BUSY, Acquire) == BUSY {
            // Its writer gives it a number that is not ours, so nobody finds ours.
            return;
        }
        // Release: a reader that reads a word of this range, and then fences, sees that the number
        // before is gone.
        fence(Release);
        place.first.write(range.start);
        place.end.write(range.end);
        // Release: a reader that finds the number finds the range.
        place.number.store(number + 1, Release);
    }

    /// Whether no invalidation of any part of `range` has begun since `ticket` was taken. If so,
    /// the ticket becomes a later one, which is as good for `range` as if it were taken now; for
    /// other pages it no longer counts. It may say `false` though none has: if there were too many,
    /// or if one begins while another whose place it takes is still being written.
    ///
    /// ```
    /// use pagelock::mm::range::{Log, Notifier};
    /// let (notifier, log) = (Notifier::new(), Log::new());
    /// let mut ticket = notifier.try_ticket().unwrap();
    /// log.begin_raw(&notifier, 10..20);
    /// notifier.end_raw();
    /// assert!(!log.keeps(&notifier, &mut ticket, &(15..30)));
    /// assert!(log.keeps(&notifier, &mut ticket, &(20..30)));
    /// assert!(notifier.is_good(ticket));
    /// ```
    pub fn keeps<F: Futex>(
        &self,
        notifier: &Notifier<F>,
        ticket: &mut Ticket,
        range: &Range<usize>,
    ) -> bool {
        // Acquire: as for `is_good`.
        fence(Acquire);
        let now = notifier.now();
        let begun = Notifier::<F>::between(*ticket, now);
        if begun as usize > RECENT {
            return false;
        }
        for n in 1..=begun {
            let number = Notifier::<F>::after(*ticket, n);
            let place = self.place(number);
            // Acquire: its range is there.
            if place.number.load(Acquire) != number + 1 {
                return false;
            }
            let (first, end) = (place.first.read(), place.end.read());
            // Acquire: if a word of that was a later range's, the number is seen to be gone.
            fence(Acquire);
            // Relaxed: the fence is before it.
            if place.number.load(Relaxed) != number + 1 {
                return false;
            }
            if first < range.end && range.start < end {
                return false;
            }
        }
        *ticket = now;
        true
    }

    fn place(&self, number: u32) -> &Place {
        &self.recent[number as usize % RECENT]
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_stays_good_for_what_was_not_invalidated() {
        let (notifier, log) = (Notifier::new(), Log::new());
        let mut ticket = notifier.try_ticket().unwrap();
        for n in 0..100 {
            log.begin_raw(&notifier, 10..20);
            notifier.end_raw();
            assert!(!notifier.is_good(ticket));
            if n % 7 == 0 {
                assert!(log.keeps(&notifier, &mut ticket, &(0..10)) && notifier.is_good(ticket));
                assert!(log.keeps(&notifier, &mut ticket, &(20..21)));
            }
        }
        let before = ticket;
        log.begin_raw(&notifier, 9..11);
        notifier.end_raw();
        assert!(!log.keeps(&notifier, &mut ticket, &(0..10)) && ticket == before);
        assert!(log.keeps(&notifier, &mut { ticket }, &(20..21)));
    }

    #[test]
    fn what_is_not_known_is_taken_for_an_invalidation() {
        let (notifier, log) = (Notifier::new(), Log::new());
        let mut ticket = notifier.try_ticket().unwrap();
        drop(notifier.begin());
        assert!(!log.keeps(&notifier, &mut ticket, &(0..1)), "for all of the range");
        let mut ticket = notifier.try_ticket().unwrap();
        for _ in 0..=RECENT {
            log.begin_raw(&notifier, 10..20);
            notifier.end_raw();
        }
        assert!(!log.keeps(&notifier, &mut ticket, &(0..1)), "too many");
    }
}
