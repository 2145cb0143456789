//! The crate's own code under random schedules: eight threads, and the fault path over small page
//! tables. `ci/shuttle.sh` runs them.
//!
//! Where loom explores a small model exhaustively, shuttle draws schedules of a large one: half of
//! them uniformly at random, half by probabilistic concurrency testing (PCT), which gives threads
//! priorities and changes them at three points of the execution. Memory is sequentially consistent
//! here: orderings are loom's part. The futex is `pagelock::futex::model`, in which sleeps now and
//! then end without a wake, as by a signal or a deadline.
//!
//! A stranded sleeper is a deadlock, and a livelock exceeds the steps that one schedule may take;
//! both fail.
//!
//! # Environment
//!
//! | variable | meaning |
//! |---|---|
//! | `PAGELOCK_SCHEDULES` | how many schedules per scenario and scheduler (10 000) |
//! | `PAGELOCK_SEED` | the seed of the first schedule; printed by every run, and drawn anew if not given |
//! | `PAGELOCK_REPLAY` | a schedule, as a failure prints it between quotation marks: runs just that |
//!
//! So `PAGELOCK_SEED=7 ci/shuttle.sh NAME` repeats a run, and
//! `PAGELOCK_REPLAY=91... ci/shuttle.sh NAME` repeats one failure.
#![cfg(pagelock_shuttle)]

mod fault;
mod lock;
mod wait;

use pagelock::PageLock;
use pagelock::futex::{EventSlot, Futex, FutexTimed, MonotonicTime, OsFutex, Sleep};
use pagelock::sync::AtomicU32;
use shuttle::Config;
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use std::cell::UnsafeCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How many threads most scenarios have.
const THREADS: usize = 8;

/// Runs `scenario` under many schedules, and says under how many; if it fails, under which.
fn explore(scenario: impl Fn() + Send + Sync + Copy + 'static) {
    static SCHEDULES: AtomicUsize = AtomicUsize::new(0);
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|n| n.parse::<u64>().unwrap_or_else(|_| panic!("{name}: a number")))
    };
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        eprintln!("failed in schedule {SCHEDULES:?}");
        report(panic);
    }));
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let mut config = Config::new();
        config.silence_warnings = true;
        config.stack_size = 1 << 17;
        shuttle::Runner::new(scheduler, config).run(move || {
            SCHEDULES.fetch_add(1, SeqCst);
            scenario();
        });
    };
    if let Ok(schedule) = std::env::var("PAGELOCK_REPLAY") {
        return run(Box::new(ReplayScheduler::new_from_encoded(schedule.trim())));
    }
    let schedules = number("PAGELOCK_SCHEDULES").unwrap_or(10_000) as usize;
    let seed = number("PAGELOCK_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    eprintln!("PAGELOCK_SEED={seed}");
    let began = Instant::now();
    run(Box::new(RandomScheduler::new_from_seed(seed, schedules)));
    run(Box::new(PctScheduler::new_from_seed(seed, 3, schedules)));
    // For the table that `ci/shuttle.sh` makes.
    eprintln!("explored: {SCHEDULES:?} schedules, {:.2} s", began.elapsed().as_secs_f64());
}

/// The default platform, with the page in the event slot of this number wherever its header lies: a
/// schedule must not depend on addresses.
#[derive(Clone, Copy, Default, Debug)]
struct In(usize);

// SAFETY: the words that it is shown are shown to the default platform alone.
unsafe impl Futex for In {
    const CLASSES: bool = OsFutex::CLASSES;

    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        OsFutex.wait(word, expected)
    }

    fn wake_one(&self, word: *const AtomicU32) {
        OsFutex.wake_one(word);
    }

    fn wake_all(&self, word: *const AtomicU32) {
        OsFutex.wake_all(word);
    }

    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        OsFutex.wait_class(word, expected, class)
    }

    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        OsFutex.wake_class(word, n, class)
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        pagelock::futex::model::event(index)
    }

    fn events(&self) -> usize {
        OsFutex.events()
    }

    fn event_index(&self, _page: usize) -> usize {
        self.0 % self.events()
    }
}

impl FutexTimed for In {
    fn now(&self) -> MonotonicTime {
        OsFutex.now()
    }

    fn after(&self, d: Duration) -> Option<MonotonicTime> {
        OsFutex.after(d)
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep {
        OsFutex.wait_until(word, expected, class, at)
    }
}

/// A page, and data that its owner may touch. The owner lets others run in the middle of that, so
/// that a second one is seen.
struct Page {
    lock: PageLock<In>,
    busy: AtomicBool,
    data: UnsafeCell<u32>,
}

// SAFETY: shuttle runs its threads one at a time, and `touch` fails the scenario if two of them are
// in it at once.
unsafe impl Sync for Page {}

impl Page {
    fn new(slot: usize) -> Self {
        Self {
            lock: PageLock::with_futex(In(slot)),
            busy: AtomicBool::new(false),
            data: UnsafeCell::new(0),
        }
    }

    /// Adds one to the data, as its owner may.
    fn touch(&self) {
        assert!(!self.busy.swap(true, SeqCst), "two at once");
        // SAFETY: nobody else is here.
        let seen = unsafe { *self.data.get() };
        shuttle::thread::yield_now();
        // SAFETY: as above.
        unsafe { *self.data.get() = seen + 1 };
        self.busy.store(false, SeqCst);
    }

    fn touched(&self) -> u32 {
        // SAFETY: plain data, and shuttle's threads run one at a time.
        unsafe { *self.data.get() }
    }

    /// For the end of a scenario: nobody is counted, the gate is open, and the page can be had.
    #[track_caller]
    fn assert_idle(&self) {
        let state = format!("{:?}", self.lock);
        assert!(
            !state.contains("sleepers") && !state.contains("closed") && !state.contains("crowd"),
            "{state}"
        );
        assert!(self.lock.try_lock().is_some(), "{state}");
    }
}

/// Runs `f` in `n` threads, numbered, and waits for all of them.
fn in_threads<T: Send + Sync + 'static>(
    n: usize,
    shared: &Arc<T>,
    f: impl Fn(&T, usize) + Send + Copy + 'static,
) {
    let threads: Vec<_> = (0..n)
        .map(|i| {
            let shared = shared.clone();
            shuttle::thread::spawn(move || f(&shared, i))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// A number below `n`, of the schedule's own.
fn below(n: usize) -> usize {
    shuttle::rand::thread_rng().gen_range(0..n)
}
