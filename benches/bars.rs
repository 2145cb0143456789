//! How good it must be, and how good it is: every bar of the design beside the best peer, taken in turns in one run.
//!
//! `cargo bench --bench bars` takes some seven minutes, `-- --quick` two with wider spreads; `-- contended`, `release` or
//! `uncontended` runs that part alone. `-- close` has the contended lock's bars once more, with those alone whom they name and three times as many
//! rounds, in seven minutes. Medians of rounds, smallest and largest in brackets. Rows that are lost are printed like those
//! that are won, and after them every row in which a peer is ahead, bar or no bar. The report (`cargo run --release --example report`)
//! has the same figures and more.

mod support;

use std::time::Instant;
use support::bars::{judge, losses, losses_markdown, markdown};
use support::crew::Crew;
use support::effort::Effort;
use support::machine::Machine;
use support::parts::jobs;
use support::release::MOST;
use support::table::Tables;

const PARTS: [&str; 3] = ["uncontended", "release", "contended"];
const CLOSE: &str = "close";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |arg: &str| args.iter().any(|a| a == arg);
    let effort = if has("--test") {
        Effort::smoke()
    } else if has("--quick") {
        Effort::quick()
    } else {
        Effort::full()
    };
    let effort = effort.for_bars();
    let (began, machine) = (Instant::now(), Machine::this());
    let (crew, mut tables) = (Crew::new(MOST), Tables::default());
    // Named parts only, or all of them but what is there for a closer look.
    let mut parts: Vec<_> = PARTS.into_iter().chain([CLOSE]).filter(|part| has(part)).collect();
    if parts.is_empty() {
        parts.extend(PARTS);
    }
    for part in parts {
        for job in jobs(part, &effort) {
            eprintln!("{part}: {}", job.name);
            (job.run)(&crew, &mut tables);
        }
    }
    println!("{}", markdown(&judge(&tables), machine.cores));
    println!("{}", losses_markdown(&losses(&tables), false, machine.cores));
    println!("{machine}; {:.0} s", began.elapsed().as_secs_f64());
}
