//! Figures of some rounds, and tables of them.

use comfy_table::{Table, presets};
use core::time::Duration;
use std::time::Instant;

pub fn headed(names: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(names.to_vec());
    table
}

/// Seconds of processor time that this thread has had: by what others have the processor for, a
/// turn of one thread is not slower.
#[cfg(unix)]
pub fn seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is this call's. It fails for clocks that there are not.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(rc, 0, "every thread has this clock");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Seconds, by the clock.
#[cfg(not(unix))]
pub fn seconds() -> f64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |time| time.as_secs_f64())
}

/// Lets two take short turns for a while, and says what each turn of either came to: what disturbs
/// one turn is not in the median, and what lasts disturbs both.
pub fn in_turns(
    time: Duration,
    mut one: impl FnMut() -> f64,
    mut other: impl FnMut() -> f64,
) -> [Spread; 2] {
    // The first turns find everything cold.
    one();
    other();
    let (began, mut figures) = (Instant::now(), [const { Vec::new() }; 2]);
    while figures[0].is_empty() || began.elapsed() < time {
        figures[0].push(one());
        figures[1].push(other());
        // The second subject finds in the caches what the first left there.
        figures[1].push(other());
        figures[0].push(one());
    }
    figures.map(Spread::of)
}

/// The median, and the bounds of the middle half.
#[derive(Clone, Copy)]
pub struct Spread {
    low: f64,
    pub median: f64,
    high: f64,
}

impl Spread {
    pub fn of(rounds: impl IntoIterator<Item = f64>) -> Self {
        let mut rounds: Vec<f64> = rounds.into_iter().collect();
        rounds.sort_by(f64::total_cmp);
        let at = |quarter: usize| rounds[(rounds.len() * quarter / 4).min(rounds.len() - 1)];
        Self { low: at(1), median: at(2), high: at(3) }
    }
}

impl core::fmt::Display for Spread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let digits = |n: f64| match n {
            100.0.. => format!("{n:.0}"),
            10.0.. => format!("{n:.1}"),
            _ => format!("{n:.2}"),
        };
        write!(f, "{} ({}-{})", digits(self.median), digits(self.low), digits(self.high))
    }
}
