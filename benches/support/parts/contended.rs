//! Threads that fight over one lock: the rows that the contended bars are means of, and three
//! regimes that have bars of their own.

use super::Job;
use crate::support::contention::{Fight, Look, Outcome, contend};
use crate::support::crew::Crew;
use crate::support::effort::Effort;
use crate::support::locks::{FairPage, Lock, role};
use crate::support::machine::cores;
use crate::support::table::{Better, Head, Row, Tables};
use crate::support::turns::{Rounds, take_turns};
use core::time::Duration;
use pagelock::PageLock;

/// The peers that the bars name.
pub const PEERS: [&str; 3] = ["std", "parking_lot", "usync"];

/// The load: which threads, and how often they meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Regime {
    /// Threads do nothing outside the lock, or no more than inside.
    Saturated,
    /// Held 2 to 20 % of the time, and every processor busy.
    Light,
    /// A thousand lockers and more of one page.
    Crowd,
    /// Every release is fair.
    Fair,
}

impl Regime {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Saturated => "saturated",
            Self::Light => "light load",
            Self::Crowd => "a crowd",
            Self::Fair => "fair release",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
}

pub const HOLDS: Figure = Figure { name: "holds", unit: "thousand a second", better: Better::More };
pub const MEAN: Figure = Figure { name: "mean wait", unit: "µs", better: Better::Less };
pub const P99: Figure = Figure { name: "p99", unit: "µs", better: Better::Less };
pub const P999: Figure = Figure { name: "p999", unit: "µs", better: Better::Less };
pub const LONGEST: Figure = Figure { name: "longest wait", unit: "µs", better: Better::Less };
/// What a thread has of a processor that only computes, while the others fight.
pub const BESIDE: Figure =
    Figure { name: "left for others", unit: "of a processor", better: Better::More };
pub const SWITCHES: Figure = Figure { name: "switches a hold", unit: "", better: Better::Less };
/// The holds of the thread that had the most as a multiple of the fewest.
pub const UNEVEN: Figure = Figure { name: "most / fewest", unit: "×", better: Better::Less };

/// How much of the time newcomers are kept out.
pub const CLOSED: Figure =
    Figure { name: "gate closed", unit: "of the time", better: Better::Neither };

/// The title of the table that has a figure.
pub fn title(regime: Regime, figure: Figure) -> String {
    format!("Contended, {}: {}", regime.name(), figure.name)
}

/// A row: threads, and nanoseconds of work with the lock held and between two holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    pub threads: usize,
    pub inside: u64,
    pub outside: u64,
}

impl Cell {
    pub fn label(self) -> String {
        let ns = |n: u64| match n {
            1_000.. if n.is_multiple_of(1_000) => format!("{} µs", n / 1_000),
            1_000.. => format!("{:.1} µs", n as f64 / 1e3),
            _ => format!("{n} ns"),
        };
        let away = if self.outside == 0 {
            "back to back".to_string()
        } else {
            format!("away {}", ns(self.outside))
        };
        format!("{} threads, held {}, {away}", self.threads, ns(self.inside))
    }
}

/// The shortest sections, and the time between them: a family of rows, and the README's picture.
pub const SHORT: (u64, u64) = (20, 70);

/// The rows of a regime; no row stands there twice.
pub fn cells(regime: Regime) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |threads, inside, outside| {
        let cell = Cell { threads, inside, outside };
        if !cells.contains(&cell) {
            cells.push(cell);
        }
    };
    match regime {
        Regime::Saturated => {
            let all = [2, 4, 8, 16, 32, 64];
            all.into_iter().for_each(|threads| add(threads, SHORT.0, SHORT.1));
            for threads in [2, 8, 32] {
                for inside in [0, 50, 1_000, 10_000] {
                    add(threads, inside, 0);
                    add(threads, inside, inside);
                }
            }
            for threads in all {
                add(threads, 1_000, 1_000);
                add(threads, 1_000, 0);
            }
        }
        Regime::Light => {
            let cores = cores() as u64;
            add(8, 200, 10_000);
            add(4, 100, 2_000);
            for (inside, percent) in
                [(200, 2), (200, 5), (200, 20), (2_000, 5), (2_000, 20), (10_000, 20)]
            {
                // So that the processors, each with a thread that runs, hold it for this part of
                // the time.
                let outside = inside * (100 * cores / percent).saturating_sub(1);
                // A single thread meets no other.
                add(cores.max(2) as usize, inside, outside);
                add(4 * cores.max(2) as usize, inside, outside);
            }
        }
        Regime::Crowd => [1_000, 1_500].into_iter().for_each(|threads| add(threads, 20_000, 0)),
        Regime::Fair => add(32, 20_000, 0),
    }
    cells
}

pub fn jobs(effort: &Effort) -> Vec<Job<'_>> {
    let mut jobs = Vec::new();
    for regime in [Regime::Saturated, Regime::Light, Regime::Crowd, Regime::Fair] {
        let all = cells(regime);
        // To see that it runs, two rows are enough.
        let wanted = if effort.is_smoke() { 2 } else { all.len() };
        for cell in all.into_iter().take(wanted) {
            let seconds = effort.fights as f64 * 1.1 * seconds_of_a_round(effort, regime);
            jobs.push(Job::new(
                "contended",
                format!("{}: {}", regime.name(), cell.label()),
                seconds,
                move |crew, tables| {
                    // And one to compute.
                    if cell.threads < crew.size() {
                        row(crew, effort, regime, cell, tables);
                    }
                },
            ));
        }
    }
    jobs
}

fn seconds_of_a_round(effort: &Effort, regime: Regime) -> f64 {
    let runs = match regime {
        Regime::Saturated => 4 * (2 * effort.throughput + effort.waits),
        Regime::Light => 4 * 2 * effort.waits,
        Regime::Crowd => 2 * 6 * effort.waits,
        Regime::Fair => 2 * 4 * effort.waits,
    };
    runs.as_secs_f64()
}

type Part = &'static dyn Fn(&Outcome) -> f64;
type Turn<'a> = (&'static str, &'a dyn Fn() -> Outcome);

/// Lets the locks take turns. Another version of this crate is one more line, with a [`Lock`] of
/// its own.
fn everybody(crew: &Crew, rounds: usize, fight: Fight) -> Vec<Rounds<Outcome>> {
    let turns: [Turn<'_>; 4] = [
        ("pagelock", &|| contend::<PageLock>(crew, fight)),
        ("std", &|| contend::<std::sync::Mutex<()>>(crew, fight)),
        ("parking_lot", &|| contend::<parking_lot::Mutex<()>>(crew, fight)),
        ("usync", &|| contend::<usync::Mutex<()>>(crew, fight)),
    ];
    take_turns(rounds, &turns)
}

/// The page lock and parking_lot's, as `P` and `Q`.
fn two<P: Lock, Q: Lock>(crew: &Crew, rounds: usize, fight: Fight) -> Vec<Rounds<Outcome>> {
    let turns: [Turn<'_>; 2] = [
        ("pagelock", &|| contend::<P>(crew, fight)),
        ("parking_lot", &|| contend::<Q>(crew, fight)),
    ];
    take_turns(rounds, &turns)
}

fn row(crew: &Crew, effort: &Effort, regime: Regime, cell: Cell, tables: &mut Tables) {
    let Cell { threads, inside, outside } = cell;
    let run = |look, windows: u32, warm| Fight {
        threads,
        inside,
        outside,
        warm,
        window: windows * if look == Look::Waits { effort.waits } else { effort.throughput },
        look,
    };
    let (soon, later) = (Duration::from_millis(5), effort.waits * 2);
    let rounds = effort.fights;
    let mut put = |figure: Figure, all: &[Rounds<Outcome>], part: Part| {
        let head = Head::new("contended", title(regime, figure), "row", figure.unit, figure.better)
            .medians();
        tables.row(head, Row::of(cell.label(), threads as f64, all, role, part));
    };
    // How much of the time the gate is closed: where many meet.
    if threads >= 32 && regime != Regime::Fair {
        let looked: Turn<'_> = ("pagelock", &|| {
            contend::<PageLock>(
                crew,
                run(Look::Gate, 2, if regime == Regime::Crowd { later } else { soon }),
            )
        });
        put(CLOSED, &take_turns(rounds, &[looked]), &|o| o.kept_out);
    }
    let holds: Part = &|o| o.per_second() / 1e3;
    let waits: [(Figure, Part); 4] = [
        (MEAN, &|o| o.mean_wait() / 1e3),
        (P99, &|o| o.wait(0.99) / 1e3),
        (P999, &|o| o.wait(0.999) / 1e3),
        (LONGEST, &|o| o.wait(1.0) / 1e3),
    ];
    match regime {
        Regime::Saturated => {
            put(HOLDS, &everybody(crew, rounds, run(Look::Holds, 1, soon)), holds);
            let all = everybody(crew, rounds, run(Look::Waits, 1, soon));
            waits.into_iter().for_each(|(figure, part)| put(figure, &all, part));
            put(BESIDE, &everybody(crew, rounds, run(Look::Beside, 1, soon)), &|o| o.beside);
        }
        // Few holds meet anybody, so the window is longer; and the clock costs little beside the
        // time away.
        Regime::Light => {
            let all = everybody(crew, rounds, run(Look::Waits, 2, soon));
            put(HOLDS, &all, holds);
            waits.into_iter().for_each(|(figure, part)| put(figure, &all, part));
        }
        Regime::Crowd => {
            let all =
                two::<PageLock, parking_lot::Mutex<()>>(crew, rounds, run(Look::Holds, 6, later));
            put(HOLDS, &all, holds);
            put(SWITCHES, &all, &|o| o.switches_per_hold());
        }
        Regime::Fair => {
            let all = two::<FairPage, parking_lot::FairMutex<()>>(
                crew,
                rounds,
                run(Look::Holds, 6, soon),
            );
            put(HOLDS, &all, holds);
            put(UNEVEN, &all, &|o| o.most as f64 / o.fewest.max(1) as f64);
        }
    }
}
