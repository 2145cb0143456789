//! Numbers of many rounds, and how to say them.

use core::time::Duration;
use criterion::Criterion;

/// What rounds came to.
#[derive(Clone, Copy)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(rounds: impl IntoIterator<Item = f64>) -> Self {
        let mut rounds: Vec<f64> = rounds.into_iter().collect();
        assert!(!rounds.is_empty(), "a spread of nothing");
        rounds.sort_by(f64::total_cmp);
        Self { min: rounds[0], median: rounds[rounds.len() / 2], max: rounds[rounds.len() - 1] }
    }

    /// Round by round, `ours` divided by `theirs`: what moved both is not in it.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Self {
        Self::of(ours.iter().zip(theirs).map(|(o, t)| o / t.max(f64::MIN_POSITIVE)))
    }
}

pub fn micros(d: Duration) -> f64 {
    d.as_secs_f64() * 1e6
}

pub fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// The machine, as far as it bears on the numbers.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    let load = load.as_deref().and_then(|l| l.split(' ').next()).unwrap_or("unknown");
    format!("{cores} cores, load {load} when it began (above 0.3, something else was running: measure again)")
}

/// Criterion as these benchmarks use it: `cargo bench` as a whole is to take minutes. Its own figures for noise are good enough
/// with a tenth of the resampling, which would otherwise be most of the time.
pub fn criterion(samples: usize, measure: Duration) -> Criterion {
    Criterion::default()
        .sample_size(samples)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(measure)
        .nresamples(5_000)
        .configure_from_args()
}
