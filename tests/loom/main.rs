//! The crate's own code under the model checker: one small model for each claim. `ci/loom.sh` runs
//! them.
//!
//! Each model explores every interleaving of its threads, and every value that the memory model
//! lets a load see, with at most two preemptions (`LOOM_MAX_PREEMPTIONS` changes that). Under
//! `--cfg pagelock_loom` the atomics are the model checker's, the futex is
//! `pagelock::futex::model`, `BYPASS_BOUND` is 1, and a release wakes one sleeper, which wakes one
//! more.
//!
//! A stranded sleeper shows as a deadlock, which aborts the process: run each model in a process of
//! its own.
//!
//! | claim | models |
//! |---|---|
//! | one owner, which sees what earlier ones did | `one_owner_at_a_time*` |
//! | bounded bypass | `a_sleeper_loses_no_more_wakes_than_the_bound`, `each_lost_round*`, `a_closed_gate*`, `a_gate*`, `unlock_fair*` |
//! | a locker outside a closed gate is told | `*crowd*`, `*outside*`, `lock_releasing_beside*` |
//! | a locker that leaves at any step passes its wake on | `a_locker_that_times_out*`, `*_times_out*`, `a_wake_that_was_used_up_is_passed_on` |
//! | a wait against a holder that never takes the page-table lock, aborts, unlocks and frees | `a_holder*`, `a_migration_that*`, `a_page_that*` |
//! | two pages on one slot; fan-out strands nobody | `two_pages*`, `a_chain*`, `two_chains*` |
//! | claim against release; `lock_releasing` | `a_claim*`, `lock_releasing*` |
//! | pin, get against freeze and last put; counts that misuse cannot bend; a release that dies | `counts::*` |
//! | commit, abort and panic with sleepers | `a_migration*` |
//! | cancelling | `*cancelled*`, `a_switch*` |
//! | batches of references are waited for | `drain::*` |
//! | statistics | `stats::*` (with that feature) |
#![cfg(pagelock_loom)]

mod cancelled;
mod chains;
mod counts;
mod drain;
mod freed;
mod freeze;
mod gate;
mod leaving;
mod lock;
mod migration;
mod pins;
mod range;
#[cfg(feature = "stats")]
mod stats;
mod wait;

use loom::cell::UnsafeCell;
use loom::thread::JoinHandle;
use pagelock::futex::{EVERY_CLASS, EventSlot, Futex, FutexTimed, MonotonicTime, OsFutex, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{PageGuard, PageLock};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// Explores `model`, and says in how many executions; if it fails, in which.
#[track_caller]
fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_with(2, model);
}

/// [`explore`] with another bound on preemptions, for models that are worth it or that need it to
/// be quick.
#[track_caller]
fn explore_with(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    static EXECUTIONS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = builder.max_branches.max(10_000);
    let bound = builder.preemption_bound.unwrap();
    let began = std::time::Instant::now();
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| MISUSE.iter().any(|what| text.starts_with(what))) {
            return; // Asked for, see `misused`.
        }
        eprintln!("failed in execution {EXECUTIONS:?}");
        report(panic);
    }));
    builder.check(move || {
        EXECUTIONS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        pagelock::futex::model::begin();
        model();
    });
    // For the table that `ci/loom.sh` makes.
    eprintln!(
        "explored: {EXECUTIONS:?} executions, at most {bound} preemptions, {:.2} s",
        began.elapsed().as_secs_f64()
    );
}

/// What a build with debug assertions says, as the models are, of a count that is given back once
/// too often.
const MISUSE: [&str; 2] = ["put of a page without", "unpin of a page without"];

/// Gives back what is not there, and goes on as a release build does.
fn misused<T>(give_back: impl FnOnce() -> T) {
    assert!(
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(give_back)).is_err(),
        "it was there"
    );
}

thread_local! {
    /// How many wakes lockers have used up. The model checker runs its threads as coroutines on one
    /// thread of the system, so this is one number for the model; a model that uses it has one
    /// sleeper.
    static WAKES: Cell<u32> = const { Cell::new(0) };
    /// How many sleeps of lockers ended with a wake, or with the page released meanwhile.
    static ROUNDS: Cell<u32> = const { Cell::new(0) };
    /// How often the crate asked to wake one locker.
    static WAKE_ONES: Cell<usize> = const { Cell::new(0) };
    /// The platform looks at its clock last: a sleep that was woken reports that its time is up if
    /// it is.
    static CLOCK_LAST: Cell<bool> = const { Cell::new(false) };
    /// Nobody is woken: the waker has died.
    static DEAF: Cell<bool> = const { Cell::new(false) };
}

/// The default platform, with the page in event slot `SLOT` wherever its header lies: an execution
/// must not depend on addresses.
#[derive(Clone, Copy, Default, Debug)]
struct In<const SLOT: usize>;

// SAFETY: the words that it is shown are shown to the default platform alone.
unsafe impl<const SLOT: usize> Futex for In<SLOT> {
    const CLASSES: bool = OsFutex::CLASSES;

    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        self.wait_class(word, expected, EVERY_CLASS)
    }

    fn wake_one(&self, word: *const AtomicU32) {
        WAKE_ONES.set(WAKE_ONES.get() + 1);
        if !DEAF.get() {
            OsFutex.wake_one(word);
        }
    }

    fn wake_all(&self, word: *const AtomicU32) {
        if !DEAF.get() {
            OsFutex.wake_all(word);
        }
    }

    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        let sleep = OsFutex.wait_class(word, expected, class);
        if class == EVERY_CLASS {
            // A locker's, on the page's own word. Relaxed: the crate's own look comes later, and
            // sees this or more.
            let generation_now = word.load(std::sync::atomic::Ordering::Relaxed) >> 24;
            WAKES.set(WAKES.get() + u32::from(sleep == Sleep::Woken));
            ROUNDS.set(
                ROUNDS.get() + u32::from(sleep == Sleep::Woken || generation_now != expected >> 24),
            );
        }
        sleep
    }

    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        if DEAF.get() { 0 } else { OsFutex.wake_class(word, n, class) }
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        pagelock::futex::model::event(index)
    }

    fn events(&self) -> usize {
        OsFutex.events()
    }

    fn event_index(&self, _page: usize) -> usize {
        SLOT
    }
}

impl<const SLOT: usize> FutexTimed for In<SLOT> {
    fn now(&self) -> MonotonicTime {
        OsFutex.now()
    }

    fn after(&self, d: Duration) -> Option<MonotonicTime> {
        OsFutex.after(d)
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep {
        match OsFutex.wait_until(word, expected, class, at) {
            Sleep::Woken if CLOCK_LAST.get() && OsFutex.late_by(at).is_some() => Sleep::TimedOut,
            sleep => sleep,
        }
    }
}

/// A page and what it guards, in event slot `SLOT`. The model checker reports two accesses to
/// `data` that nothing orders.
#[derive(Default)]
struct Page<const SLOT: usize = 0> {
    lock: PageLock<In<SLOT>>,
    data: UnsafeCell<u32>,
}

// SAFETY: the model checker sees every access to `data`, and fails the model if two of them race.
unsafe impl<const SLOT: usize> Sync for Page<SLOT> {}
// SAFETY: plain values.
unsafe impl<const SLOT: usize> Send for Page<SLOT> {}

impl<const SLOT: usize> Page<SLOT> {
    fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Adds one to the data, as its owner may.
    fn add(&self) {
        // SAFETY: the model checker sees this access, see above.
        self.data.with_mut(|p| unsafe { *p += 1 });
    }

    /// The data, for a thread that may read them.
    fn read(&self) -> u32 {
        // SAFETY: the model checker sees this access, see above.
        self.data.with(|p| unsafe { *p })
    }

    /// Whether the state in words contains `words`.
    fn says(&self, words: &str) -> bool {
        format!("{:?}", self.lock).contains(words)
    }

    /// Waits until the state in words contains `words`. Where a model needs a locker to be counted
    /// as a sleeper it says so with this: that a single look comes after another thread's load and
    /// compare-exchange is an order that the model checker leaves out.
    fn until_says(&self, words: &str) {
        while !self.says(words) {
            loom::thread::yield_now();
        }
    }

    /// For the end of a model: nobody is counted, the gate is open, and the page can be had.
    #[track_caller]
    fn assert_idle(&self) {
        assert!(!self.says("sleepers") && !self.says("closed"), "{:?}", self.lock);
        assert!(self.lock.try_lock().is_some(), "{:?}", self.lock);
    }
}

/// Explores a model that begins with the page owned by its main thread, and ends with the page
/// idle.
#[track_caller]
fn locked(
    preemptions: usize,
    model: impl Fn(&Arc<Page>, PageGuard<'_, In<0>>) + Sync + Send + 'static,
) {
    explore_with(preemptions, move || {
        let page = Page::<0>::new();
        model(&page, page.lock.lock());
        page.assert_idle();
    });
}

/// Takes the page and releases it.
fn locker(page: &Page) {
    drop(page.lock.lock());
}

/// Runs `f` on another thread of the model, on `page`.
fn on<T: Send + Sync + 'static, R: 'static>(
    page: &Arc<T>,
    f: impl FnOnce(&T) -> R + 'static,
) -> JoinHandle<R> {
    let page = page.clone();
    loom::thread::spawn(move || f(&page))
}

/// Takes the page and leaves it locked for good.
fn keep<const SLOT: usize>(guard: PageGuard<'_, In<SLOT>>) {
    let _ = guard.into_raw();
}
