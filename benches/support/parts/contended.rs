//! Threads that fight over one lock.

use super::Job;
use crate::support::contention::{Fight, Outcome, Section, Until, contend};
use crate::support::crew::Crew;
use crate::support::effort::Effort;
use crate::support::locks::{Lock, RawFutex, role};
use crate::support::table::{Better, Head, Row, Tables};
use crate::support::turns::{Rounds, take_turns};
use pagelock::PageLock;

pub fn throughput(section: Section) -> String {
    format!("Contended, {}: throughput", section.name())
}

pub fn worst(section: Section) -> String {
    format!("Contended, {}: longest wait", section.name())
}

fn everybody(crew: &Crew, rounds: usize, fight: Fight) -> Vec<Rounds<Outcome>> {
    take_turns::<Outcome>(
        rounds,
        &[
            ("pagelock", &|| contend::<PageLock>(crew, fight)),
            #[cfg(feature = "lock_api")]
            ("pagelock-lock_api", &|| contend::<crate::support::locks::LockApi>(crew, fight)),
            ("std", &|| contend::<std::sync::Mutex<()>>(crew, fight)),
            ("parking_lot", &|| contend::<parking_lot::Mutex<()>>(crew, fight)),
            ("parking_lot-fair", &|| contend::<parking_lot::FairMutex<()>>(crew, fight)),
            ("usync", &|| contend::<usync::Mutex<()>>(crew, fight)),
            ("spin", &|| contend::<spin::Mutex<()>>(crew, fight)),
            (RawFutex::NAME, &|| contend::<RawFutex>(crew, fight)),
        ],
    )
}

pub fn jobs(effort: &Effort) -> Vec<Job<'_>> {
    let mut jobs = Vec::new();
    for section in Section::BOTH {
        for &threads in &effort.threads {
            let seconds = effort.rounds as f64 * 8.0 * 1.4 * (effort.throughput + effort.waits).as_secs_f64();
            let name = format!("{}, {threads} threads", section.name());
            jobs.push(Job::new("contended", name, seconds, move |crew, tables| row(crew, effort, section, threads, tables)));
        }
    }
    jobs
}

fn row(crew: &Crew, effort: &Effort, section: Section, threads: usize, tables: &mut Tables) {
    if threads > crew.size() {
        return;
    }
    let fight = Fight { threads, section, until: Until::Time(effort.throughput), timed: false };
    let all = everybody(crew, effort.rounds, fight);
    let mut put = |what: String, unit: &str, better, note: &str, all: &[Rounds<Outcome>], part: &dyn Fn(&Outcome) -> f64| {
        let head = Head::new("contended", what, "threads", unit, better).note(note);
        tables.row(head, Row::of(threads.to_string(), threads as f64, all, role, part));
    };
    let of = |what: &str| format!("Contended, {}: {what}", section.name());
    let per_hold = |o: &Outcome, n: f64| n / o.holds.max(1) as f64;
    put(throughput(section), "million holds a second", Better::More, "", &all, &|o| o.per_second() / 1e6);
    let fair = "The least served thread's holds as a part of the most served one's: 1 is fair. Not judged: a lock that hands itself on \
                at every release is fair and slow.";
    put(of("share"), "least / most", Better::Neither, fair, &all, &|o| o.share);
    let cpu = "Processor seconds for a million holds, the sections' own work included.";
    put(of("processor time"), "s per million holds", Better::Less, cpu, &all, &|o| {
        per_hold(o, o.usage.cpu.as_secs_f64()) * 1e6
    });
    let gave = "Because a thread slept or gave its processor away.";
    put(of("voluntary switches"), "per thousand holds", Better::Neither, gave, &all, &|o| {
        per_hold(o, o.usage.voluntary as f64) * 1e3
    });
    let pushed = "Because a thread's time was up, or another was more urgent.";
    put(of("involuntary switches"), "per thousand holds", Better::Neither, pushed, &all, &|o| {
        per_hold(o, o.usage.involuntary as f64) * 1e3
    });

    let all = everybody(crew, effort.rounds, Fight { until: Until::Time(effort.waits), timed: true, ..fight });
    let clock = "From runs with the clock on, which costs two looks at it per hold; of all threads together.";
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        put(of(&format!("{name} of the waits")), "ns", Better::Less, clock, &all, &|o| o.wait(quantile));
    }
    put(worst(section), "ms", Better::Less, clock, &all, &|o| o.wait(1.0) / 1e6);
}
