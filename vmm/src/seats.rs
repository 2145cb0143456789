//! Who owns what since when: a seat for each owner, beside the headers.
//!
//! The headers have no room for it, and only owners need it; so it is a table of a few seats and
//! not of pages. An owner that finds no seat goes without: then the report knows the page and not
//! the owner.
//!
//! A seat is taken at every fault, so that is one compare-exchange and two stores to a cache line
//! that a thread has for itself most of the time. Notes and waiters are rare, and behind a mutex.

use rustix::time::{ClockId, clock_gettime};
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const SEATS: usize = 64;
/// How many of those who wait for a page are remembered.
const REMEMBERED: usize = 16;

/// What an owner does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Fetch,
    Prefetch,
    WriteFault,
    Discard,
    Eviction,
    Cleaning,
}

impl What {
    const ALL: [Self; 6] = [Self::Fetch, Self::Prefetch, Self::WriteFault, Self::Discard, Self::Eviction, Self::Cleaning];

    pub(crate) const fn in_words(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Prefetch => "prefetch",
            Self::WriteFault => "write fault",
            Self::Discard => "discard",
            Self::Eviction => "eviction",
            Self::Cleaning => "cleaning",
        }
    }
}

pub(crate) struct Seats {
    seats: Box<[Seat]>,
}

#[repr(align(128))]
#[derive(Default)]
struct Seat {
    /// The page and what its owner does; 0 is a free seat.
    taken: AtomicUsize,
    /// In ms of the coarse clock.
    since: AtomicU64,
    has_more: AtomicBool,
    more: Mutex<More>,
}

#[derive(Clone, Debug, Default)]
struct More {
    note: Cow<'static, str>,
    waiters: Vec<u32>,
}

/// What is known of one owner.
#[derive(Clone, Debug)]
pub(crate) struct Occupant {
    pub(crate) page: usize,
    pub(crate) what: &'static str,
    pub(crate) held: Duration,
    pub(crate) note: Cow<'static, str>,
    pub(crate) waiters: Vec<u32>,
}

/// The number of a seat; `None` for an owner without.
#[derive(Debug)]
pub(crate) struct Taken(Option<usize>);

thread_local! {
    /// Where a thread looks first.
    static FIRST: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Relaxed) % SEATS)
    };
}

impl Seats {
    pub(crate) fn new() -> Self {
        Self { seats: (0..SEATS).map(|_| Seat::default()).collect() }
    }

    pub(crate) fn take(&self, page: usize, what: What) -> Taken {
        let first = FIRST.get();
        let taken = page * 8 + what as usize + 1;
        for number in (first..SEATS).chain(0..first) {
            let seat = &self.seats[number];
            // Acquire: pairs with the Release of `leave`: what the last owner had there is gone.
            if seat.taken.load(Relaxed) == 0 && seat.taken.compare_exchange(0, taken, Acquire, Relaxed).is_ok() {
                // Relaxed: a report that comes just now may show another time.
                seat.since.store(now(), Relaxed);
                return Taken(Some(number));
            }
        }
        Taken(None)
    }

    pub(crate) fn leave(&self, taken: &Taken) {
        let Some(seat) = taken.0.map(|number| &self.seats[number]) else { return };
        // Relaxed: who sets it later than this has noted somebody of the past, and `take` is none
        // the wiser; it is a report.
        if seat.has_more.swap(false, Relaxed) {
            *seat.more() = More::default();
        }
        // Release: as above.
        seat.taken.store(0, Release);
    }

    /// What is known of an owner that is about to leave.
    #[cfg(feature = "tracing")]
    pub(crate) fn look(&self, taken: &Taken) -> Option<Occupant> {
        self.seats[taken.0?].look()
    }

    pub(crate) fn note(&self, taken: &Taken, note: Cow<'static, str>) {
        if let Some(seat) = taken.0.map(|number| &self.seats[number]) {
            seat.more().note = note;
            seat.has_more.store(true, Relaxed);
        }
    }

    /// `thread` waits for `page`.
    pub(crate) fn waits(&self, page: usize, thread: u32) {
        for seat in &self.seats {
            if seat.taken.load(Relaxed).checked_sub(1).is_some_and(|taken| taken / 8 == page) {
                let mut more = seat.more();
                if more.waiters.len() < REMEMBERED && !more.waiters.contains(&thread) {
                    more.waiters.push(thread);
                }
                seat.has_more.store(true, Relaxed);
                return;
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Occupant> {
        self.seats.iter().filter_map(Seat::look).collect()
    }
}

impl Seat {
    fn look(&self) -> Option<Occupant> {
        let taken = self.taken.load(Relaxed).checked_sub(1)?;
        let held = Duration::from_millis(now().saturating_sub(self.since.load(Relaxed)));
        let More { note, waiters } = self.more().clone();
        Some(Occupant { page: taken / 8, what: What::ALL[taken % 8].in_words(), held, note, waiters })
    }

    fn more(&self) -> MutexGuard<'_, More> {
        self.more.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The coarse clock, whose step is a few ms: it is read at every fault, and asked about when
/// somebody has had a page for too long.
fn now() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}
