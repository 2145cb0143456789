//! The contended bars: for each peer and each figure the geometric mean over all rows of ours /
//! theirs, and the weakest row. No bar is about a single row, but that none may be much weaker.

use super::bars::Bar;
use super::parts::contended::{
    BESIDE, Cell, Figure, HOLDS, LONGEST, MEAN, P99, P999, PEERS, Regime, SWITCHES, UNEVEN, cells,
    title,
};
use super::spread::digits;
use super::table::{Better, Row, Tables};
use serde::{Deserialize, Serialize};

/// One figure of one peer's, over some rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mean {
    pub of: String,
    pub rows: usize,
    pub figure: String,
    pub unit: String,
    pub peer: String,
    /// Geometric means, and ours as a multiple of theirs.
    pub ours: f64,
    pub theirs: f64,
    pub ratio: f64,
    pub bar: Option<Bar>,
    pub weakest: f64,
    pub weakest_row: String,
    pub weakest_bar: Option<Bar>,
}

impl Mean {
    /// Of each bar that there is, whether it is met.
    pub fn met(&self) -> impl Iterator<Item = bool> {
        let both = [(self.bar, self.ratio), (self.weakest_bar, self.weakest)];
        both.into_iter().filter_map(|(bar, ratio)| bar.map(|bar| bar.is_met_by(ratio)))
    }
}

/// The bar of a mean, and that of the weakest row.
type Asked = (Option<Bar>, Option<Bar>);

/// Rows that are judged together.
struct Group {
    name: &'static str,
    regime: Regime,
    among: fn(Cell, usize) -> bool,
    figures: &'static [Figure],
    bars: fn(Figure, &str) -> Asked,
}

/// Of the tails, parking_lot's is the measure: std and usync let a few starve, and so all others
/// wait less.
fn tails(figure: Figure, peer: &str) -> Asked {
    (
        (peer == "parking_lot" && (figure == P99 || figure == P999))
            .then_some(Bar::RatioAtMost(1.0)),
        None,
    )
}

const GROUPS: [Group; 6] = [
    Group {
        name: "saturated",
        regime: Regime::Saturated,
        among: |_, _| true,
        figures: &[HOLDS, MEAN, P99, P999, LONGEST, BESIDE],
        bars: |figure, peer| match figure {
            HOLDS => (Some(Bar::RatioAtLeast(1.08)), Some(Bar::RatioAtLeast(0.9))),
            MEAN => (Some(Bar::RatioAtMost(1.0)), None),
            LONGEST => (Some(Bar::RatioAtMost(0.5)), None),
            P999 => tails(figure, peer),
            BESIDE => (Some(Bar::RatioAtLeast(0.95)), None),
            _ => (None, None),
        },
    },
    Group {
        name: "saturated, threads ≤ cores",
        regime: Regime::Saturated,
        among: |cell, cores| cell.threads <= cores,
        figures: &[P99, P999],
        bars: tails,
    },
    Group {
        name: "saturated, held 10 µs",
        regime: Regime::Saturated,
        among: |cell, _| cell.inside == 10_000,
        figures: &[P99, P999],
        bars: tails,
    },
    Group {
        name: "light load",
        regime: Regime::Light,
        among: |_, _| true,
        figures: &[HOLDS, MEAN, P99, P999, LONGEST],
        bars: tails,
    },
    Group {
        name: "1,000 and 1,500 lockers",
        regime: Regime::Crowd,
        among: |_, _| true,
        figures: &[HOLDS, SWITCHES],
        bars: |figure, _| (None, (figure == HOLDS).then_some(Bar::RatioAtLeast(0.9))),
    },
    Group {
        name: "fair release, 32 threads",
        regime: Regime::Fair,
        among: |_, _| true,
        figures: &[HOLDS, UNEVEN],
        bars: |figure, _| ((figure == UNEVEN).then_some(Bar::RatioAtMost(1.1)), None),
    },
];

fn geometric(of: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = of.fold((0.0, 0), |(sum, n), x| (sum + x.max(f64::MIN_POSITIVE).ln(), n + 1));
    (sum / f64::from(n)).exp()
}

/// All means that the tables have rows for.
pub fn means(tables: &Tables, cores: usize) -> Vec<Mean> {
    let mut all = Vec::new();
    for group in &GROUPS {
        let wanted: Vec<String> = cells(group.regime)
            .into_iter()
            .filter(|&c| (group.among)(c, cores))
            .map(Cell::label)
            .collect();
        for &figure in group.figures {
            let Some(table) = tables.get(&title(group.regime, figure)) else { continue };
            let rows: Vec<&Row> =
                table.rows.iter().filter(|row| wanted.contains(&row.label)).collect();
            all.extend(PEERS.iter().filter_map(|peer| mean(group, figure, peer, &rows)));
        }
    }
    all
}

fn mean(group: &Group, figure: Figure, peer: &str, rows: &[&Row]) -> Option<Mean> {
    let both: Vec<(&str, f64, f64)> = rows
        .iter()
        .filter_map(|row| {
            Some((row.label.as_str(), row.ours()?.spread.median, row.get(peer)?.spread.median))
        })
        .collect();
    let ratio = |&(_, ours, theirs): &(&str, f64, f64)| ours / theirs.max(f64::MIN_POSITIVE);
    let weaker = |a: &&(&str, f64, f64), b: &&(&str, f64, f64)| ratio(a).total_cmp(&ratio(b));
    let weakest = match figure.better {
        Better::More => both.iter().min_by(weaker),
        _ => both.iter().max_by(weaker),
    }?;
    let (bar, weakest_bar) = (group.bars)(figure, peer);
    Some(Mean {
        of: group.name.to_string(),
        rows: both.len(),
        figure: figure.name.to_string(),
        unit: figure.unit.to_string(),
        peer: peer.to_string(),
        ours: geometric(both.iter().map(|b| b.1)),
        theirs: geometric(both.iter().map(|b| b.2)),
        ratio: geometric(both.iter().map(ratio)),
        bar,
        weakest: ratio(weakest),
        weakest_row: weakest.0.to_string(),
        weakest_bar,
    })
}

/// How many bars are met, of how many.
pub fn summary(means: &[Mean]) -> String {
    let met = || means.iter().flat_map(Mean::met);
    format!("contended: {} of {} bars met", met().filter(|&met| met).count(), met().count())
}

pub fn markdown(means: &[Mean], cores: usize) -> String {
    let mut text = format!(
        "**{}**; {cores} cores; geometric means over the rows of pagelock / peer\n",
        summary(means)
    );
    let judged = |bar: Option<Bar>, ratio| match bar {
        None => String::new(),
        Some(bar) if bar.is_met_by(ratio) => format!("; {bar}: yes"),
        Some(bar) => format!("; {bar}: **NO**"),
    };
    let mut of = "";
    for mean in means {
        if of != mean.of {
            of = &mean.of;
            text += &format!("\n**{of}**, {} rows\n\n", mean.rows);
            text += "| figure | peer | mean | weakest row | pagelock | theirs |\n";
            text += "|---|---|---|---|--:|--:|\n";
        }
        let Mean { figure, peer, ratio, weakest, weakest_row, unit, .. } = mean;
        text += &format!(
            "| {figure}, {unit} | {peer} | {ratio:.2}{} | {weakest:.2}: {weakest_row}{} \
             | {} | {} |\n",
            judged(mean.bar, *ratio),
            judged(mean.weakest_bar, *weakest),
            digits(mean.ours),
            digits(mean.theirs),
        );
    }
    text
}

/// What an earlier run found, beside this one: each lock's figures now as multiples of the same
/// lock's before. A peer's say how much the machine has changed.
pub fn since(now: &Tables, before: &Tables) -> String {
    let subjects = || core::iter::once("pagelock").chain(PEERS);
    let mut text =
        "**Now / before**, geometric means over the rows that both have\n\n| table | rows |"
            .to_string();
    subjects().for_each(|name| text += &format!(" {name} |"));
    text += &format!("\n|---|--:|{}\n", "--:|".repeat(subjects().count()));
    for table in now.0.iter().filter(|table| table.head.part == "contended") {
        let Some(old) = before.get(&table.head.title) else { continue };
        let ratios = |name: &str| -> Vec<f64> {
            let ratio = |row: &Row| {
                let old = old.rows.iter().find(|o| o.label == row.label)?.get(name)?;
                Some(row.get(name)?.spread.median / old.spread.median.max(f64::MIN_POSITIVE))
            };
            table.rows.iter().filter_map(ratio).collect()
        };
        text += &format!("| {} | {} |", table.head.title, ratios("pagelock").len());
        for name in subjects() {
            let ratios = ratios(name);
            text += &if ratios.is_empty() {
                " |".to_string()
            } else {
                format!(" {:.3} |", geometric(ratios.into_iter()))
            };
        }
        text += "\n";
    }
    text
}
