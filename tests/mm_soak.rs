//! Twelve threads do everything at once over the software memory manager: migrators in opposite
//! orders, scanners, evictors, faulters, readers of ranges, pins, devices that have pages to
//! themselves, forks; and all that can be made to fail does. Every third of a second all of them
//! stop, and every reference, entry, frame, pin and addition is accounted for.
//!
//! | environment | meaning |
//! |---|---|
//! | `PAGELOCK_SOAK_SECONDS` | how long (1; `ci/soak.sh` says more) |
//! | `PAGELOCK_SOAK_SEED` | where random numbers start (1); printed |
//!
//! A run in which something of all this never happened has not shown what it is for, and fails.

#![cfg(all(feature = "std", target_os = "linux", not(any(pagelock_loom, miri))))]

mod common;
#[path = "mm_soak/jobs.rs"]
mod jobs;
#[path = "mm_soak/world.rs"]
mod world;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use world::World;

/// A turn of one of the threads.
type Turn = fn(&'static World, &mut common::Lots);

/// What each of the threads does, in turns.
const JOBS: [(&str, Turn); 12] = [
    ("migrate", jobs::migrate_upwards),
    ("migrate the other way round", jobs::migrate_downwards),
    ("scan by frame", jobs::scan),
    ("evict", jobs::evict_one),
    ("add", jobs::add),
    ("add, and queue", jobs::add_and_queue),
    ("read ranges", jobs::read_range),
    ("pin", jobs::pin_some),
    ("a device", jobs::device),
    ("fork", jobs::fork),
    ("fork and change", jobs::fork_and_change),
    ("fail", jobs::fail),
];

/// A thread that has not taken a turn for this many looks is stranded. Looks are counted, not
/// seconds: a process that is stopped takes none.
const PATIENCE: usize = 600;
const LOOK: Duration = Duration::from_millis(100);
/// Looks between two audits.
const ROUND: usize = 3;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => otherwise,
    }
}

#[test]
fn everything_at_once() {
    let seconds = from_environment("PAGELOCK_SOAK_SECONDS", 1);
    let seed = from_environment("PAGELOCK_SOAK_SEED", 1);
    println!("mm_soak: {seconds} s, PAGELOCK_SOAK_SEED={seed}");
    let world = World::new();
    let (began, mut rounds, mut reported) = (Instant::now(), 0, Instant::now());
    while rounds == 0
        || began.elapsed() < Duration::from_secs(seconds)
        || rounds < 20 && world.missing().is_some()
    {
        round(world, seed as usize * 1_000_003 + rounds * 12);
        rounds += 1;
        world.check();
        if reported.elapsed() > Duration::from_secs(60) {
            reported = Instant::now();
            println!(
                "mm_soak: {} s, {rounds} audits: {}",
                began.elapsed().as_secs(),
                world.report()
            );
        }
    }
    world.finish();
    println!("mm_soak: {} s, {rounds} audits: {}", began.elapsed().as_secs(), world.report());
    println!("mm_soak: every reference, entry, frame, pin and addition is accounted for");
    assert_eq!(world.missing(), None, "never happened");
}

/// All twelve at work for a while, and then none.
fn round(world: &'static World, seed: usize) {
    let turns = [const { AtomicUsize::new(0) }; JOBS.len()];
    world.resume();
    std::thread::scope(|s| {
        let threads: Vec<_> = (0..JOBS.len())
            .map(|n| {
                let turns = &turns[n];
                s.spawn(move || {
                    let mut lots = common::Lots::of(seed + n);
                    while !world.is_stopped() {
                        JOBS[n].1(world, &mut lots);
                        turns.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        let mut seen = [(0, 0); JOBS.len()];
        for look in 1.. {
            std::thread::sleep(LOOK);
            if look >= ROUND {
                world.stop();
            }
            if threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
            for ((turns, (last, since)), (name, _)) in turns.iter().zip(&mut seen).zip(JOBS) {
                let now = turns.load(SeqCst);
                (*last, *since) = if now == *last { (now, *since + 1) } else { (now, 0) };
                if *since > PATIENCE
                    && !threads.iter().all(std::thread::ScopedJoinHandle::is_finished)
                {
                    world.stranded(name);
                }
            }
        }
    });
}
