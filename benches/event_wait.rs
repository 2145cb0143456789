//! One release, many sleepers: until the first and the last one run, and until the releaser's own
//! call returns; also with lockers in the page's queue, and with many pages released at once whose
//! event slots collide, by one thread or by as many as there are cores. Below each of criterion's
//! figures stands what a sleep and a wake cost in processor time.

mod support;

use core::time::Duration;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode};
use std::sync::Arc;
use support::bench::criterion;
use support::crew::Crew;
use support::events::{
    COLLIDING, DISTINCT, Event, EventListener, ListenerQueue, Page, Parked, ParkedQueue,
    ParkingLotCondvar, Queue, QueuedPage, RawQueue, RawWakeAll, StdCondvar,
};
use support::machine::cores;
use support::release::{MOST, Times, release_many, release_queued, release_racing, release_to};
use support::spread::{Spread, micros};

const SLEEPERS: [usize; 5] = [1, 8, 64, 512, MOST];
const LOCKERS: usize = 8;
const PAGES: [usize; 3] = [1, 16, 256];

/// Which of the times is measured.
type Figure = fn(&Times) -> Duration;

fn time(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    what: Figure,
    once: impl Fn() -> Times,
) {
    let mut cost = Vec::new();
    group.bench_function(id, |b| {
        b.iter_custom(|rounds| {
            let times: Vec<_> = (0..rounds).map(|_| once()).collect();
            // What criterion has no place for.
            cost.extend(times.iter().map(|t| micros(t.each)));
            times.iter().map(what).sum()
        });
    });
    if !cost.is_empty() {
        let Spread { min, median, max } = Spread::of(cost);
        println!("    processor time per sleeper: {median:.2} µs ({min:.2}–{max:.2})");
    }
}

fn alone<E: Event>(group: &mut BenchmarkGroup<'_, WallTime>, crew: &Crew, what: Figure) {
    let event = Arc::new(E::new());
    for sleepers in SLEEPERS.into_iter().filter(|&n| n <= crew.size()) {
        time(group, BenchmarkId::new(E::NAME, sleepers), what, || {
            release_to(crew, &event, sleepers)
        });
    }
}

fn queued<E: Queue>(group: &mut BenchmarkGroup<'_, WallTime>, crew: &Crew) {
    let event = Arc::new(E::new());
    for sleepers in [8, 64, 512].into_iter().filter(|&n| n + LOCKERS <= crew.size()) {
        let once = || release_queued(crew, &event, sleepers, LOCKERS);
        time(group, BenchmarkId::new(E::NAME, sleepers), |t| t.last, once);
    }
}

fn several<E: Event>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    crew: &Crew,
    name: &str,
    make: fn(usize) -> Vec<Arc<E>>,
) {
    for pages in PAGES.into_iter().filter(|_| crew.size() >= 256 + cores()) {
        let events = make(pages);
        time(group, BenchmarkId::new(name, pages), |t| t.last, || release_many(crew, &events, 256));
        let releasers = cores().min(pages);
        if releasers > 1 {
            let id = BenchmarkId::new(format!("{name}, {releasers} releasers"), pages);
            time(group, id, |t| t.last, || release_racing(crew, &events, 256, releasers));
        }
    }
}

fn fresh<E: Event>(n: usize) -> Vec<Arc<E>> {
    (0..n).map(|_| Arc::new(E::new())).collect()
}

fn flat<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(format!("event_wait/{name}"));
    group.sampling_mode(SamplingMode::Flat);
    group
}

fn main() {
    let mut criterion = criterion(10, Duration::from_millis(300));
    let crew = Crew::new(MOST);
    let figures: [(&str, Figure); 3] = [
        ("until the first one runs", |t| t.first),
        ("until the last one runs", |t| t.last),
        ("the release's own call", |t| t.call),
    ];
    for (name, what) in figures {
        let mut group = flat(&mut criterion, name);
        alone::<RawWakeAll>(&mut group, &crew, what);
        alone::<Page>(&mut group, &crew, what);
        alone::<Parked>(&mut group, &crew, what);
        alone::<StdCondvar>(&mut group, &crew, what);
        alone::<ParkingLotCondvar>(&mut group, &crew, what);
        alone::<EventListener>(&mut group, &crew, what);
        group.finish();
    }
    let mut group = flat(&mut criterion, "until the last one runs, lockers in the queue");
    queued::<RawQueue>(&mut group, &crew);
    queued::<QueuedPage>(&mut group, &crew);
    queued::<ParkedQueue>(&mut group, &crew);
    queued::<StdCondvar>(&mut group, &crew);
    queued::<ParkingLotCondvar>(&mut group, &crew);
    queued::<ListenerQueue>(&mut group, &crew);
    group.finish();

    let mut group = flat(&mut criterion, "until the last of 256 runs, pages released at once");
    several::<RawWakeAll>(&mut group, &crew, RawWakeAll::NAME, fresh);
    several::<Page>(&mut group, &crew, COLLIDING, |n| Page::many(n, true));
    several::<Page>(&mut group, &crew, DISTINCT, |n| Page::many(n, false));
    several::<Parked>(&mut group, &crew, Parked::NAME, fresh);
    several::<StdCondvar>(&mut group, &crew, StdCondvar::NAME, fresh);
    several::<ParkingLotCondvar>(&mut group, &crew, ParkingLotCondvar::NAME, fresh);
    several::<EventListener>(&mut group, &crew, EventListener::NAME, fresh);
    group.finish();
    criterion.final_summary();
}
