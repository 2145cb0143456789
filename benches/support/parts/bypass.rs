//! How many rounds an acquisition loses: the page lock on a platform that watches how each sleep
//! ends.
//!
//! A round is lost by a locker that was woken, or slept when the page was released, and that then
//! has to sleep once more. It may be lost to a newcomer if the gate was open as the locker went to
//! sleep, or if the locker stood outside; how often that can be is bounded. Behind a closed gate it
//! is lost to another sleeper. To watch costs time, so these are runs of their own.

use super::Job;
use super::contended::{Cell as Fought, SHORT};
use crate::support::contention::{Fight, Look, contend};
use crate::support::crew::Crew;
use crate::support::effort::Effort;
use crate::support::locks::Lock;
use crate::support::table::{Better, Head, Role, Row, Tables};
use crate::support::turns::{Rounds, take_turns};
use core::cell::Cell;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed},
};
use pagelock::futex::{EventSlot, Sleep};
use pagelock::word::state::{CLOSED, GENERATION_SHIFT};
use pagelock::{Futex, OsFutex, PageLock};

pub const TITLE: &str = "Contended, bypass: rounds lost, at most";
pub const LOCKER: &str = "a locker, to newcomers";
pub const FAULTER: &str = "a faulter, to newcomers";

/// What this thread's acquisition has come to so far.
#[derive(Clone, Copy)]
struct Now {
    slept: bool,
    /// The last sleep ended with a round, and whether newcomers could have it.
    round: bool,
    open: bool,
    lost: u64,
    to_newcomers: u64,
}

const NOTHING: Now = Now { slept: false, round: false, open: false, lost: 0, to_newcomers: 0 };

thread_local! {
    static NOW: Cell<Now> = const { Cell::new(NOTHING) };
    static TURN: Cell<bool> = const { Cell::new(false) };
}

/// The most that anybody lost, to anybody and to newcomers, and how many acquisitions slept.
static LOST: AtomicU64 = AtomicU64::new(0);
static TO_NEWCOMERS: AtomicU64 = AtomicU64::new(0);
static SLEPT: AtomicU64 = AtomicU64::new(0);

/// The operating system's futex, watched, with a table of its own.
#[derive(Clone, Copy)]
pub struct Watched;

static EVENTS: [EventSlot<Watched>; 16] = [const { EventSlot::new() }; 16];

/// A sleep while newcomers can come, or not; `sleep` says how it ended and whether it was a round.
fn watch(open: bool, sleep: impl FnOnce() -> (Sleep, bool)) -> Sleep {
    let mut now = NOW.get();
    now.lost += u64::from(now.round);
    now.to_newcomers += u64::from(now.round && now.open);
    let (ended, round) = sleep();
    NOW.set(Now { slept: true, round, open, ..now });
    ended
}

fn is_wake(ended: Sleep) -> bool {
    matches!(ended, Sleep::Woken | Sleep::Unknown)
}

// SAFETY: it loads the words that it is shown, and stores to none; nor does the operating system's.
unsafe impl Futex for Watched {
    const CLASSES: bool = OsFutex::CLASSES;

    /// A locker sleeps on a page.
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        watch(expected & CLOSED == 0, || {
            let ended = OsFutex.wait(word, expected);
            (ended, is_wake(ended) || (word.load(Acquire) ^ expected) >> GENERATION_SHIFT != 0)
        })
    }

    fn wake_one(&self, word: *const AtomicU32) {
        OsFutex.wake_one(word);
    }

    fn wake_all(&self, word: *const AtomicU32) {
        OsFutex.wake_all(word);
    }

    fn relax(&self) {
        OsFutex.relax();
    }

    /// A locker stands outside, in the event table.
    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        watch(true, || {
            let ended = OsFutex.wait_class(word, expected, class);
            (ended, is_wake(ended))
        })
    }

    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        OsFutex.wake_class(word, n, class)
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        &EVENTS[index]
    }

    fn events(&self) -> usize {
        EVENTS.len()
    }
}

/// The page lock on it. With `FAULTERS` every other acquisition of a thread is a faulter's, by
/// [`PageLock::lock_releasing`], and only those are looked at: the others are the newcomers.
struct WatchedPage<const FAULTERS: bool>(PageLock<Watched>);

impl<const FAULTERS: bool> Lock for WatchedPage<FAULTERS> {
    const NAME: &'static str =
        if FAULTERS { "lock_releasing, watched" } else { "pagelock, watched" };

    fn new() -> Self {
        Self(PageLock::with_futex(Watched))
    }

    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        let faulter = FAULTERS && TURN.replace(!TURN.get());
        NOW.set(NOTHING);
        let guard = if faulter { self.0.lock_releasing(()) } else { self.0.lock() };
        let now = NOW.get();
        if now.slept && faulter == FAULTERS {
            SLEPT.fetch_add(1, Relaxed);
            LOST.fetch_max(now.lost, Relaxed);
            TO_NEWCOMERS.fetch_max(now.to_newcomers, Relaxed);
        }
        let answer = f();
        drop(guard);
        answer
    }

    fn try_pair(&self) -> bool {
        unimplemented!("nobody loses a round who does not wait")
    }
}

/// What a fight came to: acquisitions that slept, rounds lost to newcomers and to anybody.
struct Tally(u64, u64, u64);

fn fought<const FAULTERS: bool>(crew: &Crew, fight: Fight) -> Tally {
    let all = [&SLEPT, &TO_NEWCOMERS, &LOST];
    all.iter().for_each(|n| n.store(0, Relaxed));
    contend::<WatchedPage<FAULTERS>>(crew, fight);
    let [slept, to_newcomers, lost] = all.map(|n| n.load(Relaxed));
    Tally(slept, to_newcomers, lost)
}

pub fn jobs(effort: &Effort) -> Vec<Job<'_>> {
    let sections = [SHORT, (1_000, 1_000), (1_000, 0)];
    let cells = sections
        .into_iter()
        .flat_map(|(inside, outside)| [8, 32].map(|threads| Fought { threads, inside, outside }));
    let seconds = effort.fights as f64 * 2.2 * effort.waits.as_secs_f64();
    let job = |cell: Fought| {
        Job::new("contended", format!("bypass: {}", cell.label()), seconds, move |crew, tables| {
            row(crew, effort, cell, tables)
        })
    };
    cells.take(if effort.is_smoke() { 1 } else { usize::MAX }).map(job).collect()
}

fn row(crew: &Crew, effort: &Effort, cell: Fought, tables: &mut Tables) {
    let Fought { threads, inside, outside } = cell;
    if threads >= crew.size() {
        return;
    }
    let fight = Fight {
        threads,
        inside,
        outside,
        warm: effort.waits / 10,
        window: effort.waits,
        look: Look::Holds,
    };
    let all: Vec<Rounds<Tally>> = take_turns(
        effort.fights,
        &[(LOCKER, &|| fought::<false>(crew, fight)), (FAULTER, &|| fought::<true>(crew, fight))],
    );
    let mut row = Row::new(cell.label(), threads as f64);
    for whose in &all {
        let role = if whose.name == LOCKER { Role::Ours } else { Role::Beside };
        row.add(whose.name, role, whose.of(|tally| tally.1 as f64));
        row.add(
            &whose.name.replace("newcomers", "anybody"),
            Role::Beside,
            whose.of(|tally| tally.2 as f64),
        );
        row.add(
            &whose.name.replace("to newcomers", "acquisitions that slept"),
            Role::Beside,
            whose.of(|tally| tally.0 as f64),
        );
    }
    let note = "Of all acquisitions of a round. To newcomers: the gate was open as the locker went \
                to sleep. To anybody: other sleepers too.";
    tables.row(Head::new("contended", TITLE, "row", "rounds", Better::Neither).note(note), row);
}
