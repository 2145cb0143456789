//! How good it must be: the bars, judged by the tables. Those of the contended lock are in
//! `means.rs`.

use super::parts::{bypass, instructions, release, storm, uncontended};
use super::spread::{Spread, digits};
use super::storm::MEMORIES;
use super::table::{Row, Series, Table, Tables};
use core::fmt;
use pagelock::futex::EventSlot;
use pagelock::{Futex, OsFutex, PageLock};
use serde::{Deserialize, Serialize};

/// The bar of a figure.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Bar {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// Of the figure itself.
    AtMost(f64),
    /// Of the figure itself, in every round.
    NeverAbove(f64),
}

impl Bar {
    /// Of a ratio or a figure, whichever it is about.
    pub fn is_met_by(self, x: f64) -> bool {
        match self {
            Self::RatioAtMost(most) | Self::AtMost(most) | Self::NeverAbove(most) => x <= most,
            Self::RatioAtLeast(least) => x >= least,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtMost(bar) => write!(f, "≤ {bar:.2} ×"),
            Self::RatioAtLeast(bar) => write!(f, "≥ {bar:.2} ×"),
            Self::AtMost(bar) => write!(f, "≤ {}", digits(*bar)),
            Self::NeverAbove(bar) => write!(f, "never above {}", digits(*bar)),
        }
    }
}

/// A bar, and how far we are from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    pub what: String,
    pub ours: f64,
    pub unit: String,
    /// The peer; empty for a bar of the figure itself.
    pub beside: String,
    pub theirs: Option<f64>,
    pub ratio: Option<Spread>,
    pub bar: Bar,
    pub met: bool,
    pub rounds: usize,
    /// Not one of the crate's requirements: a regime that was added later, and is held to the same.
    pub added: bool,
}

impl Verdict {
    fn new(table: &Table, what: String, ours: &Series, theirs: Option<&Series>, bar: Bar) -> Self {
        let ratio = theirs.map(|theirs| table.head.ratio(ours, theirs));
        let figure =
            if let Bar::NeverAbove(_) = bar { ours.spread.max } else { ours.spread.median };
        let judged = match bar {
            Bar::RatioAtMost(_) | Bar::RatioAtLeast(_) => ratio.map(|r| r.median),
            Bar::AtMost(_) | Bar::NeverAbove(_) => Some(figure),
        };
        Self {
            what,
            ours: figure,
            unit: table.head.unit.clone(),
            beside: theirs.map_or(String::new(), |t| t.subject.clone()),
            theirs: theirs.map(|t| t.spread.median),
            ratio,
            bar,
            met: judged.is_some_and(|x| bar.is_met_by(x)),
            rounds: ours.rounds.len(),
            added: false,
        }
    }

    fn added(self, added: bool) -> Self {
        Self { added, ..self }
    }

    /// Of a constant, which needs no rounds.
    fn constant(what: &str, bytes: usize, most: usize) -> Self {
        Self {
            what: what.to_string(),
            ours: bytes as f64,
            unit: "bytes".to_string(),
            beside: String::new(),
            theirs: None,
            ratio: None,
            bar: Bar::AtMost(most as f64),
            met: bytes <= most,
            rounds: 1,
            added: false,
        }
    }
}

/// The size of the default platform's event table, from the addresses of its slots.
fn event_table_bytes() -> usize {
    const OS: &OsFutex = &OsFutex;
    let slots = OS.events();
    let at = |index: usize| core::ptr::from_ref(OS.event(index)).addr();
    if slots == 1 { size_of::<EventSlot>() } else { (at(1) - at(0)) * slots }
}

/// Every bar that the tables have figures for, and those that are constants.
pub fn judge(tables: &Tables) -> Vec<Verdict> {
    let mut all = vec![
        Verdict::constant("a page's header", size_of::<PageLock>(), 8),
        Verdict::constant("the event table, for the whole program", event_table_bytes(), 16 << 10),
    ];
    let mut rows =
        |title: &str, judge: &mut dyn FnMut(&Table, &Row, &Series) -> Option<Verdict>| {
            let Some(table) = tables.get(title) else { return };
            all.extend(table.rows.iter().filter_map(|row| judge(table, row, row.ours()?)));
        };
    rows(instructions::TITLE, &mut |table, row, ours| {
        let most = match row.label.as_str() {
            "lock-unlock" => 11.0,
            // One load, its test, and the answer.
            "try_lock-fails" => 4.0,
            _ => return None,
        };
        Some(Verdict::new(
            table,
            format!("{}, instructions", row.label),
            ours,
            None,
            Bar::AtMost(most),
        ))
    });
    rows(uncontended::LOCKS, &mut |table, row, ours| {
        // A failed try is one load and no store, which the instructions above show. In time that is
        // like a load, give or take a fraction of a nanosecond; a failed compare-exchange would be
        // twenty times as long.
        let bar = match row.label.as_str() {
            uncontended::PAIR => Bar::RatioAtMost(1.03),
            uncontended::TRY_FAIL => Bar::RatioAtMost(2.0),
            _ => return None,
        };
        Some(Verdict::new(table, row.label.clone(), ours, Some(row.bound()?), bar))
    });
    for whose in [bypass::LOCKER, bypass::FAULTER] {
        rows(bypass::TITLE, &mut |table, row, _| {
            let what = format!("rounds lost by {whose}, {}", row.label);
            let bound = f64::from(<OsFutex as Futex>::BYPASS_BOUND);
            Some(Verdict::new(table, what, row.get(whose)?, None, Bar::NeverAbove(bound)))
        });
    }
    rows(release::LAST, &mut |table, row, ours| {
        let what = format!("release to the last of {}", row.label);
        Some(
            Verdict::new(table, what, ours, Some(row.bound()?), Bar::RatioAtMost(1.10))
                .added(row.x > 512.0),
        )
    });
    rows(release::CALL, &mut |table, row, ours| {
        let judged = row.label == "512";
        judged.then(|| {
            Verdict::new(
                table,
                "releaser's own call, 512 sleepers".to_string(),
                ours,
                None,
                Bar::AtMost(100.0),
            )
        })
    });
    rows(release::ROUND_TRIP, &mut |table, row, ours| {
        let what = "round trip of two threads".to_string();
        Some(Verdict::new(table, what, ours, Some(row.bound()?), Bar::RatioAtMost(1.5)).added(true))
    });
    for (_, memory) in MEMORIES {
        rows(&storm::retries(memory), &mut |table, row, ours| {
            let what = format!("retries per migration, {memory}, {} faulters", row.label);
            Some(Verdict::new(table, what, ours, None, Bar::AtMost(2.0)))
        });
        rows(&storm::spins(memory), &mut |table, row, ours| {
            let what = format!("attempts that do not sleep, {memory}, {} faulters", row.label);
            Some(Verdict::new(table, what, ours, None, Bar::NeverAbove(0.0)))
        });
        rows(&storm::aborts(memory), &mut |table, row, ours| {
            let what =
                format!("migrations failed because of waiters, {memory}, {} faulters", row.label);
            Some(Verdict::new(table, what, ours, None, Bar::AtMost(0.0)))
        });
    }
    all
}

/// How many are met, of what is required and of what was added.
pub fn summary(verdicts: &[Verdict]) -> String {
    let count = |added| {
        let of = || verdicts.iter().filter(move |v| v.added == added);
        (of().filter(|v| v.met).count(), of().count())
    };
    let ((met, all), (met_too, more)) = (count(false), count(true));
    format!(
        "{met} of {all} bars met, \
         and {met_too} of {more} in rows that were added and are held to the same"
    )
}

/// The bars as two tables: what is required, and what was added.
pub fn markdown(verdicts: &[Verdict], cores: usize) -> String {
    let mut text = format!("**{}**; {cores} cores\n", summary(verdicts));
    for (added, title) in [(false, ""), (true, "\nAdded:\n")] {
        text += title;
        text += "\n| what | pagelock | beside | ratio (min–max) | bar | rounds |\n";
        text += "|---|--:|---|--:|---|--:|\n";
        verdicts.iter().filter(|v| v.added == added).for_each(|v| text += &line(v));
    }
    text
}

fn line(v: &Verdict) -> String {
    let Verdict { what, unit, bar, rounds, .. } = v;
    let ours = digits(v.ours);
    let beside = v.theirs.map_or(String::new(), |t| format!("{}: {} {unit}", v.beside, digits(t)));
    let ratio =
        v.ratio.map_or(String::new(), |r| format!("{:.2} ({:.2}–{:.2})", r.median, r.min, r.max));
    let met = if v.met { "yes" } else { "**NO**" };
    format!("| {what} | {ours} {unit} | {beside} | {ratio} | {bar}: {met} | {rounds} |\n")
}

/// A row in which a peer or a bound is ahead of us.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loss {
    pub table: String,
    pub row: String,
    pub rows: String,
    pub unit: String,
    pub ours: f64,
    pub ahead: String,
    pub theirs: f64,
    pub ratio: Spread,
    /// Whether that is a bound, which is no substitute.
    pub bound: bool,
    /// The rounds' ratios lie on both sides of 1.
    pub in_the_noise: bool,
}

/// Every row of every table in which a peer's median is better than ours, one loss for each such
/// peer; and those in which the bound's is, marked as such. Not of the contended lock, of which the
/// means are judged.
pub fn losses(tables: &Tables) -> Vec<Loss> {
    use super::table::Role;
    let mut all = Vec::new();
    for table in tables.0.iter().filter(|table| table.head.part != "contended") {
        for row in &table.rows {
            let Some(ours) = row.ours() else { continue };
            for theirs in row.series.iter().filter(|s| matches!(s.role, Role::Peer | Role::Bound)) {
                let ratio = table.head.ratio(ours, theirs);
                if !table.head.is_loss(ratio.median) {
                    continue;
                }
                all.push(Loss {
                    table: table.head.title.clone(),
                    row: row.label.clone(),
                    rows: table.head.rows.clone(),
                    unit: table.head.unit.clone(),
                    ours: ours.spread.median,
                    ahead: theirs.subject.clone(),
                    theirs: theirs.spread.median,
                    ratio,
                    bound: theirs.role == Role::Bound,
                    in_the_noise: ratio.min < 1.0 && ratio.max > 1.0,
                });
            }
        }
    }
    all
}

/// The losses as a table, to peers or to bounds.
pub fn losses_markdown(losses: &[Loss], bounds: bool, cores: usize) -> String {
    let (what, ahead) = if bounds { ("the bound is", "bound") } else { ("a peer is", "ahead") };
    let wanted: Vec<_> = losses.iter().filter(|l| l.bound == bounds).collect();
    let mut text = format!("**{} rows in which {what} ahead**; {cores} cores\n\n", wanted.len());
    text += &format!(
        "| where | pagelock | {ahead} | theirs | ratio (min–max) |\n|---|--:|---|--:|--:|\n"
    );
    for l in wanted {
        let Spread { min, median, max } = l.ratio;
        text += &format!(
            "| {}: {}{} | {} {} | {} | {} {} | {median:.2} ({min:.2}–{max:.2}{}) |\n",
            l.table,
            l.row,
            // A row names an operation by itself, and a number not.
            if l.rows == "operation" { String::new() } else { format!(" {}", l.rows) },
            digits(l.ours),
            l.unit,
            l.ahead,
            digits(l.theirs),
            l.unit,
            if l.in_the_noise { ", crosses 1" } else { "" },
        );
    }
    text
}
