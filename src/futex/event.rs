//! Event slots: where the waiters for a release sleep.
//!
//! A waiter may not sleep on the page, because it holds nothing that keeps the page its own. It sleeps on a *sequence word*
//! of a small table instead, chosen by the page's address. A release that finds waiters bumps the sequence and wakes.
//!
//! # Fan-out
//!
//! Waking N sleepers costs the waker a few microseconds each, and the waker is the migrator that everybody waits for. So it
//! wakes only [`FIRST`] of them, and each of those wakes [`NEXT`] more before it returns. For that to strand nobody:
//!
//! * *A wake is passed on exactly when one was used up.* A sleeper that timed out, was interrupted, or never slept has taken
//!   nothing from the chain and adds nothing to it.
//! * *A woken sleeper returns*; it never goes back to sleep. One that was woken by mistake (see below) reports a release that
//!   was not its own, which the contract of the wait allows, and passes the wake on like any other.
//! * *A chain reaches only those who slept under the same sequence value*, so a release's chain cannot be used up by people
//!   who came later. Sleepers are told apart by a class: bit `sequence mod 32`. Sequence values 32 apart share a class; the
//!   later one's sleepers are then woken by mistake, as above.
//!
//! Where a platform cannot tell classes apart, a release wakes everybody.

use super::{Futex, Sleep};
use crate::stats::{self, Counter};
use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Release},
    const_unless_loom,
};
pub use crate::tune::{FIRST, NEXT};

/// One sequence word of an event table. All-zero is valid and means that nothing was released yet.
#[repr(transparent)]
#[derive(Debug)]
pub struct EventSlot {
    sequence: AtomicU32,
}

impl EventSlot {
    const_unless_loom! {
        /// A slot that nobody waits on.
        #[must_use]
        pub fn new() -> Self {
            Self { sequence: AtomicU32::new(0) }
        }
    }

    /// The sequence to sleep under: how often, modulo 2^32, a release has told this slot.
    ///
    /// Acquire: pairs with the bump. A waiter that already sees a release's bump then also sees that
    /// the page was released, so it cannot go on to set the waiters' flag for a hold that is over and sleep for its end.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.sequence.load(Acquire)
    }

    /// Release: pairs with [`sequence`](Self::sequence), see there; and whoever returns because of the bump sees what the
    /// releaser did before it.
    pub(crate) fn bump(&self) -> u32 {
        self.sequence.fetch_add(1, Release)
    }

    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.sequence
    }
}

impl Default for EventSlot {
    fn default() -> Self {
        Self::new()
    }
}

/// The class of those who sleep under `sequence`.
pub(crate) const fn class(sequence: u32) -> u32 {
    1 << (sequence % 32)
}

/// Spreads header addresses over slots. Headers are 8 bytes apart, so the low three bits say nothing; the multiplication
/// (by 2^32 over the golden ratio) moves every other bit into the upper half, which is what is kept.
pub(crate) fn hash(page: usize) -> usize {
    let mixed = ((page >> 3) as u32).wrapping_mul(0x9e37_79b9);
    (mixed >> 16) as usize
}

/// Tells everybody who sleeps on slot `index` that what they wait for has happened.
pub(crate) fn tell<F: Futex>(futex: F, index: usize) {
    let slot = futex.event(index);
    let slept_under = slot.bump();
    stats::count(Counter::EventWakes);
    wake(futex, slot, slept_under, FIRST);
}

/// Passes a wake on. Call it exactly when a sleep under `slept_under` ended with [`Sleep::Woken`].
pub(crate) fn pass_on<F: Futex>(futex: F, slot: &EventSlot, slept_under: u32) {
    if F::CLASSES {
        wake(futex, slot, slept_under, NEXT);
    }
}

fn wake<F: Futex>(futex: F, slot: &EventSlot, slept_under: u32, n: u32) {
    if F::CLASSES {
        futex.wake_class(slot.word(), n, class(slept_under));
    } else {
        futex.wake_all(slot.word());
    }
}

/// What a sleep under `slept_under` amounts to: whether to go on sleeping, and passing the wake on if one was used up.
pub(crate) fn after_sleep<F: Futex>(futex: F, slot: &EventSlot, slept_under: u32, sleep: Sleep) -> Slept {
    let changed = slot.sequence() != slept_under;
    match sleep {
        Sleep::Woken => {
            pass_on(futex, slot, slept_under);
            if !changed {
                stats::count(Counter::SpuriousReturns);
            }
            Slept::Told
        }
        _ if changed => Slept::Told,
        Sleep::TimedOut => Slept::TimedOut,
        Sleep::Changed | Sleep::Interrupted | Sleep::Unknown => Slept::SleepOn,
    }
}

/// See [`after_sleep`].
pub(crate) enum Slept {
    Told,
    TimedOut,
    SleepOn,
}

#[cfg(all(test, not(pagelock_loom)))]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_headers_spread_over_the_slots() {
        let mut hits = [0u32; 128];
        for page in 0..1280usize {
            hits[hash(0x7f00_0000_1000 + page * 8) & 127] += 1;
        }
        assert!(hits.iter().all(|&n| (3..=25).contains(&n)), "{hits:?}");
    }

    #[test]
    fn sequences_one_apart_have_different_classes() {
        for s in [0u32, 1, 30, 31, 32, u32::MAX] {
            assert_eq!(class(s).count_ones(), 1);
            assert_ne!(class(s), class(s.wrapping_add(1)));
        }
        assert_eq!(class(u32::MAX).count_ones(), 1);
    }
}
