//! The figures: tables of rows, in each row one series of rounds for each subject.

use super::spread::{Spread, digits};
use super::turns::Rounds;
use serde::{Deserialize, Serialize};

/// What a subject is to the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Role {
    /// This crate.
    Ours,
    /// Something that a user might take instead.
    Peer,
    /// What nothing of the kind can beat; no substitute for it.
    Bound,
    /// Another way to use this crate, or a figure for scale.
    Beside,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Better {
    Less,
    More,
    /// Said, not judged.
    Neither,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    pub subject: String,
    pub role: Role,
    pub spread: Spread,
    pub rounds: Vec<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub label: String,
    /// Where the row lies on a curve.
    pub x: f64,
    pub series: Vec<Series>,
}

/// How a ratio is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Compare {
    /// Round by round.
    Rounds,
    /// Medians: for what varies more from round to round than from subject to subject.
    Medians,
}

/// What a table is, before it has rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    pub part: String,
    pub title: String,
    /// The unit of the rows, such as "threads".
    pub rows: String,
    pub unit: String,
    pub better: Better,
    pub compare: Compare,
    /// What a reader has to know.
    pub note: String,
}

impl Head {
    pub fn new(
        part: &str,
        title: impl Into<String>,
        rows: &str,
        unit: &str,
        better: Better,
    ) -> Self {
        Self {
            part: part.to_string(),
            title: title.into(),
            rows: rows.to_string(),
            unit: unit.to_string(),
            better,
            compare: Compare::Rounds,
            note: String::new(),
        }
    }

    pub fn medians(mut self) -> Self {
        self.compare = Compare::Medians;
        self
    }

    pub fn note(mut self, note: &str) -> Self {
        self.note = note.to_string();
        self
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    pub head: Head,
    pub rows: Vec<Row>,
}

impl Row {
    pub fn new(label: impl Into<String>, x: f64) -> Self {
        Self { label: label.into(), x, series: Vec::new() }
    }

    /// One series for each subject of `all`; `part` picks the figure, `role` says what the subject
    /// is.
    pub fn of<T>(
        label: impl Into<String>,
        x: f64,
        all: &[Rounds<T>],
        role: impl Fn(&str) -> Role,
        part: impl Fn(&T) -> f64,
    ) -> Self {
        let mut row = Self::new(label, x);
        for rounds in all {
            row.add(rounds.name, role(rounds.name), rounds.of(&part));
        }
        row
    }

    pub fn add(&mut self, subject: &str, role: Role, rounds: Vec<f64>) {
        // A figure that could not be had is left out rather than called zero.
        if rounds.is_empty() || rounds.iter().any(|r| !r.is_finite()) {
            return;
        }
        self.series.push(Series {
            subject: subject.to_string(),
            role,
            spread: Spread::of(rounds.iter().copied()),
            rounds,
        });
    }

    pub fn get(&self, subject: &str) -> Option<&Series> {
        self.series.iter().find(|s| s.subject == subject)
    }

    pub fn ours(&self) -> Option<&Series> {
        self.series.iter().find(|s| s.role == Role::Ours)
    }

    pub fn bound(&self) -> Option<&Series> {
        self.series.iter().find(|s| s.role == Role::Bound)
    }

    /// The best of the peers, or of those that `among` lets in.
    pub fn best(&self, better: Better, among: impl Fn(&Series) -> bool) -> Option<&Series> {
        let peers = self.series.iter().filter(|s| s.role == Role::Peer && among(s));
        let by_median = |a: &&Series, b: &&Series| a.spread.median.total_cmp(&b.spread.median);
        match better {
            Better::Less => peers.min_by(by_median),
            Better::More => peers.max_by(by_median),
            Better::Neither => None,
        }
    }
}

impl Head {
    /// `ours` as a multiple of `theirs`.
    pub fn ratio(&self, ours: &Series, theirs: &Series) -> Spread {
        match self.compare {
            Compare::Rounds if ours.rounds.len() == theirs.rounds.len() => {
                Spread::of_ratios(&ours.rounds, &theirs.rounds)
            }
            _ => ours.spread.over(theirs.spread),
        }
    }

    /// Whether a ratio is a loss.
    pub fn is_loss(&self, ratio: f64) -> bool {
        match self.better {
            Better::Less => ratio > 1.0,
            Better::More => ratio < 1.0,
            Better::Neither => false,
        }
    }
}

impl Table {
    /// The subjects with a figure in any row, in order of appearance.
    pub fn subjects(&self) -> Vec<(&str, Role)> {
        let mut seen: Vec<(&str, Role)> = Vec::new();
        for series in self.rows.iter().flat_map(|row| &row.series) {
            if !seen.iter().any(|&(name, _)| name == series.subject) {
                seen.push((&series.subject, series.role));
            }
        }
        seen
    }

    /// The fewest and the most rounds behind a figure.
    pub fn rounds(&self) -> (usize, usize) {
        let all = || self.rows.iter().flat_map(|row| &row.series).map(|s| s.rounds.len());
        (all().min().unwrap_or(0), all().max().unwrap_or(0))
    }

    /// For a document or a terminal. `cores` is the machine's.
    pub fn markdown(&self, cores: usize) -> String {
        let Head { title, rows, unit, better, note, .. } = &self.head;
        let (few, many) = self.rounds();
        let rounds = if few == many { format!("{few}") } else { format!("{few} to {many}") };
        let which = match better {
            Better::Less => ", less is better",
            Better::More => ", more is better",
            Better::Neither => "",
        };
        let mut text = format!(
            "**{title}**: {unit}{which}; {cores} cores; median (min–max) of {rounds} rounds\n\n"
        );
        let subjects = self.subjects();
        text += &format!("| {rows} |");
        for (name, _) in &subjects {
            text += &format!(" {name} |");
        }
        let judged = *better != Better::Neither
            && self.rows.iter().any(|row| row.best(*better, |_| true).is_some());
        text += if judged { " best peer |\n|---|" } else { "\n|---|" };
        text += &"--:|".repeat(subjects.len());
        text += if judged { "---|\n" } else { "\n" };
        for row in &self.rows {
            text += &format!("| {} |", row.label);
            for (name, role) in &subjects {
                text += &match row.get(name) {
                    Some(s) if *role == Role::Ours => format!(" **{}** |", show(&s.spread)),
                    Some(s) => format!(" {} |", show(&s.spread)),
                    None => " – |".to_string(),
                };
            }
            if judged {
                let best = row.ours().zip(row.best(*better, |_| true));
                text += &match best {
                    Some((ours, best)) => {
                        format!(" {:.2} × {} |", self.head.ratio(ours, best).median, best.subject)
                    }
                    None => " – |".to_string(),
                };
            }
            text += "\n";
        }
        if !note.is_empty() {
            text += &format!("\n{note}\n");
        }
        text
    }
}

fn show(spread: &Spread) -> String {
    let Spread { min, median, max } = *spread;
    if min == max {
        digits(median)
    } else {
        format!("{} ({}–{})", digits(median), digits(min), digits(max))
    }
}

/// All tables of a run, each found by its title.
#[derive(Default, Debug, Serialize, Deserialize)]
pub struct Tables(pub Vec<Table>);

impl Tables {
    /// Adds a row to the table of this head, which comes into being with its first row.
    pub fn row(&mut self, head: Head, row: Row) {
        if row.series.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|t| t.head.title == head.title) {
            Some(table) => table.rows.push(row),
            None => self.0.push(Table { head, rows: vec![row] }),
        }
    }

    pub fn get(&self, title: &str) -> Option<&Table> {
        self.0.iter().find(|t| t.head.title == title)
    }
}
