//! The results, for people and for machines.

use crate::options::Drain;
use crate::run::Outcome;

/// The results on one kind of memory.
pub struct Section {
    pub memory: String,
    pub outcomes: Vec<Outcome>,
}

const LEGEND: &str = "
finished: the time in which the work was done, or NO.  aborted: migrations that
references, pins or the system made fail.  fault p99: a hundredth took longer.";
const DRAIN: &str = "
drain first: the migrator drains before it locks pages, not while it holds them.";
const CHECKED: &str = "
Every byte, page, reference and pin is accounted for.";

/// Below the tables: what the columns mean.
pub fn legend(sections: &[Section]) -> String {
    let has_drain = sections
        .iter()
        .flat_map(|section| &section.outcomes)
        .any(|o| o.plan.drain == Drain::Outside);
    format!("{LEGEND}{}{CHECKED}", if has_drain { DRAIN } else { "" })
}

/// A column: its name, in two lines where there is a slash, and what it has to say of a run.
type Column = (&'static str, fn(&Outcome) -> String);

const NARROW: [Column; 6] = [
    ("strategy", |o| o.plan.name()),
    ("finished", |o| if o.finished { format!("{:.2} s", o.seconds) } else { "NO".to_string() }),
    ("faults", |o| o.faults.to_string()),
    ("retries per/migration", |o| format!("{:.2}", o.retries_per_migration())),
    ("aborted", |o| (o.aborted_refs + o.aborted_pins + o.aborted_system).to_string()),
    ("fault/p99", |o| fault(o, 0.99)),
];

const WIDE: [Column; 14] = [
    NARROW[0],
    NARROW[1],
    ("accesses", |o| o.accesses.to_string()),
    NARROW[2],
    NARROW[3],
    ("migrated", |o| o.migrations().to_string()),
    ("aborted by refs,/pins, system", |o| {
        format!("{}/{}/{}", o.aborted_refs, o.aborted_pins, o.aborted_system)
    }),
    ("skipped,/locked", |o| o.skipped_locked.to_string()),
    ("switches: own,/forced", |o| {
        format!("{}/{}", o.usage.voluntary_switches, o.usage.involuntary_switches)
    }),
    ("CPU", |o| format!("{:.2} s", o.usage.cpu_seconds)),
    ("fault/p50", |o| fault(o, 0.5)),
    NARROW[5],
    ("fault/p99.9", |o| fault(o, 0.999)),
    ("longest/fault", |o| fault(o, 1.0)),
];

/// The narrow one fits 80 columns. A row is a line at any width: a number in two lines is two
/// numbers.
pub fn table(section: &Section, wide: bool) -> String {
    let columns: &[Column] = if wide { &WIDE } else { &NARROW };
    // A name has two lines, the second of which stands right above the figures.
    let (above, name): (Vec<_>, Vec<_>) =
        columns.iter().map(|column| column.0.split_once('/').unwrap_or(("", column.0))).unzip();
    let mut lines: Vec<Vec<String>> =
        [above, name].map(|line| line.into_iter().map(String::from).collect()).into();
    lines.extend(
        section
            .outcomes
            .iter()
            .map(|outcome| columns.iter().map(|column| column.1(outcome)).collect()),
    );
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let text = lines.iter().map(|line| {
        let cells =
            line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    });
    text.collect::<Vec<_>>().join("\n")
}

fn fault(outcome: &Outcome, quantile: f64) -> String {
    nanos(if outcome.latency.is_empty() { 0 } else { outcome.latency.value_at_quantile(quantile) })
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

/// All rows as a JSON array.
pub fn json(sections: &[Section]) -> String {
    let rows = sections.iter().flat_map(|section| &section.outcomes).map(row);
    format!("{:#}\n", serde_json::Value::Array(rows.collect()))
}

fn row(o: &Outcome) -> serde_json::Value {
    serde_json::json!({
        "memory": o.memory,
        "real_faults": o.traps,
        "kernel_retries": o.kernel_retries,
        "strategy": o.plan.name(),
        "finished": o.finished,
        "seconds": o.seconds,
        "accesses": o.accesses,
        "faults": o.faults,
        "retries": o.retries,
        "most_retries": o.most_retries,
        "spins": o.spins,
        "retries_per_migration": o.retries_per_migration(),
        "migrated_out": o.out,
        "migrated_back": o.back,
        "migrated_ahead": o.ahead,
        "aborted_refs": o.aborted_refs,
        "aborted_pins": o.aborted_pins,
        "aborted_system": o.aborted_system,
        "skipped_locked": o.skipped_locked,
        "pins": o.pins,
        "voluntary_switches": o.usage.voluntary_switches,
        "involuntary_switches": o.usage.involuntary_switches,
        "cpu_seconds": o.usage.cpu_seconds,
        "others_share": o.usage.others_share(),
        "fault_ns_p50": o.latency.value_at_quantile(0.5),
        "fault_ns_p99": o.latency.value_at_quantile(0.99),
        "fault_ns_p999": o.latency.value_at_quantile(0.999),
        "fault_ns_max": o.latency.max(),
        "digest": format!("{:016x}", o.digest),
    })
}
