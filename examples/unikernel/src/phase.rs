//! Parts of the program that all processors run together, one after the other, each with a limit to
//! its time.

use crate::platform::{self, Halt};
use crate::port::{self, Exit};
use crate::{clock, cpu, say, serial};
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use pagelock::Futex;
use pagelock::sync::AtomicU32;

/// Raised when there is something to do. The others sleep on it.
static NUMBER: AtomicU32 = AtomicU32::new(0);
static WHAT: AtomicUsize = AtomicUsize::new(0);
static ARRIVED: AtomicU32 = AtomicU32::new(0);
/// When the phase has hung.
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Runs `what` on all processors, each with its number, and returns when all are done. After
/// `limit_ms` the machine ends with a report.
pub fn run(limit_ms: u64, what: fn(usize)) {
    LIMIT.store(clock::now_ms() + limit_ms, Relaxed);
    WHAT.store(what as usize, Relaxed);
    ARRIVED.store(0, Relaxed);
    // Release: pairs with the Acquire of `follow`.
    NUMBER.fetch_add(1, Release);
    Halt.wake_all(&raw const NUMBER);
    what(0);
    arrive_and_wait();
    LIMIT.store(u64::MAX, Relaxed);
}

/// What the other processors do.
pub fn follow(index: usize) -> ! {
    let mut seen = 0;
    loop {
        let now = NUMBER.load(Acquire);
        if now == seen {
            let _ = Halt.wait(&NUMBER, seen);
            continue;
        }
        seen = now;
        // SAFETY: `run` has stored a function of this type.
        let what = unsafe { core::mem::transmute::<usize, fn(usize)>(WHAT.load(Relaxed)) };
        what(index);
        arrive();
    }
}

fn arrive() {
    if ARRIVED.fetch_add(1, AcqRel) + 1 == cpu::up() as u32 {
        Halt.wake_all(&raw const ARRIVED);
    }
}

fn arrive_and_wait() {
    arrive();
    loop {
        let arrived = ARRIVED.load(Acquire);
        if arrived == cpu::up() as u32 {
            return;
        }
        let _ = Halt.wait(&ARRIVED, arrived);
    }
}

/// A meeting point of all processors within a phase.
pub struct Barrier {
    arrived: AtomicU32,
    round: AtomicU32,
}

impl Barrier {
    /// Empty.
    pub const fn new() -> Self {
        Self { arrived: AtomicU32::new(0), round: AtomicU32::new(0) }
    }

    /// Returns when `of` have come.
    pub fn wait(&self, of: usize) {
        let round = self.round.load(Relaxed);
        if self.arrived.fetch_add(1, AcqRel) + 1 == of as u32 {
            self.arrived.store(0, Relaxed);
            self.round.fetch_add(1, Release);
            Halt.wake_all(&raw const self.round);
        }
        while self.round.load(Acquire) == round {
            let _ = Halt.wait(&self.round, round);
        }
    }
}

/// Called by the first processor's timer.
pub fn watch() {
    if clock::now_ms() > LIMIT.load(Relaxed) {
        let beds: [Option<usize>; cpu::MAX] = core::array::from_fn(platform::sleeps_on);
        if platform::NO_LOOK.load(Relaxed) {
            serial::print_in_panic(format_args!(
                "watchdog: nobody wakes those who sleep on {beds:x?}\n"
            ));
            port::exit(Exit::Stranded);
        }
        panic!("the phase has hung; asleep: {beds:x?}");
    }
}

/// Prints a line for something that was shown.
pub fn done(what: &str, result: core::fmt::Arguments<'_>) {
    say!("  ok  {what}: {result}");
}
