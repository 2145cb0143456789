//! 2 to 64 threads (and as many as there are cores), one lock, short holds, longer ones, and these back to back: holds per second, and, from
//! a second run with the clock on, how long they waited and how evenly they were served.

mod support;

use core::time::Duration;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, SamplingMode, Throughput};
use pagelock::BYPASS_BOUND;
use support::bench::criterion;
use support::contention::{Fight, Section, Until, contend};
use support::crew::Crew;
use support::effort::Effort;
use support::locks::{Lock, RawFutex};
use support::overtaken::{Tally, WatchedPage, most};
use support::spread::millis;

/// Says whether it ran: it may have been filtered out.
fn measure<L: Lock>(group: &mut BenchmarkGroup<'_, WallTime>, crew: &Crew, section: Section, threads: usize) -> bool {
    let mut ran = false;
    group.bench_function(BenchmarkId::new(L::NAME, threads), |b| {
        b.iter_custom(|holds| {
            ran = true;
            contend::<L>(crew, Fight { threads, section, until: Until::Holds(holds), timed: false }).elapsed
        });
    });
    if ran {
        let until = Until::Time(Duration::from_millis(150));
        let seen = contend::<L>(crew, Fight { threads, section, until, timed: true });
        println!(
            "    waits: p50 {:.0} ns, p99 {:.0} ns, p999 {:.0} ns, longest {:.2} ms; least served thread {:.2} of the most served; \
             {:.2} CPU s; {} switches by choice, {} by force",
            seen.wait(0.5),
            seen.wait(0.99),
            seen.wait(0.999),
            millis(seen.worst_wait()),
            seen.share,
            seen.usage.cpu.as_secs_f64(),
            seen.usage.voluntary,
            seen.usage.involuntary,
        );
    }
    ran
}

/// How often those who slept for the page were overtaken; by a run of its own, as watching costs time.
fn overtaking<const FAULTERS: bool>(crew: &Crew, section: Section, threads: usize) {
    let until = Until::Time(Duration::from_millis(150));
    contend::<WatchedPage<FAULTERS>>(crew, Fight { threads, section, until, timed: false });
    let tally = Tally::of_last();
    println!(
        "    {}, of {} that slept: {:?} lost 0, 1, 2... wakes; {:?} to newcomers, which are to be {BYPASS_BOUND} at most",
        WatchedPage::<FAULTERS>::NAME,
        tally.slept(),
        &tally.lost[..=most(&tally.lost)],
        &tally.to_newcomers[..=most(&tally.to_newcomers)],
    );
}

fn main() {
    let mut criterion = criterion(10, Duration::from_millis(400));
    let threads = Effort::full().threads;
    let crew = Crew::new(*threads.last().expect("there are some"));
    for section in Section::ALL {
        let mut group = criterion.benchmark_group(format!("contended/{}", section.name()));
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
        for &threads in threads.iter().filter(|&&n| n <= crew.size()) {
            if measure::<pagelock::PageLock>(&mut group, &crew, section, threads) {
                overtaking::<false>(&crew, section, threads);
                overtaking::<true>(&crew, section, threads);
            }
            measure::<std::sync::Mutex<()>>(&mut group, &crew, section, threads);
            measure::<parking_lot::Mutex<()>>(&mut group, &crew, section, threads);
            measure::<parking_lot::FairMutex<()>>(&mut group, &crew, section, threads);
            measure::<usync::Mutex<()>>(&mut group, &crew, section, threads);
            // With many threads on few cores a spinning lock has rounds of whole seconds; the report, which measures by time, has it.
            if threads <= 8 {
                measure::<spin::Mutex<()>>(&mut group, &crew, section, threads);
            }
            measure::<RawFutex>(&mut group, &crew, section, threads);
        }
        group.finish();
    }
    criterion.final_summary();
}
