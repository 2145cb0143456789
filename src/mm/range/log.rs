//! Which part of a notifier's range the latest invalidations were for, so that a reader of another part is not disturbed.
//!
//! A notifier counts the invalidations of all its range. Without more, one page that moves every millisecond keeps a reader of a million
//! others from ever coming to an end. A log beside it has what the latest ones were for, by their sequence numbers, and a reader that
//! finds those elsewhere goes on as if they had not been.
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | entry: sequence store, load | Release, Acquire | whoever finds an invalidation's number finds its range |
//! | fence in `keeps`, then the notifier's word | Acquire | the fence at the beginning: whoever saw a range of a later one that has taken the place sees its number, and does not go by the entry |

use super::notifier::{Notifier, Ticket};
use crate::futex::Futex;
use core::ops::Range;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicUsize, fence};

/// How many invalidations are remembered.
const RECENT: usize = 16;

/// The ranges of the latest invalidations of one notifier, in numbers of the caller's: of pages, say.
#[derive(Debug)]
pub struct Log {
    recent: [Entry; RECENT],
}

#[derive(Debug)]
struct Entry {
    /// One more than the sequence number; 0 while there is none.
    number: AtomicU32,
    first: AtomicUsize,
    end: AtomicUsize,
}

impl Log {
    /// Nothing is known of any invalidation.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            recent: [const { Entry { number: AtomicU32::new(0), first: AtomicUsize::new(0), end: AtomicUsize::new(0) } };
                RECENT],
        }
    }

    /// [`Notifier::begin_raw`] for `range`; [`Notifier::end_raw`] ends it.
    pub fn begin_raw<F: Futex>(&self, notifier: &Notifier<F>, range: Range<usize>) {
        // Its fence comes before what follows.
        let number = notifier.begin_numbered();
        let entry = self.entry(number);
        // Relaxed, three times: the store below is the Release. While the entry is between two, it has no number.
        entry.number.store(0, Relaxed);
        fence(Release);
        entry.first.store(range.start, Relaxed);
        entry.end.store(range.end, Relaxed);
        entry.number.store(number + 1, Release);
    }

    /// Whether no invalidation of any part of `range` has begun since `ticket` was taken. If so, the ticket is as good as one that was taken
    /// now. It may say `false` though none has: of too many it does not know.
    pub fn keeps<F: Futex>(&self, notifier: &Notifier<F>, ticket: &mut Ticket, range: &Range<usize>) -> bool {
        // Acquire: as for `is_good`.
        fence(Acquire);
        let now = notifier.now();
        let begun = Notifier::<F>::between(*ticket, now);
        if begun as usize > RECENT {
            return false;
        }
        for n in 1..=begun {
            let number = Notifier::<F>::after(*ticket, n);
            let entry = self.entry(number);
            // Acquire: its range is there.
            if entry.number.load(Acquire) != number + 1 {
                return false;
            }
            // Relaxed: what was read is of no use if the place was taken meanwhile, which the last line sees.
            let (first, end) = (entry.first.load(Relaxed), entry.end.load(Relaxed));
            if first < range.end && range.start < end {
                return false;
            }
        }
        fence(Acquire);
        if Notifier::<F>::between(*ticket, notifier.now()) as usize > RECENT {
            return false;
        }
        *ticket = now;
        true
    }

    fn entry(&self, number: u32) -> &Entry {
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
