//! Post-copy: a running program's memory moves to another process while it keeps running.
//!
//! `cargo run --release -p postcopy -- --help`
//!
//! The program stops here and goes on there at once, with none of its pages; each comes when it is
//! touched, or a little before. The thread that asks for a page owns it, so each is asked for once;
//! and when a connection breaks in the middle of one, its owner ends, the faulter is told, and
//! comes again.
//!
//! | file | what it is |
//! |---|---|
//! | `destination.rs` | faults, connections, the prefetcher. *The part to copy* |
//! | `source.rs` | hands the pages out, and cuts connections |
//! | `program.rs` | the program, and what its memory must contain |
//! | `wire.rs` | what is said between the two |

mod destination;
mod options;
mod program;
mod report;
mod source;
mod wire;

use anyhow::{Context, Result};
use clap::Parser;
use options::Options;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match postcopy(&Options::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            let _ = writeln!(
                io::stderr(),
                "postcopy: data lost: {wrong} pages are not what they have to be"
            );
            ExitCode::from(1)
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "postcopy: {error:#}");
            ExitCode::from(3)
        }
    }
}

/// The number of pages that are wrong.
fn postcopy(options: &Options) -> Result<u64> {
    if let Some(address) = &options.destination {
        let report = destination::run(options, address)?;
        writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
        return Ok(0);
    }
    let report = source::run(options)?;
    let json = serde_json::to_string_pretty(&report)?;
    match &options.json {
        Some(path) if path.as_os_str() != "-" => {
            std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?;
            writeln!(io::stdout(), "{}", report.table()).context("standard output")?;
        }
        Some(_) => writeln!(io::stdout(), "{json}").context("standard output")?,
        None => writeln!(io::stdout(), "{}", report.table()).context("standard output")?,
    }
    Ok(report.pages_wrong)
}
