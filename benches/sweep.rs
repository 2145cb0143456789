//! One pass over what the chosen numbers of `src/tune.rs` decide, as one line of JSON. `ci/sweep.sh` builds it once for each choice and
//! lets the builds take turns.
//!
//! `sweep lock` measures the contended lock, `sweep event` the release to many sleepers; each takes a second or two. `sweep lock PEER`
//! measures std, parking_lot or usync in its stead. `sweep table FILE` makes tables of many such lines, each preceded by the name of the choice
//! and a tab; `sweep plot FILE SVG` draws them. `sweep switch` says what it costs a processor to pass from one thread to another.

mod support;

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;
use plotters::prelude::*;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use support::contention::{Fight, Section, Until, contend};
use support::crew::Crew;
use support::events::{Event, Page};
use support::locks::Lock;
use support::release::release_to;
use support::spread::{Spread, digits, micros, millis};

/// Milliseconds of each run of the lock, and rounds of each release; a smoke test makes do with less.
struct Effort {
    run: Duration,
    rounds: usize,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |arg: &str| args.iter().any(|a| a == arg);
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["table", file, ..] => return print!("{}", Passes::read(file).tables()),
        ["switch", ..] => return switches(),
        ["plot", file, svg, ..] => return Passes::read(file).plot(svg).expect("the picture can be written"),
        _ => {}
    }
    let effort = match has("--test") {
        true => Effort { run: Duration::from_millis(2), rounds: 1 },
        false => Effort { run: Duration::from_millis(60), rounds: 15 },
    };
    let mut said = Map::new();
    let lock = if has("std") {
        lock::<std::sync::Mutex<()>>
    } else if has("parking_lot") {
        lock::<parking_lot::Mutex<()>>
    } else if has("usync") {
        lock::<usync::Mutex<()>>
    } else {
        lock::<pagelock::PageLock>
    };
    if has("lock") || !has("event") {
        lock(&effort, &mut said);
    }
    if has("event") || !has("lock") {
        event(&effort, &mut said);
    }
    println!("{}", Value::Object(said));
}

/// What the tables call the sections, in the order of their columns.
const SECTIONS: [(&str, Section); 3] = [("short", Section::Short), ("long", Section::Long), ("busy", Section::Busy)];

fn lock<L: Lock>(effort: &Effort, said: &mut Map<String, Value>) {
    let crew = Crew::new(32);
    for (name, section) in SECTIONS {
        for threads in [2, 8, 32] {
            let fight = Fight { threads, section, until: Until::Time(effort.run), timed: false };
            let free = contend::<L>(&crew, fight);
            said.insert(format!("{name} {threads}: M/s"), (free.per_second() / 1e6).into());
            let cpu = free.usage.cpu.as_secs_f64() * 1e6 / free.holds.max(1) as f64;
            said.insert(format!("{name} {threads}: CPU us/hold"), cpu.into());
            // A thread that gives its processor away is still ready to run, and so is switched from like one whose time is up.
            let given = free.usage.involuntary as f64 * 1e3 / free.holds.max(1) as f64;
            said.insert(format!("{name} {threads}: processors given away/1000 holds"), given.into());
            let timed = contend::<L>(&crew, Fight { until: Until::Time(2 * effort.run), timed: true, ..fight });
            said.insert(format!("{name} {threads}: p999 us"), (timed.wait(0.999) / 1e3).into());
            said.insert(format!("{name} {threads}: worst ms"), millis(timed.worst_wait()).into());
        }
    }
}

fn event(effort: &Effort, said: &mut Map<String, Value>) {
    let crew = Crew::new(512);
    let page = Arc::new(Page::new());
    for sleepers in [1, 8, 64, 512] {
        let rounds = if effort.rounds == 1 { 1 } else { effort.rounds.max(300 / sleepers) };
        let times: Vec<_> = (0..rounds).map(|_| release_to(&crew, &page, sleepers)).collect();
        let mut median = |what: &str, part: &dyn Fn(&support::release::Times) -> f64| {
            said.insert(format!("{sleepers}: {what}"), Spread::of(times.iter().map(part)).median.into());
        };
        median("first us", &|t| micros(t.first));
        median("last us", &|t| micros(t.last));
        median("call us", &|t| micros(t.call));
        median("call CPU us", &|t| micros(t.cpu));
        median("CPU us each", &|t| micros(t.each));
    }
}

/// Threads that share one processor and give it to each other, with nothing else to do.
fn switches() {
    for threads in [1, 2, 16] {
        let stop = AtomicBool::new(false);
        let given: u64 = std::thread::scope(|scope| {
            let give = || {
                stay_on_first_processor();
                let mut given = 0;
                while !stop.load(Relaxed) {
                    std::thread::yield_now();
                    given += 1;
                }
                given
            };
            let crew: Vec<_> = (0..threads).map(|_| scope.spawn(give)).collect();
            std::thread::sleep(Duration::from_millis(500));
            stop.store(true, Relaxed);
            crew.into_iter().map(|thread| thread.join().expect("it only counts")).sum()
        });
        println!("{threads} on one processor: {:.0} ns to give it away", 5e8 / given as f64);
    }
}

#[cfg(target_os = "linux")]
fn stay_on_first_processor() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None).expect("a thread may ask where it may run");
    let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).expect("it runs somewhere");
    let mut only = CpuSet::new();
    only.set(first);
    sched_setaffinity(None, &only).expect("a thread may stay where it may run");
}

#[cfg(not(target_os = "linux"))]
fn stay_on_first_processor() {
    panic!("only Linux is told how to keep a thread on one processor");
}

/// All passes of all choices, the chosen one first.
struct Passes {
    choices: Vec<String>,
    /// "subject: figure" to the passes of each choice.
    figures: BTreeMap<String, Vec<Vec<f64>>>,
}

impl Passes {
    fn read(file: &str) -> Self {
        let text = std::fs::read_to_string(file).expect("the passes can be read");
        let mut all = Self { choices: Vec::new(), figures: BTreeMap::new() };
        for (choice, line) in text.lines().filter_map(|line| line.split_once('\t')) {
            let index = all.choices.iter().position(|c| c == choice).unwrap_or_else(|| {
                all.choices.push(choice.to_string());
                all.choices.len() - 1
            });
            let said: Map<String, Value> = serde_json::from_str(line).expect("a pass is a line of JSON");
            for (what, value) in said {
                let of = all.figures.entry(what).or_default();
                of.resize(of.len().max(index + 1), Vec::new());
                // A figure that could not be had is null.
                of[index].push(value.as_f64().unwrap_or(f64::NAN));
            }
        }
        all
    }

    /// The figures of one kind, by subject in the order of their numbers.
    fn kind(&self, kind: &str) -> Vec<(&str, &Vec<Vec<f64>>)> {
        let mut all: Vec<_> = self
            .figures
            .iter()
            .filter_map(|(what, of)| what.split_once(": ").filter(|(_, k)| *k == kind).map(|(subject, _)| (subject, of)))
            .collect();
        let number = |subject: &str| subject.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
        let section = |subject: &str| SECTIONS.iter().position(|(name, _)| subject.starts_with(name));
        all.sort_by_key(|(subject, _)| (section(subject), number(subject)));
        all
    }

    fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<_> = self.figures.keys().filter_map(|what| Some(what.split_once(": ")?.1)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// One table for each kind of figure: medians, and as multiples of the first choice's.
    fn tables(&self) -> String {
        let mut text = String::new();
        for kind in self.kinds() {
            let columns = self.kind(kind);
            let passes = columns.iter().flat_map(|(_, of)| of.iter().map(Vec::len)).min().unwrap_or(0);
            let cores = support::machine::cores();
            text += &format!(
                "\n**{kind}**; medians of {passes} passes, and as multiples of the first line's, pass by pass; {cores} cores\n\n|  |"
            );
            for (subject, _) in &columns {
                text += &format!(" {subject} |");
            }
            text += &format!("\n|---|{}\n", "--:|".repeat(columns.len()));
            for (index, choice) in self.choices.iter().enumerate() {
                text += &format!("| {choice} |");
                for (_, of) in &columns {
                    let median = Spread::of(of[index].iter().copied()).median;
                    let ratio = Spread::of_ratios(&of[index], &of[0]).median;
                    text += &format!(" {} ({ratio:.2}) |", digits(median));
                }
                text += "\n";
            }
        }
        text
    }

    /// One panel for each kind: a line for each subject over the choices, as multiples of the first choice's median.
    fn plot(&self, svg: &str) -> Result<(), Box<dyn Error>> {
        let kinds = self.kinds();
        let root = SVGBackend::new(svg, (1000, 320 * kinds.len() as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        for (kind, area) in kinds.iter().zip(root.split_evenly((kinds.len(), 1))) {
            let columns = self.kind(kind);
            let relative = |of: &Vec<Vec<f64>>| -> Vec<(f64, f64)> {
                let median = |index: usize| Spread::of(of[index].iter().copied()).median;
                (0..self.choices.len()).map(|i| (i as f64, (median(i) / median(0).max(1e-9)).clamp(0.01, 100.0))).collect()
            };
            let all = || columns.iter().flat_map(|(_, of)| relative(of)).map(|(_, y)| y);
            let (low, high) = (all().fold(1.0, f64::min), all().fold(1.0, f64::max));
            let last = self.choices.len() - 1;
            let mut chart = ChartBuilder::on(&area)
                .caption(format!("{kind}, as a multiple of the first choice's"), ("sans-serif", 15))
                .margin(8)
                .x_label_area_size(50)
                .y_label_area_size(50)
                .build_cartesian_2d(-0.5..last as f64 + 2.5, (low * 0.9..high * 1.1).log_scale())?;
            let name = |x: &f64| {
                let whole = (x - x.round()).abs() < 0.01 && *x >= 0.0;
                if whole { self.choices.get(x.round() as usize).cloned().unwrap_or_default() } else { String::new() }
            };
            let style = ("sans-serif", 10).into_font().transform(FontTransform::Rotate90);
            chart.configure_mesh().x_labels(self.choices.len() + 4).x_label_formatter(&name).x_label_style(style).draw()?;
            for (index, (subject, of)) in columns.iter().enumerate() {
                let color = Palette99::pick(index).to_rgba();
                chart
                    .draw_series(LineSeries::new(relative(of), color.stroke_width(2)).point_size(3))?
                    .label(*subject)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .background_style(WHITE.mix(0.8))
                .draw()?;
        }
        root.present()?;
        Ok(())
    }
}
