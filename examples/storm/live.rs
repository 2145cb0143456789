//! The display while a storm runs: a line for each strategy. On a terminal it moves; elsewhere a
//! line is printed when something happens.

use crate::counters::Counters;
use crate::output::note;
use crate::region::Kind;
use crate::run::Outcome;
use crate::verdict::TRAPPED;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Figures of the sparkline, spread over the time that there is.
const SAMPLES: u32 = 16;
/// Fewer retries than this in a sample say nothing yet.
const ENOUGH: u64 = 100;

/// The lines of the strategies that ran on one kind of memory.
pub struct Live {
    lines: MultiProgress,
    is_terminal: bool,
    kind: Kind,
}

impl Live {
    pub fn new(kind: Kind) -> Self {
        Self { lines: MultiProgress::new(), is_terminal: std::io::stderr().is_terminal(), kind }
    }

    /// Begins the line of the strategy that runs next.
    pub fn line(&self, name: String, time: Duration) -> Line {
        let style = ProgressStyle::with_template("{prefix:26} {wide_msg}")
            .expect("the template is well-formed");
        let bar = self.lines.add(ProgressBar::new(0).with_style(style).with_prefix(name.clone()));
        Line {
            bar,
            name: format!("{}: {name}", self.kind.name()),
            is_terminal: self.is_terminal,
            every: time / SAMPLES,
            rates: Vec::new(),
            last: Sample { at: Instant::now(), ..Sample::default() },
            trapped: None,
            was_said: false,
        }
    }

    /// The table takes their place.
    pub fn clear(&self) {
        let _ = self.lines.clear();
    }
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    accesses: u64,
    retries: u64,
    migrations: u64,
}

impl Default for Sample {
    fn default() -> Self {
        Self { at: Instant::now(), accesses: 0, retries: 0, migrations: 0 }
    }
}

pub struct Line {
    bar: ProgressBar,
    name: String,
    is_terminal: bool,
    every: Duration,
    /// Accesses a second, so far.
    rates: Vec<f64>,
    last: Sample,
    /// Retries for each migration in the last sample, if it is a livelock.
    trapped: Option<u64>,
    was_said: bool,
}

impl Line {
    /// Has a look, now and then.
    pub fn show(&mut self, c: &Counters) {
        let now = Sample {
            at: Instant::now(),
            accesses: c.accesses.get(),
            retries: c.retries.get(),
            migrations: c.migrations(),
        };
        let took = now.at - self.last.at;
        if took < self.every {
            return;
        }
        self.rates.push((now.accesses - self.last.accesses) as f64 / took.as_secs_f64());
        let retries = now.retries - self.last.retries;
        let each = retries / (now.migrations - self.last.migrations).max(1);
        self.trapped = (retries > ENOUGH && each as f64 > TRAPPED).then_some(each);
        self.last = now;
        self.bar.set_message(match self.trapped {
            Some(each) => format!("{} LIVELOCKED: {each} retries/migration", self.sparkline()),
            None => {
                format!("{} {:.0} accesses/s", self.sparkline(), self.rates.last().unwrap_or(&0.0))
            }
        });
        if let (Some(each), false, false) = (self.trapped, self.is_terminal, self.was_said) {
            note(format_args!("{} is livelocked: {each} retries for each migration", self.name));
            self.was_said = true;
        }
    }

    /// The line stays, and says how it ended.
    pub fn end(self, outcome: &Outcome) {
        let spark = self.sparkline();
        let ended = match (outcome.finished, self.trapped) {
            (true, _) => format!("done in {:.2} s", outcome.seconds),
            (false, Some(_)) => "NOT done, livelocked".to_string(),
            (false, None) => "NOT done in time".to_string(),
        };
        self.bar.finish_with_message(format!("{spark} {ended}"));
        if !self.is_terminal {
            note(format_args!("{}: {ended}", self.name));
        }
    }

    /// The rates beside the highest of them.
    fn sparkline(&self) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let most = self.rates.iter().copied().fold(1.0, f64::max);
        let bar = |rate: &f64| BARS[((rate / most * 7.0).round() as usize).min(7)];
        let drawn: String = self.rates.iter().take(SAMPLES as usize).map(bar).collect();
        format!("{drawn:<width$}", width = SAMPLES as usize)
    }
}
