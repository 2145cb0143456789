//! The threads that use the memory, and what they feel of it.

use crate::engine::Engine;
use crate::ledger::Ledger;
use crate::region::PAGE;
use crate::tables::At;
use hdrhistogram::Histogram;
use pagelock::leaf::Leaf;
use pagelock::mm::Access;
use std::cell::Cell;
use std::io::Write;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::{Duration, Instant};

thread_local! {
    /// Faults of this thread. Constant and without a destructor, so the signal handler may use it.
    static FAULTS: Cell<u64> = const { Cell::new(0) };
}

/// Notes that this thread's access trapped.
pub fn count_fault() {
    FAULTS.set(FAULTS.get() + 1);
}

/// After so many accesses a worker rests: real programs wait for other things too, and only a program that gets to its rest leaves
/// processor time to those of lower priority.
const ACCESSES_BETWEEN_RESTS: u64 = 32;
const REST: Duration = Duration::from_micros(50);
/// One access in so many is done under a pin.
const PIN_EVERY: u64 = 256;
/// One access in so many writes.
const WRITE_EVERY: u64 = 4;

/// The longest fault that is told apart, in nanoseconds.
const LONGEST: u64 = 600_000_000_000;

/// A histogram of nanoseconds with two digits. It does not grow, so recording does not allocate.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 2).expect("the bounds are in order")
}

/// Where the signal handler finds the engine; null between runs.
static ENGINE: AtomicPtr<Engine> = AtomicPtr::new(ptr::null_mut());

/// Lets the signal handler resolve faults with this engine until the answer is dropped.
pub fn resolve_faults_with(engine: &Engine) -> impl Drop + use<'_> {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            ENGINE.store(ptr::null_mut(), Ordering::Release);
        }
    }
    // Release: pairs with the handler's Acquire.
    ENGINE.store(ptr::from_ref(engine).cast_mut(), Ordering::Release);
    Clear
}

/// Called in the signal handler of the thread that faulted: it may take page-table locks and sleep for pages, but not allocate.
pub fn on_fault(addr: usize, write: bool) -> bool {
    // Acquire: pairs with the Release of the store.
    let engine = ENGINE.load(Ordering::Acquire);
    // SAFETY: not null only while a run lasts, and faults come only from threads that the run joins before it ends.
    let Some(engine) = (unsafe { engine.as_ref() }) else { return false };
    let Some((mapping, page)) = engine.region.locate(addr) else { return false };
    count_fault();
    let access = if write { Access::Write } else { Access::Read };
    if let Err(e) = engine.fault(At { mapping, page }, access) {
        // No allocation here: format into a buffer of our own. The instruction would trap for ever, so this is the end.
        let mut text = [0u8; 256];
        let mut rest = &mut text[..];
        let _ = writeln!(rest, "storm: page {page}, mapping {mapping}: {e}");
        let length = 256 - rest.len();
        let _ = std::io::stderr().write_all(&text[..length]);
        std::process::abort();
    }
    true
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
pub fn work(engine: &Engine, ledger: &Ledger, seed: u64, work: u64) -> Result<Worked, String> {
    let mut random = Random::new(seed);
    let mut latency = histogram();
    let (mappings, pages) = (engine.region.mappings(), engine.region.pages());
    for done in 0..work {
        if engine.stopped() {
            return Ok(Worked { latency, finished: false });
        }
        let at = At { mapping: random.below(mappings), page: random.below(pages) };
        let word = random.below(PAGE / 8);
        let add = (random.next() % WRITE_EVERY == 0).then(|| random.next() | 1);
        if random.next() % PIN_EVERY == 0 {
            access_pinned(engine, at, word)?;
        }
        let faults = FAULTS.get();
        let began = Instant::now();
        engine.access(at, word, add).map_err(|e| format!("page {}: {e}", at.page))?;
        if FAULTS.get() != faults {
            engine.counters.faults.add(1);
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

/// Pins the page if it can be pinned; if it is hot then, it has to stay hot, and accesses to it do not fault.
fn access_pinned(engine: &Engine, at: At, word: usize) -> Result<(), String> {
    let Ok(pin) = engine.headers[at.page].try_pin() else { return Ok(()) };
    engine.counters.pins.add(1);
    if matches!(engine.tables.leaf(at), Leaf::Present { .. }) {
        let faults = FAULTS.get();
        for _ in 0..8 {
            engine.access(at, word, None).map_err(|e| format!("page {}: {e}", at.page))?;
        }
        // A migration that had begun before the pin may have replaced entries, and then found the pin and put them back; an
        // access in between waits. But the page may not have gone.
        if FAULTS.get() != faults && !matches!(engine.tables.leaf(at), Leaf::Present { .. } | Leaf::Migration { .. }) {
            return Err(format!("page {} was moved while it was pinned", at.page));
        }
    }
    drop(pin);
    Ok(())
}
