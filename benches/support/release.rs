//! One releaser, or several that race, and many sleepers: the time until the first and the last one
//! run, the releaser's own time, and the cost.

use super::crew::Crew;
use super::events::{Event, Queue};
use super::usage::thread_time;
use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use core::time::Duration;
use std::sync::{Arc, Barrier};
use std::time::Instant;

/// The most sleepers that are measured; the crew must be as large.
pub const MOST: usize = 2048;

#[derive(Clone, Copy, Default, Debug)]
pub struct Times {
    /// From the release to the first sleeper running.
    pub first: Duration,
    /// To the last.
    pub last: Duration,
    /// The releaser's own call; of several that race, until the last of them is done.
    pub call: Duration,
    /// What of that the releasers were running, and not pushed aside by those they woke. Zero where
    /// the system does not say.
    pub cpu: Duration,
    /// Processor time for each sleeper: going to sleep, waking up, and its part of the releasers'
    /// calls.
    pub each: Duration,
    /// Until the last locker in the queue has had the hold. Zero without lockers.
    pub queue: Duration,
    /// How often a sleeper slept: above 1, it was woken for another page's release.
    pub sleeps: f64,
}

struct Round {
    ready: AtomicUsize,
    first: AtomicU64,
    last: AtomicU64,
    queue: AtomicU64,
    cpu: AtomicU64,
    sleeps: AtomicU64,
    epoch: Instant,
}

impl Round {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            ready: AtomicUsize::new(0),
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
            queue: AtomicU64::new(0),
            cpu: AtomicU64::new(0),
            sleeps: AtomicU64::new(0),
            epoch: Instant::now(),
        })
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// One sleeper's part.
    fn sleep(&self, on: &impl Event) {
        let ran = thread_time();
        let said = core::cell::Cell::new(false);
        let slept = on.wait(&|| {
            // Some look twice.
            if !said.replace(true) {
                self.ready.fetch_add(1, AcqRel);
            }
        });
        let up = self.now();
        self.first.fetch_min(up, Relaxed);
        self.last.fetch_max(up, Relaxed);
        self.sleeps.fetch_add(u64::from(slept), Relaxed);
        self.cpu.fetch_add((thread_time() - ran).as_nanos() as u64, Relaxed);
    }

    /// The releaser's part, once `all` threads are asleep.
    fn release(&self, crew: &Crew, all: usize, end: impl FnOnce()) -> Releases {
        self.until_asleep(crew, all);
        self.release_now(end)
    }

    fn release_now(&self, end: impl FnOnce()) -> Releases {
        let ran = thread_time();
        let released = self.epoch.elapsed();
        end();
        Releases { released, call: self.epoch.elapsed() - released, cpu: thread_time() - ran }
    }

    fn until_asleep(&self, crew: &Crew, all: usize) {
        while self.ready.load(Acquire) < all {
            std::thread::sleep(Duration::from_micros(20));
        }
        crew.until_asleep(all);
    }

    fn times(&self, sleepers: usize, Releases { released, call, cpu }: Releases) -> Times {
        let since =
            |at: &AtomicU64| Duration::from_nanos(at.load(Relaxed)).saturating_sub(released);
        Times {
            first: since(&self.first),
            last: since(&self.last),
            call,
            cpu,
            each: (Duration::from_nanos(self.cpu.load(Relaxed)) + cpu) / sleepers as u32,
            queue: since(&self.queue),
            sleeps: self.sleeps.load(Relaxed) as f64 / sleepers as f64,
        }
    }
}

/// When the releases began, and their time by the clock and of the processor.
struct Releases {
    released: Duration,
    call: Duration,
    cpu: Duration,
}

/// Several releasers that are to begin at the same moment.
struct Race {
    /// All have come this far, and sleep until everybody else does.
    gate: Barrier,
    spinning: AtomicUsize,
    go: AtomicBool,
    /// When the last one was done, and what those beside the lead ran.
    done: AtomicU64,
    cpu: AtomicU64,
}

impl Race {
    fn new(releasers: usize) -> Arc<Self> {
        Arc::new(Self {
            gate: Barrier::new(releasers),
            spinning: AtomicUsize::new(0),
            go: AtomicBool::new(false),
            done: AtomicU64::new(0),
            cpu: AtomicU64::new(0),
        })
    }

    /// One of those beside the lead.
    fn join(&self, round: &Round, end: impl FnOnce()) {
        self.gate.wait();
        self.spinning.fetch_add(1, AcqRel);
        while !self.go.load(Acquire) {
            core::hint::spin_loop();
        }
        let ran = thread_time();
        end();
        self.cpu.fetch_add((thread_time() - ran).as_nanos() as u64, Relaxed);
        self.done.fetch_max(round.now(), Relaxed);
    }

    /// The lead, once all sleep: lets the other releasers go, and goes with them. Their times are
    /// known when they have ended.
    fn lead(&self, round: &Round, others: usize, end: impl FnOnce()) -> Releases {
        self.gate.wait();
        while self.spinning.load(Acquire) < others {
            core::hint::spin_loop();
        }
        round.release_now(|| {
            self.go.store(true, Release);
            end();
        })
    }
}

/// Puts `sleepers` threads to sleep on `event`, waits until they all do, and releases them.
pub fn release_to<E: Event>(crew: &Crew, event: &Arc<E>, sleepers: usize) -> Times {
    release_many(crew, core::slice::from_ref(event), sleepers)
}

/// The same with several events that end one after another; the sleepers are spread over them.
pub fn release_many<E: Event>(crew: &Crew, events: &[Arc<E>], sleepers: usize) -> Times {
    for event in events {
        event.begin();
    }
    let round = Round::new();
    let (theirs, their_round) = (events.to_vec(), round.clone());
    let job = move |me: usize| their_round.sleep(&*theirs[me % theirs.len()]);
    let released = crew.run(sleepers, job, || {
        round.release(crew, sleepers, || events.iter().for_each(|event| event.end()))
    });
    round.times(sleepers, released)
}

/// The same with `releasers` threads that race, each of which ends its part of the events. As many
/// as cores may be running: they wait for each other awake.
pub fn release_racing<E: Event>(
    crew: &Crew,
    events: &[Arc<E>],
    sleepers: usize,
    releasers: usize,
) -> Times {
    for event in events {
        event.begin();
    }
    let (round, race) = (Round::new(), Race::new(releasers));
    let (theirs, their_round, their_race) = (events.to_vec(), round.clone(), race.clone());
    let end_part = move |events: &[Arc<E>], part: usize| {
        events.iter().skip(part).step_by(releasers).for_each(|event| event.end())
    };
    let job = move |me: usize| match me.checked_sub(sleepers) {
        None => their_round.sleep(&*theirs[me % theirs.len()]),
        // Part 0 is the lead's.
        Some(other) => their_race.join(&their_round, || end_part(&theirs, 1 + other)),
    };
    let others = releasers - 1;
    let mut releases = crew.run(sleepers + others, job, || {
        round.until_asleep(crew, sleepers);
        race.lead(&round, others, || end_part(events, 0))
    });
    let last = Duration::from_nanos(race.done.load(Relaxed)).saturating_sub(releases.released);
    releases.call = releases.call.max(last);
    releases.cpu += Duration::from_nanos(race.cpu.load(Relaxed));
    round.times(sleepers, releases)
}

/// The same with one event whose hold `lockers` more threads queue for.
pub fn release_queued<E: Queue>(
    crew: &Crew,
    event: &Arc<E>,
    sleepers: usize,
    lockers: usize,
) -> Times {
    event.begin();
    let round = Round::new();
    let (theirs, their_round) = (event.clone(), round.clone());
    let job = move |me: usize| {
        if me < sleepers {
            return their_round.sleep(&*theirs);
        }
        their_round.ready.fetch_add(1, AcqRel);
        theirs.pass_through();
        their_round.queue.fetch_max(their_round.now(), Relaxed);
    };
    let all = sleepers + lockers;
    let released = crew.run(all, job, || round.release(crew, all, || event.end()));
    round.times(sleepers, released)
}

/// Two threads that wake each other in turn: nanoseconds of a round trip, which is two sleeps and
/// two wakes.
pub fn ping_pong<E: Event>(crew: &Crew, trips: u32) -> f64 {
    let (ping, pong) = (Arc::new(E::new()), Arc::new(E::new()));
    ping.begin();
    pong.begin();
    let took = Arc::new(AtomicU64::new(0));
    let their_took = took.clone();
    let job = move |me: usize| {
        if me == 1 {
            for _ in 0..trips {
                ping.wait(&|| ());
                ping.begin();
                pong.end();
            }
        } else {
            let began = Instant::now();
            for _ in 0..trips {
                // The other has begun it again before it ended ours.
                ping.end();
                pong.wait(&|| ());
                pong.begin();
            }
            their_took.store(began.elapsed().as_nanos() as u64, Relaxed);
        }
    };
    crew.run(2, job, || ());
    took.load(Relaxed) as f64 / f64::from(trips)
}
