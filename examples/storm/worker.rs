//! The threads that use the memory, and how long their faults take.

use crate::engine::Engine;
use crate::ledger::{Ledger, WORDS};
use crate::machine::{self, Machine};
use hdrhistogram::Histogram;
use pagelock::PageLock;
use pagelock::leaf::Leaf;
use pagelock::mm::Entry;
use pagelock_soft::At;
use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    /// Faults of this thread. Constant and without a destructor, so the signal handler may use it.
    static FAULTS: Cell<u64> = const { Cell::new(0) };
    /// Attempts of this thread's that came to nothing.
    static RETRIES: Cell<u64> = const { Cell::new(0) };
}

/// Notes that this thread's access trapped.
pub fn count_fault() {
    FAULTS.set(FAULTS.get() + 1);
}

/// Notes that an attempt of this thread's came to nothing.
pub fn count_retry() {
    RETRIES.set(RETRIES.get() + 1);
}

/// After this many accesses a worker rests: real programs wait for other things too, and only a
/// program that gets to its rest leaves processor time to those of lower priority.
const ACCESSES_BETWEEN_RESTS: u64 = 32;
const REST: Duration = Duration::from_micros(50);
/// One access in this many holds a pin.
const PIN_EVERY: u64 = 256;
/// One access in this many writes.
const WRITE_EVERY: u64 = 4;

/// The longest fault that is told apart, in nanoseconds.
const LONGEST: u64 = 600_000_000_000;

/// A histogram of nanoseconds with two digits. It does not grow, so recording does not allocate.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 2).expect("the bounds are in order")
}

/// xorshift64*: random enough, and each worker's sequence is the same for every strategy.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// What one worker did.
pub struct Worked {
    pub latency: Histogram<u64>,
    /// It made all its accesses before the time was up.
    pub finished: bool,
}

/// Makes `work` accesses, or as many as the time allows.
pub fn work<M: Machine>(
    engine: &Engine<M>,
    ledger: &Ledger,
    seed: u64,
    work: u64,
) -> Result<Worked, String> {
    let mut random = Random::new(seed);
    let mut latency = histogram();
    for done in 0..work {
        if engine.stopped() {
            return Ok(Worked { latency, finished: false });
        }
        let at = machine::at(random.below(engine.mappings), random.below(engine.pages));
        let word = random.below(WORDS);
        let add = (random.next() % WRITE_EVERY == 0).then(|| random.next() as usize | 1);
        if random.next() % PIN_EVERY == 0 {
            access_pinned(engine, at, word)?;
        }
        let (faults, retries) = (FAULTS.get(), RETRIES.get());
        let began = Instant::now();
        engine.access(at, word, add).map_err(|e| format!("page {}: {e}", at.page))?;
        if FAULTS.get() != faults {
            engine.counters.faults.add(1);
            engine.counters.most_retries.at_least(RETRIES.get() - retries);
            latency.saturating_record(began.elapsed().as_nanos() as u64);
        }
        if let Some(add) = add {
            ledger.added(at.page, word, add);
        }
        engine.counters.accesses.add(1);
        if done % ACCESSES_BETWEEN_RESTS == 0 {
            std::thread::sleep(REST);
        }
    }
    Ok(Worked { latency, finished: true })
}

/// Pins the page if it is hot and can be pinned. Then it has to stay hot, and accesses to it do not
/// fault.
fn access_pinned<M: Machine>(engine: &Engine<M>, at: At, word: usize) -> Result<(), String> {
    let Some(entry) = engine.mm.lock(at) else { return Ok(()) };
    let Ok(Leaf::Present { pfn, .. }) = entry.get() else { return Ok(()) };
    // While the entry is locked it keeps its reference, and the frame is this page's.
    let Some(Ok(pin)) = engine.mm.header(pfn).map(PageLock::try_pin) else { return Ok(()) };
    drop(entry);
    engine.counters.pins.add(1);
    for _ in 0..8 {
        engine.access(at, word, None).map_err(|e| format!("page {}: {e}", at.page))?;
    }
    // A migration that had begun before the pin may have replaced entries, and then found the pin
    // and put them back; an access in between waits. But the page may not have gone.
    let leaf = engine.mm.leaf(at);
    if !matches!(leaf, Leaf::Present { pfn: is, .. } | Leaf::Migration { pfn: is, .. } if is == pfn)
    {
        return Err(format!("page {} was moved while it was pinned", at.page));
    }
    drop(pin);
    Ok(())
}
