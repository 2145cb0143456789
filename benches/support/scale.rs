//! Many headers: random ones are locked, or faulted on, by one thread or by many, beside the cost
//! of touching that memory at all.

use super::crew::Crew;
use super::locks::Lock;
use core::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::{FreezeRule, PageLock};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Instant;

/// The operation on the element that was drawn. The next draw depends on it for no subject: a
/// processor may fetch the next line while it is busy with this one, and some do so even past a
/// locked instruction.
pub trait Field: Send + Sync + 'static {
    fn new(elements: usize) -> Self;
    fn visit(&self, index: usize);
}

/// The cost of the memory: eight bytes are loaded and stored, plainly.
pub struct Touch(Vec<AtomicU64>);

impl Field for Touch {
    fn new(elements: usize) -> Self {
        Self((0..elements).map(|_| AtomicU64::new(0)).collect())
    }

    fn visit(&self, index: usize) {
        let word = &self.0[index];
        word.store(word.load(Relaxed), Relaxed);
    }
}

/// The bound: a compare-exchange and a swap of a word of eight bytes' space; no thread waits,
/// and a loser goes on.
pub struct RawPairs(Vec<(AtomicU32, u32)>);

impl Field for RawPairs {
    fn new(elements: usize) -> Self {
        Self((0..elements).map(|_| (AtomicU32::new(0), 0)).collect())
    }

    fn visit(&self, index: usize) {
        let word = &self.0[index].0;
        if word.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
            word.swap(0, Release);
        }
    }
}

/// One lock for each element, as close together as they come.
pub struct Locks<L>(Vec<L>);

impl<L: Lock> Field for Locks<L> {
    fn new(elements: usize) -> Self {
        Self((0..elements).map(|_| L::new()).collect())
    }

    fn visit(&self, index: usize) {
        self.0[index].with(|| ())
    }
}

/// One lock for each element, with a cache line to itself.
pub struct Padded64<L>(Vec<Line<L>>);

#[repr(C, align(64))]
struct Line<L>(L);

impl<L: Lock> Field for Padded64<L> {
    fn new(elements: usize) -> Self {
        Self((0..elements).map(|_| Line(L::new())).collect())
    }

    fn visit(&self, index: usize) {
        self.0[index].0.with(|| ())
    }
}

/// Page tables of 512 entries with a lock for each table, and a header for each page: a visit is a
/// fault on a page, which moves it to the other tier (nothing is copied).
pub struct Faults {
    headers: Vec<PageLock>,
    entries: Vec<AtomicU8>,
    tables: Vec<Mutex<()>>,
}

const ENTRIES: usize = 512;

impl Field for Faults {
    fn new(elements: usize) -> Self {
        let headers: Vec<_> = (0..elements).map(|_| PageLock::new()).collect();
        for header in &headers {
            header.activate(1).expect("a fresh page");
        }
        Self {
            headers,
            entries: (0..elements).map(|_| AtomicU8::new(0)).collect(),
            tables: (0..elements.div_ceil(ENTRIES)).map(|_| Mutex::default()).collect(),
        }
    }

    fn visit(&self, index: usize) {
        let (header, entry, table) =
            (&self.headers[index], &self.entries[index], &self.tables[index / ENTRIES]);
        loop {
            let ptl = table.lock().unwrap();
            let Some(guard) = header.try_lock() else {
                let _ = header.wait_unlocked(ptl);
                continue;
            };
            let migration = guard.begin_migration();
            // The entry says that the page is on its way, and its table is unlocked while it moves.
            let tier = entry.load(Relaxed);
            entry.store(2, Relaxed);
            drop(ptl);
            let frozen =
                migration.freeze(FreezeRule::ExactRefs(1)).expect("one reference, no pins");
            let ptl = table.lock().unwrap();
            entry.store(1 - tier, Relaxed);
            drop(ptl);
            frozen.commit_in_place();
            return;
        }
    }
}

/// The same memory as [`Faults`] touches, touched: a table's word, an entry, a header.
pub struct TouchAll {
    headers: Touch,
    entries: Vec<AtomicU8>,
    tables: Touch,
}

impl Field for TouchAll {
    fn new(elements: usize) -> Self {
        let tables = Touch::new(elements.div_ceil(ENTRIES));
        Self {
            headers: Touch::new(elements),
            entries: (0..elements).map(|_| AtomicU8::new(0)).collect(),
            tables,
        }
    }

    fn visit(&self, index: usize) {
        let entry = &self.entries[index];
        entry.store(entry.load(Relaxed), Relaxed);
        self.headers.visit(index);
        self.tables.visit(index / ENTRIES);
    }
}

/// `threads` threads make `visits` visits each to random elements: nanoseconds of a visit, as a
/// thread sees it, and millions of visits a second of all together.
pub fn roam<F: Field>(
    crew: &Crew,
    field: &Arc<F>,
    elements: usize,
    threads: usize,
    visits: u32,
) -> (f64, f64) {
    assert!(elements.is_power_of_two());
    let (gate, theirs) = (Barrier::new(threads), field.clone());
    let spans: Arc<Mutex<Vec<(Instant, Instant)>>> = Arc::default();
    let their_spans = spans.clone();
    let job = move |me: usize| {
        let mut random = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(me as u64 + 1) | 1;
        gate.wait();
        let began = Instant::now();
        for _ in 0..visits {
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            let drawn = random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
            theirs.visit(drawn as usize & (elements - 1));
        }
        core::hint::black_box(random);
        let ended = Instant::now();
        their_spans.lock().unwrap().push((began, ended));
    };
    crew.run(threads, job, || ());
    let spans = spans.lock().unwrap();
    let began = spans.iter().map(|s| s.0).min().expect("at least one thread");
    let ended = spans.iter().map(|s| s.1).max().expect("at least one thread");
    let all = (ended - began).as_secs_f64();
    let each = spans.iter().map(|s| (s.1 - s.0).as_secs_f64()).sum::<f64>() / threads as f64;
    (each * 1e9 / f64::from(visits), threads as f64 * f64::from(visits) / all / 1e6)
}
