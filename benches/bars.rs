//! How good it must be, and how good it is: every bar of the design beside the best peer, taken in turns in one run.
//!
//! `cargo bench --bench bars` takes some three minutes, `-- --quick` half a minute with wider spreads; `-- contended`, `events` or
//! `uncontended` runs that part alone. Medians of rounds, smallest
//! and largest in brackets. Rows that are lost are printed like those that are won.

mod support;

use comfy_table::{Table, presets};
use core::hint::black_box;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;
use support::Padded;
use support::contention::{Outcome, Until, contend};
use support::crew::Crew;
use support::events::{Event, EventListener, MOST, Page, ParkingLotCondvar, RawWakeAll, StdCondvar, Times, release_to};
use support::locks::{Lock, RawFutex, RawPair};
use support::report::{Spread, machine, micros, millis};

/// How long to measure.
struct Effort {
    rounds: usize,
    pairs: u32,
    throughput: Duration,
    waits: Duration,
    threads: &'static [usize],
}

const FULL: Effort = Effort {
    rounds: 15,
    pairs: 200_000,
    throughput: Duration::from_millis(100),
    waits: Duration::from_millis(300),
    threads: &[2, 4, 8, 16, 32, 64],
};
const QUICK: Effort = Effort {
    rounds: 15,
    pairs: 50_000,
    throughput: Duration::from_millis(30),
    waits: Duration::from_millis(100),
    threads: &[2, 8, 32],
};
/// Only to see that everything runs.
const SMOKE: Effort =
    Effort { rounds: 1, pairs: 1000, throughput: Duration::from_millis(5), waits: Duration::from_millis(5), threads: &[2, 8] };

/// The table, and how many of its rows that have a bar meet it.
struct Rows {
    table: Table,
    met: usize,
    judged: usize,
}

impl Rows {
    fn new() -> Self {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["what", "pagelock", "peer", "peer's", "ratio", "bar", "met"]);
        Self { table, met: 0, judged: 0 }
    }

    fn row(&mut self, what: &str, ours: String, peer: &str, theirs: String, ratio: Option<Spread>, bar: Option<Bar>) {
        let shown = ratio.map_or(String::new(), |r| format!("{:.2} ({:.2}-{:.2})", r.median, r.min, r.max));
        let (bar, met) = match bar {
            None => (String::new(), ""),
            Some(bar) => {
                let met = bar.is_met(ratio.map(|r| r.median));
                self.judged += 1;
                self.met += usize::from(met);
                (bar.to_string(), if met { "yes" } else { "NO" })
            }
        };
        self.table.add_row([what, &ours, peer, &theirs, &shown, &bar, met]);
    }
}

/// What is asked of a row.
enum Bar {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// A value of ours, not a ratio.
    AtMost(f64, f64, &'static str),
}

impl Bar {
    fn is_met(&self, ratio: Option<f64>) -> bool {
        match *self {
            Self::RatioAtMost(bar) => ratio.is_some_and(|r| r <= bar),
            // Two runs of the same lock differ by a hundredth.
            Self::RatioAtLeast(bar) => ratio.is_some_and(|r| r >= bar - 0.01),
            Self::AtMost(bar, ours, _) => ours <= bar,
        }
    }
}

impl core::fmt::Display for Bar {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::RatioAtMost(bar) => write!(f, "<= {bar:.2}x"),
            Self::RatioAtLeast(bar) => write!(f, ">= {bar:.2}x"),
            Self::AtMost(bar, _, unit) => write!(f, "<= {bar} {unit}"),
        }
    }
}

/// The rounds of one peer, and its name.
struct Series<T> {
    name: &'static str,
    rounds: Vec<T>,
}

impl<T> Series<T> {
    fn of(&self, part: impl Fn(&T) -> f64) -> Vec<f64> {
        self.rounds.iter().map(part).collect()
    }
}

/// Runs every measurement once per round, in an order that moves on by one each round, so that nobody always follows the same.
fn take_turns<T>(rounds: usize, peers: &[(&'static str, &dyn Fn() -> T)]) -> Vec<Series<T>> {
    let mut all: Vec<Series<T>> = peers.iter().map(|&(name, _)| Series { name, rounds: Vec::with_capacity(rounds) }).collect();
    for round in 0..rounds {
        for turn in 0..peers.len() {
            let peer = (round + turn) % peers.len();
            all[peer].rounds.push(peers[peer].1());
        }
    }
    all
}

/// Nanoseconds of one `body`, from many.
fn nanos_each<T>(on: &T, times: u32, body: impl Fn(&T)) -> f64 {
    let began = Instant::now();
    for _ in 0..times {
        body(black_box(on));
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(times)
}

fn pair<L: Lock>(times: u32) -> f64 {
    nanos_each(&Padded(L::new()), times, |lock| lock.0.with(|| ()))
}

fn try_fail<L: Lock>(times: u32) -> f64 {
    let lock = Padded(L::new());
    lock.0.with(|| nanos_each(&lock, times, |lock| assert!(!black_box(lock.0.try_pair()))))
}

fn uncontended(rows: &mut Rows, effort: &Effort) {
    let n = effort.pairs;
    // A round is a millisecond: many of them cost nothing.
    let rounds = if effort.rounds > 1 { 101 } else { 1 };
    let pairs = take_turns(
        rounds,
        &[
            (RawPair::NAME, &|| pair::<RawPair>(n)),
            ("pagelock", &|| pair::<pagelock::PageLock>(n)),
            ("parking_lot", &|| pair::<parking_lot::Mutex<()>>(n)),
            ("std", &|| pair::<std::sync::Mutex<()>>(n)),
            ("usync", &|| pair::<usync::Mutex<()>>(n)),
        ],
    );
    against_first(rows, "lock + unlock, uncontended", &pairs, Bar::RatioAtMost(1.03));
    let fails = take_turns(
        rounds,
        &[
            ("raw load", &|| try_fail::<RawPair>(n)),
            ("pagelock", &|| try_fail::<pagelock::PageLock>(n)),
            ("parking_lot", &|| try_fail::<parking_lot::Mutex<()>>(n)),
            ("std", &|| try_fail::<std::sync::Mutex<()>>(n)),
            ("usync", &|| try_fail::<usync::Mutex<()>>(n)),
        ],
    );
    // One load and no store. In time that is "like a load", with room for a nanosecond's fractions; a failed compare-exchange
    // would be twenty times as long.
    against_first(rows, "failed try_lock", &fails, Bar::RatioAtMost(2.0));
}

/// One row against the first series, which is the bound, and one without a bar for each peer.
fn against_first(rows: &mut Rows, what: &str, all: &[Series<f64>], bar: Bar) {
    let ours = &all[1];
    let mut bar = Some(bar);
    for (i, peer) in all.iter().enumerate().filter(|&(i, _)| i != 1) {
        let show = |s: &Series<f64>| format!("{:.2} ns", Spread::of(s.rounds.iter().copied()).median);
        let ratio = Spread::of_ratios(&ours.rounds, &peer.rounds);
        rows.row(if i == 0 { what } else { "" }, show(ours), peer.name, show(peer), Some(ratio), bar.take());
    }
}

fn contended(rows: &mut Rows, effort: &Effort, crew: &Crew) {
    for &threads in effort.threads {
        let peers = |until, timed| {
            take_turns::<Outcome>(
                effort.rounds,
                &[
                    ("pagelock", &|| contend::<pagelock::PageLock>(crew, threads, until, timed)),
                    ("std", &|| contend::<std::sync::Mutex<()>>(crew, threads, until, timed)),
                    ("parking_lot", &|| contend::<parking_lot::Mutex<()>>(crew, threads, until, timed)),
                    ("usync", &|| contend::<usync::Mutex<()>>(crew, threads, until, timed)),
                    (RawFutex::NAME, &|| contend::<RawFutex>(crew, threads, until, timed)),
                ],
            )
        };
        let all = peers(Until::Time(effort.throughput), false);
        let rate = |s: &Series<Outcome>| s.of(Outcome::per_second);
        let show = |s: &Series<Outcome>| format!("{:.2} M/s", Spread::of(rate(s)).median / 1e6);
        let best = all[1..4]
            .iter()
            .max_by(|a, b| Spread::of(rate(a)).median.total_cmp(&Spread::of(rate(b)).median))
            .expect("three of them");
        for (i, peer) in all.iter().enumerate().skip(1) {
            let ratio = Spread::of_ratios(&rate(&all[0]), &rate(peer));
            let bar = core::ptr::eq(peer, best).then_some(Bar::RatioAtLeast(1.0));
            let what = if i == 1 { format!("throughput, {threads} threads") } else { String::new() };
            rows.row(&what, show(&all[0]), peer.name, show(peer), Some(ratio), bar);
        }

        let all = peers(Until::Time(effort.waits), true);
        let worst = |s: &Series<Outcome>| s.of(|o| millis(o.worst_wait));
        let show = |s: &Series<Outcome>| {
            let spread = Spread::of(worst(s));
            format!("{:.2} ms, at most {:.1}", spread.median, spread.max)
        };
        for (i, peer) in all.iter().enumerate().skip(1) {
            let ratio = Spread::of_ratios(&worst(&all[0]), &worst(peer));
            let bar = (peer.name == "parking_lot").then_some(Bar::RatioAtMost(1.0));
            let what = if i == 1 { format!("longest wait, {threads} threads") } else { String::new() };
            rows.row(&what, show(&all[0]), peer.name, show(peer), Some(ratio), bar);
        }
        let share = |s: &Series<Outcome>| format!("{:.2}", Spread::of(s.of(|o| o.share)).median);
        for (i, peer) in all.iter().enumerate().skip(1) {
            let what = if i == 1 { format!("least / most served, {threads} threads") } else { String::new() };
            rows.row(&what, share(&all[0]), peer.name, share(peer), None, None);
        }
    }
}

fn events(rows: &mut Rows, effort: &Effort, crew: &Crew) {
    let (raw, page) = (Arc::new(RawWakeAll::new()), Arc::new(Page::new()));
    let (std, parking_lot) = (Arc::new(StdCondvar::new()), Arc::new(ParkingLotCondvar::new()));
    let listener = Arc::new(EventListener::new());
    for sleepers in [1, 8, 64, MOST] {
        // The fewer sleepers, the shorter a round and the more it varies.
        let rounds = if effort.rounds == 1 { 1 } else { effort.rounds.max(1000 / sleepers).min(301) };
        let all = take_turns::<Times>(
            rounds,
            &[
                (RawWakeAll::NAME, &|| release_to(crew, &raw, sleepers)),
                ("pagelock", &|| release_to(crew, &page, sleepers)),
                (StdCondvar::NAME, &|| release_to(crew, &std, sleepers)),
                (ParkingLotCondvar::NAME, &|| release_to(crew, &parking_lot, sleepers)),
                (EventListener::NAME, &|| release_to(crew, &listener, sleepers)),
            ],
        );
        let last = |s: &Series<Times>| s.of(|t| micros(t.last));
        let call = |s: &Series<Times>| s.of(|t| micros(t.call));
        let show = |rounds: Vec<f64>| format!("{:.1} us", Spread::of(rounds).median);
        for (i, peer) in all.iter().enumerate().filter(|&(i, _)| i != 1) {
            // Medians, not round by round: a single wake-up is 5 or 50 us, as the scheduler likes.
            let (ours, theirs) = (Spread::of(last(&all[1])), Spread::of(last(peer)));
            let ratio =
                Spread { min: ours.min / theirs.median, median: ours.median / theirs.median, max: ours.max / theirs.median };
            let what = if i == 0 { format!("release to last of {sleepers}") } else { String::new() };
            let bar = (i == 0).then_some(Bar::RatioAtMost(1.10));
            rows.row(&what, show(last(&all[1])), peer.name, show(last(peer)), Some(ratio), bar);
        }
        let ours = Spread::of(call(&all[1])).median;
        for (i, peer) in all.iter().enumerate().filter(|&(i, _)| i != 1) {
            let what = if i == 0 { format!("releaser's call, {sleepers} sleepers") } else { String::new() };
            let bar = (i == 0 && sleepers == MOST).then_some(Bar::AtMost(100.0, ours, "us"));
            rows.row(&what, show(call(&all[1])), peer.name, show(call(peer)), None, bar);
        }
        // Without a bar: the part of the call that is not the scheduler's choice to run the sleepers first.
        let cpu = |s: &Series<Times>| s.of(|t| micros(t.cpu));
        for (i, peer) in all.iter().enumerate().filter(|&(i, _)| i != 1) {
            let what = if i == 0 { format!("of it on the processor, {sleepers} sleepers") } else { String::new() };
            rows.row(&what, show(cpu(&all[1])), peer.name, show(cpu(peer)), None, None);
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |arg: &str| args.iter().any(|a| a == arg);
    let effort = if has("--test") {
        SMOKE
    } else if has("--quick") {
        QUICK
    } else {
        FULL
    };
    let (began, machine) = (Instant::now(), machine());
    let mut rows = Rows::new();
    // Named parts only, or all of them.
    let all = !["uncontended", "events", "contended"].iter().any(|part| has(part));
    if all || has("uncontended") {
        uncontended(&mut rows, &effort);
    }
    let crew = Crew::new(MOST);
    if all || has("events") {
        events(&mut rows, &effort, &crew);
    }
    if all || has("contended") {
        contended(&mut rows, &effort, &crew);
    }
    println!("{}", rows.table);
    println!("{} of {} bars met; {machine}; {:.0} s", rows.met, rows.judged, began.elapsed().as_secs_f64());
}
