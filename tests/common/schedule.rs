//! Simulated threads on one real one, for runs in which an input decides which goes on.
//!
//! A simulated thread is a coroutine. It gives its turn up wherever the crate asks something of the
//! platform, wherever the test says so, and, in a build with `--cfg pagelock_delay`, at every step
//! of the protocol. Then the next byte of the input picks the next thread, or ends a sleep as
//! a signal or a deadline would. When the input is used up, threads are picked at random, and
//! nothing ends a sleep but a wake: a thread that has lost one sleeps for ever, and *everybody
//! asleep* is a failure.
//!
//! The futex is exact: comparing and going to sleep is one step, wakes are first in, first out.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use pagelock::futex::{EVERY_CLASS, EventSlot, MonotonicTime, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{Futex, FutexTimed};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;

/// What those [block on](block_on) who wait for the platform to be told of a page: this, plus the
/// page's number.
pub(crate) const TOLD: usize = 1000;

/// Bytes to decide by.
pub(crate) struct Input<'i>(pub(crate) &'i [u8]);

impl Input<'_> {
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A number below `n`; 0 when there is nothing left.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.next().map_or(0, |byte| usize::from(byte) % n)
    }
}

/// Turns after the end of the input that mean a livelock.
const PATIENCE: usize = 300_000;
const STACK: usize = 256 << 10;
/// From this byte on, it is not a thread that is picked, but a sleep that ends: by a signal, or for
/// no reason; or the clock goes on.
const SIGNAL: u8 = 0xf0;
const SPURIOUS: u8 = 0xf4;
const CLOCK: u8 = 0xf8;

struct Asleep {
    /// Its place in the queue.
    number: u64,
    word: usize,
    class: u32,
    deadline: Option<u64>,
    ended: Option<Sleep>,
}

struct Thread {
    yielder: Cell<*const Yielder<(), ()>>,
    asleep: RefCell<Option<Asleep>>,
    /// Waits for something of the test's own: goes on when this is said to have changed.
    blocked: Cell<Option<usize>>,
    /// What it was at last: a name and 0, or a file of the crate and a line.
    step: Cell<(&'static str, u32)>,
    finished: Cell<bool>,
}

struct Scheduler {
    threads: Vec<Thread>,
    /// The thread that runs; `None` between the turns and when there are no threads.
    current: Cell<Option<usize>>,
    next: Cell<u64>,
    now: Cell<u64>,
    events: Vec<EventSlot<Turns<false>>>,
    /// Where headers begin, so that the slot of a page is a matter of its number and not of its
    /// address.
    base: Cell<usize>,
}

thread_local! {
    static SCHEDULER: RefCell<Option<Rc<Scheduler>>> = const { RefCell::new(None) };
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

fn scheduler() -> Rc<Scheduler> {
    SCHEDULER.with_borrow(|s| s.clone()).expect("a run is going on")
}

/// Makes a scheduler of `threads` threads and `slots` event slots; it lasts until the next one.
pub(crate) fn begin(threads: usize, slots: usize) {
    let thread = |_| Thread {
        yielder: Cell::new(core::ptr::null()),
        asleep: RefCell::new(None),
        blocked: Cell::new(None),
        step: Cell::new(("has not begun", 0)),
        finished: Cell::new(false),
    };
    let scheduler = Scheduler {
        threads: (0..threads).map(thread).collect(),
        current: Cell::new(None),
        next: Cell::new(0),
        now: Cell::new(0),
        events: (0..slots).map(|_| EventSlot::new()).collect(),
        base: Cell::new(0),
    };
    SCHEDULER.set(Some(Rc::new(scheduler)));
    // Before each access: then nothing comes between the last one of a call and what the caller
    // does next.
    #[cfg(pagelock_delay)]
    pagelock::sync::steps::call(|step, done| {
        if !done {
            give_way((step.file(), step.line()));
        }
    });
}

/// Where the headers of this run begin, eight bytes each.
pub(crate) fn headers_begin_at(address: usize) {
    scheduler().base.set(address);
}

/// Runs the bodies to their ends, scheduled by `input`. `state` is printed if they do not get
/// there.
pub(crate) fn run(
    bodies: Vec<Box<dyn FnOnce()>>,
    mut input: Input<'_>,
    state: impl Fn() -> String,
) {
    let scheduler = scheduler();
    let mut random = input.0.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }) | 1;
    let mut coroutines: Vec<_> = bodies
        .into_iter()
        .enumerate()
        .map(|(number, body)| {
            let stack = STACKS
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| DefaultStack::new(STACK).expect("room for a stack"));
            let scheduler = scheduler.clone();
            Some(Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
                scheduler.threads[number].yielder.set(yielder);
                body();
                scheduler.threads[number].finished.set(true);
            }))
        })
        .collect();
    let mut turns = 0;
    let failure = loop {
        let runnable: Vec<usize> =
            (0..coroutines.len()).filter(|&t| scheduler.is_runnable(t)).collect();
        if runnable.is_empty() {
            break scheduler
                .threads
                .iter()
                .any(|t| !t.finished.get())
                .then(|| Box::new(String::from("everybody sleeps")) as Box<_>);
        }
        let pick = match input.next() {
            Some(byte) if byte >= SIGNAL => {
                scheduler.disturb(byte);
                continue;
            }
            Some(byte) => usize::from(byte),
            None => {
                turns += 1;
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as usize >> 8
            }
        };
        if turns > PATIENCE {
            break Some(Box::new(String::from("nobody gets anywhere")) as Box<_>);
        }
        let number = runnable[pick % runnable.len()];
        let coroutine = coroutines[number].as_mut().expect("it has not finished");
        scheduler.current.set(Some(number));
        let ended = catch_unwind(AssertUnwindSafe(|| coroutine.resume(())));
        scheduler.current.set(None);
        match ended {
            Ok(CoroutineResult::Yield(())) => {}
            Ok(CoroutineResult::Return(())) => {
                let stack = coroutines[number].take().expect("it was there").into_stack();
                STACKS.with_borrow_mut(|stacks| stacks.push(stack));
            }
            Err(panic) => break Some(panic),
        }
    };
    let Some(failure) = failure else { return };
    for coroutine in coroutines.iter_mut().flatten().filter(|c| c.started() && !c.done()) {
        // SAFETY: what is on its stack is never used or dropped: it is leaked, with whatever it
        // holds alive.
        unsafe { coroutine.force_reset() };
    }
    let mut said: Vec<_> = scheduler
        .threads
        .iter()
        .enumerate()
        .map(|(n, t)| format!("thread {n}: {:?}", t.step.get()))
        .collect();
    said.push(state());
    match failure.downcast::<String>() {
        Ok(text) => panic!("{text}\n{}", said.join("\n")),
        Err(other) => {
            eprintln!("{}", said.join("\n"));
            resume_unwind(other)
        }
    }
}

/// A place where another thread may go on. `step` says where, for the report.
pub(crate) fn at(step: &'static str) {
    give_way((step, 0));
}

fn give_way(step: (&'static str, u32)) {
    let Some(scheduler) = SCHEDULER.with_borrow(|s| s.clone()) else { return };
    let Some(number) = scheduler.current.get() else { return };
    scheduler.threads[number].step.set(step);
    scheduler.give_up(number);
}

/// Waits until [`changed`] is said of `what`.
pub(crate) fn block_on(what: usize, step: &'static str) {
    let scheduler = scheduler();
    let number = scheduler.current.get().expect("a simulated thread");
    scheduler.threads[number].step.set((step, 0));
    scheduler.threads[number].blocked.set(Some(what));
    scheduler.give_up(number);
}

/// Lets those go on who [wait](block_on) for `what`.
pub(crate) fn changed(what: usize) {
    let scheduler = scheduler();
    scheduler
        .threads
        .iter()
        .filter(|t| t.blocked.get() == Some(what))
        .for_each(|t| t.blocked.set(None));
}

impl Scheduler {
    fn is_runnable(&self, number: usize) -> bool {
        let thread = &self.threads[number];
        let sleeps = thread.asleep.borrow().as_ref().is_some_and(|s| s.ended.is_none());
        !thread.finished.get() && !sleeps && thread.blocked.get().is_none()
    }

    fn give_up(&self, number: usize) {
        let yielder = self.threads[number].yielder.get();
        // SAFETY: the coroutine's own, which lives as long as it runs, and this is called by it.
        unsafe { (*yielder).suspend(()) };
    }

    /// Ends a sleep for another reason than a wake.
    fn disturb(&self, byte: u8) {
        if byte >= CLOCK {
            let earliest =
                self.threads.iter().filter_map(|t| t.asleep.borrow().as_ref()?.deadline).min();
            self.now.set(earliest.unwrap_or(0).max(self.now.get() + 1));
            for thread in &self.threads {
                if let Some(asleep) = thread.asleep.borrow_mut().as_mut() {
                    if asleep.ended.is_none()
                        && asleep.deadline.is_some_and(|at| at <= self.now.get())
                    {
                        asleep.ended = Some(Sleep::TimedOut);
                    }
                }
            }
            return;
        }
        let how = if byte >= SPURIOUS { Sleep::Unknown } else { Sleep::Interrupted };
        let sleeping: Vec<_> = self
            .threads
            .iter()
            .filter(|t| t.asleep.borrow().as_ref().is_some_and(|s| s.ended.is_none()))
            .collect();
        if !sleeping.is_empty() {
            let thread = sleeping[usize::from(byte) % sleeping.len()];
            thread.asleep.borrow_mut().as_mut().expect("it sleeps").ended = Some(how);
        }
    }

    fn sleep(&self, word: &AtomicU32, expected: u32, class: u32, deadline: Option<u64>) -> Sleep {
        at("is about to sleep");
        let number = self.current.get().expect("only simulated threads sleep");
        if word.load(SeqCst) != expected {
            return Sleep::Changed;
        }
        if deadline.is_some_and(|at| at <= self.now.get()) {
            return Sleep::TimedOut;
        }
        let place = self.next.replace(self.next.get() + 1);
        let word = core::ptr::from_ref(word).addr();
        let thread = &self.threads[number];
        *thread.asleep.borrow_mut() =
            Some(Asleep { number: place, word, class, deadline, ended: None });
        thread.step.set(("sleeps", 0));
        self.give_up(number);
        thread.step.set(("is awake", 0));
        let asleep = thread.asleep.borrow_mut().take().expect("it was put there");
        asleep.ended.expect("it runs again")
    }

    fn wake(&self, word: usize, n: usize, class: u32) -> u32 {
        at("is about to wake");
        let mut woken = 0;
        while woken < n {
            let first = self
                .threads
                .iter()
                .filter(|t| {
                    let asleep = t.asleep.borrow();
                    asleep.as_ref().is_some_and(|s| {
                        s.ended.is_none() && s.word == word && s.class & class != 0
                    })
                })
                .min_by_key(|t| t.asleep.borrow().as_ref().map(|s| s.number));
            let Some(first) = first else { break };
            first.asleep.borrow_mut().as_mut().expect("it sleeps").ended = Some(Sleep::Woken);
            woken += 1;
        }
        u32::try_from(woken).expect("few threads")
    }
}

/// The platform. `CLASSES` says whether it tells classes of sleepers apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turns<const CLASSES: bool>;

// SAFETY: it loads the words that it is shown.
unsafe impl<const CLASSES: bool> Futex for Turns<CLASSES> {
    const CLASSES: bool = CLASSES;

    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        scheduler().sleep(word, expected, EVERY_CLASS, None)
    }

    fn wake_one(&self, word: *const AtomicU32) {
        scheduler().wake(word.addr(), 1, EVERY_CLASS);
    }

    fn wake_all(&self, word: *const AtomicU32) {
        scheduler().wake(word.addr(), usize::MAX, EVERY_CLASS);
    }

    fn relax(&self) {
        at("gives its processor away");
    }

    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        scheduler().sleep(word, expected, class, None)
    }

    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        scheduler().wake(word.addr(), n as usize, class)
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        at("asks for an event slot");
        let slot: *const EventSlot<Turns<false>> = &scheduler().events[index];
        // SAFETY: the slots live as long as the scheduler, which stays until the next run begins,
        // when no page of this one is left. Within a run all platforms are of one type, and slots
        // of both look the same.
        unsafe { &*slot.cast() }
    }

    fn events(&self) -> usize {
        scheduler().events.len()
    }

    fn event_index(&self, page: usize) -> usize {
        let scheduler = scheduler();
        (page.wrapping_sub(scheduler.base.get()) / 8) % scheduler.events.len()
    }

    fn tell(&self, page: usize) {
        changed(TOLD + page.wrapping_sub(scheduler().base.get()) / 8);
        self.tell_event(page);
    }
}

impl<const CLASSES: bool> FutexTimed for Turns<CLASSES> {
    fn now(&self) -> MonotonicTime {
        MonotonicTime::since_zero(Duration::from_nanos(scheduler().now.get()))
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep {
        let nanos = at.as_duration().as_nanos().try_into().unwrap_or(u64::MAX);
        scheduler().sleep(word, expected, class, Some(nanos))
    }
}
