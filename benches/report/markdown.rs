//! The results as a document: `tables.md`, from which `BENCHMARKS.md` is made by copying.

use crate::results::Results;
use crate::support::bars::{losses_markdown, markdown};
use crate::support::means;
use crate::support::parts::PARTS;

/// The machine and what was measured on it.
pub fn machine(results: &Results) -> String {
    let Results { machine, effort, seconds, .. } = results;
    let crates: Vec<_> =
        machine.crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!(
        "{machine}.\n\n{}; {}. Effort: {effort}, {seconds:.0} seconds.\n",
        machine.rustc,
        crates.join(", ")
    )
}

pub fn bars(results: &Results) -> String {
    let cores = results.machine.cores;
    let contended = if results.means.is_empty() {
        String::new()
    } else {
        means::markdown(&results.means, cores)
    };
    format!("{}\n{contended}", markdown(&results.bars, cores))
}

/// Rows in which a peer is ahead, then those in which only a bound is.
pub fn losses(results: &Results) -> String {
    let one = |bounds| losses_markdown(&results.losses, bounds, results.machine.cores);
    format!("{}\n{}", one(false), one(true))
}

pub fn noise(results: &Results) -> String {
    let mut text = format!(
        "Largest minus smallest round, as a part of the median; {} cores\n\n\
         | part | series | usual | worst |\n|---|--:|--:|--:|\n",
        results.machine.cores
    );
    for n in &results.noise {
        text += &format!(
            "| {} | {} | {:.0} % | {:.0} % |\n",
            n.part,
            n.series,
            n.usual * 100.0,
            n.worst * 100.0
        );
    }
    text
}

pub fn document(results: &Results) -> String {
    let mut text = machine(results);
    text += &format!("\n## Bars\n\n{}", bars(results));
    text += &format!("\n## Where we lose\n\n{}", losses(results));
    for part in PARTS {
        let tables: Vec<_> =
            results.tables.0.iter().filter(|table| table.head.part == part).collect();
        if !tables.is_empty() {
            text += &format!("\n## {}\n", title(part));
        }
        for table in tables {
            text += &format!("\n{}", table.markdown(results.machine.cores));
        }
    }
    text += &format!("\n## Noise\n\n{}", noise(results));
    text
}

/// What a part is called in a document.
pub fn title(part: &str) -> &str {
    match part {
        "instructions" => "Instructions",
        "uncontended" => "Nobody else",
        "contended" => "One lock, many threads",
        "release" => "One release, many sleepers",
        "storm" => "The storm",
        "scale" => "Many headers, many threads",
        "layout" => "Padded or packed",
        other => other,
    }
}
