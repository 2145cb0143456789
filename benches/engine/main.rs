//! The whole protocol, by the clock: pages moved a second, what a fault takes meanwhile, and what a page costs as memory grows; beside an
//! engine with one mutex for everything, on the same kind of memory, in turns.
//!
//! `cargo bench -p pagelock-benches --bench engine` takes a minute, `-- --quick` a quarter of that, `-- --test` only sees that it runs. Medians of rounds,
//! smallest and largest in brackets; what is lost is printed like what is won.
//!
//! A migrator moves all pages to the other tier, so many with each call, and then back, and so on. Faulters, where there are any, read pages at
//! random; those that are away they bring back. Timed is a read of a page that was away when it was looked at, until it is done. Faulters
//! rest after each, or those that get on would fault so often that those that are kept waiting drop out of the figures.

mod biglock;
#[path = "../support/machine.rs"]
mod machine;
mod subjects;

use biglock::BigLock;
use comfy_table::{Table, presets};
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use core::time::Duration;
use machine::Machine;
use std::thread;
use std::time::Instant;
use subjects::{COLD, Engine, HOT, Ours};

struct Effort {
    rounds: usize,
    time: Duration,
    /// Numbers of pages, as powers of two.
    sizes: &'static [u32],
}

const FULL: Effort = Effort { rounds: 11, time: Duration::from_millis(200), sizes: &[10, 12, 14, 16, 18, 20] };
const QUICK: Effort = Effort { rounds: 5, time: Duration::from_millis(60), sizes: &[10, 15, 20] };
const SMOKE: Effort = Effort { rounds: 1, time: Duration::from_millis(5), sizes: &[10, 12] };

/// Pages in a call.
const CALLS: [usize; 3] = [1, 64, 512];
/// Pages, of 4 KiB, where their number is not what is measured.
const PAGES: usize = 4096;
/// What a faulter rests after a fault; the system makes more of it.
const REST: Duration = Duration::from_micros(20);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let effort = match (has("--test"), has("--quick")) {
        (true, _) => SMOKE,
        (_, true) => QUICK,
        _ => FULL,
    };
    let machine = Machine::this();
    let cores = machine.cores;
    println!("{machine}\n");
    // As many threads as processors, the migrator among them, and twice as many.
    for faulters in [0, cores.max(2) - 1, 2 * cores] {
        by_call(&effort, cores, faulters);
    }
    by_size(&effort, cores);
}

/// What a round came to.
struct Round {
    migrated: f64,
    faults: f64,
    /// Microseconds: half of the faults took no longer, 99 of 100, all.
    latency: [f64; 3],
}

fn by_call(effort: &Effort, cores: usize, faulters: usize) {
    println!(
        "**{PAGES} pages of 4096 bytes, {faulters} faulters**; {cores} cores; median (smallest-largest) of {} rounds\n",
        effort.rounds
    );
    let (ours, theirs) = (Ours::new(PAGES, 4096, PAGES), <BigLock as Engine>::new(PAGES, 4096, PAGES));
    let mut table = headed(&["pages per call", "what", Ours::NAME, BigLock::NAME, "ratio"]);
    for count in CALLS {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for round in 0..effort.rounds {
            if round % 2 == 0 {
                a.push(measure(&ours, count, faulters, effort.time));
                b.push(measure(&theirs, count, faulters, effort.time));
            } else {
                b.push(measure(&theirs, count, faulters, effort.time));
                a.push(measure(&ours, count, faulters, effort.time));
            }
        }
        let mut row = |what: &str, of: &dyn Fn(&Round) -> f64| {
            let (a, b) = (Spread::of(a.iter().map(of)), Spread::of(b.iter().map(of)));
            table.add_row([&count.to_string(), what, &a.to_string(), &b.to_string(), &format!("{:.2}", a.median / b.median)]);
        };
        row("migrated, thousand pages/s", &|r| r.migrated / 1e3);
        if faulters > 0 {
            row("faults, thousand/s", &|r| r.faults / 1e3);
            row("fault, half, µs", &|r| r.latency[0]);
            row("fault, 99 %, µs", &|r| r.latency[1]);
            row("fault, longest, µs", &|r| r.latency[2]);
        }
    }
    println!("{table}\n");
}

fn measure<E: Engine>(engine: &E, count: usize, faulters: usize, time: Duration) -> Round {
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        let faulters: Vec<_> = (0..faulters)
            .map(|n| {
                s.spawn({
                    let stop = &stop;
                    move || faulter(engine, n, stop)
                })
            })
            .collect();
        let mut migrate = engine.migrator();
        let (began, mut migrated, mut to) = (Instant::now(), 0, COLD);
        while began.elapsed() < time {
            // One sweep, or as much of it as there is time for.
            for first in (0..PAGES).step_by(count) {
                migrated += migrate(first, count, to);
                if first % 512 == 0 && began.elapsed() >= time {
                    break;
                }
            }
            to = if to == COLD { HOT } else { COLD };
        }
        let took = began.elapsed().as_secs_f64();
        stop.store(true, Release);
        let mut latencies: Vec<u32> = faulters.into_iter().flat_map(|f| f.join().expect("no faulter panics")).collect();
        // All back, for whoever is next.
        migrate(0, PAGES, HOT);
        latencies.sort_unstable();
        let at = |n: usize, of: usize| {
            let nanos = latencies.get((latencies.len() * n / of).min(latencies.len().saturating_sub(1)));
            nanos.map_or(f64::NAN, |&nanos| f64::from(nanos) / 1e3)
        };
        Round {
            migrated: migrated as f64 / took,
            faults: latencies.len() as f64 / took,
            latency: [at(1, 2), at(99, 100), at(1, 1)],
        }
    })
}

/// Reads at random until told to stop: the nanoseconds of each read of a page that was away.
fn faulter<E: Engine>(engine: &E, number: usize, stop: &AtomicBool) -> Vec<u32> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ (number as u64 + 1) << 17;
    let mut latencies = Vec::with_capacity(1 << 20);
    let mut misses = 0;
    while !stop.load(Acquire) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let page = (seed >> 20) as usize % PAGES;
        if engine.is_hot(page) {
            misses += 1;
            if misses % 64 == 0 {
                thread::sleep(REST);
            }
            continue;
        }
        let began = Instant::now();
        core::hint::black_box(engine.read(page));
        latencies.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
        thread::sleep(REST);
    }
    latencies
}

/// What a page costs, there and back, as memory grows. Small pages: what is measured is the bookkeeping, not the copy.
fn by_size(effort: &Effort, cores: usize) {
    const COUNT: usize = 64;
    println!(
        "**Nanoseconds to move a page of 64 bytes, {COUNT} a call, no faulters**; {cores} cores; median (smallest-largest) of {} rounds\n",
        effort.rounds
    );
    let mut table =
        headed(&["pages", Ours::NAME, BigLock::NAME, "ratio", "to the first, pagelock::mm", "to the first, one mutex"]);
    let mut firsts = None;
    for &size in effort.sizes {
        let pages = 1 << size;
        let (ours, theirs) = (Ours::new(pages, 64, COUNT), <BigLock as Engine>::new(pages, 64, COUNT));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            a.push(nanos_per_page(&ours, pages, COUNT, effort.time));
            b.push(nanos_per_page(&theirs, pages, COUNT, effort.time));
        }
        let (a, b) = (Spread::of(a), Spread::of(b));
        let (first_a, first_b) = *firsts.get_or_insert((a.median, b.median));
        table.add_row([
            format!("2^{size}"),
            a.to_string(),
            b.to_string(),
            format!("{:.2}", a.median / b.median),
            format!("{:.2}", a.median / first_a),
            format!("{:.2}", b.median / first_b),
        ]);
    }
    println!("{table}");
}

/// Batches from all over memory, in an order that no prefetcher foresees, each there and back.
fn nanos_per_page<E: Engine>(engine: &E, pages: usize, count: usize, time: Duration) -> f64 {
    let mut migrate = engine.migrator();
    let (batches, mut batch, mut moved) = (pages / count, 0, 0);
    let began = Instant::now();
    while began.elapsed() < time {
        for _ in 0..8 {
            // An odd step, so that every batch has its turn before any has its second.
            batch = (batch + 0x9e37_79b1) % batches;
            moved += migrate(batch * count, count, COLD) + migrate(batch * count, count, HOT);
        }
    }
    began.elapsed().as_secs_f64() * 1e9 / moved as f64
}

fn headed(names: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(names.to_vec());
    table
}

#[derive(Clone, Copy)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(rounds: impl IntoIterator<Item = f64>) -> Self {
        let mut rounds: Vec<f64> = rounds.into_iter().collect();
        rounds.sort_by(f64::total_cmp);
        Self { min: rounds[0], median: rounds[rounds.len() / 2], max: rounds[rounds.len() - 1] }
    }
}

impl core::fmt::Display for Spread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let digits = |n: f64| if n >= 100.0 { format!("{n:.0}") } else { format!("{n:.1}") };
        write!(f, "{} ({}-{})", digits(self.median), digits(self.min), digits(self.max))
    }
}
