//! Everything that a run found.

use crate::support::bars::{Loss, Verdict, judge, losses, summary};
use crate::support::machine::Machine;
use crate::support::means::{self, Mean, means};
use crate::support::spread::Spread;
use crate::support::table::Tables;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Serialize)]
pub struct Results {
    pub machine: Machine,
    /// How much was measured.
    pub effort: String,
    pub seconds: f64,
    pub bars: Vec<Verdict>,
    /// The bars of the contended lock.
    pub means: Vec<Mean>,
    /// Where we lose.
    pub losses: Vec<Loss>,
    pub noise: Vec<Noise>,
    pub tables: Tables,
}

/// How much the rounds of a part differ.
#[derive(Serialize)]
pub struct Noise {
    pub part: String,
    /// The distance between the smallest and the largest round of a series, as a part of its
    /// median: the median of that over all series that have more than one round.
    pub usual: f64,
    /// The same of the worst series.
    pub worst: f64,
    pub series: usize,
}

/// What an earlier run has left in its JSON file, this program's or that of `bars`.
#[derive(Deserialize)]
pub struct Earlier {
    pub machine: Machine,
    pub tables: Tables,
    #[serde(default)]
    pub effort: String,
    #[serde(default)]
    pub seconds: f64,
}

impl Results {
    pub fn new(machine: Machine, effort: &str, took: Duration, tables: Tables) -> Self {
        Self {
            bars: judge(&tables),
            means: means(&tables, machine.cores),
            losses: losses(&tables),
            noise: noise(&tables),
            machine,
            effort: effort.to_string(),
            seconds: took.as_secs_f64(),
            tables,
        }
    }

    /// For the terminal, in lines that fit 80 columns.
    pub fn summary(&self) -> String {
        let behind = self.losses.iter().filter(|loss| !loss.bound).count();
        let compared = self.tables.0.iter().filter(|table| table.head.part != "contended");
        let rows: usize = compared.map(|table| table.rows.len()).sum();
        format!(
            "{}\n{}\na peer is ahead in {behind} comparisons, in {rows} rows",
            summary(&self.bars).replace(", and", "\nand"),
            means::summary(&self.means)
        )
    }
}

fn noise(tables: &Tables) -> Vec<Noise> {
    let mut parts: Vec<&str> = tables.0.iter().map(|table| table.head.part.as_str()).collect();
    parts.dedup();
    let of_part = |part: &str| {
        let tables = tables.0.iter().filter(|table| table.head.part == part);
        let series = tables
            .flat_map(|table| &table.rows)
            .flat_map(|row| &row.series)
            .filter(|s| s.rounds.len() > 1);
        let width = |s: &Spread| (s.max - s.min) / s.median;
        let widths: Vec<f64> = series.map(|s| width(&s.spread)).filter(|w| w.is_finite()).collect();
        if widths.is_empty() {
            return None;
        }
        let all = Spread::of(widths.iter().copied());
        Some(Noise {
            part: part.to_string(),
            usual: all.median,
            worst: all.max,
            series: widths.len(),
        })
    };
    parts.into_iter().filter_map(of_part).collect()
}
