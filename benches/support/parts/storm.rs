//! The storm: faults on pages that are being moved, by what a faulter does when its page is locked.

use super::Job;
use crate::support::effort::Effort;
use crate::support::storm::{MEMORIES, Outcome, STRATEGIES, Storm};
use crate::support::table::{Better, Head, Role, Row, Tables};

pub fn faults(memory: &str) -> String {
    format!("Storm, {memory}: faults resolved per processor second")
}

pub fn retries(memory: &str) -> String {
    format!("Storm, {memory}: retries per migration")
}

pub fn spins(memory: &str) -> String {
    format!("Storm, {memory}: attempts that found the page locked and did not sleep, per migration")
}

pub fn most_retries(memory: &str) -> String {
    format!("Storm, {memory}: retries of one access, at most")
}

pub fn aborts(memory: &str) -> String {
    format!("Storm, {memory}: migrations failed because of waiters' references, per migration")
}

/// The strategies that are what this crate is for, the others being there to be measured.
pub fn role(strategy: &str) -> Role {
    match strategy {
        "wait" => Role::Ours,
        "wait, then lock" => Role::Beside,
        _ => Role::Peer,
    }
}

pub fn jobs(effort: &Effort) -> Vec<Job<'_>> {
    let mut jobs = Vec::new();
    for (memory, described) in MEMORIES {
        for &faulters in &effort.faulters {
            let seconds = effort.storm_rounds as f64
                * STRATEGIES.len() as f64
                * (effort.storm_seconds + 0.15);
            let name = format!("storm, {memory}, {faulters} faulters");
            jobs.push(Job::new("storm", name, seconds, move |_, tables| {
                if let Err(why) = row(effort, memory, described, faulters, tables) {
                    eprintln!("left out: {why}");
                }
            }));
        }
    }
    jobs
}

fn row(
    effort: &Effort,
    memory: &str,
    described: &str,
    faulters: usize,
    tables: &mut Tables,
) -> Result<(), String> {
    let storm = Storm::build()?;
    let mut all: Vec<(&str, Vec<Outcome>)> =
        STRATEGIES.iter().map(|&(_, name)| (name, Vec::new())).collect();
    for round in 0..effort.storm_rounds {
        for turn in 0..STRATEGIES.len() {
            let which = (round + turn) % STRATEGIES.len();
            let outcome = storm.run(STRATEGIES[which].0, memory, faulters, effort.storm_seconds)?;
            if memory != "software" && outcome.memory.contains("software") {
                return Err(format!("no userfaultfd here, so nothing of `{memory}`"));
            }
            all[which].1.push(outcome);
        }
    }
    let mut put =
        |title: String, unit: &str, better, note: &str, part: &dyn Fn(&Outcome) -> f64| {
            let mut row = Row::new(faulters.to_string(), faulters as f64);
            for (name, outcomes) in &all {
                row.add(name, role(name), outcomes.iter().map(part).collect());
            }
            tables
                .row(Head::new("storm", title, "faulters", unit, better).medians().note(note), row);
        };
    let note = "All of these run on this crate; they differ only in what a faulter does with a \
                locked page. `wait` is what the crate is for. The migrator keeps half of 512 pages \
                out, and drains every processor while it holds page locks.";
    put(faults(described), "faults / CPU s", Better::More, note, &Outcome::faults_per_cpu_second);
    put(
        retries(described),
        "retries",
        Better::Less,
        "Attempts of the fault path that came to nothing.",
        &|o| o.retries_per_migration,
    );
    put(spins(described), "attempts", Better::Less, "", &Outcome::spins_per_migration);
    let note = "Of all accesses of a round, in as many faults as each took: a page that was \
                brought back may be moved out again before the access is made. Nothing bounds the waits of \
                a faulter that only waits; `wait, then lock` queues for the lock of a page that it \
                has waited for twice.";
    put(most_retries(described), "retries", Better::Less, note, &|o| o.most_retries as f64);
    put(aborts(described), "aborts", Better::Less, "", &Outcome::aborted_per_migration);
    put(format!("Storm, {described}: p99 of a fault"), "ms", Better::Less, "", &|o| {
        o.fault_ns_p99 as f64 / 1e6
    });
    Ok(())
}
