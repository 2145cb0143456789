//! Threads that fight over one lock: throughput, how long they wait, who got how much, and what it cost.

use super::Padded;
use super::crew::Crew;
use super::locks::Lock;
use super::usage::Usage;
use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use core::time::Duration;
use hdrhistogram::Histogram;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Instant;

/// What is done with the lock held and between two holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// Some 20 ns inside on data that has a line of its own, 70 ns outside.
    Short,
    /// About a microsecond of each.
    Long,
    /// About a microsecond inside and nothing outside: the lock is never free for long, and its owner comes back at once.
    Busy,
}

impl Section {
    pub const ALL: [Self; 3] = [Self::Short, Self::Long, Self::Busy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short sections",
            Self::Long => "longer sections",
            Self::Busy => "sections back to back",
        }
    }

    /// Steps of a random generator with the lock held, and between two holds.
    const fn steps(self) -> (u32, u32) {
        match self {
            Self::Short => (12, 40),
            Self::Long => (600, 600),
            Self::Busy => (600, 0),
        }
    }
}

const SHORT: u8 = Section::Short as u8;
const LONG: u8 = Section::Long as u8;
const BUSY: u8 = Section::Busy as u8;

/// When a run ends.
#[derive(Clone, Copy)]
pub enum Until {
    Holds(u64),
    Time(Duration),
}

/// What to fight over, and how.
#[derive(Clone, Copy)]
pub struct Fight {
    pub threads: usize,
    pub section: Section,
    pub until: Until,
    /// Time every wait. That costs two looks at the clock per hold: throughput is to be taken from runs without.
    pub timed: bool,
}

pub struct Outcome {
    pub holds: u64,
    pub elapsed: Duration,
    /// How long each hold was waited for, in nanoseconds. Empty unless asked for.
    pub waits: Histogram<u64>,
    /// The fewest holds of a thread as a part of the most.
    pub share: f64,
    /// Of the whole process, starting and ending included.
    pub usage: Usage,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.holds as f64 / self.elapsed.as_secs_f64()
    }

    pub fn worst_wait(&self) -> Duration {
        Duration::from_nanos(self.waits.max())
    }

    /// A wait that this part of all was no longer than, in nanoseconds. Not a number if nobody got to hold the lock at all.
    pub fn wait(&self, quantile: f64) -> f64 {
        if self.waits.is_empty() { f64::NAN } else { self.waits.value_at_quantile(quantile) as f64 }
    }
}

/// A histogram of nanoseconds up to a minute, with two digits. It does not grow, so recording does not allocate.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("the bounds are in order")
}

pub struct Data {
    random: u64,
    holds: u64,
}

/// How a lock and what it protects lie in memory.
pub trait Place<L>: Send + Sync + 'static {
    fn new(lock: L) -> Self;
    fn lock(&self) -> &L;
    fn data(&self) -> *mut Data;
}

/// On lines of their own, as the comparison wants it.
#[repr(C)]
pub struct Apart<L> {
    lock: Padded<L>,
    data: Padded<UnsafeCell<Data>>,
}

/// On the same line.
#[repr(C, align(128))]
pub struct Together<L> {
    lock: L,
    data: UnsafeCell<Data>,
}

const FRESH: Data = Data { random: 0x9e37_79b9_7f4a_7c15, holds: 0 };

impl<L: Lock> Place<L> for Apart<L> {
    fn new(lock: L) -> Self {
        Self { lock: Padded(lock), data: Padded(UnsafeCell::new(FRESH)) }
    }

    fn lock(&self) -> &L {
        &self.lock.0
    }

    fn data(&self) -> *mut Data {
        self.data.0.get()
    }
}

impl<L: Lock> Place<L> for Together<L> {
    fn new(lock: L) -> Self {
        Self { lock, data: UnsafeCell::new(FRESH) }
    }

    fn lock(&self) -> &L {
        &self.lock
    }

    fn data(&self) -> *mut Data {
        self.data.get()
    }
}

// SAFETY: `data` is touched with `lock` held only; the lock is `Sync` by itself.
unsafe impl<L: Sync> Sync for Apart<L> {}
// SAFETY: as above.
unsafe impl<L: Sync> Sync for Together<L> {}

/// What one thread found; times in nanoseconds since the arena was made.
#[derive(Default)]
struct Found {
    holds: AtomicU64,
    began: AtomicU64,
    waits: Mutex<Option<Histogram<u64>>>,
}

#[repr(C)]
struct Arena<P> {
    place: P,
    stop: Padded<AtomicBool>,
    ended: Padded<AtomicU64>,
    found: Vec<Padded<Found>>,
    epoch: Instant,
    gate: Barrier,
    target: u64,
}

impl<P> Arena<P> {
    fn new(place: P, threads: usize, target: u64) -> Self {
        Self {
            place,
            stop: Padded(AtomicBool::new(false)),
            ended: Padded(AtomicU64::new(u64::MAX)),
            found: (0..threads).map(|_| Padded::default()).collect(),
            epoch: Instant::now(),
            gate: Barrier::new(threads),
            target,
        }
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn end(&self) {
        self.ended.0.fetch_min(self.now(), AcqRel);
        self.stop.0.store(true, Relaxed);
    }

    fn fight<L: Lock, const TIMED: bool, const SECTION: u8>(&self, me: usize)
    where
        P: Place<L>,
    {
        let (inside, outside) = const { Section::ALL[SECTION as usize].steps() };
        let mut random = 0x2545_f491_4f6c_dd1d ^ (me as u64 + 1);
        let mut holds = 0u64;
        let mut waits = if TIMED { Some(histogram()) } else { None };
        self.gate.wait();
        let began = self.now();
        while !self.stop.0.load(Relaxed) {
            let asked = if TIMED { self.now() } else { 0 };
            let mut waited = 0;
            self.place.lock().with(|| {
                if TIMED {
                    waited = self.now() - asked;
                }
                // SAFETY: the lock is held, so this is the only access.
                let data = unsafe { &mut *self.place.data() };
                data.random = steps(data.random, inside);
                data.holds += 1;
                if data.holds == self.target {
                    self.end();
                }
            });
            holds += 1;
            if let Some(waits) = &mut waits {
                // After the release: noting it is not part of the section.
                waits.saturating_record(waited.max(1));
            }
            random = core::hint::black_box(steps(random, outside));
        }
        let found = &self.found[me].0;
        found.began.store(began, Relaxed);
        found.holds.store(holds, Relaxed);
        *found.waits.lock().expect("nobody panics with it") = waits;
    }

    fn outcome(&self, usage: Usage) -> Outcome {
        let all = |of: fn(&Found) -> &AtomicU64| self.found.iter().map(move |found| of(&found.0).load(Relaxed));
        let began = all(|f| &f.began).min().unwrap_or(0);
        let most = all(|f| &f.holds).max().unwrap_or(0);
        let fewest = all(|f| &f.holds).min().unwrap_or(0);
        let mut waits = histogram();
        for found in &self.found {
            if let Some(theirs) = &*found.0.waits.lock().expect("nobody panics with it") {
                waits.add(theirs).expect("all have the same bounds");
            }
        }
        Outcome {
            holds: all(|f| &f.holds).sum(),
            elapsed: Duration::from_nanos(self.ended.0.load(Relaxed).saturating_sub(began)),
            waits,
            share: fewest as f64 / most.max(1) as f64,
            usage,
        }
    }
}

fn steps(mut x: u64, n: u32) -> u64 {
    for _ in 0..n {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    x
}

/// Lets threads fight over a new `L`, whose data lie on a line of their own.
pub fn contend<L: Lock>(crew: &Crew, fight: Fight) -> Outcome {
    contend_in::<L, Apart<L>>(crew, fight)
}

/// The same with lock and data where `P` puts them.
pub fn contend_in<L: Lock, P: Place<L>>(crew: &Crew, fight: Fight) -> Outcome {
    let target = match fight.until {
        Until::Holds(n) => n.max(1),
        Until::Time(_) => u64::MAX,
    };
    let arena = Arc::new(Arena::new(P::new(L::new()), fight.threads, target));
    let theirs = arena.clone();
    let before = Usage::now();
    let job = move |me| match (fight.timed, fight.section) {
        (false, Section::Short) => theirs.fight::<L, false, SHORT>(me),
        (false, Section::Long) => theirs.fight::<L, false, LONG>(me),
        (false, Section::Busy) => theirs.fight::<L, false, BUSY>(me),
        (true, Section::Short) => theirs.fight::<L, true, SHORT>(me),
        (true, Section::Long) => theirs.fight::<L, true, LONG>(me),
        (true, Section::Busy) => theirs.fight::<L, true, BUSY>(me),
    };
    crew.run(fight.threads, job, || {
        if let Until::Time(d) = fight.until {
            std::thread::sleep(d);
            arena.end();
        }
    });
    arena.outcome(Usage::now().since(before))
}
