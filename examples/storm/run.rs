//! One strategy on one kind of memory, for its time.

use crate::check::check;
use crate::counters::Counters;
use crate::drain::IdleWorkers;
use crate::engine::Engine;
use crate::handler;
use crate::ledger::{Ledger, WORDS};
use crate::live::Live;
use crate::machine::{Machine, at};
use crate::options::Plan;
use crate::real::Real;
use crate::region::{self, Kind, Pretend};
use crate::software;
use crate::usage::Usage;
use crate::worker::{self, Random, Worked};
use hdrhistogram::Histogram;
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Pages that the migrator takes at a time.
const BATCH: usize = 32;
/// How long it rests when the hot tier has room.
const PAUSE: Duration = Duration::from_micros(100);

/// What is the same for every strategy.
pub struct Work<'f> {
    pub file: &'f [u8],
    pub pages: usize,
    pub threads: usize,
    pub accesses: u64,
    pub time: Duration,
    pub seed: u64,
    pub pretend: Pretend,
}

/// What a run came to.
pub struct Outcome {
    pub plan: Plan,
    /// The memory that it ran on, in words.
    pub memory: String,
    /// Why it is not the memory that was asked for, if it is not.
    pub instead: Option<String>,
    /// Its faults were real ones.
    pub traps: bool,
    /// How often the system had to be asked again.
    pub kernel_retries: u64,
    pub finished: bool,
    pub seconds: f64,
    pub accesses: u64,
    pub faults: u64,
    pub retries: u64,
    pub most_retries: u64,
    pub spins: u64,
    pub out: u64,
    pub back: u64,
    pub ahead: u64,
    pub skipped_locked: u64,
    pub aborted_refs: u64,
    pub aborted_pins: u64,
    pub aborted_system: u64,
    pub pins: u64,
    pub usage: Usage,
    pub latency: Histogram<u64>,
    pub digest: u64,
}

impl Outcome {
    pub fn migrations(&self) -> u64 {
        self.out + self.back + self.ahead
    }

    pub fn retries_per_migration(&self) -> f64 {
        self.retries as f64 / self.migrations().max(1) as f64
    }

    /// Processor time as a share of the processors there are.
    pub fn cpu_share(&self, cpus: usize) -> f64 {
        self.usage.cpu_seconds / (self.seconds * cpus as f64)
    }
}

/// Runs a plan. An error is a defect (a wrong byte, a lost page, a leak) or says what could not be
/// had.
pub fn run(kind: Kind, plan: Plan, work: &Work<'_>, live: &Live) -> Result<Outcome, String> {
    let no_memory = |e: &dyn std::fmt::Display| format!("no memory for {} pages: {e}", work.pages);
    let ledger = Ledger::new(work.file, work.pages).map_err(|e| no_memory(&e))?;
    let (region, instead) = region::open(kind, work.pages, work.pretend);
    let on = On { kind, plan, work, live, ledger: &ledger };
    let outcome = match region {
        Some(region) => {
            run_on(Real::new(region).map_err(|e| no_memory(&e))?, handler::resolve_with, &on)?
        }
        None => run_on(
            software::open(work.pages, kind.mappings()).map_err(|e| no_memory(&e))?,
            |_| {},
            &on,
        )?,
    };
    Ok(Outcome { instead, ..outcome })
}

/// What a run is made of, beside its memory.
struct On<'a> {
    kind: Kind,
    plan: Plan,
    work: &'a Work<'a>,
    live: &'a Live,
    ledger: &'a Ledger,
}

/// Ends the run when it goes, so that threads which have started end where another could not be.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// `trap_to` has faults that trap resolved by an engine.
fn run_on<M: Machine>(
    mm: M,
    trap_to: impl Fn(Option<&Engine<M>>),
    on: &On<'_>,
) -> Result<Outcome, String> {
    let On { kind, plan, work, live, ledger } = *on;
    // All of it is hot and zero.
    for (page, word) in (0..work.pages).flat_map(|page| (0..WORDS).map(move |word| (page, word))) {
        mm.touch(at(0, page), word, Some(ledger.word(page, word)))
            .ok_or("the memory is not hot")?;
    }
    let drain =
        IdleWorkers::start().map_err(|e| format!("no thread for a processor's drain: {e}"))?;
    let mut line = live.line(plan.name(), work.time);
    let (before, began) = (Usage::now(), Instant::now());
    let engine = Engine {
        mm,
        mappings: kind.mappings(),
        pages: work.pages,
        plan,
        counters: Counters::default(),
        stop: AtomicBool::new(false),
        deadline: began + work.time,
    };
    trap_to(Some(&engine));

    let ran = std::thread::scope(|s| {
        let stop = Stop(&engine.stop);
        let no_thread = |which: &str, e| format!("no thread for {which}: {e}");
        let migrator = Builder::new().name("migrator".to_string());
        let migrator = migrator
            .spawn_scoped(s, || migrate(&engine, &drain, work.seed))
            .map_err(|e| no_thread("the migrator", e))?;
        let mut workers = Vec::with_capacity(work.threads);
        for t in 0..work.threads {
            let engine = &engine;
            let seed = work.seed.wrapping_add(1 + t as u64);
            let worker = Builder::new().name(format!("worker {t}"));
            let worker =
                worker.spawn_scoped(s, move || worker::work(engine, ledger, seed, work.accesses));
            workers.push(
                worker
                    .map_err(|e| no_thread(&format!("worker {} of {}", t + 1, work.threads), e))?,
            );
        }
        while began.elapsed() < work.time && !workers.iter().all(|w| w.is_finished()) {
            std::thread::sleep(Duration::from_millis(20).min(work.time));
            line.show(&engine.counters);
        }
        let (seconds, usage) = (began.elapsed().as_secs_f64(), Usage::now().since(before));
        drop(stop);
        let worked: Vec<_> = workers
            .into_iter()
            .map(|w| w.join().map_err(|_| "a worker panicked".to_string()))
            .collect();
        migrator.join().map_err(|_| "the migrator panicked".to_string())?;
        let worked = worked.into_iter().flatten().collect::<Result<Vec<Worked>, String>>()?;
        Ok::<_, String>((worked, seconds, usage))
    });
    trap_to(None);
    let (worked, seconds, usage) = ran?;

    let digest = check(&engine, ledger).map_err(|e| format!("{}: {e}", plan.name()))?;
    let mut latency = worker::histogram();
    for worked in &worked {
        latency.add(&worked.latency).map_err(|e| e.to_string())?;
    }
    let c = &engine.counters;
    let mappings = kind.mappings();
    let outcome = Outcome {
        plan,
        memory: format!(
            "{}, {mappings} mapping{}",
            engine.mm.describe(),
            if mappings == 1 { "" } else { "s" }
        ),
        instead: None,
        traps: engine.mm.traps(),
        kernel_retries: engine.mm.retries(),
        finished: worked.len() == work.threads && worked.iter().all(|w| w.finished),
        seconds,
        accesses: c.accesses.get(),
        faults: c.faults.get(),
        retries: c.retries.get(),
        most_retries: c.most_retries.get(),
        spins: c.spins.get(),
        out: c.out.get(),
        back: c.back.get(),
        ahead: c.ahead.get(),
        skipped_locked: c.skipped_locked.get(),
        aborted_refs: c.aborted_refs.get(),
        aborted_pins: c.aborted_pins.get(),
        aborted_system: c.aborted_system.get(),
        pins: c.pins.get(),
        usage,
        latency,
        digest,
    };
    line.end(&outcome);
    Ok(outcome)
}

/// Keeps the hot tier at half of the pages: pushes out what the faults bring in. A quarter of each
/// batch are cold pages, which it brings back ahead of faults, as drivers do: it takes mixed
/// batches to fall into the trap.
fn migrate<M: Machine>(engine: &Engine<M>, drain: &IdleWorkers, seed: u64) {
    let mut random = Random::new(seed ^ 0x6d69_6772);
    // This is the top of the migrator's thread.
    let mut unlocked = Unlocked::promise();
    let pages = engine.pages;
    let batch = BATCH.min(pages / 8).max(4);
    while !engine.stopped() {
        if engine.counters.hot_pages(pages) * 2 < pages {
            std::thread::sleep(PAUSE);
            continue;
        }
        let first = random.below(pages);
        let (mut hot, mut cold) = (Vec::new(), Vec::new());
        for at in (0..pages).map(|i| at(0, (first + i) % pages)) {
            let (list, most) = match engine.mm.leaf(at) {
                Leaf::Present { .. } => (&mut hot, batch - batch / 4),
                Leaf::DevicePrivate { .. } => (&mut cold, batch / 4),
                _ => continue,
            };
            if list.len() < most {
                list.push(at);
            }
        }
        engine.migrate_batch(&hot, &cold, drain, &mut unlocked);
    }
}
