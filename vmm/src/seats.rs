//! Owners, and since when: a seat for each, beside the headers.
//!
//! The headers have no room for it, and only owners need it; so it is a table of a few seats and
//! not of pages. An owner that finds no seat goes without: then the report knows the page and not
//! the owner.
//!
//! A seat is taken at every fault, so that is one compare-exchange and two stores to a cache line
//! that a thread has for itself most of the time. Notes are rare, and behind a mutex. A waiter is
//! one store into a small table, which the next one may write over.

use rustix::time::{ClockId, clock_gettime};
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const SEATS: usize = 64;
/// How many places there are for waiters, and how many of them are a page's.
const PLACES: usize = 256;
const PER_PAGE: usize = 4;

/// What an owner does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Fetch,
    Prefetch,
    WriteFault,
    Discard,
    Eviction,
    Cleaning,
    /// By a task that is about to wait.
    Look,
}

impl What {
    const ALL: [Self; 7] = [
        Self::Fetch,
        Self::Prefetch,
        Self::WriteFault,
        Self::Discard,
        Self::Eviction,
        Self::Cleaning,
        Self::Look,
    ];

    pub(crate) const fn in_words(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Prefetch => "prefetch",
            Self::WriteFault => "write fault",
            Self::Discard => "discard",
            Self::Eviction => "eviction",
            Self::Cleaning => "cleaning",
            Self::Look => "a look",
        }
    }
}

pub(crate) struct Seats {
    seats: Box<[Seat]>,
    /// A page, the generation of its hold, and a thread: 34, 8 and 22 bits.
    waiters: Box<[AtomicU64]>,
}

#[repr(align(128))]
#[derive(Default)]
struct Seat {
    /// The page and what its owner does; 0 is a free seat.
    taken: AtomicUsize,
    /// In ms of the coarse clock.
    since: AtomicU64,
    has_note: AtomicBool,
    note: Mutex<Cow<'static, str>>,
}

/// What is known of one owner.
#[derive(Clone, Debug)]
pub(crate) struct Occupant {
    pub(crate) page: usize,
    pub(crate) what: &'static str,
    pub(crate) held: Duration,
    pub(crate) note: Cow<'static, str>,
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
        let waiters = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { seats: (0..SEATS).map(|_| Seat::default()).collect(), waiters }
    }

    pub(crate) fn take(&self, page: usize, what: What) -> Taken {
        let first = FIRST.get();
        let taken = page * 8 + what as usize + 1;
        for number in (first..SEATS).chain(0..first) {
            let seat = &self.seats[number];
            // Acquire: pairs with the Release of `leave`: what the last owner had there is gone.
            if seat.taken.load(Relaxed) == 0
                && seat.taken.compare_exchange(0, taken, Acquire, Relaxed).is_ok()
            {
                // Relaxed: a report that comes just now may show another time.
                seat.since.store(now(), Relaxed);
                return Taken(Some(number));
            }
        }
        Taken(None)
    }

    pub(crate) fn leave(&self, taken: &Taken) {
        let Some(seat) = taken.0.map(|number| &self.seats[number]) else { return };
        // Relaxed: only the owner sets it.
        if seat.has_note.load(Relaxed) {
            seat.has_note.store(false, Relaxed);
            *seat.note() = Cow::Borrowed("");
        }
        // Release: as above.
        seat.taken.store(0, Release);
    }

    /// What is known of an owner that is about to leave.
    #[cfg(feature = "tracing")]
    pub(crate) fn look(&self, taken: &Taken) -> Option<Occupant> {
        self.seats[taken.0?].look()
    }

    /// Frees the seats of a page's owner that has not left.
    pub(crate) fn strike(&self, page: usize) {
        let of_page = |seat: &&Seat| {
            seat.taken.load(Relaxed).checked_sub(1).is_some_and(|taken| taken / 8 == page)
        };
        for seat in self.seats.iter().filter(of_page) {
            seat.has_note.store(false, Relaxed);
            *seat.note() = Cow::Borrowed("");
            seat.taken.store(0, Release);
        }
    }

    pub(crate) fn note(&self, taken: &Taken, note: Cow<'static, str>) {
        if let Some(seat) = taken.0.map(|number| &self.seats[number]) {
            *seat.note() = note;
            seat.has_note.store(true, Relaxed);
        }
    }

    /// `thread` waits for `page`, in the hold of this generation.
    pub(crate) fn waits(&self, page: usize, generation: u8, thread: u32) {
        let place = (page * PER_PAGE + thread as usize % PER_PAGE) % PLACES;
        self.waiters[place].store(packed(page, generation) | u64::from(thread) & THREAD, Relaxed);
    }

    /// Some of the threads that wait for `page`, in the hold of this generation.
    pub(crate) fn waiters(&self, page: usize, generation: u8) -> Vec<u32> {
        let places = (0..PER_PAGE)
            .map(|place| self.waiters[(page * PER_PAGE + place) % PLACES].load(Relaxed));
        places
            .filter(|seen| seen & !THREAD == packed(page, generation))
            .map(|seen| (seen & THREAD) as u32)
            .collect()
    }

    pub(crate) fn all(&self) -> Vec<Occupant> {
        self.seats.iter().filter_map(Seat::look).collect()
    }
}

impl Seat {
    fn look(&self) -> Option<Occupant> {
        let taken = self.taken.load(Relaxed).checked_sub(1)?;
        let held = Duration::from_millis(now().saturating_sub(self.since.load(Relaxed)));
        let note = self.note().clone();
        Some(Occupant { page: taken / 8, what: What::ALL[taken % 8].in_words(), held, note })
    }

    fn note(&self) -> MutexGuard<'_, Cow<'static, str>> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lower bits, of a thread; its number is below 2^22.
const THREAD: u64 = (1 << 22) - 1;

/// The upper bits. One is added, so that nothing is the packed form of an empty place.
fn packed(page: usize, generation: u8) -> u64 {
    (page as u64 + 1) << 30 | u64::from(generation) << 22
}

/// The coarse clock, whose step is a few ms: it is read at every fault, and asked about when an
/// owner has had a page for too long.
fn now() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}
