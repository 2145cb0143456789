//! Which part of a notifier's range the latest invalidations were for, so that a reader of another
//! part is not disturbed.
//!
//! A notifier counts the invalidations of all its range. Without more, one page that moves every
//! millisecond keeps a reader of a million others from ever coming to an end. A log beside it has
//! what the latest ones were for, by their sequence numbers, and a reader that finds those
//! elsewhere goes on as if they had not been.
//!
//! Each place of the log is a sequence lock for one number: whoever writes has the place to itself,
//! and a reader that finds the same number before and after has the range of that number. Nobody
//! waits: a writer that finds another one there leaves its own range out, and a reader that does
//! not find a number takes it for an invalidation of everything.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | number: store at the end of a write, first load of a reader | Release, Acquire | whoever finds a number finds its range, or a later one |
//! | number: swap | Acquire | the store of the writer before: a range comes after the one that it takes the place of |
//! | fence after the swap, fence before a reader's second load | Release, Acquire | whoever read a word of a later range sees that the number is gone |
//! | fence at the beginning of `keeps` | Acquire | the fence of [`Notifier::begin`], as for [`Notifier::is_good`] |

use super::notifier::{Notifier, Ticket};
use crate::futex::Futex;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU32, const_unless_loom, fence};
use core::ops::Range;

/// How many invalidations are remembered. In a model the second takes the place of the first.
const RECENT: usize = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 16 };

/// Somebody writes. Not a number: those have 23 bits.
const BUSY: u32 = u32::MAX;

/// The ranges of the latest invalidations of one notifier, in numbers of the caller's: of pages,
/// say.
///
/// Numbers come again after 2^23 invalidations, as the [notifier](Notifier) says of tickets. So a
/// range that is that old, and whose place no later one has taken, could be taken for the range of
/// an invalidation that was begun without the log.
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

/// A number of the caller's: its lower and its upper half. Read while it is written, it is neither
/// the old one nor the new one.
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
        /// Nothing is known of any invalidation.
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
    pub fn begin_raw<F: Futex>(&self, notifier: &Notifier<F>, range: Range<usize>) {
        // Its fence comes before what follows.
        let number = notifier.begin_numbered();
        let place = self.place(number);
        // Acquire: this range comes after the one that was there.
        if place.number.swap(BUSY, Acquire) == BUSY {
            // Its writer gives it a number that is not ours, so nobody finds ours.
            return;
        }
        // Release: whoever reads a word of this range, and then fences, sees that the number before
        // is gone.
        fence(Release);
        place.first.write(range.start);
        place.end.write(range.end);
        // Release: whoever finds the number finds the range.
        place.number.store(number + 1, Release);
    }

    /// Whether no invalidation of any part of `range` has begun since `ticket` was taken. If so,
    /// the ticket is, for `range`, as good as one that was taken now; for anything else it is of no
    /// more use. It may say `false` though none has: of too many it does not know, nor of one that
    /// begins while another that it takes the place of is still being written down.
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
            // Acquire: if a word of that was of a later range, the number is seen to be gone.
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
