//! Waiting by spinning.

use super::{EventSlot, Futex, Sleep};
use crate::sync::{AtomicU32, Ordering::Relaxed, spin_loop};
use core::marker::PhantomData;

/// A platform that spins: for cores with nothing else to run, and for bringing up a kernel.
///
/// It has an event table of its own. It has no clock, so no deadlines.
///
/// # Example
///
/// ```
/// use pagelock::{PageLock, futex::SpinFutex};
///
/// static PAGE: PageLock<SpinFutex> = PageLock::with_futex(SpinFutex);
/// let guard = PAGE.lock();
/// assert_eq!(size_of_val(&PAGE), 8);
/// # drop(guard);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SpinFutex {
    /// C knows no struct without a member, and the compiler warns of one.
    c: PhantomData<()>,
}

#[allow(non_upper_case_globals)] // The value of a type that has one.
#[doc(hidden)]
pub const SpinFutex: SpinFutex = SpinFutex { c: PhantomData };

/// Not padded: releases of other slots slow a spinning waiter less than looks at its own.
#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
static EVENTS: [EventSlot<SpinFutex>; 64] = [const { EventSlot::new() }; 64];

/// Spins while `*word == expected`.
pub(super) fn wait(word: &AtomicU32, expected: u32) -> Sleep {
    // Relaxed: a wait orders nothing; the caller looks again with the ordering that it needs.
    while word.load(Relaxed) == expected {
        spin_loop();
    }
    Sleep::Unknown
}

// SAFETY: it loads the words that it receives, and stores to none.
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
