//! A long run of everything at once on real memory: many threads on two processors, signals in the
//! middle of every sleep, priorities that change, delays at every step of the protocol. Nothing may
//! be lost: no wake, no write, no reference.
//!
//! Ignored unless asked for, by `ci/soak.sh`, which builds it with the steps:
//!
//! | environment | meaning |
//! |---|---|
//! | `PAGELOCK_SOAK_SECONDS` | how long (60) |
//! | `PAGELOCK_SOAK_SEED` | where random numbers start (the time); printed |
//! | `PAGELOCK_SOAK_MIN_FAULTS` | with fewer faults than this, real ones and those in software, the run is not long enough (0) |
//!
//! Half of the groups have memory that really traps (userfaultfd), where it can be had; the others
//! take faults in software. A run in which something of all this never happened has not shown what
//! it is for, and fails.

#![cfg(all(target_os = "linux", not(any(pagelock_loom, pagelock_shuttle, miri))))]

#[path = "soak/group.rs"]
mod group;
#[path = "../examples/storm/ledger.rs"]
#[allow(dead_code)]
mod ledger;
#[path = "soak/machine.rs"]
mod machine;
#[path = "soak/noise.rs"]
mod noise;
#[path = "../examples/storm/region/mod.rs"]
#[allow(dead_code)]
mod region;
#[path = "soak/software.rs"]
mod software;
#[path = "soak/tables.rs"]
mod tables;
#[path = "soak/watchdog.rs"]
mod watchdog;

use group::{Group, STOP};
use machine::{Machine, TOTALS};
use noise::{DELAYS, SIGNALS, draw};
use region::{Kind, Pretend};
use software::Software;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};
use watchdog::Watchdog;

/// Threads and pages of each group. Few pages, so that threads meet; the big one gets a crowd.
const GROUPS: [(usize, usize); 14] = {
    let mut groups = [(4, 2); 14];
    groups[0] = (2, 1);
    groups[1] = (2, 1);
    groups[2] = (12, 3);
    groups[3] = (12, 3);
    groups
};

fn from_environment(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => otherwise,
    }
}

#[test]
#[ignore = "runs for as long as PAGELOCK_SOAK_SECONDS says, and uses both processors: see ci/soak.sh"]
fn soak() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (seconds, seed) = (
        from_environment("PAGELOCK_SOAK_SECONDS", 60),
        from_environment("PAGELOCK_SOAK_SEED", now),
    );
    println!("soak: {seconds} s, PAGELOCK_SOAK_SEED={seed}");
    noise::two_processors();
    noise::interruptible().unwrap();
    let delays = noise::delay_steps();
    if !delays {
        println!(
            "soak: NO DELAYS at the steps of the protocol: this build has no --cfg pagelock_delay"
        );
    }

    let kinds = [
        Kind::Memfd { mappings: 2 },
        Kind::Software { mappings: 2 },
        Kind::Anon,
        Kind::Software { mappings: 2 },
    ];
    let groups: Vec<Group> = GROUPS
        .iter()
        .zip(kinds.iter().cycle())
        .map(|(&(threads, pages), &kind)| {
            let (region, missing) = region::open(kind, pages, Pretend::default());
            if let Some(missing) = missing {
                println!("soak: {missing}");
            }
            let traps = region.is_some();
            let region = region.unwrap_or_else(|| Box::new(Software::new(pages, kind.mappings())));
            Group::new(Machine::new(region, traps), threads)
        })
        .collect();
    let groups: &'static [Group] = groups.leak();
    let traps = groups.iter().any(|g| g.machine.traps);
    group::resolve_faults_of(groups.iter().map(|g| &g.machine).filter(|m| m.traps).collect());
    region::on_fault(group::on_fault).expect("a handler can be installed");

    let (began, threads) =
        (Instant::now(), GROUPS.iter().map(|(threads, _)| threads).sum::<usize>());
    std::thread::scope(|s| {
        let mut number = 0;
        for group in groups {
            for &slot in &group.slots {
                number += 1;
                let seed = seed.wrapping_add(number);
                std::thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn_scoped(s, move || group.work(slot, seed))
                    .unwrap();
            }
        }
        s.spawn(|| signals(groups));
        let mut watchdog = Watchdog::new(groups);
        let mut reported = began;
        while began.elapsed() < Duration::from_secs(seconds) {
            watchdog.tick();
            if reported.elapsed() > Duration::from_secs(60) {
                reported = Instant::now();
                report(groups, began);
            }
        }
        STOP.store(true, Relaxed);
        // Stranded threads do not stop.
        while groups.iter().any(|g| g.slots.iter().any(|s| alive(s.tid.load(Relaxed)))) {
            watchdog.tick();
        }
    });
    for group in groups {
        group.machine.check();
    }
    println!(
        "soak: {threads} threads in {} groups; every byte, reference and pin is accounted for",
        groups.len()
    );
    report(groups, began);
    assert!(groups.iter().all(|g| g.turns.load(Relaxed) > 0), "a group has taken no turn");
    assert_happened(traps, delays, from_environment("PAGELOCK_SOAK_MIN_FAULTS", 0));
}

/// Whether the run was what a soak is for. `traps`: there is memory that does. `delays`: the steps
/// of the protocol can be delayed.
fn assert_happened(traps: bool, delays: bool, min_faults: u64) {
    let (real, software) = (TOTALS.real_faults.load(Relaxed), TOTALS.software_faults.load(Relaxed));
    for (what, how_often, expected) in [
        ("an access", TOTALS.accesses.load(Relaxed), true),
        ("a real fault", real, traps),
        ("a fault in software", software, true),
        ("a fault that waits", TOTALS.waits.load(Relaxed), true),
        ("a page pushed out", TOTALS.out.load(Relaxed), true),
        ("a page brought back", TOTALS.back.load(Relaxed), true),
        ("a move that is aborted", TOTALS.aborted.load(Relaxed), true),
        ("a signal", SIGNALS.load(Relaxed), true),
        ("a delay", DELAYS.load(Relaxed), delays),
    ] {
        assert!(how_often > 0 || !expected, "never happened: {what}");
    }
    assert!(
        real + software >= min_faults,
        "{real} real faults and {software} in software are fewer than {min_faults}"
    );
}

/// Interrupts threads at random, each a few times in one operation and then no more: whoever is
/// stranded is not to be saved by it.
fn signals(groups: &[Group]) {
    let slots: Vec<_> = groups.iter().flat_map(|g| &g.slots).collect();
    let mut sent = vec![(0, 0); slots.len()];
    while !STOP.load(Relaxed) {
        for _ in 0..draw(16) {
            let at = draw(slots.len() as u64) as usize;
            let done = slots[at].done.load(Relaxed);
            let (since, times) = &mut sent[at];
            if *since != done {
                (*since, *times) = (done, 0);
            }
            if *times < 3 {
                *times += 1;
                noise::interrupt(slots[at]);
            }
        }
        std::thread::sleep(Duration::from_micros(100 + draw(400)));
    }
}

fn alive(tid: i32) -> bool {
    std::path::Path::new(&format!("/proc/self/task/{tid}")).exists()
}

fn report(groups: &[Group], began: Instant) {
    let total = |n: &std::sync::atomic::AtomicU64| n.load(Relaxed);
    let turns: u64 = groups.iter().map(|g| total(&g.turns)).sum();
    println!(
        "soak: {:.0} s: {} turns, {} accesses, {} real faults, {} faults in software, {} waits, {} pages out, {} back, {} moves \
         aborted, {} signals, {} delays",
        began.elapsed().as_secs_f64(),
        turns,
        total(&TOTALS.accesses),
        total(&TOTALS.real_faults),
        total(&TOTALS.software_faults),
        total(&TOTALS.waits),
        total(&TOTALS.out),
        total(&TOTALS.back),
        total(&TOTALS.aborted),
        total(&SIGNALS),
        total(&DELAYS),
    );
    #[cfg(feature = "stats")]
    println!("soak: {:?}", pagelock::stats::snapshot());
}
