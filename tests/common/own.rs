//! The operating system's futex with an event table of the test's own: no other test's page
//! collides with its pages, and it is known who sleeps.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
#[cfg(target_os = "linux")]
use pagelock::futex::MonotonicTime;
use pagelock::futex::{EventSlot, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{Futex, OsFutex};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A handle. `CLASSES` says whether to use the classes that the system may have.
#[derive(Clone, Copy)]
pub(crate) struct Own<const CLASSES: bool = true>(&'static Table<CLASSES>);

struct Table<const CLASSES: bool> {
    slots: Box<[EventSlot<Own<CLASSES>>]>,
    sleepers: Sleepers,
    /// How many wake calls were made.
    wakes: AtomicUsize,
    /// Whether wake calls do nothing.
    deaf: AtomicBool,
    /// Done whenever a thread asks for the time.
    at_clock: Mutex<Option<AtClock>>,
}

type AtClock = Arc<dyn Fn() + Send + Sync>;

/// At most `ms` milliseconds from now.
#[cfg(target_os = "linux")]
pub(crate) fn within<'c>(own: Own, ms: u64) -> pagelock::Limits<'c, Own> {
    use pagelock::FutexTimed;
    pagelock::Limits::none().until(own.after(Duration::from_millis(ms)).unwrap())
}

impl Own {
    /// A platform with `slots` event slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self::make(slots)
    }
}

impl Own<false> {
    /// A platform with `slots` event slots that does not tell classes of sleepers apart.
    pub(crate) fn without_classes(slots: usize) -> Self {
        Self::make(slots)
    }
}

impl<const CLASSES: bool> Own<CLASSES> {
    fn make(slots: usize) -> Self {
        Self(Box::leak(Box::new(Table {
            slots: (0..slots).map(|_| EventSlot::new()).collect(),
            sleepers: Sleepers::default(),
            wakes: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
            at_clock: Mutex::default(),
        })))
    }

    /// Returns once `n` threads are asleep in the futex.
    pub(crate) fn until_asleep(self, n: usize) {
        self.0.sleepers.until(n, || false);
    }

    /// Returns once `n` threads are asleep in the futex, or `or` is so.
    pub(crate) fn until_asleep_or(self, n: usize, or: impl Fn() -> bool) {
        self.0.sleepers.until(n, or);
    }

    /// Has every thread that asks for the time call `hook` first.
    pub(crate) fn at_clock(self, hook: impl Fn() + Send + Sync + 'static) {
        *self.0.at_clock.lock().unwrap() = Some(Arc::new(hook));
    }

    /// How many wake calls were made so far.
    pub(crate) fn wakes(self) -> usize {
        self.0.wakes.load(SeqCst)
    }

    /// Whether wakes get lost from now on. Shows that a test would notice.
    pub(crate) fn set_deaf(self, deaf: bool) {
        self.0.deaf.store(deaf, SeqCst);
    }

    /// Counts a wake call, and says whether to make it.
    fn count_wake(&self) -> bool {
        self.0.wakes.fetch_add(1, SeqCst);
        !self.0.deaf.load(SeqCst)
    }
}

// SAFETY: the words that it is shown are shown to the system alone.
unsafe impl<const CLASSES: bool> Futex for Own<CLASSES> {
    const CLASSES: bool = CLASSES && OsFutex::CLASSES;

    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        self.0.sleepers.sleep(word, || OsFutex.wait(word, expected))
    }

    fn wake_one(&self, word: *const AtomicU32) {
        if self.count_wake() {
            OsFutex.wake_one(word);
        }
    }

    fn wake_all(&self, word: *const AtomicU32) {
        if self.count_wake() {
            OsFutex.wake_all(word);
        }
    }

    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        self.0.sleepers.sleep(word, || OsFutex.wait_class(word, expected, class))
    }

    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        if self.count_wake() { OsFutex.wake_class(word, n, class) } else { n }
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        &self.0.slots[index]
    }

    fn events(&self) -> usize {
        self.0.slots.len()
    }
}

#[cfg(target_os = "linux")]
impl<const CLASSES: bool> pagelock::FutexTimed for Own<CLASSES> {
    fn now(&self) -> MonotonicTime {
        let hook = self.0.at_clock.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook();
        }
        OsFutex.now()
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep {
        self.0.sleepers.sleep(word, || OsFutex.wait_until(word, expected, class, at))
    }
}

/// The threads that sleep in the system's futex.
#[derive(Default)]
pub(crate) struct Sleepers {
    /// By a number of its own: its thread, as far as the system tells, and the word that it sleeps
    /// on.
    sleeping: Mutex<BTreeMap<usize, (Task, usize)>>,
    next: AtomicUsize,
}

impl Sleepers {
    pub(crate) fn sleep(&self, word: &AtomicU32, sleep: impl FnOnce() -> Sleep) -> Sleep {
        let number = self.next.fetch_add(1, SeqCst);
        self.sleeping
            .lock()
            .unwrap()
            .insert(number, (Task::current(), core::ptr::from_ref(word).addr()));
        let ended = sleep();
        self.sleeping.lock().unwrap().remove(&number);
        ended
    }

    /// Returns once `n` threads are asleep, or `or` is so.
    pub(crate) fn until(&self, n: usize, or: impl Fn() -> bool) {
        for look in 0.. {
            {
                let sleeping = self.sleeping.lock().unwrap();
                if sleeping.len() == n
                    && sleeping.values().all(|(task, word)| task.is_asleep_on(*word))
                {
                    return;
                }
            }
            if or() {
                return;
            }
            // On a busy machine the others need the processor more.
            match look {
                0..16 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(100)),
            }
        }
    }
}

/// A thread of the system.
pub(crate) struct Task {
    #[cfg(all(target_os = "linux", not(miri)))]
    id: libc::pid_t,
}

#[cfg(all(target_os = "linux", not(miri)))]
impl Task {
    pub(crate) fn current() -> Self {
        // SAFETY: it has no arguments and cannot fail.
        Self { id: unsafe { libc::gettid() } }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/self/task/{}/{name}", self.id)).unwrap_or_default()
    }

    /// Whether it sleeps, on whatever.
    pub(crate) fn is_asleep(&self) -> bool {
        self.file("stat").rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('S'))
    }

    /// Whether it sleeps in a call to the system of which `word` is the first argument. Where the
    /// system does not say which call it is in, any: that it is about to sleep in the futex is
    /// known.
    fn is_asleep_on(&self, word: usize) -> bool {
        let call = self.file("syscall");
        match call.split(' ').nth(1) {
            // An emulator puts the program's memory elsewhere, by whole pages.
            Some(argument) if cfg!(not(any(target_arch = "x86_64", target_arch = "x86"))) => {
                let at = u64::from_str_radix(argument.trim_start_matches("0x"), 16);
                at.is_ok_and(|at| at % 4096 == word as u64 % 4096)
            }
            Some(argument) => argument == format!("{word:#x}"),
            None => call.is_empty() && self.is_asleep(),
        }
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
impl Task {
    pub(crate) fn current() -> Self {
        Self {}
    }

    /// The system does not tell.
    pub(crate) fn is_asleep(&self) -> bool {
        true
    }

    fn is_asleep_on(&self, _word: usize) -> bool {
        true
    }
}
