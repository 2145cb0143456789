//! Processor time of a fault on pages that are being moved, by what a faulter does when its page is
//! locked, and by the number of faulters. Runs the storm example, in software and on userfaultfd.

mod support;

use core::time::Duration;
use criterion::{BenchmarkId, SamplingMode};
use support::bench::criterion;
use support::storm::{MEMORIES, STRATEGIES, Storm};

fn main() {
    let storm = match Storm::build() {
        Ok(storm) => storm,
        Err(why) => return eprintln!("left out: {why}"),
    };
    let smoke = std::env::args().any(|arg| arg == "--test");
    let (seconds, faulters): (f64, &[usize]) =
        if smoke { (0.05, &[2]) } else { (0.2, &[2, 8, 32]) };
    let mut criterion =
        criterion(10, Duration::from_millis(100)).warm_up_time(Duration::from_millis(1));
    for (memory, described) in MEMORIES {
        let mut group =
            criterion.benchmark_group(format!("storm/processor time of a fault, {described}"));
        group.sampling_mode(SamplingMode::Flat);
        for &faulters in faulters {
            for (strategy, name) in STRATEGIES {
                let mut retries = None;
                group.bench_function(BenchmarkId::new(name, faulters), |b| {
                    b.iter_custom(|faults| {
                        // However many are asked for: a storm has its own time, and says what a
                        // fault came to.
                        let outcome =
                            storm.run(strategy, memory, faulters, seconds).expect("the storm runs");
                        retries = Some(outcome.retries_per_migration);
                        Duration::from_secs_f64(
                            faults as f64 / outcome.faults_per_cpu_second().max(1.0),
                        )
                    });
                });
                if let Some(retries) = retries {
                    println!("    retries per migration {retries:.2}");
                }
            }
        }
        group.finish();
    }
    criterion.final_summary();
}
