//! Numbers of many rounds, and how to say them.

use core::time::Duration;
use serde::{Deserialize, Serialize};

/// What rounds came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
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

    /// `ours` divided by the median of `theirs`: for what differs from round to round by more than
    /// it differs from lock to lock.
    pub fn over(self, theirs: Self) -> Self {
        let by = theirs.median.max(f64::MIN_POSITIVE);
        Self { min: self.min / by, median: self.median / by, max: self.max / by }
    }
}

/// Three digits that count.
pub fn digits(n: f64) -> String {
    match n.abs() {
        0.0 => "0".to_string(),
        a if a >= 100_000.0 => format!("{n:.2e}"),
        a if a >= 100.0 => format!("{n:.0}"),
        a if a >= 10.0 => format!("{n:.1}"),
        a if a >= 0.1 => format!("{n:.2}"),
        _ => format!("{n:.3}"),
    }
}

pub fn micros(d: Duration) -> f64 {
    d.as_secs_f64() * 1e6
}

pub fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}
