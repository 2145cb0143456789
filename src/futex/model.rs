//! The futex under the model checkers: exact where it matters.
//!
//! Like the kernel, it takes the bucket's lock, *then* compares, *then* enqueues; a wake takes the same lock, so a sleeper either sees
//! the new value or is found by the wake. Wakes are first in, first out, and go by address: a wake for a word that is gone finds nobody,
//! or whoever sleeps on what is there now. Two things that loom does not do by itself can be asked for by a test: [`interrupt`] ends
//! every sleep as a signal would, [`expire`] makes the time of every timed sleep up. Under shuttle they also happen by themselves, now
//! and then, drawn from the schedule's own random numbers.

extern crate std;

use super::{DeadlineError, EVERY_CLASS, EventSlot, FutexTimed, OsFutex, Sleep};
use crate::sync::AtomicU32;
use checker::sync::{Arc, Condvar, Mutex};
use core::cell::Cell;
use core::time::Duration;
#[cfg(pagelock_loom)]
use loom as checker;
#[cfg(pagelock_shuttle)]
use shuttle as checker;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;

pub(super) const CLASSES: bool = true;
/// Two slots, so that a model can have pages that collide and pages that do not.
pub(super) const EVENTS: usize = 2;

struct Sleeper {
    word: usize,
    class: u32,
    timed: bool,
    wakeup: Arc<Condvar>,
    /// The flag decides, not the condition variable.
    ended: Rc<Cell<Option<Sleep>>>,
}

#[derive(Default)]
struct Bucket {
    sleepers: VecDeque<Sleeper>,
    expired: bool,
}

// SAFETY: a model checker runs its threads one at a time on one thread of the system, and the bucket is reached through its mutex.
unsafe impl Send for Bucket {}

checker::lazy_static! {
    static ref BUCKET: Mutex<Bucket> = Mutex::new(Bucket::default());
    static ref SLOTS: Vec<EventSlot> = (0..EVENTS).map(|_| EventSlot::new()).collect();
}

pub(super) fn event(index: usize) -> &'static EventSlot {
    let slots: &'static Vec<EventSlot> = &SLOTS;
    &slots[index]
}

fn sleep(word: &AtomicU32, expected: u32, class: u32, timed: bool) -> Sleep {
    let mut bucket = BUCKET.lock().unwrap();
    // Relaxed: the bucket's lock orders this against the wakes.
    if word.load(core::sync::atomic::Ordering::Relaxed) != expected {
        return Sleep::Changed;
    }
    if timed && bucket.expired {
        return Sleep::TimedOut;
    }
    let (wakeup, ended) = (Arc::new(Condvar::new()), Rc::new(Cell::new(None)));
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

/// Loom: nothing happens by itself. A test says what is to happen, and loom explores when.
#[cfg(pagelock_loom)]
fn disturb(_bucket: &mut Bucket) {}

/// Shuttle: now and then somebody's sleep ends without a wake.
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

/// Ends the sleep of the first `n` sleepers that `chosen` names; how many there were.
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
    let mut bucket = BUCKET.lock().unwrap();
    disturb(&mut bucket);
    end(&mut bucket, n, Sleep::Woken, |s| s.word == word.addr() && s.class & class != 0)
}

pub(super) fn wake_one(word: *const AtomicU32) {
    wake_class(word, 1, EVERY_CLASS);
}

pub(super) fn wake_all(word: *const AtomicU32) {
    wake_class(word, u32::MAX, EVERY_CLASS);
}

/// Ends every sleep that is going on, as a signal would.
pub fn interrupt() {
    end(&mut BUCKET.lock().unwrap(), u32::MAX, Sleep::Interrupted, |_| true);
}

/// The time of every timed sleep is up, now and from now on.
pub fn expire() {
    let mut bucket = BUCKET.lock().unwrap();
    bucket.expired = true;
    end(&mut bucket, u32::MAX, Sleep::TimedOut, |s| s.timed);
}

impl FutexTimed for OsFutex {
    type Instant = ();

    fn after(&self, _d: Duration) -> Result<(), DeadlineError> {
        Ok(())
    }

    fn late_by(&self, (): ()) -> Option<Duration> {
        BUCKET.lock().unwrap().expired.then_some(Duration::ZERO)
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, (): ()) -> Sleep {
        sleep(word, expected, class, true)
    }
}
