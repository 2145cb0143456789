//! How many pages a second, by how many a call has, and what a fault takes meanwhile; beside an
//! engine with one mutex.

use crate::biglock::BigLock;
use crate::subjects::{COLD, Engine, HOT, Ours};
use crate::table::{Spread, headed};
use crate::{CALLS, Effort};
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use core::time::Duration;
use std::thread;
use std::time::Instant;

/// Pages, of 4 KiB.
const PAGES: usize = 4096;
/// What a faulter rests after a fault; the system makes more of it.
const REST: Duration = Duration::from_micros(20);

/// What a round came to.
struct Round {
    migrated: f64,
    faults: f64,
    /// Microseconds: half of the faults took no longer, 99 of 100, all.
    latency: [f64; 3],
}

pub fn by_call(effort: &Effort, cores: usize, faulters: usize) {
    println!(
        "**{PAGES} pages of 4096 bytes, {faulters} faulters**; {cores} cores; \
         median (quartiles) of {} rounds\n",
        effort.rounds
    );
    let (ours, theirs) =
        (Ours::new(PAGES, 4096, PAGES), <BigLock as Engine>::new(PAGES, 4096, PAGES));
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
            table.add_row([
                &count.to_string(),
                what,
                &a.to_string(),
                &b.to_string(),
                &format!("{:.2}", a.median / b.median),
            ]);
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
        let mut latencies: Vec<u32> =
            faulters.into_iter().flat_map(|f| f.join().expect("no faulter panics")).collect();
        // All back, for the next subject.
        migrate(0, PAGES, HOT);
        latencies.sort_unstable();
        let at = |n: usize, of: usize| {
            let nanos =
                latencies.get((latencies.len() * n / of).min(latencies.len().saturating_sub(1)));
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
