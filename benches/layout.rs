//! Headers packed or padded. (The lock beside its data or apart from them: in the report.)

mod support;

use core::time::Duration;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, SamplingMode};
use pagelock::PageLock;
use support::bench::criterion;
use support::crew::Crew;
use support::layout::{Line, Packed, Spacing, TwoLines, neighbours};

fn spaced<S: Spacing<PageLock>>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    crew: &Crew,
    name: &str,
    threads: usize,
) {
    group.bench_function(BenchmarkId::new(name, threads), |b| {
        b.iter_custom(|pairs| {
            let each = u32::try_from(pairs.div_ceil(threads as u64)).unwrap_or(u32::MAX).max(1);
            Duration::from_secs_f64(
                pairs as f64 / (neighbours::<PageLock, S>(crew, threads, each) * 1e6),
            )
        });
    });
}

fn main() {
    let mut criterion = criterion(10, Duration::from_millis(400));
    let cores = support::machine::cores();
    let crew = Crew::new(8.max(cores));
    let mut group = criterion.benchmark_group("layout/one header for each thread");
    group.sampling_mode(SamplingMode::Flat);
    for threads in [2, 4, 8] {
        spaced::<Packed<PageLock>>(&mut group, &crew, "8 bytes apart", threads);
        spaced::<Line<PageLock>>(&mut group, &crew, "64 bytes apart", threads);
        spaced::<TwoLines<PageLock>>(&mut group, &crew, "128 bytes apart", threads);
    }
    group.finish();
    criterion.final_summary();
}
