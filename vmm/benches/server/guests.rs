//! One run: guests that touch pages, and what it cost.

use crate::contenders::Contender;
use hdrhistogram::Histogram;
use pagelock_vmm::uffd::{Ram, SMALL, Uffd, Wish};
use pagelock_vmm::{Inbox, Layer};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

const GUESTS: usize = 4;

/// What one run came to.
pub struct Run {
    pub pages_per_second: f64,
    /// Stalls of the guests, in ns.
    pub stalls: Histogram<u64>,
    /// Processor time of all but the guests, for each page, in ns.
    pub cpu_per_page: f64,
    /// Fetches beyond one for each page.
    pub duplicates: u64,
}

/// The store: counts, and takes its time.
pub struct Store {
    pub fetches: AtomicU64,
    micros: u64,
}

impl Store {
    pub fn read(&self, page: usize, into: &mut [u8]) {
        self.fetches.fetch_add(1, Relaxed);
        if self.micros > 0 {
            thread::sleep(Duration::from_micros(self.micros));
        }
        into.fill(page as u8);
    }
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub fn run(contender: Contender, micros: u64, handlers: usize, pages: usize) -> Run {
    let uffd = Uffd::open(Wish::default()).expect("it could be opened before");
    let inbox = Inbox::new(uffd.clone()).unwrap();
    let ram = Ram::anonymous(&inbox, pages * SMALL, SMALL).unwrap();
    let base = ram.base();
    let store = Arc::new(Store { fetches: AtomicU64::new(0), micros });
    let barrier = Arc::new(Barrier::new(GUESTS + 1));
    let server = contender.start(uffd, inbox, ram, Arc::clone(&store), handlers);
    let guests: Vec<_> = (0..GUESTS)
        .map(|guest| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || be_guest(guest, base, pages, &barrier))
        })
        .collect();
    barrier.wait();
    let (began, before) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
    barrier.wait();
    let mut stalls = Histogram::new(3).unwrap();
    let mut guests_cpu = Duration::ZERO;
    for guest in guests {
        let (its, used) = guest.join().unwrap();
        stalls.add(its).unwrap();
        guests_cpu += used;
    }
    let (wall, used) = (began.elapsed(), cpu(ClockId::ProcessCPUTime) - before);
    server.stop();
    Run {
        pages_per_second: pages as f64 / wall.as_secs_f64(),
        stalls,
        cpu_per_page: used.saturating_sub(guests_cpu).as_nanos() as f64 / pages as f64,
        duplicates: store.fetches.load(Relaxed) - pages as u64,
    }
}

/// Half of the pages are shared by all guests, and the other half is divided among them.
fn be_guest(
    guest: usize,
    base: usize,
    pages: usize,
    barrier: &Barrier,
) -> (Histogram<u64>, Duration) {
    let mut stalls = Histogram::new(3).unwrap();
    let shared = pages / 2;
    let own = (pages - shared) / GUESTS;
    let last = if guest + 1 == GUESTS { pages } else { shared + (guest + 1) * own };
    let mut own = shared + guest * own..last;
    barrier.wait();
    barrier.wait();
    let before = cpu(ClockId::ThreadCPUTime);
    for n in 0..shared {
        touch(base, n, &mut stalls);
        // As many of one's own in between as there are.
        if n % GUESTS == guest {
            own.by_ref().take(1).for_each(|page| touch(base, page, &mut stalls));
        }
    }
    own.for_each(|page| touch(base, page, &mut stalls));
    (stalls, cpu(ClockId::ThreadCPUTime) - before)
}

fn touch(base: usize, page: usize, stalls: &mut Histogram<u64>) {
    let began = Instant::now();
    // SAFETY: a page of the run's memory, which is there until the server has stopped.
    let seen = unsafe { std::ptr::read_volatile((base + page * SMALL) as *const u8) };
    let took = began.elapsed().as_nanos() as u64;
    assert_eq!(seen, page as u8, "page {page}");
    // What was there already is no stall.
    if took > 1000 {
        stalls.record(took).expect("it grows");
    }
}
