//! Criterion as these benchmarks use it.

use core::time::Duration;
use criterion::Criterion;

/// `cargo bench` as a whole is to take minutes. Criterion's own figures for noise are good enough
/// with a tenth of the resampling, which would otherwise be most of the time.
pub fn criterion(samples: usize, measure: Duration) -> Criterion {
    Criterion::default()
        .sample_size(samples)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(measure)
        .nresamples(5_000)
        .configure_from_args()
}
