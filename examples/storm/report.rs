//! The results, for people and for machines.

use crate::run::Outcome;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

/// The results on one kind of memory.
pub struct Section {
    pub memory: String,
    pub outcomes: Vec<Outcome>,
}

const HEADER: [&str; 14] = [
    "strategy",
    "finished",
    "accesses",
    "faults",
    "retries per migration",
    "migrated",
    "aborted: refs/pins/system",
    "skipped: locked",
    "switches: vol.",
    "invol.",
    "CPU s",
    "fault p50",
    "p99",
    "p99.9 / max",
];

pub fn table(section: &Section) -> Table {
    let mut table = Table::new();
    // On a terminal the columns wrap to fit it, if it has a width; in a file every row is a line.
    let wraps = table.is_tty() && table.width().is_some_and(|columns| columns > 0);
    let arrangement = if wraps { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(arrangement).set_header(HEADER);
    for o in &section.outcomes {
        let fault = |quantile| nanos(if o.latency.is_empty() { 0 } else { o.latency.value_at_quantile(quantile) });
        table.add_row([
            o.plan.name(),
            if o.finished { format!("{:.2} s", o.seconds) } else { "NO".to_string() },
            o.accesses.to_string(),
            o.faults.to_string(),
            format!("{:.2}", o.retries_per_migration()),
            o.migrations().to_string(),
            format!("{}/{}/{}", o.aborted_refs, o.aborted_pins, o.aborted_system),
            o.skipped_locked.to_string(),
            o.usage.voluntary_switches.to_string(),
            o.usage.involuntary_switches.to_string(),
            format!("{:.2}", o.usage.cpu_seconds),
            fault(0.5),
            fault(0.99),
            format!("{} / {}", fault(0.999), fault(1.0)),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A span of nanoseconds with two or three digits that count.
pub fn nanos(n: u64) -> String {
    match n {
        0 => "–".to_string(),
        1..1_000 => format!("{n} ns"),
        1_000..1_000_000 => format!("{:.1} µs", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", n as f64 / 1e6),
        _ => format!("{:.2} s", n as f64 / 1e9),
    }
}

#[derive(Serialize)]
struct Row<'a> {
    memory: &'a str,
    region: &'a str,
    strategy: String,
    finished: bool,
    seconds: f64,
    accesses: u64,
    faults: u64,
    retries: u64,
    most_retries: u64,
    spins: u64,
    retries_per_migration: f64,
    migrated_out: u64,
    migrated_back: u64,
    migrated_ahead: u64,
    aborted_refs: u64,
    aborted_pins: u64,
    aborted_system: u64,
    skipped_locked: u64,
    pins: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
    cpu_seconds: f64,
    fault_ns_p50: u64,
    fault_ns_p99: u64,
    fault_ns_p999: u64,
    fault_ns_max: u64,
    digest: String,
}

/// All rows as a JSON array.
pub fn json(sections: &[Section]) -> serde_json::Result<String> {
    let rows: Vec<_> = sections
        .iter()
        .flat_map(|section| section.outcomes.iter().map(move |o| (section.memory.as_str(), o)))
        .map(|(memory, o)| Row {
            memory,
            region: &o.region,
            strategy: o.plan.name(),
            finished: o.finished,
            seconds: o.seconds,
            accesses: o.accesses,
            faults: o.faults,
            retries: o.retries,
            most_retries: o.most_retries,
            spins: o.spins,
            retries_per_migration: o.retries_per_migration(),
            migrated_out: o.out,
            migrated_back: o.back,
            migrated_ahead: o.ahead,
            aborted_refs: o.aborted_refs,
            aborted_pins: o.aborted_pins,
            aborted_system: o.aborted_system,
            skipped_locked: o.skipped_locked,
            pins: o.pins,
            voluntary_switches: o.usage.voluntary_switches,
            involuntary_switches: o.usage.involuntary_switches,
            cpu_seconds: o.usage.cpu_seconds,
            fault_ns_p50: o.latency.value_at_quantile(0.5),
            fault_ns_p99: o.latency.value_at_quantile(0.99),
            fault_ns_p999: o.latency.value_at_quantile(0.999),
            fault_ns_max: o.latency.max(),
            digest: format!("{:016x}", o.digest),
        })
        .collect();
    serde_json::to_string_pretty(&rows)
}
