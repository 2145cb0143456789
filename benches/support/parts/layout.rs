//! Padded or packed; the lock beside its data or apart.

use super::Job;
use crate::support::contention::{Apart, Fight, Look, Outcome, Together, contend_in};
use crate::support::crew::Crew;
use crate::support::effort::Effort;
use crate::support::layout::{Line, Packed, TwoLines, neighbours};
use crate::support::parts::contended::SHORT;
use crate::support::scale::{Locks, Padded64, roam};
use crate::support::table::{Better, Head, Role, Row, Tables};
use crate::support::turns::{take_turns, take_turns_warm};
use pagelock::PageLock;
use std::sync::Arc;

pub const PACKED: &str = "packed, 8 bytes";
pub const LINE: &str = "64 bytes each";
pub const TWO_LINES: &str = "128 bytes each";

/// The subjects of this part are ways to use this crate.
fn role(name: &str) -> Role {
    if name == PACKED || name == "apart" { Role::Ours } else { Role::Beside }
}

pub fn jobs(effort: &Effort) -> Vec<Job<'_>> {
    let mut jobs = Vec::new();
    for &threads in effort.threads.iter().filter(|&&n| n <= 8.max(crate::support::machine::cores()))
    {
        jobs.push(Job::new(
            "layout",
            format!("{threads} neighbours"),
            effort.rounds as f64 * 0.06,
            move |crew, tables| {
                next_to_each_other(crew, effort, threads, tables);
            },
        ));
        let seconds = effort.rounds as f64 * 2.2 * effort.throughput.as_secs_f64();
        jobs.push(Job::new(
            "layout",
            format!("lock and data, {threads} threads"),
            seconds,
            move |crew, tables| {
                lock_and_data(crew, effort, threads, tables);
            },
        ));
    }
    for &bits in &effort.headers {
        let seconds = effort.rounds as f64 * f64::from(effort.ops) * 120e-9 + 0.1;
        jobs.push(Job::new(
            "layout",
            format!("2^{bits} headers, packed or not"),
            seconds,
            move |crew, tables| {
                footprint(crew, effort, bits, tables);
            },
        ));
    }
    jobs
}

fn next_to_each_other(crew: &Crew, effort: &Effort, threads: usize, tables: &mut Tables) {
    if threads > crew.size() {
        return;
    }
    // Some milliseconds, or they would hardly meet.
    let times = 5 * effort.ops;
    let all = take_turns::<f64>(
        effort.rounds,
        &[
            (PACKED, &|| neighbours::<PageLock, Packed<PageLock>>(crew, threads, times)),
            (LINE, &|| neighbours::<PageLock, Line<PageLock>>(crew, threads, times)),
            (TWO_LINES, &|| neighbours::<PageLock, TwoLines<PageLock>>(crew, threads, times)),
        ],
    );
    let note = "Every thread locks and unlocks a header of its own as fast as it can; only the \
                cache line is common. Packed headers that several processors use at once share \
                the line's misfortune.";
    let head = Head::new(
        "layout",
        "Layout: neighbouring headers, one for each thread",
        "threads",
        "million a second",
        Better::More,
    );
    tables.row(
        head.note(note),
        Row::of(threads.to_string(), threads as f64, &all, role, |&rate| rate),
    );
}

fn lock_and_data(crew: &Crew, effort: &Effort, threads: usize, tables: &mut Tables) {
    if threads > crew.size() {
        return;
    }
    let (inside, outside) = SHORT;
    let warm = effort.throughput / 10;
    let fight =
        Fight { threads, inside, outside, warm, window: effort.throughput, look: Look::Holds };
    let all = take_turns::<Outcome>(
        effort.rounds,
        &[
            ("apart", &|| contend_in::<PageLock, Apart<PageLock>>(crew, fight)),
            ("together", &|| contend_in::<PageLock, Together<PageLock>>(crew, fight)),
        ],
    );
    let note = "A header on the line of what it protects, or on one of its own.";
    let head = Head::new(
        "layout",
        "Layout: one contended header and its data",
        "threads",
        "million holds a second",
        Better::More,
    );
    tables.row(
        head.note(note),
        Row::of(threads.to_string(), threads as f64, &all, role, |o| o.per_second() / 1e6),
    );
}

fn footprint(crew: &Crew, effort: &Effort, bits: u32, tables: &mut Tables) {
    let elements = 1usize << bits;
    let packed = Arc::new(<Locks<PageLock> as crate::support::scale::Field>::new(elements));
    let padded = Arc::new(<Padded64<PageLock> as crate::support::scale::Field>::new(elements));
    let all = take_turns_warm::<(f64, f64)>(
        effort.rounds,
        &[
            (PACKED, &|| roam(crew, &packed, elements, 1, effort.ops)),
            (LINE, &|| roam(crew, &padded, elements, 1, effort.ops)),
        ],
    );
    let note = "One thread, random headers: what padding costs in cache.";
    let head = Head::new(
        "layout",
        "Layout: random lock + unlock, by headers",
        "headers",
        "ns",
        Better::Less,
    );
    tables.row(
        head.note(note),
        Row::of(format!("2^{bits}"), f64::from(bits), &all, role, |&(ns, _)| ns),
    );
}
