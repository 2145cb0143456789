//! Waiting without anything to wait with.

use super::{EventSlot, Futex, Sleep};
use crate::sync::{AtomicU32, Ordering::Relaxed, spin_loop};
use core::marker::PhantomData;

/// A platform that spins: for cores with nothing else to run, and for bringing up a kernel.
///
/// It has an event table of its own, and knows no clock, so it has no deadlines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SpinFutex {
    /// The compiler takes a struct without a member for one that C does not know.
    c: PhantomData<()>,
}

#[allow(non_upper_case_globals)] // The value of a type that has one.
#[doc(hidden)]
pub const SpinFutex: SpinFutex = SpinFutex { c: PhantomData };

/// Not padded: those who look at one slot are not slowed by releases of others as much as by their
/// own.
#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
static EVENTS: [EventSlot<SpinFutex>; 64] = [const { EventSlot::new() }; 64];

/// Spins while `*word == expected`.
pub(super) fn wait(word: &AtomicU32, expected: u32) -> Sleep {
    // Relaxed: a wait orders nothing; whoever returns from it looks again with the ordering it
    // needs.
    while word.load(Relaxed) == expected {
        spin_loop();
    }
    Sleep::Unknown
}

// SAFETY: it loads the words that it is shown.
unsafe impl Futex for SpinFutex {
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        wait(word, expected)
    }

    fn wake_one(&self, _word: *const AtomicU32) {}

    fn wake_all(&self, _word: *const AtomicU32) {}

    #[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
    fn event(&self, index: usize) -> &EventSlot<Self> {
        &EVENTS[index]
    }

    #[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
    fn events(&self) -> usize {
        EVENTS.len()
    }

    #[cfg(any(pagelock_loom, pagelock_shuttle))]
    fn event(&self, index: usize) -> &EventSlot<Self> {
        super::model::event(index)
    }

    #[cfg(any(pagelock_loom, pagelock_shuttle))]
    fn events(&self) -> usize {
        super::model::EVENTS
    }
}
