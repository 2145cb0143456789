//! One releaser, many sleepers: how long until the last one runs, and how long the releaser is kept.
//!
//! Every sleeper holds a page-table lock (a mutex) when it finds that it has to wait, and lets go of it as it goes to sleep.

use super::Padded;
use super::crew::Crew;
use core::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use core::time::Duration;
use pagelock::{PageGuard, PageLock};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// The sleepers' longest queue; the crew must be as large.
pub const MOST: usize = 512;

pub trait Event: Send + Sync + 'static {
    const NAME: &'static str;
    fn new() -> Self;
    /// From now on there is something to wait for.
    fn begin(&self);
    /// Sleeps until the end. `ready` is to be called with the page-table lock held.
    fn wait(&self, ready: &dyn Fn());
    /// The end: wakes all.
    fn end(&self);
}

/// This crate: the wait for the release of a page.
pub struct Page {
    page: Padded<PageLock>,
    ptl: Padded<Mutex<()>>,
}

impl Event for Page {
    const NAME: &'static str = "pagelock";

    fn new() -> Self {
        Self { page: Padded(PageLock::new()), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.page.0.lock().into_raw();
    }

    fn wait(&self, ready: &dyn Fn()) {
        let mut ptl = self.ptl.0.lock().unwrap();
        ready();
        // Another page's release may end a wait; a faulter would look at its page table, this looks at the page.
        while self.page.0.is_locked() {
            let _ = self.page.0.wait_unlocked(ptl);
            ptl = match self.page.0.is_locked() {
                true => self.ptl.0.lock().unwrap(),
                false => return,
            };
        }
    }

    fn end(&self) {
        // SAFETY: `begin` locked the page and gave up the guard; this is the one release of that hold.
        unsafe { PageGuard::from_raw(&self.page.0) }.unlock();
    }
}

/// The bound: all sleep on one futex word, and one system call wakes them.
pub struct RawWakeAll {
    word: Padded<AtomicU32>,
    ptl: Padded<Mutex<()>>,
}

impl Event for RawWakeAll {
    const NAME: &'static str = "raw-futex";

    fn new() -> Self {
        Self { word: Padded::default(), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.word.0.store(1, Relaxed);
    }

    fn wait(&self, ready: &dyn Fn()) {
        let ptl = self.ptl.0.lock().unwrap();
        ready();
        drop(ptl);
        while self.word.0.load(Acquire) == 1 {
            atomic_wait::wait(&self.word.0, 1);
        }
    }

    fn end(&self) {
        self.word.0.store(0, Release);
        atomic_wait::wake_all(&self.word.0);
    }
}

pub struct StdCondvar {
    on: Padded<Mutex<bool>>,
    condvar: Padded<Condvar>,
}

impl Event for StdCondvar {
    const NAME: &'static str = "std-condvar";

    fn new() -> Self {
        Self { on: Padded::default(), condvar: Padded::default() }
    }

    fn begin(&self) {
        *self.on.0.lock().unwrap() = true;
    }

    fn wait(&self, ready: &dyn Fn()) {
        let on = self.on.0.lock().unwrap();
        ready();
        drop(self.condvar.0.wait_while(on, |on| *on).unwrap());
    }

    fn end(&self) {
        *self.on.0.lock().unwrap() = false;
        self.condvar.0.notify_all();
    }
}

pub struct ParkingLotCondvar {
    on: Padded<parking_lot::Mutex<bool>>,
    condvar: Padded<parking_lot::Condvar>,
}

impl Event for ParkingLotCondvar {
    const NAME: &'static str = "parking_lot-condvar";

    fn new() -> Self {
        Self { on: Padded::default(), condvar: Padded::default() }
    }

    fn begin(&self) {
        *self.on.0.lock() = true;
    }

    fn wait(&self, ready: &dyn Fn()) {
        let mut on = self.on.0.lock();
        ready();
        self.condvar.0.wait_while(&mut on, |on| *on);
    }

    fn end(&self) {
        *self.on.0.lock() = false;
        self.condvar.0.notify_all();
    }
}

pub struct EventListener {
    on: Padded<AtomicU32>,
    event: Padded<event_listener::Event>,
    ptl: Padded<Mutex<()>>,
}

impl Event for EventListener {
    const NAME: &'static str = "event-listener";

    fn new() -> Self {
        Self { on: Padded::default(), event: Padded::default(), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.on.0.store(1, Relaxed);
    }

    fn wait(&self, ready: &dyn Fn()) {
        use event_listener::Listener;
        while self.on.0.load(Acquire) == 1 {
            let ptl = self.ptl.0.lock().unwrap();
            ready();
            let listener = self.event.0.listen();
            drop(ptl);
            if self.on.0.load(Acquire) == 1 {
                listener.wait();
            }
        }
    }

    fn end(&self) {
        self.on.0.store(0, Release);
        self.event.0.notify(usize::MAX);
    }
}

#[derive(Clone, Copy, Default)]
pub struct Times {
    /// From the release to the last sleeper running.
    pub last: Duration,
    /// The releaser's own call.
    pub call: Duration,
    /// What of that the releaser was running, and not pushed aside by those it woke. Zero where the system does not say.
    pub cpu: Duration,
}

struct Round {
    ready: AtomicUsize,
    up: AtomicUsize,
    last: AtomicU64,
    epoch: Instant,
}

/// Puts `sleepers` threads to sleep on `event`, waits until they all do, and releases them.
pub fn release_to<E: Event>(crew: &Crew, event: &Arc<E>, sleepers: usize) -> Times {
    event.begin();
    let round =
        Arc::new(Round { ready: AtomicUsize::new(0), up: AtomicUsize::new(0), last: AtomicU64::new(0), epoch: Instant::now() });
    let (theirs, their_round) = (event.clone(), round.clone());
    let job = move |_| {
        theirs.wait(&|| {
            their_round.ready.fetch_add(1, AcqRel);
        });
        if their_round.up.fetch_add(1, AcqRel) + 1 == sleepers {
            their_round.last.store(their_round.epoch.elapsed().as_nanos() as u64, Relaxed);
        }
    };
    let (released, call, cpu) = crew.run(sleepers, job, || {
        while round.ready.load(Acquire) < sleepers {
            std::thread::sleep(Duration::from_micros(20));
        }
        crew.until_asleep(sleepers);
        let ran = thread_time();
        let released = round.epoch.elapsed();
        event.end();
        (released, round.epoch.elapsed() - released, thread_time() - ran)
    });
    Times { last: Duration::from_nanos(round.last.load(Relaxed)).saturating_sub(released), call, cpu }
}

/// How long this thread has been running.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn thread_time() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a timespec that the call fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn thread_time() -> Duration {
    Duration::ZERO
}
