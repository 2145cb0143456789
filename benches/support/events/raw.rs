//! The bound: a futex word and nothing else.

use super::{Beside, Event, WithLock};
use crate::support::Padded;
use crate::support::locks::RawFutex;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::Mutex;

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

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        let ptl = self.ptl.0.lock().unwrap();
        ready();
        drop(ptl);
        let mut slept = 0;
        while self.word.0.load(Acquire) == 1 {
            atomic_wait::wait(&self.word.0, 1);
            slept += 1;
        }
        slept
    }

    fn end(&self) {
        self.word.0.store(0, Release);
        atomic_wait::wake_all(&self.word.0);
    }
}

/// The bound with a queue: as above, and the hold's own word wakes one.
pub type RawQueue = Beside<RawWakeAll, RawFutex>;

impl WithLock<RawFutex> for RawWakeAll {
    const QUEUED: &'static str = Self::NAME;
}
