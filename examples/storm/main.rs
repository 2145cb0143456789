//! A storm of page faults on memory that is being moved: what the ways of waiting for a page cost, measured side by side.
//!
//! `cargo run --release --example storm -- --help`
//!
//! Where to look:
//!
//! | file | what it is |
//! |---|---|
//! | `real.rs` | the crate's traits over page tables (`tables.rs`), frames (`frames.rs`) and real memory. *The part to copy* |
//! | `software.rs` | the same, with faults in software: `pagelock-soft` |
//! | `machine.rs` | what the storm wants of either |
//! | `engine.rs` | faults and migrations, by `pagelock::mm` |
//! | `trap.rs`, `drain.rs` | the trap: a drain with pages in hand, by per-processor workers of idle priority. *Not to copy* |
//! | `worker.rs`, `handler.rs` | the threads that use the memory; the handler of their faults |
//! | `run.rs` | one strategy for its time: workers, migrator, progress |
//! | `region/` | the memory: userfaultfd and its next best |
//! | `ledger.rs`, `check.rs` | what the memory has to contain, and whether it does |
//! | `report.rs`, `plot.rs` | table, JSON, picture |
//! | `verdict.rs` | who has to finish, and who must not |

mod check;
mod counters;
mod drain;
mod engine;
mod frames;
mod handler;
mod ledger;
mod machine;
mod options;
mod plot;
mod real;
mod region;
mod report;
mod run;
mod software;
mod tables;
mod trap;
mod usage;
mod verdict;
mod worker;

use clap::Parser;
use options::{Memory, Options};
use region::Kind;
use report::Section;
use run::Work;
use std::fs::File;
use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    // Whoever reads the output may go away.
    #[cfg(unix)]
    // SAFETY: the default is a valid disposition, and there is no other thread yet.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL)
    };
    match storm(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("storm: {what}");
            ExitCode::FAILURE
        }
    }
}

fn storm(options: &Options) -> Result<(), String> {
    let path = match &options.input {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(|e| format!("no input: {e}"))?,
    };
    // No more than there is room for: some files have no end.
    let mut file = Vec::new();
    let most = u64::from(options.pages) * region::PAGE as u64;
    let read = File::open(&path).and_then(|input| input.take(most).read_to_end(&mut file));
    read.map_err(|e| format!("{}: {e}", path.display()))?;
    if file.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let work = Work {
        file: &file,
        pages: options.pages as usize,
        threads: options.threads.map_or(4 * cpus, usize::from),
        accesses: options.work.unwrap_or((options.seconds * 30_000.0) as u64),
        time: Duration::from_secs_f64(options.seconds),
        seed: options.seed,
    };
    println!(
        "{} threads on {cpus} processors, {} pages, {} accesses each within {} s, contents from {}",
        work.threads,
        work.pages,
        work.accesses,
        options.seconds,
        path.display()
    );

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
        let (region, instead) = region::open(kind, work.pages, region::Pretend::default());
        if let Some(instead) = instead {
            println!("{instead}");
        }
        let traps = region.is_some();
        drop(region);
        let name = format!("{}, {} mapping{}", name_of(kind), kind.mappings(), if kind.mappings() == 1 { "" } else { "s" });
        let outcomes = options.plans().into_iter().map(|plan| run::run(kind, plan, &work)).collect::<Result<_, _>>()?;
        let section = Section { memory: name, outcomes };
        println!("\n{}\n{}", section.memory, report::table(&section));
        if options.must_finish {
            wrong.extend(verdict::wrong(&section, kind, traps));
        }
        sections.push(section);
    }
    println!(
        "\nfinished: the time in which the work was done, or NO if it was not. aborted: because of references, of pins, or by the \
         system.\ndrain first: the migrator drains before it locks pages, not while it holds them.\nEvery byte, page, reference and \
         pin is accounted for."
    );

    if let Some(path) = &options.plot {
        plot::draw(path, &sections, cpus).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if let Some(path) = &options.json {
        let text = report::json(&sections).map_err(|e| e.to_string())?;
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\nstorm: ")),
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Anon => "anonymous memory",
        Kind::Memfd { .. } => "memfd",
        Kind::Software { .. } => "faults in software",
    }
}
