//! One release, many sleepers: until the last one runs, and until the releaser's own call returns.

mod support;

use core::time::Duration;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, SamplingMode};
use std::sync::Arc;
use support::crew::Crew;
use support::events::{Event, EventListener, MOST, Page, ParkingLotCondvar, RawWakeAll, StdCondvar, Times, release_to};
use support::report::criterion;

const SLEEPERS: [usize; 4] = [1, 8, 64, MOST];

fn measure<E: Event>(group: &mut BenchmarkGroup<'_, WallTime>, crew: &Crew, what: fn(Times) -> Duration) {
    for sleepers in SLEEPERS {
        let event = Arc::new(E::new());
        group.bench_function(BenchmarkId::new(E::NAME, sleepers), |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| what(release_to(crew, &event, sleepers))).sum());
        });
    }
}

fn main() {
    let mut criterion = criterion(10, Duration::from_millis(700));
    let crew = Crew::new(MOST);
    for (name, what) in
        [("until the last one runs", (|t| t.last) as fn(Times) -> Duration), ("the release's own call", |t| t.call)]
    {
        let mut group = criterion.benchmark_group(format!("event_wait/{name}"));
        group.sampling_mode(SamplingMode::Flat);
        measure::<RawWakeAll>(&mut group, &crew, what);
        measure::<Page>(&mut group, &crew, what);
        measure::<StdCondvar>(&mut group, &crew, what);
        measure::<ParkingLotCondvar>(&mut group, &crew, what);
        measure::<EventListener>(&mut group, &crew, what);
        group.finish();
    }
    criterion.final_summary();
}
