//! A platform on which the test decides which threads sleep and wake, how a sleep ends, and what
//! time it is.
//!
//! Sleepers stand in one queue, first in, first out. The test can wait until a number of them are
//! asleep, end their sleep in any way, keep woken sleepers from running ([`Sim::hold`]), let the
//! clock run, and act at three places inside the crate: when it asks for an event slot, when it is
//! about to sleep, and when it wakes.

use core::sync::atomic::Ordering::SeqCst;
use core::time::Duration;
use pagelock::futex::{EVERY_CLASS, EventSlot, MonotonicTime, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{Futex, FutexTimed};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

/// A handle on a simulated platform. `CLASSES` says whether it tells classes of sleepers apart.
#[derive(Clone, Copy)]
pub(crate) struct Sim<const CLASSES: bool = false>(&'static Shared<CLASSES>);

type Hook = Box<dyn FnOnce() + Send>;

struct Shared<const CLASSES: bool> {
    world: Mutex<World>,
    changed: Condvar,
    events: Box<[EventSlot<Sim<CLASSES>>]>,
    at_event: Mutex<Option<(usize, Hook)>>,
    at_sleep: Mutex<Option<Hook>>,
    at_wake: Mutex<Option<Hook>>,
}

#[derive(Default)]
struct World {
    queue: VecDeque<Sleeper>,
    next: u64,
    now: u64,
    slept: usize,
    held: bool,
    /// Whom `held` does not hold.
    free: Option<u64>,
    steal: bool,
    calls: Vec<Call>,
}

struct Sleeper {
    id: u64,
    word: usize,
    class: u32,
    deadline: Option<u64>,
    ended: Option<Sleep>,
}

/// Something that the crate asked of the platform.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    WakeOne { word: usize },
    WakeAll { word: usize },
    WakeClass { word: usize, n: u32, class: u32 },
    Tell { page: usize },
}

std::thread_local! {
    static SCRIPT: RefCell<VecDeque<Sleep>> = const { RefCell::new(VecDeque::new()) };
}

impl Sim {
    /// A platform with `slots` event slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self::make(slots)
    }
}

impl Sim<true> {
    /// A platform with `slots` event slots that tells classes of sleepers apart.
    pub(crate) fn with_classes(slots: usize) -> Self {
        Self::make(slots)
    }
}

/// How the next sleeps of the calling thread end: at once, whatever the word says.
pub(crate) fn script(outcomes: impl IntoIterator<Item = Sleep>) {
    SCRIPT.with_borrow_mut(|script| script.extend(outcomes));
}

impl<const CLASSES: bool> Sim<CLASSES> {
    fn make(slots: usize) -> Self {
        assert!(slots.is_power_of_two());
        Self(Box::leak(Box::new(Shared {
            world: Mutex::default(),
            changed: Condvar::new(),
            events: (0..slots).map(|_| EventSlot::new()).collect(),
            at_event: Mutex::default(),
            at_sleep: Mutex::default(),
            at_wake: Mutex::default(),
        })))
    }

    /// How many sleep and have not been woken.
    pub(crate) fn asleep(self) -> usize {
        self.world().asleep()
    }

    /// Blocks until exactly `n` sleep.
    pub(crate) fn until_asleep(self, n: usize) {
        let mut world = self.world();
        while world.asleep() != n {
            world = self.0.changed.wait(world).unwrap();
        }
    }

    /// How many sleeps have begun so far, without those that a script ended.
    pub(crate) fn slept(self) -> usize {
        self.world().slept
    }

    /// From now on nobody whose sleep has ended runs.
    pub(crate) fn hold(self) {
        self.world().held = true;
    }

    /// Lets those run.
    pub(crate) fn resume(self) {
        self.world().held = false;
        self.0.changed.notify_all();
    }

    /// Lets the oldest of those run, and the others wait on.
    pub(crate) fn resume_oldest(self) {
        let mut world = self.world();
        world.free = world.queue.iter().find(|s| s.ended.is_some()).map(|s| s.id);
        assert!(world.free.is_some(), "nobody's sleep has ended");
        drop(world);
        self.0.changed.notify_all();
    }

    /// Ends every sleep in this way.
    pub(crate) fn end_all(self, how: Sleep) {
        self.end(usize::MAX, how, |_| true);
    }

    /// Ends the longest sleep in this way.
    pub(crate) fn end_oldest(self, how: Sleep) {
        assert_eq!(self.end(1, how, |_| true), 1, "nobody sleeps");
    }

    /// Lets the clock run; deadlines pass.
    pub(crate) fn advance(self, d: Duration) {
        let now = {
            let mut world = self.world();
            world.now += u64::try_from(d.as_nanos()).unwrap();
            world.now
        };
        self.end(usize::MAX, Sleep::TimedOut, |s| s.deadline.is_some_and(|d| d <= now));
    }

    /// The next wake reaches nobody: it was meant for a sleeper whose sleep has ended otherwise.
    pub(crate) fn steal_next_wake(self) {
        self.world().steal = true;
    }

    /// What was asked of the platform since the last call of this.
    pub(crate) fn calls(self) -> Vec<Call> {
        core::mem::take(&mut self.world().calls)
    }

    /// Whether a word is an event slot's.
    pub(crate) fn is_event(self, word: usize) -> bool {
        self.0.events.iter().any(|slot| core::ptr::from_ref(slot).addr() == word)
    }

    /// Does something once, when the crate next asks for an event slot: before it has read or
    /// bumped the sequence.
    pub(crate) fn at_event(self, hook: impl FnOnce() + Send + 'static) {
        self.at_later_event(0, hook);
    }

    /// [`at_event`](Self::at_event), not at the next time but `later` times later.
    pub(crate) fn at_later_event(self, later: usize, hook: impl FnOnce() + Send + 'static) {
        *self.0.at_event.lock().unwrap() = Some((later, Box::new(hook)));
    }

    /// Does something once, when a thread is next about to sleep: before the word is compared.
    pub(crate) fn at_sleep(self, hook: impl FnOnce() + Send + 'static) {
        *self.0.at_sleep.lock().unwrap() = Some(Box::new(hook));
    }

    /// Does something once, at the next wake: before anybody is woken.
    pub(crate) fn at_wake(self, hook: impl FnOnce() + Send + 'static) {
        *self.0.at_wake.lock().unwrap() = Some(Box::new(hook));
    }

    fn world(self) -> MutexGuard<'static, World> {
        self.0.world.lock().unwrap()
    }

    fn run(hook: &Mutex<Option<Hook>>) {
        let hook = hook.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
    }

    fn end(self, n: usize, how: Sleep, chosen: impl Fn(&Sleeper) -> bool) -> usize {
        let mut world = self.world();
        let mut ended = 0;
        for sleeper in world.queue.iter_mut().filter(|s| s.ended.is_none() && chosen(s)).take(n) {
            sleeper.ended = Some(how);
            ended += 1;
        }
        drop(world);
        self.0.changed.notify_all();
        ended
    }

    /// How many were woken, as far as the waker is told: a stolen wake looks like one that reached
    /// its sleeper.
    fn wake(self, call: Call, word: usize, n: usize, class: u32) -> usize {
        Self::run(&self.0.at_wake);
        let stolen = {
            let mut world = self.world();
            world.calls.push(call);
            core::mem::take(&mut world.steal)
        };
        if stolen {
            return n;
        }
        self.end(n, Sleep::Woken, |s| s.word == word && s.class & class != 0)
    }

    fn sleep(self, word: &AtomicU32, expected: u32, class: u32, deadline: Option<u64>) -> Sleep {
        Self::run(&self.0.at_sleep);
        if let Some(scripted) = SCRIPT.with_borrow_mut(VecDeque::pop_front) {
            return scripted;
        }
        let mut world = self.world();
        if word.load(SeqCst) != expected {
            return Sleep::Changed;
        }
        if deadline.is_some_and(|d| d <= world.now) {
            return Sleep::TimedOut;
        }
        let id = world.next;
        world.next += 1;
        world.slept += 1;
        world.queue.push_back(Sleeper {
            id,
            word: core::ptr::from_ref(word).addr(),
            class,
            deadline,
            ended: None,
        });
        self.0.changed.notify_all();
        loop {
            world = self.0.changed.wait(world).unwrap();
            let at = world.queue.iter().position(|s| s.id == id).unwrap();
            let held = world.held && world.free != Some(id);
            if let (Some(ended), false) = (world.queue[at].ended, held) {
                world.queue.remove(at);
                return ended;
            }
        }
    }
}

impl World {
    fn asleep(&self) -> usize {
        self.queue.iter().filter(|s| s.ended.is_none()).count()
    }
}

// SAFETY: it loads the words that it is shown.
unsafe impl<const CLASSES: bool> Futex for Sim<CLASSES> {
    const CLASSES: bool = CLASSES;

    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        self.sleep(word, expected, EVERY_CLASS, None)
    }

    fn wake_one(&self, word: *const AtomicU32) {
        let _ = self.wake(Call::WakeOne { word: word.addr() }, word.addr(), 1, EVERY_CLASS);
    }

    fn wake_all(&self, word: *const AtomicU32) {
        self.wake(Call::WakeAll { word: word.addr() }, word.addr(), usize::MAX, EVERY_CLASS);
    }

    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        self.sleep(word, expected, class, None)
    }

    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        self.wake(Call::WakeClass { word: word.addr(), n, class }, word.addr(), n as usize, class)
            as u32
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        let hook = {
            let mut at_event = self.0.at_event.lock().unwrap();
            match at_event.take() {
                Some((0, hook)) => Some(hook),
                Some((later, hook)) => {
                    *at_event = Some((later - 1, hook));
                    None
                }
                None => None,
            }
        };
        if let Some(hook) = hook {
            hook();
        }
        &self.0.events[index]
    }

    fn events(&self) -> usize {
        self.0.events.len()
    }

    fn tell(&self, page: usize) {
        self.world().calls.push(Call::Tell { page });
        self.tell_event(page);
    }
}

impl<const CLASSES: bool> FutexTimed for Sim<CLASSES> {
    fn now(&self) -> MonotonicTime {
        MonotonicTime::since_zero(Duration::from_nanos(self.world().now))
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep {
        self.sleep(word, expected, class, Some(nanos(at)))
    }
}

/// The point `nanos` nanoseconds after the beginning.
pub(crate) const fn at(nanos: u64) -> MonotonicTime {
    MonotonicTime::since_zero(Duration::from_nanos(nanos))
}

fn nanos(at: MonotonicTime) -> u64 {
    at.as_duration().as_nanos().try_into().unwrap_or(u64::MAX)
}
