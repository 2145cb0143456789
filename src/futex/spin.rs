//! Waiting without anything to wait with.

use super::{EventSlot, Futex, OsFutex, Sleep};
use crate::sync::{AtomicU32, Ordering::Relaxed, spin_loop};

/// A platform that spins: for cores with nothing else to run, and for bringing up a kernel.
///
/// It shares the default platform's event table and knows no clock, so it has no deadlines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpinFutex;

/// Spins while `*word == expected`.
pub(super) fn wait(word: &AtomicU32, expected: u32) -> Sleep {
    // Relaxed: a wait orders nothing; whoever returns from it looks again with the ordering it needs.
    while word.load(Relaxed) == expected {
        spin_loop();
    }
    Sleep::Unknown
}

impl Futex for SpinFutex {
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        wait(word, expected)
    }

    fn wake_one(&self, _word: *const AtomicU32) {}

    fn wake_all(&self, _word: *const AtomicU32) {}

    fn event(&self, index: usize) -> &EventSlot {
        const { &OsFutex }.event(index)
    }

    fn events(&self) -> usize {
        OsFutex.events()
    }
}
