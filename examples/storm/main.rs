//! A storm of page faults on memory that is being moved: what the ways of waiting for a page cost,
//! measured side by side.
//!
//! `cargo run --release --example storm -- --help`
//!
//! Where to look:
//!
//! | file | what it is |
//! |---|---|
//! | `real.rs` | the crate's traits over `tables.rs`, `frames.rs` and real memory. *Copy this* |
//! | `software.rs` | the same, with faults in software: `pagelock-soft` |
//! | `machine.rs` | what the storm needs of either |
//! | `engine.rs` | faults and migrations, by `pagelock::mm` |
//! | `trap.rs`, `drain.rs` | the trap: a drain with pages in hand, by idle workers. *Do not copy* |
//! | `worker.rs`, `handler.rs` | the threads that use the memory; the handler of their faults |
//! | `run.rs`, `live.rs` | one strategy for its time: workers, migrator; the display meanwhile |
//! | `region/` | the memory: userfaultfd and its next best |
//! | `ledger.rs`, `check.rs` | what the memory must contain, and whether it does |
//! | `report.rs`, `plot.rs`, `output.rs` | table, JSON, picture, and where they go |
//! | `verdict.rs` | which strategies must finish, and which must not |

mod check;
mod counters;
mod drain;
mod engine;
mod frames;
mod handler;
mod ledger;
mod live;
mod machine;
mod options;
mod output;
mod plot;
mod real;
mod region;
mod report;
mod run;
mod software;
mod tables;
mod ticks;
mod trap;
mod usage;
mod verdict;
mod worker;

use clap::Parser;
use live::Live;
use options::{Memory, Options};
use output::{Target, say};
use region::{Kind, PAGE};
use report::Section;
use run::{Outcome, Work};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    match storm(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            output::note(what);
            ExitCode::FAILURE
        }
    }
}

fn storm(options: &Options) -> Result<(), String> {
    let open = |path: &Option<PathBuf>| path.as_deref().map(Target::open).transpose();
    let (plot_to, json_to) = (open(&options.plot)?, open(&options.json)?);
    let path = match &options.input {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(|e| format!("no input: {e}"))?,
    };
    let pages = options.pages as usize;
    let file = output::read(&path, pages * PAGE)?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let work = Work {
        file: &file,
        pages,
        threads: options.threads.map_or(4 * cpus, usize::from).min(512),
        accesses: options.work.unwrap_or((options.seconds * 30_000.0) as u64).max(1),
        time: Duration::from_secs_f64(options.seconds),
        seed: options.seed,
        pretend: options.pretend(),
    };
    let header = format!(
        "{} threads on {cpus} processors, {} pages of contents from {}\n\
         {} accesses by each thread, within {} s for each strategy",
        work.threads,
        work.pages,
        path.display(),
        work.accesses,
        options.seconds,
    );
    say(&header)?;

    region::on_fault(handler::on_fault).map_err(|e| format!("no fault handler: {e}"))?;
    let kinds: &[Kind] = match options.memory {
        Memory::Anon => &[Kind::Anon],
        Memory::Memfd => &[Kind::Memfd { mappings: 2 }],
        Memory::Software => &[Kind::Software { mappings: 2 }],
        Memory::Both => &[Kind::Anon, Kind::Memfd { mappings: 2 }],
    };
    let mut sections: Vec<Section> = Vec::new();
    let mut wrong = Vec::new();
    for &kind in kinds {
        let section = run_section(kind, options, &work)?;
        say(format_args!("\n{}\n{}", section.memory, report::table(&section, options.wide)))?;
        verdict::excuse(&section);
        if options.must_finish {
            wrong.extend(verdict::wrong(&section, kind)?);
        }
        sections.push(section);
    }
    say(report::legend(&sections))?;

    if let Some(to) = plot_to {
        to.write(&plot::draw(&header, &sections, cpus).map_err(|e| format!("no picture: {e}"))?)?;
    }
    if let Some(to) = json_to {
        to.write(&report::json(&sections))?;
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\nstorm: ")),
    }
}

/// All strategies that were asked for, on one kind of memory.
fn run_section(kind: Kind, options: &Options, work: &Work<'_>) -> Result<Section, String> {
    let live = Live::new(kind);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for plan in options.plans() {
        let outcome = run::run(kind, plan, work, &live).inspect_err(|_| live.clear())?;
        // Named after the memory it ran on, which may change between runs where memory is scarce.
        if outcomes.last().is_none_or(|last| last.memory != outcome.memory) {
            outcome.instead.as_ref().map_or(Ok(()), say)?;
        }
        outcomes.push(outcome);
    }
    live.clear();
    let mut memory: Vec<&str> = outcomes.iter().map(|o| o.memory.as_str()).collect();
    memory.dedup();
    Ok(Section { memory: memory.join(", then "), outcomes })
}
