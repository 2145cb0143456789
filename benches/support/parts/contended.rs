//! Threads that fight over one lock.

use super::Job;
use crate::support::contention::{Fight, Outcome, Section, Until, contend};
use crate::support::crew::Crew;
use crate::support::effort::Effort;
use crate::support::locks::{Lock, RawFutex, role};
use crate::support::machine::cores;
use crate::support::overtaken::{MOST, Tally, WatchedPage, most};
use crate::support::stalls::longest_stop;
use crate::support::table::{Better, Head, Role, Row, Tables};
use crate::support::turns::{Rounds, take_turns};
use pagelock::PageLock;

pub fn throughput(section: Section) -> String {
    format!("Contended, {}: throughput", section.name())
}

pub fn worst(section: Section) -> String {
    format!("Contended, {}: longest wait", section.name())
}

/// Whose best the throughput is held to: locks that sleep, and are not fair by handing over at every release.
pub const BEST_OF: [&str; 3] = ["std", "parking_lot", "usync"];
/// Whose longest wait ours is held to.
pub const LONGEST_WAIT_OF: &str = "parking_lot";

const CLOCK: &str = "From runs with the clock on, which costs two looks at it per hold; of all threads together.";

/// What the longest waits are to be read beside.
const STOPS: &str = "The machine: the longest time that it stops a thread for";

/// Whose wakes are watched.
const LOCKER: &str = "locker";
const FAULTER: &str = "faulter";
/// What the bars are about.
pub const TO_NEWCOMERS: &str = "a locker, to newcomers";
pub const FAULTER_TO_NEWCOMERS: &str = "a faulter, to newcomers";

/// The most wakes that an acquisition lost.
pub fn lost(section: Section) -> String {
    format!("Contended, {}: wakes that a sleeper lost, at most", section.name())
}

/// Lets those of the locks that `among` lets in take turns.
fn fights(crew: &Crew, rounds: usize, fight: Fight, among: impl Fn(&str) -> bool) -> Vec<Rounds<Outcome>> {
    let all: &[(&'static str, &dyn Fn() -> Outcome)] = &[
        ("pagelock", &|| contend::<PageLock>(crew, fight)),
        #[cfg(feature = "lock_api")]
        ("pagelock-lock_api", &|| contend::<crate::support::locks::LockApi>(crew, fight)),
        ("std", &|| contend::<std::sync::Mutex<()>>(crew, fight)),
        ("parking_lot", &|| contend::<parking_lot::Mutex<()>>(crew, fight)),
        ("parking_lot-fair", &|| contend::<parking_lot::FairMutex<()>>(crew, fight)),
        ("usync", &|| contend::<usync::Mutex<()>>(crew, fight)),
        ("spin", &|| contend::<spin::Mutex<()>>(crew, fight)),
        (RawFutex::NAME, &|| contend::<RawFutex>(crew, fight)),
    ];
    let some: Vec<_> = all.iter().copied().filter(|(name, _)| among(name)).collect();
    take_turns::<Outcome>(rounds, &some)
}

/// The rows of the figures that the bars are about.
fn throughput_row(all: &[Rounds<Outcome>], section: Section, threads: usize, tables: &mut Tables) {
    let head = Head::new("contended", throughput(section), "threads", "million holds a second", Better::More);
    tables.row(head, Row::of(threads.to_string(), threads as f64, all, role, |o| o.per_second() / 1e6));
}

fn worst_row(all: &[Rounds<Outcome>], section: Section, threads: usize, tables: &mut Tables) {
    let head = Head::new("contended", worst(section), "threads", "ms", Better::Less).note(CLOCK);
    tables.row(head, Row::of(threads.to_string(), threads as f64, all, role, |o| o.wait(1.0) / 1e6));
}

pub fn jobs(effort: &Effort) -> Vec<Job<'_>> {
    let mut jobs = Vec::new();
    for section in Section::ALL {
        for &threads in &effort.threads {
            let seconds = effort.rounds as f64 * 8.0 * 1.4 * (effort.throughput + effort.waits).as_secs_f64();
            let name = format!("{}, {threads} threads", section.name());
            jobs.push(Job::new("contended", name, seconds, move |crew, tables| row(crew, effort, section, threads, tables)));
            let seconds = effort.rounds as f64 * 2.2 * effort.waits.as_secs_f64();
            let name = format!("overtaking, {}, {threads} threads", section.name());
            jobs.push(Job::new("contended", name, seconds, move |crew, tables| {
                overtaking(crew, effort, section, threads, tables);
            }));
        }
        let seconds = effort.rounds as f64 * effort.waits.as_secs_f64();
        let name = format!("the machine, after {}", section.name());
        jobs.push(Job::new("contended", name, seconds, move |crew, tables| stops(crew, effort, section, tables)));
    }
    jobs
}

/// What the bars of the contended lock ask, beside those alone whom they name, in three times as many rounds: for what is decided by less than
/// the rounds of a report can tell.
pub fn close(effort: &Effort) -> Vec<Job<'_>> {
    let rows = Section::ALL.into_iter().flat_map(|section| effort.threads.iter().map(move |&threads| (section, threads)));
    rows.map(|(section, threads)| {
        let rounds = 3 * effort.rounds;
        let seconds = rounds as f64 * 1.2 * (4 * effort.throughput + 2 * effort.waits).as_secs_f64();
        Job::new("close", format!("{}, {threads} threads", section.name()), seconds, move |crew, tables| {
            if threads > crew.size() {
                return;
            }
            let free = Fight { threads, section, until: Until::Time(effort.throughput), timed: false };
            let all = fights(crew, rounds, free, |name| name == "pagelock" || BEST_OF.contains(&name));
            throughput_row(&all, section, threads, tables);
            let timed = Fight { until: Until::Time(effort.waits), timed: true, ..free };
            let all = fights(crew, rounds, timed, |name| name == "pagelock" || name == LONGEST_WAIT_OF);
            worst_row(&all, section, threads, tables);
        })
    })
    .collect()
}

fn row(crew: &Crew, effort: &Effort, section: Section, threads: usize, tables: &mut Tables) {
    if threads > crew.size() {
        return;
    }
    let fight = Fight { threads, section, until: Until::Time(effort.throughput), timed: false };
    let all = fights(crew, effort.rounds, fight, |_| true);
    throughput_row(&all, section, threads, tables);
    let mut put = |what: String, unit: &str, better, note: &str, all: &[Rounds<Outcome>], part: &dyn Fn(&Outcome) -> f64| {
        let head = Head::new("contended", what, "threads", unit, better).note(note);
        tables.row(head, Row::of(threads.to_string(), threads as f64, all, role, part));
    };
    let of = |what: &str| format!("Contended, {}: {what}", section.name());
    let per_hold = |o: &Outcome, n: f64| n / o.holds.max(1) as f64;
    let fair = "The least served thread's holds as a part of the most served one's: 1 is fair. Not judged: a lock that hands itself on \
                at every release is fair and slow.";
    put(of("share"), "least / most", Better::Neither, fair, &all, &|o| o.share);
    let cpu = "Processor seconds for a million holds, the sections' own work included.";
    put(of("processor time"), "s per million holds", Better::Less, cpu, &all, &|o| {
        per_hold(o, o.usage.cpu.as_secs_f64()) * 1e6
    });
    let gave = "Because a thread slept or gave its processor away.";
    put(of("voluntary switches"), "per thousand holds", Better::Neither, gave, &all, &|o| {
        per_hold(o, o.usage.voluntary as f64) * 1e3
    });
    let pushed = "Because a thread's time was up, or another was more urgent.";
    put(of("involuntary switches"), "per thousand holds", Better::Neither, pushed, &all, &|o| {
        per_hold(o, o.usage.involuntary as f64) * 1e3
    });

    let timed = Fight { until: Until::Time(effort.waits), timed: true, ..fight };
    let all = fights(crew, effort.rounds, timed, |_| true);
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        put(of(&format!("{name} of the waits")), "ns", Better::Less, CLOCK, &all, &|o| o.wait(quantile));
    }
    worst_row(&all, section, threads, tables);
}

/// Between the sections, because the machine's habits change within minutes.
fn stops(crew: &Crew, effort: &Effort, section: Section, tables: &mut Tables) {
    let threads = cores().min(crew.size());
    let rounds = (0..effort.rounds).map(|_| longest_stop(crew, threads, effort.waits).as_secs_f64() * 1e3).collect();
    let note = "One thread for each core reads the clock and does nothing else, for as long as each round of the longest waits lasts. What \
                stops it stops the owner of a lock too, and so all who wait for it.";
    let head = Head::new("contended", STOPS, "when measured", "ms", Better::Neither).note(note);
    let mut row = Row::new(format!("after {}", section.name()), f64::from(section as u8));
    row.add("a clock", Role::Beside, rounds);
    tables.row(head, row);
}

/// Whose, what it is called, and which figure.
type Column<'a> = (&'static str, &'static str, &'a dyn Fn(&Tally) -> f64);

/// What becomes of wakes, by runs of their own: watching costs time.
fn overtaking(crew: &Crew, effort: &Effort, section: Section, threads: usize, tables: &mut Tables) {
    if threads > crew.size() {
        return;
    }
    fn fought<const FAULTERS: bool>(crew: &Crew, fight: Fight) -> Tally {
        contend::<WatchedPage<FAULTERS>>(crew, fight);
        Tally::of_last()
    }
    let fight = Fight { threads, section, until: Until::Time(effort.waits), timed: false };
    let all = take_turns::<Tally>(
        effort.rounds,
        &[(LOCKER, &|| fought::<false>(crew, fight)), (FAULTER, &|| fought::<true>(crew, fight))],
    );
    let mut put = |title: String, unit: &str, note: &str, columns: &[Column<'_>]| {
        let mut row = Row::new(threads.to_string(), threads as f64);
        for (whose, name, part) in columns {
            let role = if *name == TO_NEWCOMERS { Role::Ours } else { Role::Beside };
            // Rounds in which nobody slept say nothing of those who did.
            let rounds = all.iter().filter(|r| r.name == *whose).flat_map(|r| &r.rounds).filter(|tally| tally.slept() > 0);
            row.add(name, role, rounds.map(part).collect());
        }
        tables.row(Head::new("contended", title, "threads", unit, Better::Neither).note(note), row);
    };
    let note = "A sleeper loses a wake if the page is taken again when it has come to. To newcomers: somebody had the page since it went to \
                sleep who had not slept for it; this is what the bound is about. What is lost beyond that goes to others whom the page \
                was promised to as well, and who were quicker. A faulter that has lost often enough locks with lock_releasing, as every \
                other acquisition does in its runs. Runs of their own, in which the platform watches.";
    let columns: &[Column<'_>] = &[
        (LOCKER, TO_NEWCOMERS, &|t| most(&t.to_newcomers) as f64),
        (LOCKER, "a locker, to anybody", &|t| most(&t.lost) as f64),
        (FAULTER, FAULTER_TO_NEWCOMERS, &|t| most(&t.to_newcomers) as f64),
        (FAULTER, "a faulter, to anybody", &|t| most(&t.lost) as f64),
    ];
    put(lost(section), "wakes", note, columns);
    let columns: &[Column<'_>] = &[
        (LOCKER, "none lost", &|t| t.part(0..=0)),
        (LOCKER, "one", &|t| t.part(1..=1)),
        (LOCKER, "two", &|t| t.part(2..=2)),
        (LOCKER, "three or more", &|t| t.part(3..=MOST)),
    ];
    let title = format!("Contended, {}: lockers that slept, by wakes lost", section.name());
    put(title, "part of them", "Of the same runs, whoever they were lost to.", columns);
    let columns: &[Column<'_>] = &[(LOCKER, "lockers", &|t| t.slept() as f64), (FAULTER, "faulters", &|t| t.slept() as f64)];
    let title = format!("Contended, {}: acquisitions that slept", section.name());
    put(title, "acquisitions of a round", "Of the same runs: so many are behind each round of the two tables above.", columns);
}
