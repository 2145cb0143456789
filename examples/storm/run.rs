//! One strategy on one kind of memory, for its time.

use crate::check::check;
use crate::counters::Counters;
use crate::drain::IdleWorkers;
use crate::engine::Engine;
use crate::handler;
use crate::ledger::{Ledger, WORDS};
use crate::machine::{Machine, at};
use crate::options::Plan;
use crate::real::Real;
use crate::region::{self, Kind};
use crate::software;
use crate::usage::Usage;
use crate::worker::{self, Random, Worked};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
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
}

/// What a run came to.
pub struct Outcome {
    pub plan: Plan,
    /// The memory in words, and how often the system had to be asked again.
    pub region: String,
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

/// Runs a plan. An error is a defect: a wrong byte, a lost page, a leak.
pub fn run(kind: Kind, plan: Plan, work: &Work<'_>) -> Result<Outcome, String> {
    let ledger = Ledger::new(work.file, work.pages);
    match region::open(kind, work.pages, region::Pretend::default()).0 {
        Some(region) => run_on(Real::new(region), handler::resolve_with, kind, plan, work, &ledger),
        None => {
            let mm = software::open(work.pages, kind.mappings()).map_err(|e| format!("no memory: {e}"))?;
            run_on(mm, |_| {}, kind, plan, work, &ledger)
        }
    }
}

/// `trap_to` has faults that trap resolved by an engine.
fn run_on<M: Machine>(
    mm: M,
    trap_to: impl Fn(Option<&Engine<M>>),
    kind: Kind,
    plan: Plan,
    work: &Work<'_>,
    ledger: &Ledger,
) -> Result<Outcome, String> {
    let engine = Engine {
        mm,
        mappings: kind.mappings(),
        pages: work.pages,
        plan,
        counters: Counters::default(),
        stop: AtomicBool::new(false),
    };
    // All of it is hot and zero.
    for (page, word) in (0..work.pages).flat_map(|page| (0..WORDS).map(move |word| (page, word))) {
        engine.mm.touch(at(0, page), word, Some(ledger.word(page, word))).ok_or("the memory is not hot")?;
    }
    let bar = progress_bar(&plan.name(), work.time);
    let drain = IdleWorkers::start().map_err(no_thread)?;
    trap_to(Some(&engine));
    let (before, began) = (Usage::now(), Instant::now());

    let ran = std::thread::scope(|s| {
        // Where there is no room for another thread, those that there are come to an end.
        let _stop = StopsAtEnd(&engine.stop);
        let migrator = Builder::new().spawn_scoped(s, || migrate(&engine, &drain, work.seed)).map_err(no_thread)?;
        let workers = (0..work.threads).map(|t| {
            let engine = &engine;
            let seed = work.seed.wrapping_add(1 + t as u64);
            Builder::new().spawn_scoped(s, move || worker::work(engine, ledger, seed, work.accesses)).map_err(no_thread)
        });
        let workers = workers.collect::<Result<Vec<_>, _>>()?;
        while began.elapsed() < work.time && !workers.iter().all(|w| w.is_finished()) {
            std::thread::sleep(Duration::from_millis(20).min(work.time));
            show(&bar, &engine, began);
        }
        let (seconds, usage) = (began.elapsed().as_secs_f64(), Usage::now().since(before));
        engine.stop.store(true, Relaxed);
        let worked: Vec<_> = workers.into_iter().map(|w| w.join().map_err(|_| "a worker panicked".to_string())).collect();
        migrator.join().map_err(|_| "the migrator panicked".to_string())?;
        let worked = worked.into_iter().flatten().collect::<Result<Vec<Worked>, String>>()?;
        Ok::<_, String>((worked, seconds, usage))
    });
    trap_to(None);
    let (worked, seconds, usage) = ran?;
    bar.finish_and_clear();

    let digest = check(&engine, ledger).map_err(|e| format!("{}: {e}", plan.name()))?;
    let mut latency = worker::histogram();
    for worked in &worked {
        latency.add(&worked.latency).map_err(|e| e.to_string())?;
    }
    let c = &engine.counters;
    Ok(Outcome {
        plan,
        region: engine.mm.describe(),
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
    })
}

fn no_thread(why: std::io::Error) -> String {
    format!("no thread: {why}")
}

struct StopsAtEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Keeps the hot tier at half of the pages: pushes out what the faults bring in. A quarter of each batch are cold pages, which it
/// brings back ahead of faults, as drivers do: it takes mixed batches to fall into the trap.
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

fn progress_bar(name: &str, time: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:32} {bar:30} {msg}").expect("the template is well-formed");
    ProgressBar::new(time.as_millis() as u64).with_style(style).with_prefix(name.to_string())
}

fn show<M>(bar: &ProgressBar, engine: &Engine<M>, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    bar.set_position(began.elapsed().as_millis() as u64);
    bar.set_message(format!(
        "{:.0} faults/s, {:.0} migrations/s, {:.0} retries/s",
        engine.counters.faults.get() as f64 / seconds,
        engine.counters.migrations() as f64 / seconds,
        engine.counters.retries.get() as f64 / seconds,
    ));
}
