//! Threads that fight over one lock: holds, waits, each thread's share, the cost, and the processor
//! time left for others.

use super::Padded;
use super::crew::Crew;
use super::locks::Lock;
use super::pace::{steps, steps_of};
use super::usage::{Usage, thread_time};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use core::time::Duration;
use hdrhistogram::Histogram;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Instant;

/// The subject of a run. Each has a run of its own, because measuring it disturbs the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    Holds,
    /// Every wait, by two looks at the clock for each hold.
    Waits,
    /// A thread more, which only computes: how much of a processor it has.
    Beside,
    /// Whether newcomers are kept out, now and then.
    Gate,
}

/// What to fight over, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fight {
    pub threads: usize,
    /// Nanoseconds of work with the lock held.
    pub inside: u64,
    /// Nanoseconds of work between two holds.
    pub outside: u64,
    /// From when all threads run to when counting begins.
    pub warm: Duration,
    pub window: Duration,
    pub look: Look,
}

pub struct Outcome {
    /// Of all threads, within the window.
    pub holds: u64,
    pub elapsed: Duration,
    /// How long each hold was waited for, in nanoseconds. Empty unless looked at.
    pub waits: Histogram<u64>,
    /// The holds of the thread that had the fewest, and the most.
    pub fewest: u64,
    pub most: u64,
    /// Of the whole process, within the window.
    pub usage: Usage,
    /// The part of a processor that the thread had which only computes. Not a number unless looked
    /// at.
    pub beside: f64,
    /// The part of looks that found newcomers kept out. Not a number unless looked at.
    pub kept_out: f64,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.holds as f64 / self.elapsed.as_secs_f64()
    }

    pub fn switches_per_hold(&self) -> f64 {
        (self.usage.voluntary + self.usage.involuntary) as f64 / self.holds.max(1) as f64
    }

    /// A wait that this part of all was no longer than, in nanoseconds. Not a number if no
    /// thread got the lock.
    pub fn wait(&self, quantile: f64) -> f64 {
        if self.waits.is_empty() { f64::NAN } else { self.waits.value_at_quantile(quantile) as f64 }
    }

    pub fn mean_wait(&self) -> f64 {
        if self.waits.is_empty() { f64::NAN } else { self.waits.mean() }
    }
}

/// A histogram of nanoseconds up to a minute, with two digits. It does not grow, so recording does
/// not allocate.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("the bounds are in order")
}

/// What the lock protects: four cache lines. Longer sections touch all of them, short ones the
/// first.
pub struct Data([u64; 4 * LINE]);

/// Words of a cache line.
const LINE: usize = 8;
/// A section of this many nanoseconds or more is a longer one.
const LONGER: u64 = 1_000;
const FRESH: Data = Data([1; 4 * LINE]);

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

/// On the same line, as far as short sections go.
#[repr(C, align(128))]
pub struct Together<L> {
    lock: L,
    data: UnsafeCell<Data>,
}

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

/// Where a run is: holds are counted, and waits noted, of what ends in the window; waits of what
/// the end of the window cuts short as well.
const WARM: u8 = 0;
const WINDOW: u8 = 1;
const OVER: u8 = 2;

const BETWEEN_LOOKS: Duration = Duration::from_micros(200);

/// What a thread found.
enum Found {
    Fought { holds: u64, waits: Option<Histogram<u64>> },
    Computed(Duration),
}

#[repr(C)]
struct Arena<P> {
    place: P,
    phase: Padded<AtomicU8>,
    found: Mutex<Vec<Found>>,
    gate: Barrier,
}

impl<P> Arena<P> {
    fn fight<L: Lock, const WAITS: bool>(&self, me: usize, fight: Fight)
    where
        P: Place<L>,
    {
        let (inside, outside, longer) =
            (steps_of(fight.inside), steps_of(fight.outside), fight.inside >= LONGER);
        let mut random = 0x2545_f491_4f6c_dd1d ^ (me as u64 + 1);
        let mut holds = 0;
        let mut waits = if WAITS { Some(histogram()) } else { None };
        self.gate.wait();
        loop {
            let asked = if WAITS { Some(Instant::now()) } else { None };
            let mut waited = Duration::ZERO;
            self.place.lock().with(|| {
                if let Some(asked) = asked {
                    waited = asked.elapsed();
                }
                // SAFETY: the lock is held, so this is the only access.
                let Data(data) = unsafe { &mut *self.place.data() };
                data[0] = steps(data[0], inside);
                if longer {
                    (1..4).for_each(|line| data[line * LINE] += 1);
                }
            });
            let phase = self.phase.0.load(Relaxed);
            if let Some(waits) = waits.as_mut().filter(|_| phase != WARM) {
                // After the release: noting it is not part of the section.
                waits.saturating_record((waited.as_nanos() as u64).max(1));
            }
            if phase == OVER {
                break;
            }
            holds += u64::from(phase == WINDOW);
            random = core::hint::black_box(steps(random, outside));
        }
        self.note(Found::Fought { holds, waits });
    }

    fn compute(&self) {
        self.gate.wait();
        let until = |phase| {
            while self.phase.0.load(Relaxed) < phase {
                core::hint::black_box(steps(1, 500));
            }
            thread_time()
        };
        let before = until(WINDOW);
        self.note(Found::Computed(until(OVER) - before));
    }

    fn note(&self, found: Found) {
        self.found.lock().expect("nobody panics with it").push(found);
    }

    /// Opens the window and closes it: its length, the use of processors meanwhile, and the part of
    /// looks that found newcomers kept out.
    fn keep_time<L: Lock>(&self, fight: Fight) -> (Duration, Usage, f64)
    where
        P: Place<L>,
    {
        self.gate.wait();
        std::thread::sleep(fight.warm);
        let (began, before) = (Instant::now(), Usage::now());
        self.phase.0.store(WINDOW, Relaxed);
        let (mut looks, mut found) = (0u32, 0u32);
        if fight.look == Look::Gate {
            while began.elapsed() < fight.window {
                std::thread::sleep(BETWEEN_LOOKS);
                looks += 1;
                found += u32::from(self.place.lock().keeps_out());
            }
        } else {
            std::thread::sleep(fight.window);
        }
        self.phase.0.store(OVER, Relaxed);
        (began.elapsed(), Usage::now().since(before), f64::from(found) / f64::from(looks))
    }
}

/// Lets threads fight over a new `L`, whose data lie on lines of their own.
pub fn contend<L: Lock>(crew: &Crew, fight: Fight) -> Outcome {
    contend_in::<L, Apart<L>>(crew, fight)
}

/// The same with lock and data where `P` puts them.
pub fn contend_in<L: Lock, P: Place<L>>(crew: &Crew, fight: Fight) -> Outcome {
    let workers = fight.threads + usize::from(fight.look == Look::Beside);
    let arena = Arc::new(Arena {
        place: P::new(L::new()),
        phase: Padded(AtomicU8::new(WARM)),
        found: Mutex::default(),
        gate: Barrier::new(workers + 1),
    });
    let theirs = arena.clone();
    let job = move |me| match fight.look {
        _ if me == fight.threads => theirs.compute(),
        Look::Waits => theirs.fight::<L, true>(me, fight),
        _ => theirs.fight::<L, false>(me, fight),
    };
    let (elapsed, usage, kept_out) = crew.run(workers, job, || arena.keep_time::<L>(fight));
    let mut outcome = Outcome {
        holds: 0,
        elapsed,
        waits: histogram(),
        fewest: u64::MAX,
        most: 0,
        usage,
        beside: f64::NAN,
        kept_out,
    };
    for found in arena.found.lock().expect("nobody panics with it").drain(..) {
        match found {
            Found::Fought { holds, waits } => {
                outcome.holds += holds;
                outcome.fewest = outcome.fewest.min(holds);
                outcome.most = outcome.most.max(holds);
                waits.iter().for_each(|theirs| {
                    outcome.waits.add(theirs).expect("all have the same bounds")
                });
            }
            Found::Computed(time) if !time.is_zero() => {
                outcome.beside = time.as_secs_f64() / elapsed.as_secs_f64()
            }
            // The system does not say.
            Found::Computed(_) => {}
        }
    }
    outcome
}
