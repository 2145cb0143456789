//! Who owns what since when: a seat for each owner, beside the headers.
//!
//! The headers have no room for it, and only owners need it; so it is a table of a few seats and
//! not of pages. An owner that finds no seat goes without: then the report knows the page and not
//! the owner.

use rustix::time::{ClockId, clock_gettime};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const SEATS: usize = 64;
/// How many of those who wait for a page are remembered.
const REMEMBERED: usize = 16;

pub(crate) struct Seats {
    /// One bit each: taken.
    taken: AtomicU64,
    seats: Box<[Mutex<Option<Seat>>]>,
}

/// What is known of one owner.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) page: usize,
    pub(crate) what: &'static str,
    pub(crate) note: Cow<'static, str>,
    since: Duration,
    pub(crate) waiters: Vec<u32>,
}

impl Seat {
    /// For how long the page has been owned.
    pub(crate) fn held(&self) -> Duration {
        now().saturating_sub(self.since)
    }
}

/// The coarse clock, whose step is a few ms: it is read at every fault, and asked about when
/// somebody has had a page for too long.
fn now() -> Duration {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The number of a seat; `None` for an owner without.
#[derive(Debug)]
pub(crate) struct Taken(Option<usize>);

impl Seats {
    pub(crate) fn new() -> Self {
        Self { taken: AtomicU64::new(0), seats: (0..SEATS).map(|_| Mutex::new(None)).collect() }
    }

    pub(crate) fn take(&self, page: usize, what: &'static str) -> Taken {
        // Relaxed: what is in a seat is under its mutex; the bits only choose one.
        let mut seen = self.taken.load(Relaxed);
        while seen != u64::MAX {
            let free = (!seen).trailing_zeros() as usize;
            match self.taken.compare_exchange_weak(seen, seen | 1 << free, Relaxed, Relaxed) {
                Ok(_) => {
                    let seat = Seat { page, what, note: Cow::Borrowed(""), since: now(), waiters: Vec::new() };
                    *self.at(free) = Some(seat);
                    return Taken(Some(free));
                }
                Err(now) => seen = now,
            }
        }
        Taken(None)
    }

    pub(crate) fn leave(&self, taken: &Taken) -> Option<Seat> {
        let number = taken.0?;
        let seat = self.at(number).take();
        self.taken.fetch_and(!(1 << number), Relaxed);
        seat
    }

    pub(crate) fn note(&self, taken: &Taken, note: Cow<'static, str>) {
        if let Some(seat) = taken.0.and_then(|number| self.at(number).as_mut().map(|seat| seat.note = note)) {
            seat
        }
    }

    /// `thread` waits for `page`.
    pub(crate) fn waits(&self, page: usize, thread: u32) {
        for number in self.numbers() {
            if let Some(seat) = self.at(number).as_mut().filter(|seat| seat.page == page) {
                if seat.waiters.len() < REMEMBERED && !seat.waiters.contains(&thread) {
                    seat.waiters.push(thread);
                }
                return;
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Seat> {
        self.numbers().filter_map(|number| self.at(number).clone()).collect()
    }

    fn numbers(&self) -> impl Iterator<Item = usize> {
        let taken = self.taken.load(Relaxed);
        (0..SEATS).filter(move |number| taken & 1 << number != 0)
    }

    fn at(&self, number: usize) -> MutexGuard<'_, Option<Seat>> {
        self.seats[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
