//! Notices when a group gets nowhere, says in words where everybody stands, and ends the program.
//!
//! A stall is not told by the clock, because the whole program may be stopped for a while, and a
//! thread of low priority may get no processor. It is a group in which *nobody has run at all* for
//! so many ticks, each of which took as long as it should: all are asleep, and as nobody outside
//! wakes them, for ever. A livelock is a group that has used so much processor time within one
//! turn.

use crate::group::Group;
use crate::noise::Slot;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(500);
/// A tick that took longer was one in which this program was stopped.
const LATE: Duration = Duration::from_millis(1500);
/// Ticks without a running thread that mean a stall.
const STALLED: u32 = 20;
/// So much processor time in one turn is a livelock, in nanoseconds.
const LIVELOCKED: u64 = 120_000_000_000;

/// What was seen of a group at last.
#[derive(Clone, Default, PartialEq)]
struct Seen {
    turn: u64,
    /// Of each thread: time on the processor and number of times that it was put there; `None` if
    /// it is not asleep.
    threads: Vec<Option<(u64, u64)>>,
}

struct Watched<'g> {
    group: &'g Group,
    seen: Seen,
    still: u32,
    /// Processor time of all threads when the turn began.
    spent_before: u64,
}

pub(crate) struct Watchdog<'g>(Vec<Watched<'g>>);

impl<'g> Watchdog<'g> {
    pub(crate) fn new(groups: &'g [Group]) -> Self {
        let watched = |group| Watched { group, seen: Seen::default(), still: 0, spent_before: 0 };
        Self(groups.iter().map(watched).collect())
    }

    /// Sleeps for a tick and looks.
    pub(crate) fn tick(&mut self) {
        let began = Instant::now();
        std::thread::sleep(TICK);
        let on_time = began.elapsed() < LATE;
        for at in 0..self.0.len() {
            if let Some(why) = self.0[at].look(on_time) {
                self.bark(at, &why);
            }
        }
    }

    fn bark(&self, at: usize, why: &str) -> ! {
        let mut text = format!("\nsoak: group {at} {why}\n");
        let group = self.0[at].group;
        let _ = write!(text, "  turn {}; {:?}", group.turns.load(Relaxed), group.machine);
        for slot in &group.slots {
            let (doing, step, done) = (slot.doing(), slot.step(), slot.done.load(Relaxed));
            let state = if running(slot).is_none() { "runs" } else { "sleeps" };
            let _ = writeln!(
                text,
                "    a thread that {doing}: {state}; last step \"{step}\"; {done} operations done"
            );
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
        std::process::abort();
    }
}

impl Watched<'_> {
    fn look(&mut self, on_time: bool) -> Option<String> {
        let turn = self.group.turns.load(Relaxed);
        let now =
            Seen { turn, threads: self.group.slots.iter().map(|slot| running(slot)).collect() };
        let spent = self.group.slots.iter().map(|slot| schedstat(slot).0).sum();
        if now.turn != self.seen.turn {
            self.spent_before = spent;
        }
        let nobody_ran = now == self.seen && now.threads.iter().all(Option::is_some);
        self.still = match (nobody_ran, on_time) {
            (true, true) => self.still + 1,
            (true, false) => self.still,
            (false, _) => 0,
        };
        self.seen = now;
        if self.still >= STALLED {
            return Some(format!(
                "is asleep, all of it, and nobody is left to wake it ({} ticks)",
                self.still
            ));
        }
        let spent = spent.saturating_sub(self.spent_before);
        (spent > LIVELOCKED)
            .then(|| format!("has used {} s of processor time in one turn", spent / 1_000_000_000))
    }
}

/// Time on the processor and number of times there, of a thread that sleeps; `None` of one that
/// runs or could.
fn running(slot: &Slot) -> Option<(u64, u64)> {
    let stat =
        std::fs::read_to_string(format!("/proc/self/task/{}/stat", slot.tid.load(Relaxed))).ok()?;
    let asleep = stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('S'));
    asleep.then(|| schedstat(slot))
}

fn schedstat(slot: &Slot) -> (u64, u64) {
    let path = format!("/proc/self/task/{}/schedstat", slot.tid.load(Relaxed));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|n| n.parse().unwrap_or(0));
    let (time, _waited, times) = (numbers.next(), numbers.next(), numbers.next());
    (time.unwrap_or(0), times.unwrap_or(0))
}
