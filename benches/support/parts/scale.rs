//! Many headers, many threads.

use super::Job;
use crate::support::crew::Crew;
use crate::support::effort::Effort;
use crate::support::locks::Lock;
use crate::support::scale::{Faults, Field, Locks, RawPairs, Touch, TouchAll, roam};
use crate::support::table::{Better, Head, Role, Row, Tables};
use crate::support::turns::{Rounds, take_turns_warm};
use pagelock::PageLock;
use std::sync::Arc;

/// Headers that the threads roam over.
const HEADERS: u32 = 16;

fn role(name: &str) -> Role {
    match name {
        "pagelock" | "fault" => Role::Ours,
        "touch" | "touch all" => Role::Beside,
        "raw-cas-swap" => Role::Bound,
        _ => Role::Peer,
    }
}

type Rate = Vec<Rounds<(f64, f64)>>;

pub fn jobs(effort: &Effort) -> Vec<Job<'_>> {
    let visits = effort.ops;
    let seconds = effort.rounds as f64 * f64::from(visits) * 11.0 * 60e-9;
    let mut jobs = Vec::new();
    for &bits in &effort.headers {
        jobs.push(Job::new(
            "scale",
            format!("2^{bits} headers"),
            seconds + 0.3,
            move |crew, tables| {
                let (pairs, faults) = measure(crew, effort, bits, 1, visits);
                by_headers(bits, &pairs, &faults, tables);
            },
        ));
    }
    for &threads in &effort.roamers {
        jobs.push(Job::new("scale", format!("{threads} threads"), seconds, move |crew, tables| {
            if threads <= crew.size() {
                let (pairs, faults) =
                    measure(crew, effort, HEADERS, threads, each(visits, threads));
                by_threads(threads, &pairs, &faults, tables);
            }
        }));
    }
    jobs
}

/// Visits of one of several threads: enough for all of them to be at it at the same time.
fn each(visits: u32, threads: usize) -> u32 {
    (4 * visits / threads as u32).max(visits / 20)
}

/// Pairs of lock and unlock, and faults.
fn measure(crew: &Crew, effort: &Effort, bits: u32, threads: usize, visits: u32) -> (Rate, Rate) {
    let elements = 1usize << bits;
    fn field<F: Field>(elements: usize) -> Arc<F> {
        Arc::new(F::new(elements))
    }
    fn locks<L: Lock>(elements: usize) -> Arc<Locks<L>> {
        field(elements)
    }
    let (touch, raw, page) =
        (field::<Touch>(elements), field::<RawPairs>(elements), locks::<PageLock>(elements));
    let (std, parking_lot) =
        (locks::<std::sync::Mutex<()>>(elements), locks::<parking_lot::Mutex<()>>(elements));
    let (fair, usync) =
        (locks::<parking_lot::FairMutex<()>>(elements), locks::<usync::Mutex<()>>(elements));
    let spin = locks::<spin::Mutex<()>>(elements);
    let pairs = take_turns_warm::<(f64, f64)>(
        effort.rounds,
        &[
            ("touch", &|| roam(crew, &touch, elements, threads, visits)),
            ("raw-cas-swap", &|| roam(crew, &raw, elements, threads, visits)),
            ("pagelock", &|| roam(crew, &page, elements, threads, visits)),
            ("std", &|| roam(crew, &std, elements, threads, visits)),
            ("parking_lot", &|| roam(crew, &parking_lot, elements, threads, visits)),
            ("parking_lot-fair", &|| roam(crew, &fair, elements, threads, visits)),
            ("usync", &|| roam(crew, &usync, elements, threads, visits)),
            ("spin", &|| roam(crew, &spin, elements, threads, visits)),
        ],
    );
    drop((touch, raw, page, std, parking_lot, fair, usync, spin));
    let (touch, fault) = (field::<TouchAll>(elements), field::<Faults>(elements));
    let faults = take_turns_warm::<(f64, f64)>(
        effort.rounds,
        &[
            ("touch all", &|| roam(crew, &touch, elements, threads, visits)),
            ("fault", &|| roam(crew, &fault, elements, threads, visits)),
        ],
    );
    (pairs, faults)
}

/// One thread: nanoseconds, by the number of headers.
fn by_headers(bits: u32, pairs: &Rate, faults: &Rate, tables: &mut Tables) {
    let label = format!("2^{bits}");
    let head = |what: &str| {
        Head::new("scale", format!("Scale: random {what}"), "headers", "ns", Better::Less)
    };
    let note = "Touch: eight bytes loaded and stored, nothing else. A header has 8 bytes, a Mutex \
                of std and of usync as well; one of parking_lot, fair or not, and of spin has 1, so \
                that eight times as many fit into a cache line.";
    tables.row(
        head("lock + unlock").note(note),
        Row::of(&label, f64::from(bits), pairs, role, |&(ns, _)| ns),
    );
    let note = "Fault: entry looked up under its table's lock, page locked, migration begun, \
                frozen, entry changed under the table's lock, committed. Touch all: the same memory, \
                loaded and stored.";
    tables.row(
        head("fault").note(note),
        Row::of(&label, f64::from(bits), faults, role, |&(ns, _)| ns),
    );
}

/// Several threads: their rate together.
fn by_threads(threads: usize, pairs: &Rate, faults: &Rate, tables: &mut Tables) {
    let label = threads.to_string();
    let head = |what: &str| {
        let title = format!("Scale: random {what} over 2^{HEADERS} headers, by threads");
        Head::new("scale", title, "threads", "million a second", Better::More)
    };
    tables.row(
        head("lock + unlock"),
        Row::of(&label, threads as f64, pairs, role, |&(_, rate)| rate),
    );
    tables.row(head("fault"), Row::of(&label, threads as f64, faults, role, |&(_, rate)| rate));
}
