//! References, pins and an empty migration, on one thread; beside what `Arc` and raw atomics cost.

mod support;

use core::hint::black_box;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire},
};
use core::time::Duration;
use pagelock::{FreezeRule, PageLock};
use std::sync::Arc;
use support::Padded;
use support::bench::criterion;
use support::single::{raw_freeze_thaw, raw_steps};

fn main() {
    let mut criterion = criterion(20, Duration::from_millis(600));

    let page = Padded(PageLock::new());
    page.0.activate(1).expect("a fresh page");

    let mut group = criterion.benchmark_group("counts/reference");
    let raw = Padded(AtomicU32::new(1));
    group.bench_function("raw add+sub", |b| {
        b.iter(|| {
            black_box(&raw).0.fetch_add(1, Acquire);
            black_box(&raw).0.fetch_sub(1, AcqRel)
        });
    });
    let arc = Arc::new(());
    group.bench_function("Arc clone+drop", |b| b.iter(|| drop(Arc::clone(black_box(&arc)))));
    group.bench_function("try_get+drop", |b| {
        b.iter(|| drop(black_box(&page).0.try_get().expect("it is live")))
    });
    group.bench_function("try_pin+drop", |b| {
        b.iter(|| drop(black_box(&page).0.try_pin().expect("it is not migrating")))
    });
    group.finish();

    let mut group = criterion.benchmark_group("counts/migration");
    let raw = Padded((AtomicU32::new(0), AtomicU32::new(1)));
    group.bench_function("raw compare-exchange+swap", |b| {
        b.iter(|| raw_freeze_thaw(&black_box(&raw).0.1))
    });
    group.bench_function("freeze+thaw", |b| {
        let mut stage = Some(page.0.lock().begin_migration());
        b.iter(|| {
            let migration = black_box(&mut stage).take().expect("put back below");
            let frozen =
                migration.freeze(FreezeRule::ExactRefs(1)).expect("one reference, no pins");
            stage = Some(frozen.thaw());
        });
    });
    group.bench_function("raw compare-exchange+or+compare-exchange+swap+swap", |b| {
        b.iter(|| raw_steps(&black_box(&raw).0.0, &black_box(&raw).0.1));
    });
    group.bench_function("lock+begin+freeze+commit", |b| {
        b.iter(|| {
            let migration = black_box(&page).0.lock().begin_migration();
            migration
                .freeze(FreezeRule::ExactRefs(1))
                .expect("one reference, no pins")
                .commit_in_place()
        });
    });
    group.finish();
    criterion.final_summary();
}
