//! 2 to 64 threads, one lock, short holds: holds per second, and, from a second run with the clock on, the longest wait and how
//! evenly the threads were served.

mod support;

use core::time::Duration;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, SamplingMode, Throughput};
use support::contention::{Until, contend};
use support::crew::Crew;
use support::locks::{Lock, RawFutex};
use support::report::{criterion, millis};

const THREADS: [usize; 6] = [2, 4, 8, 16, 32, 64];

fn measure<L: Lock>(group: &mut BenchmarkGroup<'_, WallTime>, crew: &Crew, threads: usize) {
    let mut ran = false;
    group.bench_function(BenchmarkId::new(L::NAME, threads), |b| {
        b.iter_custom(|holds| {
            ran = true;
            contend::<L>(crew, threads, Until::Holds(holds), false).elapsed
        });
    });
    if ran {
        let seen = contend::<L>(crew, threads, Until::Time(Duration::from_millis(250)), true);
        println!(
            "    longest wait {:.2} ms, least served thread {:.2} of the most served",
            millis(seen.worst_wait),
            seen.share
        );
    }
}

fn main() {
    let mut criterion = criterion(10, Duration::from_millis(1000));
    let crew = Crew::new(THREADS[THREADS.len() - 1]);
    let mut group = criterion.benchmark_group("contended");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
    for threads in THREADS {
        measure::<pagelock::PageLock>(&mut group, &crew, threads);
        measure::<std::sync::Mutex<()>>(&mut group, &crew, threads);
        measure::<parking_lot::Mutex<()>>(&mut group, &crew, threads);
        measure::<usync::Mutex<()>>(&mut group, &crew, threads);
        measure::<RawFutex>(&mut group, &crew, threads);
    }
    group.finish();
    criterion.final_summary();
}
