//! The smallest platform of a kernel: an event table of its own, and a sleep that needs no system.
//! Shared by the programs of ci/no_std_proof and ci/sizes.

use core::sync::atomic::Ordering::Relaxed;
use pagelock::futex::{EventSlot, Futex, Sleep};
use pagelock::sync::AtomicU32;

#[derive(Clone, Copy)]
pub(crate) struct Halt;

static EVENTS: [EventSlot<Halt>; 16] = [const { EventSlot::new() }; 16];

// SAFETY: it loads the words that it is shown.
unsafe impl Futex for Halt {
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        while word.load(Relaxed) == expected {
            core::hint::spin_loop();
        }
        Sleep::Unknown
    }

    fn wake_one(&self, _: *const AtomicU32) {}

    fn wake_all(&self, _: *const AtomicU32) {}

    fn event(&self, index: usize) -> &EventSlot<Self> {
        // Without a bounds check, which could panic.
        &EVENTS[index % EVENTS.len()]
    }

    fn events(&self) -> usize {
        EVENTS.len()
    }
}
