//! The futex under the model checkers: exact where it matters.
//!
//! Like the kernel, it takes the bucket's lock, *then* compares, *then* enqueues. A wake takes the
//! same lock, so a sleeper either sees the new value or is found by the wake. Wakes are first in,
//! first out, and go by address: a wake for a word that is gone finds no sleeper, or those of the
//! object that is there now. A test can ask for two events that loom does not produce by itself:
//! [`interrupt`] ends every sleep as a signal would, [`expire`] ends every timed sleep at its
//! deadline. Under shuttle they also happen by themselves, now and then, drawn from the schedule's
//! own random numbers.
//!
//! The state of an execution lives until the next one begins, and not only until its main thread
//! ends: a model may leave threads behind that still run then.

extern crate std;

use super::{EVERY_CLASS, EventSlot, Futex, FutexTimed, MonotonicTime, OsFutex, Sleep};
use crate::sync::AtomicU32;
use checker::sync::{Condvar, Mutex, MutexGuard};
use core::cell::Cell;
use core::time::Duration;
#[cfg(pagelock_loom)]
use loom as checker;
#[cfg(pagelock_shuttle)]
use shuttle as checker;
use std::boxed::Box;
use std::collections::VecDeque;
use std::rc::Rc;

pub(super) const CLASSES: bool = true;
/// Two slots, so that a model can have pages that collide and pages that do not.
pub(super) const EVENTS: usize = 2;

struct Sleeper {
    word: usize,
    class: u32,
    timed: bool,
    wakeup: Rc<Condvar>,
    /// The flag decides, not the condition variable.
    ended: Rc<Cell<Option<Sleep>>>,
}

#[derive(Default)]
struct Bucket {
    sleepers: VecDeque<Sleeper>,
    expired: bool,
}

#[derive(Default)]
struct State {
    bucket: Mutex<Bucket>,
    slots: [EventSlot; EVENTS],
}

// SAFETY: a model checker runs its threads one at a time on one thread of the system, and the
// bucket is reached through its mutex.
unsafe impl Send for State {}
// SAFETY: as above.
unsafe impl Sync for State {}

#[cfg(pagelock_loom)]
std::thread_local! {
    static STATE: Cell<Option<&'static State>> = const { Cell::new(None) };
}

/// Makes the state of an execution. Its main thread calls this before anything else. The state is
/// leaked, because objects that the checker made for one execution must not be touched in the next,
/// not even to drop them.
#[cfg(pagelock_loom)]
pub fn begin() {
    STATE.set(Some(Box::leak(Box::default())));
}

#[cfg(pagelock_loom)]
fn state() -> &'static State {
    STATE.get().expect("the execution has begun")
}

#[cfg(pagelock_shuttle)]
fn state() -> &'static State {
    shuttle::lazy_static! {
        static ref STATE: Box<State> = Box::default();
    }
    let state: &'static Box<State> = &STATE;
    state
}

fn bucket() -> MutexGuard<'static, Bucket> {
    state().bucket.lock().unwrap()
}

/// An event slot for any platform: the models' platforms wake as this one does.
pub fn event<F: Futex>(index: usize) -> &'static EventSlot<F> {
    state().slots[index].adapted()
}

fn sleep(word: &AtomicU32, expected: u32, class: u32, timed: bool) -> Sleep {
    let mut bucket = bucket();
    // Relaxed: the bucket's lock orders this against the wakes.
    if word.load(core::sync::atomic::Ordering::Relaxed) != expected {
        return Sleep::Changed;
    }
    if timed && bucket.expired {
        return Sleep::TimedOut;
    }
    let (wakeup, ended) = (Rc::new(Condvar::new()), Rc::new(Cell::new(None)));
    bucket.sleepers.push_back(Sleeper {
        word: core::ptr::from_ref(word).addr(),
        class,
        timed,
        wakeup: wakeup.clone(),
        ended: ended.clone(),
    });
    disturb(&mut bucket);
    loop {
        if let Some(sleep) = ended.get() {
            return sleep;
        }
        bucket = wakeup.wait(bucket).unwrap();
    }
}

/// Loom: nothing happens by itself. A test says what happens, and loom explores when.
#[cfg(pagelock_loom)]
fn disturb(_bucket: &mut Bucket) {}

/// Shuttle: now and then a sleep ends without a wake.
#[cfg(pagelock_shuttle)]
fn disturb(bucket: &mut Bucket) {
    use shuttle::rand::{Rng, thread_rng};
    if !bucket.sleepers.is_empty() && thread_rng().gen_ratio(1, 8) {
        let unlucky = thread_rng().gen_range(0..bucket.sleepers.len());
        let sleeper = bucket.sleepers.remove(unlucky).unwrap();
        sleeper.ended.set(Some(if sleeper.timed && thread_rng().gen_ratio(1, 2) {
            Sleep::TimedOut
        } else {
            Sleep::Interrupted
        }));
        sleeper.wakeup.notify_one();
    }
}

/// Ends the sleep of the first `n` sleepers that `chosen` names. Returns how many there were.
fn end(bucket: &mut Bucket, n: u32, how: Sleep, chosen: impl Fn(&Sleeper) -> bool) -> u32 {
    let (mut i, mut ended) = (0, 0);
    while ended < n && i < bucket.sleepers.len() {
        if chosen(&bucket.sleepers[i]) {
            let sleeper = bucket.sleepers.remove(i).unwrap();
            sleeper.ended.set(Some(how));
            sleeper.wakeup.notify_one();
            ended += 1;
        } else {
            i += 1;
        }
    }
    ended
}

pub(super) fn wait(word: &AtomicU32, expected: u32) -> Sleep {
    sleep(word, expected, EVERY_CLASS, false)
}

pub(super) fn wait_class(word: &AtomicU32, expected: u32, class: u32) -> Sleep {
    sleep(word, expected, class, false)
}

pub(super) fn wake_class(word: *const AtomicU32, n: u32, class: u32) -> u32 {
    let mut bucket = bucket();
    disturb(&mut bucket);
    end(&mut bucket, n, Sleep::Woken, |s| s.word == word.addr() && s.class & class != 0)
}

pub(super) fn wake_one(word: *const AtomicU32) {
    wake_class(word, 1, EVERY_CLASS);
}

pub(super) fn wake_all(word: *const AtomicU32) {
    wake_class(word, u32::MAX, EVERY_CLASS);
}

/// Ends every present sleep, as a signal would.
pub fn interrupt() {
    end(&mut bucket(), u32::MAX, Sleep::Interrupted, |_| true);
}

/// Ends every timed sleep at its deadline, now and from now on.
pub fn expire() {
    let mut bucket = bucket();
    bucket.expired = true;
    end(&mut bucket, u32::MAX, Sleep::TimedOut, |s| s.timed);
}

/// The clock stands at zero until [`expire`] moves it to its end.
impl FutexTimed for OsFutex {
    fn now(&self) -> MonotonicTime {
        if bucket().expired { MonotonicTime::MAX } else { MonotonicTime::ZERO }
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, _at: MonotonicTime) -> Sleep {
        sleep(word, expected, class, true)
    }

    fn after(&self, _d: Duration) -> Option<MonotonicTime> {
        Some(MonotonicTime::MAX)
    }
}
