//! One release, many sleepers.

use super::Job;
use crate::support::crew::Crew;
use crate::support::effort::Effort;
use crate::support::events::{
    COLLIDING, DISTINCT, Event, EventListener, ListenerQueue, Page, Parked, ParkedQueue,
    ParkingLotCondvar, Queue, QueuedPage, RawQueue, RawWakeAll, StdCondvar, role,
};
use crate::support::machine::cores;
use crate::support::release::{
    Times, ping_pong, release_many, release_queued, release_racing, release_to,
};
use crate::support::spread::micros;
use crate::support::table::{Better, Head, Row, Tables};
use crate::support::turns::{Rounds, take_turns};
use std::sync::Arc;

pub const FIRST: &str = "Release: to the first sleeper running";
pub const LAST: &str = "Release: to the last sleeper running";
pub const CALL: &str = "Release: the releaser's own call, by the clock";
pub const CALL_CPU: &str = "Release: the releaser's own call, on the processor";
pub const EACH: &str = "Release: processor time of a sleep and a wake, per sleeper";
pub const ROUND_TRIP: &str = "Release: round trip of two threads";

/// Lockers on the same page.
const LOCKERS: usize = 8;
/// Sleepers that are spread over the pages which are released at once.
const SPREAD_OVER: usize = 256;
const PAGES: [usize; 3] = [1, 16, SPREAD_OVER];

pub fn jobs(effort: &Effort) -> Vec<Job<'_>> {
    let mut jobs =
        vec![Job::new("release", "round trip", effort.rounds as f64 * 0.2, move |crew, tables| {
            round_trip(crew, effort, tables);
        })];
    for &sleepers in &effort.sleepers {
        let seconds =
            rounds(effort, sleepers) as f64 * (0.005 + 7.0 * (0.0006 + 40e-6 * sleepers as f64));
        jobs.push(Job::new(
            "release",
            format!("{sleepers} sleepers"),
            seconds,
            move |crew, tables| {
                alone(crew, effort, sleepers, tables);
            },
        ));
    }
    for &sleepers in effort.sleepers.iter().filter(|&&n| n <= 512) {
        let seconds =
            rounds(effort, sleepers) as f64 * (0.005 + 6.0 * (0.001 + 40e-6 * sleepers as f64));
        jobs.push(Job::new(
            "release",
            format!("{sleepers} sleepers and {LOCKERS} lockers"),
            seconds,
            move |crew, tables| {
                queued(crew, effort, sleepers, tables);
            },
        ));
    }
    for pages in PAGES {
        let seconds = effort.rounds as f64 * 0.16;
        jobs.push(Job::new(
            "release",
            format!("{pages} pages at once"),
            seconds,
            move |crew, tables| {
                several(crew, effort, pages, 1, tables);
            },
        ));
        let releasers = cores().min(pages);
        if releasers > 1 {
            jobs.push(Job::new(
                "release",
                format!("{pages} pages at once, {releasers} releasers"),
                seconds,
                move |crew, tables| {
                    several(crew, effort, pages, releasers, tables);
                },
            ));
        }
    }
    jobs
}

/// The fewer sleepers, the shorter a round and the more it varies.
fn rounds(effort: &Effort, sleepers: usize) -> usize {
    if effort.rounds == 1 {
        1
    } else {
        effort.rounds.max(1000 / sleepers).min(3 * effort.short_rounds)
    }
}

fn alone(crew: &Crew, effort: &Effort, sleepers: usize, tables: &mut Tables) {
    if sleepers > crew.size() {
        return;
    }
    let (raw, page) = (Arc::new(RawWakeAll::new()), Arc::new(Page::new()));
    let (std, parking_lot) = (Arc::new(StdCondvar::new()), Arc::new(ParkingLotCondvar::new()));
    let (parked, listener) = (Arc::new(Parked::new()), Arc::new(EventListener::new()));
    let all = take_turns::<Times>(
        rounds(effort, sleepers),
        &[
            (RawWakeAll::NAME, &|| release_to(crew, &raw, sleepers)),
            (Page::NAME, &|| release_to(crew, &page, sleepers)),
            (Parked::NAME, &|| release_to(crew, &parked, sleepers)),
            (StdCondvar::NAME, &|| release_to(crew, &std, sleepers)),
            (ParkingLotCondvar::NAME, &|| release_to(crew, &parking_lot, sleepers)),
            (EventListener::NAME, &|| release_to(crew, &listener, sleepers)),
        ],
    );
    let mut put = |title: &str, note: &str, part: &dyn Fn(&Times) -> f64| {
        // Medians, not round by round: a single wake-up is 5 or 50 us, as the scheduler likes.
        let head = Head::new("release", title, "sleepers", "µs", Better::Less).medians().note(note);
        tables.row(head, Row::of(sleepers.to_string(), sleepers as f64, &all, role, part));
    };
    put(FIRST, "", &|t| micros(t.first));
    put(LAST, "", &|t| micros(t.last));
    put(
        CALL,
        "Threads that it woke may push the releaser off its processor; \
         the next table is without that.",
        &|t| micros(t.call),
    );
    put(CALL_CPU, "", &|t| micros(t.cpu));
    put(
        EACH,
        "Going to sleep, waking up, passing the wake on, and a part of the releaser's call.",
        &|t| micros(t.each),
    );
}

fn queued(crew: &Crew, effort: &Effort, sleepers: usize, tables: &mut Tables) {
    if sleepers + LOCKERS > crew.size() {
        return;
    }
    fn go<E: Queue>(crew: &Crew, event: &Arc<E>, sleepers: usize) -> Times {
        release_queued(crew, event, sleepers, LOCKERS)
    }
    let (raw, page) = (Arc::new(RawQueue::new()), Arc::new(QueuedPage::new()));
    let (std, parking_lot) = (Arc::new(StdCondvar::new()), Arc::new(ParkingLotCondvar::new()));
    let (parked, listener) = (Arc::new(ParkedQueue::new()), Arc::new(ListenerQueue::new()));
    let all = take_turns::<Times>(
        rounds(effort, sleepers),
        &[
            (RawQueue::NAME, &|| go(crew, &raw, sleepers)),
            (QueuedPage::NAME, &|| go(crew, &page, sleepers)),
            (ParkedQueue::NAME, &|| go(crew, &parked, sleepers)),
            (StdCondvar::NAME, &|| go(crew, &std, sleepers)),
            (ParkingLotCondvar::NAME, &|| go(crew, &parking_lot, sleepers)),
            (ListenerQueue::NAME, &|| go(crew, &listener, sleepers)),
        ],
    );
    let mut put = |title: &str, note: &str, part: &dyn Fn(&Times) -> f64| {
        let title = format!("Release with {LOCKERS} lockers in the queue: {title}");
        let head = Head::new("release", title, "sleepers", "µs", Better::Less).medians().note(note);
        tables.row(head, Row::of(sleepers.to_string(), sleepers as f64, &all, role, part));
    };
    let note = "The bound has a futex word for the sleepers and one for the lockers. park and \
                event-listener are no locks: beside each stands the lock that its name says, for \
                the lockers alone. A condition variable has both kinds of sleeper on it. A page \
                wakes a locker first and then tells the sleepers; the bound and the two pairs do \
                it the other way round.";
    put("to the last sleeper running", note, &|t| micros(t.last));
    put("to the last locker done", "", &|t| micros(t.queue));
    put("the releaser's own call, by the clock", "", &|t| micros(t.call));
    put("processor time per sleeper", "", &|t| micros(t.each));
}

fn several(crew: &Crew, effort: &Effort, pages: usize, releasers: usize, tables: &mut Tables) {
    let sleepers = SPREAD_OVER.min(crew.size() + 1 - releasers);
    fn some<E: Event>(n: usize) -> Vec<Arc<E>> {
        (0..n).map(|_| Arc::new(E::new())).collect()
    }
    fn go<E: Event>(crew: &Crew, events: &[Arc<E>], sleepers: usize, releasers: usize) -> Times {
        match releasers {
            1 => release_many(crew, events, sleepers),
            _ => release_racing(crew, events, sleepers, releasers),
        }
    }
    let (colliding, distinct) = (Page::many(pages, true), Page::many(pages, false));
    let (raw, parked, std) =
        (some::<RawWakeAll>(pages), some::<Parked>(pages), some::<StdCondvar>(pages));
    let (parking_lot, listeners) = (some::<ParkingLotCondvar>(pages), some::<EventListener>(pages));
    let all: Vec<Rounds<Times>> = take_turns::<Times>(
        effort.rounds,
        &[
            (RawWakeAll::NAME, &|| go(crew, &raw, sleepers, releasers)),
            (COLLIDING, &|| go(crew, &colliding, sleepers, releasers)),
            (DISTINCT, &|| go(crew, &distinct, sleepers, releasers)),
            (Parked::NAME, &|| go(crew, &parked, sleepers, releasers)),
            (StdCondvar::NAME, &|| go(crew, &std, sleepers, releasers)),
            (ParkingLotCondvar::NAME, &|| go(crew, &parking_lot, sleepers, releasers)),
            (EventListener::NAME, &|| go(crew, &listeners, sleepers, releasers)),
        ],
    );
    let (by, who) = match releasers {
        1 => ("one after another by one thread", ""),
        _ => (
            "by threads that race",
            "As many threads release as there are cores, but no more than pages. ",
        ),
    };
    let mut put = |title: &str, unit: &str, better, note: &str, part: &dyn Fn(&Times) -> f64| {
        let title = format!("{sleepers} sleepers, pages released at once {by}: {title}");
        let head = Head::new("release", title, "pages", unit, better).medians().note(note);
        tables.row(head, Row::of(pages.to_string(), pages as f64, &all, role, part));
    };
    let note = format!(
        "{who}All pages of the first of ours share one slot of the event table, so that the \
         release of any wakes the sleepers of all. A program has to look for such pages to find \
         them."
    );
    put("to the last sleeper running", "µs", Better::Less, &note, &|t| micros(t.last));
    put("until the last release has returned", "µs", Better::Less, "", &|t| micros(t.call));
    put("processor time per sleeper", "µs", Better::Less, "", &|t| micros(t.each));
    let note = "Above 1, it was woken for another page's release. \
                Below, the release came before it slept.";
    put("sleeps of a sleeper", "sleeps", Better::Neither, note, &|t| t.sleeps);
}

fn round_trip(crew: &Crew, effort: &Effort, tables: &mut Tables) {
    let trips = (effort.ops / 100).clamp(20, 1000);
    let all = take_turns::<f64>(
        effort.rounds,
        &[
            (RawWakeAll::NAME, &|| ping_pong::<RawWakeAll>(crew, trips)),
            (Page::NAME, &|| ping_pong::<Page>(crew, trips)),
            (Parked::NAME, &|| ping_pong::<Parked>(crew, trips)),
            (StdCondvar::NAME, &|| ping_pong::<StdCondvar>(crew, trips)),
            (ParkingLotCondvar::NAME, &|| ping_pong::<ParkingLotCondvar>(crew, trips)),
            (EventListener::NAME, &|| ping_pong::<EventListener>(crew, trips)),
        ],
    );
    let note = "Two sleeps and two wakes, unless a release comes before the sleep.";
    let head = Head::new("release", ROUND_TRIP, "threads", "µs", Better::Less).medians().note(note);
    tables.row(head, Row::of("2", 2.0, &all, role, |ns| ns / 1e3));
}
