//! How good it must be, and how good it is: every bar of the design beside the peers, which take
//! turns in one run.
//!
//! `cargo bench -p pagelock-benches --bench bars` takes some eight minutes, of which the contended
//! lock takes five; `-- quick` less than half of that, with wider spreads. `-- contended`,
//! `release` or `uncontended` runs that part alone.
//!
//! * `--rounds N`: N rounds of the contended lock;
//! * `--rows TEXT`: only the rows whose names contain it, such as `light load` or `32 threads`;
//! * `--json FILE`: leaves everything there;
//! * `--before FILE`: compares with what an earlier run left.
//!
//! The report (`cargo run --release -p pagelock-benches --example report`) has the same figures and
//! more.

mod support;

use serde::{Deserialize, Serialize};
use std::time::Instant;
use support::bars::{Verdict, judge, losses, losses_markdown, markdown};
use support::crew::Crew;
use support::effort::Effort;
use support::machine::Machine;
use support::means::{self, Mean, means};
use support::pace::steps_a_nanosecond;
use support::parts::contended::{CLOSED, Regime, title};
use support::parts::jobs;
use support::release::MOST;
use support::table::Tables;

const PARTS: [&str; 3] = ["contended", "uncontended", "release"];

/// What a run leaves for the next one.
#[derive(Serialize, Deserialize)]
struct Left {
    machine: Machine,
    steps_a_nanosecond: f64,
    means: Vec<Mean>,
    bars: Vec<Verdict>,
    tables: Tables,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |arg: &str| args.iter().any(|a| a.trim_start_matches('-') == arg);
    if has("help") || has("h") {
        return println!("see the first lines of benches/bars.rs");
    }
    let value = |arg: &str| args.iter().skip_while(|a| *a != arg).nth(1);
    let mut effort = match (has("test"), has("quick")) {
        (true, _) => Effort::smoke(),
        (_, true) => Effort::quick().for_bars(),
        _ => Effort::full().for_bars(),
    };
    if let Some(rounds) = value("--rounds") {
        effort.fights = rounds.parse().expect("--rounds takes a number");
    }
    let before: Option<Left> = value("--before").map(|file| {
        let text = std::fs::read_to_string(file).expect("the earlier run's file can be read");
        serde_json::from_str(&text).expect("it is what --json wrote")
    });
    let (began, machine, mut tables) = (Instant::now(), Machine::this(), Tables::default());
    println!("{machine}\n");
    let crew = Crew::new(MOST);
    let all = !PARTS.into_iter().any(has);
    for part in PARTS.into_iter().filter(|part| all || has(part)) {
        let rows = value("--rows").map_or("", String::as_str);
        for job in jobs(part, &effort).into_iter().filter(|job| job.name.contains(rows)) {
            eprintln!("{part}: {}", job.name);
            (job.run)(&crew, &mut tables);
        }
    }
    let (means, bars) = (means(&tables, machine.cores), judge(&tables));
    if !means.is_empty() {
        println!("{}", means::markdown(&means, machine.cores));
        let closed = [Regime::Saturated, Regime::Crowd]
            .into_iter()
            .filter_map(|regime| tables.get(&title(regime, CLOSED)));
        closed.for_each(|table| println!("{}", table.markdown(machine.cores)));
    }
    if let Some(before) = before {
        println!("{}\nBefore: {}\n", means::since(&tables, &before.tables), before.machine);
    }
    println!("{}", markdown(&bars, machine.cores));
    if all || has("uncontended") || has("release") {
        println!("{}", losses_markdown(&losses(&tables), false, machine.cores));
    }
    println!(
        "{:.0} s, {:.2} steps a nanosecond",
        began.elapsed().as_secs_f64(),
        steps_a_nanosecond()
    );
    if let Some(file) = value("--json") {
        let left = Left { machine, steps_a_nanosecond: steps_a_nanosecond(), means, bars, tables };
        let text = serde_json::to_string(&left).expect("it is plain data");
        std::fs::write(file, text).expect("the file can be written");
    }
}
