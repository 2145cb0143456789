//! The whole comparison in one run: this crate beside its peers and beside what nothing can beat.
//!
//! `cargo run --release -p pagelock-benches --example report -- --help`
//!
//! Where to look:
//!
//! | file | what it is |
//! |---|---|
//! | `main.rs` | the command line, the progress bar, the files |
//! | `results.rs` | everything that a run found, as the JSON file has it |
//! | `markdown.rs` | the same as a document: `tables.md` |
//! | `page.rs`, `picture.rs` | the same as one HTML page with pictures in it |
//! | `../support/` | what is measured, and how |

mod markdown;
mod page;
mod picture;
mod results;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../examples/storm/ticks.rs"]
mod ticks;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use results::{Earlier, Results};
use std::fmt::Display;
use std::fs::{File, create_dir_all, write};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::crew::Crew;
use support::effort::Effort;
use support::machine::Machine;
use support::parts::{Job, PARTS, jobs};
use support::release::MOST;
use support::table::Tables;

/// Measures this crate beside its peers, and writes a page, a JSON file and the tables of a
/// document.
///
/// About ten minutes on two cores. Nothing else should be running: the load is in the results, and
/// says so if something was.
#[derive(Parser, Debug)]
#[command(version, about, long_about)]
struct Options {
    /// A minute and a half, with fewer rows and wider spreads
    #[arg(long)]
    quick: bool,

    /// Seconds, only to see that everything runs
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,

    /// Only this part; may be given several times
    #[arg(long, value_name = "PART", value_parser = PossibleValuesParser::new(PARTS))]
    only: Vec<String>,

    /// Measure nothing: make the page of an earlier run, from its report.json or the file of
    /// `bars --json`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "smoke", "only"])]
    from: Option<PathBuf>,

    /// Where index.html, report.json, tables.md and contended.svg go
    #[arg(long, value_name = "DIR", default_value = "target/report")]
    out: PathBuf,
}

/// The files, in the order in which they are written.
const FILES: [&str; 4] = ["index.html", "report.json", "tables.md", "contended.svg"];

fn main() -> ExitCode {
    match report(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            let _ = writeln!(io::stderr(), "report: {what}");
            ExitCode::FAILURE
        }
    }
}

fn report(options: &Options) -> Result<(), String> {
    let out = &options.out;
    create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    // Tried before the ten minutes, not after.
    for file in FILES.map(|file| out.join(file)) {
        File::options()
            .append(true)
            .create(true)
            .open(&file)
            .map_err(|e| format!("{}: {e}", file.display()))?;
    }
    let results = match &options.from {
        Some(file) => earlier(file)?,
        None => measured(options)?,
    };
    let page = page::html(&results).map_err(|e| format!("the page could not be made: {e}"))?;
    let json = serde_json::to_string_pretty(&results).map_err(|e| e.to_string())?;
    let picture =
        picture::for_readme(&results).map_err(|e| format!("the picture could not be made: {e}"))?;
    for (file, text) in
        FILES.into_iter().zip([Some(page), Some(json), Some(markdown::document(&results)), picture])
    {
        let path = out.join(file);
        // A file of an earlier run must not pass for one of this run.
        match text {
            Some(text) => write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?,
            None => drop(std::fs::remove_file(&path)),
        }
    }
    say(results.summary())?;
    say(format_args!("{:.0} s; open {}", results.seconds, out.join("index.html").display()))
}

/// `println!` would panic where the reader has gone.
fn say(line: impl Display) -> Result<(), String> {
    writeln!(io::stdout(), "{line}").map_err(|e| format!("standard output: {e}"))
}

fn earlier(file: &Path) -> Result<Results, String> {
    let bad = |e: &dyn Display| format!("{}: {e}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| bad(&e))?;
    let Earlier { machine, tables, effort, seconds } =
        serde_json::from_str(&text).map_err(|e| bad(&e))?;
    Ok(Results::new(machine, &effort, Duration::from_secs_f64(seconds.max(0.0)), tables))
}

fn measured(options: &Options) -> Result<Results, String> {
    let (effort, name) = match (options.smoke, options.quick) {
        (true, _) => (Effort::smoke(), "smoke: the figures mean nothing"),
        (_, true) => (Effort::quick(), "quick"),
        _ => (Effort::full(), "full"),
    };
    let (machine, began) = (Machine::this(), Instant::now());
    say(&machine)?;
    let parts = PARTS
        .into_iter()
        .filter(|part| options.only.is_empty() || options.only.iter().any(|only| only == part));
    let jobs: Vec<Job<'_>> = parts.flat_map(|part| jobs(part, &effort)).collect();
    let tables = measure(jobs);
    if tables.0.is_empty() {
        return Err(
            "nothing could be measured here; what stood in the way is said above".to_string()
        );
    }
    Ok(Results::new(machine, name, began.elapsed(), tables))
}

/// Runs the jobs one after another. Nothing else of this process runs meanwhile: the bar moves
/// between them only. Where there is no terminal for a bar, each job is a line.
fn measure(jobs: Vec<Job<'_>>) -> Tables {
    let (crew, mut tables) = (Crew::new(MOST), Tables::default());
    let all: f64 = jobs.iter().map(|job| job.seconds).sum();
    let style =
        ProgressStyle::with_template("{elapsed_precise} {wide_bar} {percent:>3} % {msg:45}")
            .expect("it is well-formed");
    let bar = ProgressBar::new((all * 1e3) as u64).with_style(style);
    let mut done = 0.0;
    for job in jobs {
        if bar.is_hidden() {
            let _ =
                writeln!(io::stderr(), "{:3.0} %  {}: {}", 100.0 * done / all, job.part, job.name);
        }
        done += job.seconds;
        bar.set_message(format!("{}: {}", job.part, job.name));
        bar.tick();
        (job.run)(&crew, &mut tables);
        bar.inc((job.seconds * 1e3) as u64);
    }
    bar.finish_and_clear();
    tables
}
