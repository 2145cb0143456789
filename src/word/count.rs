//! The count word: references, pins, FROZEN.
//!
//! ```text
//!   31  30                19 18                                          0
//!  ┌──┬─────────────────────┬─────────────────────────────────────────────┐
//!  │FZ│        pins         │                 references                  │
//!  └──┴─────────────────────┴─────────────────────────────────────────────┘
//! ```
//!
//! All three share one word so that one compare-exchange can say "no pins, exactly these
//! references, and no others from now on". Every change of a count is a compare-exchange too, and a
//! change that would leave the field is refused before it happens. So the maxima are exact, and no
//! field ever carries into its neighbour or borrows from it, not even between two instructions.
//!
//! FROZEN means that the counts can only fall. A migrator that waits for the last unpin
//! ([`Migration::wait_unpinned`](crate::Migration::wait_unpinned)) sets it while there are pins;
//! the last unpin finds it in the word and tells the migrator. A poisoned page stays frozen.
//!
//! A page is *free* when it has neither references nor pins.
//!
//! The masks and shifts are public for debuggers, crash dumps and other languages:
//!
//! ```
//! use pagelock::word::count::{FROZEN, PINS, PINS_SHIFT, REFS, REFS_SHIFT};
//!
//! let word: u32 = 0x8010_0003; // as found in a crash dump
//! assert_eq!((word & REFS) >> REFS_SHIFT, 3);
//! assert_eq!((word & PINS) >> PINS_SHIFT, 2);
//! assert_ne!(word & FROZEN, 0);
//! ```

use core::fmt;

/// Position of the references' lowest bit.
pub const REFS_SHIFT: u32 = 0;
/// Mask of the references.
pub const REFS: u32 = ((1 << 19) - 1) << REFS_SHIFT;
/// Position of the pins' lowest bit.
pub const PINS_SHIFT: u32 = 19;
/// Mask of the pins.
pub const PINS: u32 = ((1 << 12) - 1) << PINS_SHIFT;
/// The counts can only fall: new references and pins are refused.
pub const FROZEN: u32 = 1 << 31;

/// The most references a page can have: 2^19 - 1.
pub const MAX_REFS: u32 = REFS >> REFS_SHIFT;
/// The most pins a page can have: 2^12 - 1.
pub const MAX_PINS: u32 = PINS >> PINS_SHIFT;

const PIN: u32 = 1 << PINS_SHIFT;

/// One value of the count word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u32);

impl Count {
    pub(crate) const fn refs(self) -> u32 {
        (self.0 & REFS) >> REFS_SHIFT
    }

    pub(crate) const fn pins(self) -> u32 {
        (self.0 & PINS) >> PINS_SHIFT
    }

    pub(crate) const fn is_frozen(self) -> bool {
        self.0 & FROZEN != 0
    }

    /// Neither references nor pins.
    pub(crate) const fn is_free(self) -> bool {
        self.0 & !FROZEN == 0
    }

    /// `n` references more, if there is room.
    pub(crate) const fn plus_refs(self, n: u32) -> Option<Self> {
        if n > MAX_REFS - self.refs() { None } else { Some(Self(self.0 + n)) }
    }

    /// `n` references fewer, if there are that many.
    pub(crate) const fn minus_refs(self, n: u32) -> Option<Self> {
        if n > self.refs() { None } else { Some(Self(self.0 - n)) }
    }

    /// One pin more, if there is room.
    pub(crate) const fn plus_pin(self) -> Option<Self> {
        if self.pins() == MAX_PINS { None } else { Some(Self(self.0 + PIN)) }
    }

    /// One pin fewer, if there is one.
    pub(crate) const fn minus_pin(self) -> Option<Self> {
        if self.pins() == 0 { None } else { Some(Self(self.0 - PIN)) }
    }

    pub(crate) const fn frozen(self) -> Self {
        Self(self.0 | FROZEN)
    }

    pub(crate) const fn thawed(self) -> Self {
        Self(self.0 & !FROZEN)
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} references, {} pins", self.refs(), self.pins())?;
        if self.is_frozen() {
            f.write_str(", frozen")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    fn fields(count: Count) -> (u32, u32, bool) {
        (count.refs(), count.pins(), count.is_frozen())
    }

    #[test]
    fn the_maxima_fill_the_word() {
        assert_eq!(MAX_REFS, (1 << 19) - 1);
        assert_eq!(MAX_PINS, (1 << 12) - 1);
        let full = Count(MAX_REFS | (MAX_PINS * PIN) | FROZEN);
        assert_eq!(full.0, u32::MAX);
        assert_eq!(fields(full), (MAX_REFS, MAX_PINS, true));
    }

    #[test]
    fn one_more_than_the_most_is_refused() {
        assert_eq!(Count(MAX_REFS).plus_refs(1), None);
        assert_eq!(Count(MAX_REFS - 1).plus_refs(1), Some(Count(MAX_REFS)));
        assert_eq!(Count(0).plus_refs(u32::MAX), None);
        assert_eq!(Count(MAX_PINS * PIN).plus_pin(), None);
        assert_eq!(Count(3).minus_refs(4), None);
    }

    #[test]
    fn one_fewer_than_none_is_refused_whatever_the_neighbour_has() {
        for frozen in [0, FROZEN] {
            assert_eq!(Count((MAX_PINS * PIN) | frozen).minus_refs(1), None);
            assert_eq!(Count(MAX_REFS | frozen).minus_pin(), None);
        }
    }

    #[test]
    fn the_published_masks_cover_the_word_once() {
        assert_eq!(REFS ^ PINS ^ FROZEN, u32::MAX);
        assert_eq!(Count(3 << REFS_SHIFT | 2 << PINS_SHIFT).refs(), 3);
        assert_eq!(Count(3 << REFS_SHIFT | 2 << PINS_SHIFT).pins(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn fields_never_reach_into_each_other(word: u32, n in 0..=MAX_REFS) {
            let c = Count(word);
            if let Some(more) = c.plus_refs(n) {
                prop_assert_eq!(fields(more), (c.refs() + n, c.pins(), c.is_frozen()));
                prop_assert_eq!(more.minus_refs(n), Some(c));
            } else {
                prop_assert!(c.refs() + n > MAX_REFS);
            }
            if let Some(more) = c.plus_pin() {
                prop_assert_eq!(fields(more), (c.refs(), c.pins() + 1, c.is_frozen()));
                prop_assert_eq!(more.minus_pin(), Some(c));
            }
            prop_assert_eq!(c.frozen().thawed(), c.thawed());
        }
    }
}
