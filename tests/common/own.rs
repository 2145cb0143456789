//! The operating system's futex with an event table of the test's own: no other test's page collides with its pages, and it
//! is known who sleeps.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
#[cfg(target_os = "linux")]
use pagelock::futex::MonotonicTime;
use pagelock::futex::{EventSlot, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{Futex, OsFutex};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A handle. `CLASSES` says whether to use the classes that the system may have.
#[derive(Clone, Copy)]
pub(crate) struct Own<const CLASSES: bool = true>(&'static Table<CLASSES>);

struct Table<const CLASSES: bool> {
    slots: Box<[EventSlot<Own<CLASSES>>]>,
    /// Who is in a sleep, by a number of its own; and its thread, as far as the system tells.
    sleeping: Mutex<BTreeMap<usize, Task>>,
    next: AtomicUsize,
    /// How many wake calls were made.
    wakes: AtomicUsize,
    /// Whether wake calls do nothing.
    deaf: AtomicBool,
}

/// So many milliseconds from now at most.
#[cfg(target_os = "linux")]
pub(crate) fn within<'c>(own: Own, ms: u64) -> pagelock::Limits<'c, Own> {
    use pagelock::FutexTimed;
    pagelock::Limits::none().until(own.after(core::time::Duration::from_millis(ms)).unwrap())
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
            sleeping: Mutex::default(),
            next: AtomicUsize::new(0),
            wakes: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
        })))
    }

    /// Returns once `n` threads are asleep in the futex.
    pub(crate) fn until_asleep(self, n: usize) {
        loop {
            {
                let sleeping = self.0.sleeping.lock().unwrap();
                if sleeping.len() == n && sleeping.values().all(Task::is_asleep) {
                    return;
                }
            }
            std::thread::yield_now();
        }
    }

    /// How many wake calls were made so far.
    pub(crate) fn wakes(self) -> usize {
        self.0.wakes.load(SeqCst)
    }

    /// Whether wakes are to be lost from now on. To see that a test would notice.
    pub(crate) fn set_deaf(self, deaf: bool) {
        self.0.deaf.store(deaf, SeqCst);
    }

    /// Counts a wake call; whether it is to be made.
    fn count_wake(&self) -> bool {
        self.0.wakes.fetch_add(1, SeqCst);
        !self.0.deaf.load(SeqCst)
    }

    fn asleep(self, sleep: impl FnOnce() -> Sleep) -> Sleep {
        let number = self.0.next.fetch_add(1, SeqCst);
        self.0.sleeping.lock().unwrap().insert(number, Task::current());
        let ended = sleep();
        self.0.sleeping.lock().unwrap().remove(&number);
        ended
    }
}

// SAFETY: the words that it is shown are shown to the system alone.
unsafe impl<const CLASSES: bool> Futex for Own<CLASSES> {
    const CLASSES: bool = CLASSES && OsFutex::CLASSES;

    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        self.asleep(|| OsFutex.wait(word, expected))
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
        self.asleep(|| OsFutex.wait_class(word, expected, class))
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
        OsFutex.now()
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep {
        self.asleep(|| OsFutex.wait_until(word, expected, class, at))
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

    /// Whether it sleeps. (That it is about to sleep in the futex is known; there is nothing else it could sleep in.)
    pub(crate) fn is_asleep(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", self.id)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('S'))
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
}
