//! Threads that fight over one lock: throughput, the longest wait, and who got how much.

use super::Padded;
use super::crew::Crew;
use super::locks::Lock;
use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use core::time::Duration;
use std::sync::{Arc, Barrier};
use std::time::Instant;

/// Steps of a random generator with the lock held, on data that has a line of its own.
const INSIDE: u32 = 12;
/// Steps between two holds, on the thread's own data.
const OUTSIDE: u32 = 40;

/// When a run ends.
#[derive(Clone, Copy)]
pub enum Until {
    Holds(u64),
    Time(Duration),
}

pub struct Outcome {
    pub holds: u64,
    pub elapsed: Duration,
    /// The longest time from asking to having, of any thread. Zero unless asked for.
    pub worst_wait: Duration,
    /// The fewest holds of a thread as a part of the most.
    pub share: f64,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.holds as f64 / self.elapsed.as_secs_f64()
    }
}

struct Data {
    random: u64,
    holds: u64,
}

/// What one thread found, in nanoseconds since the arena was made.
#[derive(Default)]
struct Found {
    holds: AtomicU64,
    began: AtomicU64,
    worst: AtomicU64,
}

#[repr(C)]
struct Arena<L> {
    lock: Padded<L>,
    data: Padded<UnsafeCell<Data>>,
    stop: Padded<AtomicBool>,
    ended: Padded<AtomicU64>,
    found: Vec<Padded<Found>>,
    epoch: Instant,
    gate: Barrier,
    target: u64,
}

// SAFETY: `data` is touched with `lock` held only, and afterwards by nobody; everything else is `Sync` by itself.
unsafe impl<L: Sync> Sync for Arena<L> {}

impl<L: Lock> Arena<L> {
    fn new(threads: usize, target: u64) -> Self {
        Self {
            lock: Padded(L::new()),
            data: Padded(UnsafeCell::new(Data { random: 0x9e37_79b9_7f4a_7c15, holds: 0 })),
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

    fn fight<const TIMED: bool>(&self, me: usize) {
        let mut random = 0x2545_f491_4f6c_dd1d ^ (me as u64 + 1);
        let (mut holds, mut worst) = (0u64, 0);
        self.gate.wait();
        let began = self.now();
        while !self.stop.0.load(Relaxed) {
            let asked = if TIMED { self.now() } else { 0 };
            self.lock.0.with(|| {
                if TIMED {
                    worst = worst.max(self.now() - asked);
                }
                // SAFETY: the lock is held, so this is the only access.
                let data = unsafe { &mut *self.data.0.get() };
                data.random = steps(data.random, INSIDE);
                data.holds += 1;
                if data.holds == self.target {
                    self.end();
                }
            });
            holds += 1;
            random = core::hint::black_box(steps(random, OUTSIDE));
        }
        let found = &self.found[me].0;
        found.began.store(began, Relaxed);
        found.holds.store(holds, Relaxed);
        found.worst.store(worst, Relaxed);
    }

    fn outcome(&self) -> Outcome {
        let all = |of: fn(&Found) -> &AtomicU64| self.found.iter().map(move |found| of(&found.0).load(Relaxed));
        let began = all(|f| &f.began).min().unwrap_or(0);
        let most = all(|f| &f.holds).max().unwrap_or(0);
        let fewest = all(|f| &f.holds).min().unwrap_or(0);
        Outcome {
            holds: all(|f| &f.holds).sum(),
            elapsed: Duration::from_nanos(self.ended.0.load(Relaxed).saturating_sub(began)),
            worst_wait: Duration::from_nanos(all(|f| &f.worst).max().unwrap_or(0)),
            share: fewest as f64 / most.max(1) as f64,
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

/// Lets `threads` threads fight over a new `L`. With `timed`, every wait is timed, which costs two looks at the clock per hold:
/// throughput is to be taken from runs without.
pub fn contend<L: Lock>(crew: &Crew, threads: usize, until: Until, timed: bool) -> Outcome {
    let target = match until {
        Until::Holds(n) => n.max(1),
        Until::Time(_) => u64::MAX,
    };
    let arena = Arc::new(Arena::<L>::new(threads, target));
    let theirs = arena.clone();
    let job = move |me| if timed { theirs.fight::<true>(me) } else { theirs.fight::<false>(me) };
    crew.run(threads, job, || {
        if let Until::Time(d) = until {
            std::thread::sleep(d);
            arena.end();
        }
    });
    arena.outcome()
}
