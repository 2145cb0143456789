//! Work that takes a given time of a processor: steps of a random generator, counted and not
//! timed, so that a thread which is stopped in the middle of them still has the rest to do.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Instant;

/// Does `n` steps from `x`. Use the answer, or the compiler leaves them out.
#[inline]
pub fn steps(mut x: u64, n: u32) -> u64 {
    for _ in 0..n {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    x
}

/// How many steps that many nanoseconds are.
pub fn steps_of(ns: u64) -> u32 {
    (ns as f64 * steps_a_nanosecond()).round() as u32
}

/// The best of many tries, because something else may run meanwhile; the same for the whole run.
pub fn steps_a_nanosecond() -> f64 {
    const STEPS: u32 = 20_000;
    static PACE: OnceLock<f64> = OnceLock::new();
    *PACE.get_or_init(|| {
        let once = |_| {
            let began = Instant::now();
            black_box(steps(black_box(1), STEPS));
            began.elapsed().as_nanos() as f64
        };
        f64::from(STEPS) / (0..2_000).map(once).fold(f64::INFINITY, f64::min)
    })
}
