//! 2^10 to 2^22 headers, a random one locked or faulted on; beside what it costs to touch that
//! memory at all. And 1 to 512 threads.

mod support;

use core::time::Duration;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, SamplingMode};
use std::sync::Arc;
use support::bench::criterion;
use support::crew::Crew;
use support::scale::{Faults, Field, Locks, RawPairs, Touch, TouchAll, roam};

fn roaming<F: Field>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    crew: &Crew,
    name: &str,
    bits: u32,
    threads: usize,
    x: impl core::fmt::Display,
) {
    let elements = 1usize << bits;
    let mut field = None;
    group.bench_function(BenchmarkId::new(name, x), |b| {
        let field = field.get_or_insert_with(|| Arc::new(F::new(elements)));
        b.iter_custom(|visits| {
            let each = u32::try_from(visits.div_ceil(threads as u64)).unwrap_or(u32::MAX).max(1);
            let (_, millions) = roam(crew, field, elements, threads, each);
            Duration::from_secs_f64(visits as f64 / (millions * 1e6))
        });
    });
}

fn everybody(
    group: &mut BenchmarkGroup<'_, WallTime>,
    crew: &Crew,
    bits: u32,
    threads: usize,
    x: &str,
) {
    roaming::<Touch>(group, crew, "touch", bits, threads, x);
    roaming::<RawPairs>(group, crew, "raw-cas-swap", bits, threads, x);
    roaming::<Locks<pagelock::PageLock>>(group, crew, "pagelock", bits, threads, x);
    roaming::<Locks<std::sync::Mutex<()>>>(group, crew, "std", bits, threads, x);
    roaming::<Locks<parking_lot::Mutex<()>>>(group, crew, "parking_lot", bits, threads, x);
    roaming::<Locks<parking_lot::FairMutex<()>>>(group, crew, "parking_lot-fair", bits, threads, x);
    roaming::<Locks<usync::Mutex<()>>>(group, crew, "usync", bits, threads, x);
    roaming::<Locks<spin::Mutex<()>>>(group, crew, "spin", bits, threads, x);
    roaming::<TouchAll>(group, crew, "touch all of a fault", bits, threads, x);
    roaming::<Faults>(group, crew, "fault", bits, threads, x);
}

fn main() {
    let mut criterion = criterion(10, Duration::from_millis(200));
    let crew = Crew::new(512);
    let mut group = criterion.benchmark_group("scale/headers");
    group.sampling_mode(SamplingMode::Flat);
    for bits in [10, 12, 14, 16, 18, 20, 22] {
        everybody(&mut group, &crew, bits, 1, &format!("2^{bits}"));
    }
    group.finish();
    let mut group = criterion.benchmark_group("scale/threads over 2^16 headers");
    group.sampling_mode(SamplingMode::Flat);
    for threads in [1, 2, 8, 32, 128, 512].into_iter().filter(|&n| n <= crew.size()) {
        everybody(&mut group, &crew, 16, threads, &threads.to_string());
    }
    group.finish();
    criterion.final_summary();
}
