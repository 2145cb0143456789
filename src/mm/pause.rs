//! The pause between two tries at something that another thread has in hand.

use crate::futex::Futex;

/// The longest pause, as a power of two of [relaxations](Futex::relax).
const LONGEST: u32 = 6;

/// Gives the processor away, twice as long with each round.
pub(super) fn pause<F: Futex>(futex: F, round: u32) {
    (0..1_u32 << round.min(LONGEST)).for_each(|_| futex.relax());
}
