//! One thread alone: a lock and unlock, a try that succeeds, a try that fails; each beside
//! the raw pair of atomic operations that no lock of this kind can beat.

mod support;

use core::hint::black_box;
use core::time::Duration;
use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use support::Padded;
use support::bench::criterion;
use support::locks::{Lock, RawFutex, RawPair};

fn pair<L: Lock>(group: &mut BenchmarkGroup<'_, WallTime>) {
    let lock = Padded(L::new());
    group.bench_function(L::NAME, |b| b.iter(|| black_box(&lock).0.with(|| ())));
}

fn try_pair<L: Lock>(group: &mut BenchmarkGroup<'_, WallTime>) {
    let lock = Padded(L::new());
    group.bench_function(L::NAME, |b| b.iter(|| black_box(&lock).0.try_pair()));
}

fn try_fail<L: Lock>(group: &mut BenchmarkGroup<'_, WallTime>) {
    let lock = Padded(L::new());
    lock.0.with(|| group.bench_function(L::NAME, |b| b.iter(|| black_box(&lock).0.try_pair())));
}

macro_rules! each {
    ($group:ident, $measure:ident) => {
        $measure::<RawPair>(&mut $group);
        $measure::<pagelock::PageLock>(&mut $group);
        #[cfg(feature = "lock_api")]
        $measure::<support::locks::LockApi>(&mut $group);
        $measure::<parking_lot::Mutex<()>>(&mut $group);
        $measure::<parking_lot::FairMutex<()>>(&mut $group);
        $measure::<std::sync::Mutex<()>>(&mut $group);
        $measure::<usync::Mutex<()>>(&mut $group);
        $measure::<spin::Mutex<()>>(&mut $group);
        $measure::<RawFutex>(&mut $group);
        $group.finish();
    };
}

fn main() {
    let mut criterion = criterion(20, Duration::from_millis(600));
    let mut group = criterion.benchmark_group("uncontended/lock+unlock");
    each!(group, pair);
    let mut group = criterion.benchmark_group("uncontended/try_lock+unlock");
    each!(group, try_pair);
    let mut group = criterion.benchmark_group("uncontended/failed try_lock");
    each!(group, try_fail);
    criterion.final_summary();
}
