//! The count word: references, pins, FROZEN.
//!
//! ```text
//!   31  30                19 18                                          0
//!  ┌──┬─────────────────────┬─────────────────────────────────────────────┐
//!  │FZ│        pins         │                 references                  │
//!  └──┴─────────────────────┴─────────────────────────────────────────────┘
//! ```
//!
//! All three share one word so that "no pins, exactly these references, and from now on nobody gets another" is one
//! compare-exchange. An increment is a compare-exchange too, so the maxima are exact: it is refused before it happens and a
//! field can never carry into its neighbour.
//!
//! FROZEN means that the counts can only fall. With pins it is set by a migrator that waits for them to be dropped
//! ([`Migration::wait_unpinned`](crate::Migration::wait_unpinned)), so the value that the last unpin finds says that somebody is to be told.
//!
//! A page is *free* when it has neither references nor pins.

use core::fmt;

const REFS_BITS: u32 = 19;
const PIN: u32 = 1 << REFS_BITS;
const FROZEN: u32 = 1 << 31;

/// The most references a page can have: 2^19 - 1.
pub const MAX_REFS: u32 = PIN - 1;
/// The most pins a page can have: 2^12 - 1.
pub const MAX_PINS: u32 = (FROZEN - 1) >> REFS_BITS;

/// One value of the count word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u32);

impl Count {
    /// What a get adds and a put subtracts.
    pub(crate) const REF: u32 = 1;
    /// What a pin adds and an unpin subtracts.
    pub(crate) const PIN: u32 = PIN;
    /// The bit that a freeze sets and a thaw clears.
    pub(crate) const FROZEN: u32 = FROZEN;

    pub(crate) const fn refs(self) -> u32 {
        self.0 & MAX_REFS
    }

    pub(crate) const fn pins(self) -> u32 {
        (self.0 & !FROZEN) >> REFS_BITS
    }

    pub(crate) const fn is_frozen(self) -> bool {
        self.0 & FROZEN != 0
    }

    /// An unpin that found this has dropped one of the pins, and nobody waits for the last: one comparison for both, because with the pin
    /// gone the pins of a word that is not frozen are what is left below FROZEN, and those of a word without any wrap around.
    pub(crate) const fn is_plain_unpin(self) -> bool {
        self.0.wrapping_sub(PIN) < FROZEN - PIN
    }

    /// Neither references nor pins.
    pub(crate) const fn is_free(self) -> bool {
        self.0 & !FROZEN == 0
    }

    /// `n` references more, if there is room.
    pub(crate) fn plus_refs(self, n: u32) -> Option<Self> {
        if n > MAX_REFS - self.refs() { None } else { Some(Self(self.0 + n)) }
    }

    /// `n` references fewer, if there are so many.
    pub(crate) const fn minus_refs(self, n: u32) -> Option<Self> {
        if n > self.refs() { None } else { Some(Self(self.0 - n)) }
    }

    /// One pin more, if there is room.
    pub(crate) fn plus_pin(self) -> Option<Self> {
        if self.pins() == MAX_PINS { None } else { Some(Self(self.0 + PIN)) }
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

    #[test]
    fn an_unpin_is_plain_unless_it_is_one_too_many_or_the_page_is_frozen() {
        for refs in [0, 1, MAX_REFS] {
            for pins in [0, 1, 2, MAX_PINS] {
                let count = Count(refs | (pins * PIN));
                assert_eq!(count.is_plain_unpin(), pins > 0, "{count:?}");
                assert!(!count.frozen().is_plain_unpin(), "{count:?}");
            }
        }
    }

    #[test]
    fn the_maxima_fill_the_word() {
        assert_eq!(MAX_REFS, (1 << 19) - 1);
        assert_eq!(MAX_PINS, (1 << 12) - 1);
        let full = Count(MAX_REFS | (MAX_PINS * PIN) | FROZEN);
        assert_eq!(full.0, u32::MAX);
        assert_eq!((full.refs(), full.pins(), full.is_frozen()), (MAX_REFS, MAX_PINS, true));
    }

    #[test]
    fn one_more_than_the_most_is_refused() {
        assert_eq!(Count(MAX_REFS).plus_refs(1), None);
        assert_eq!(Count(MAX_REFS - 1).plus_refs(1), Some(Count(MAX_REFS)));
        assert_eq!(Count(0).plus_refs(u32::MAX), None);
        assert_eq!(Count(MAX_PINS * PIN).plus_pin(), None);
        assert_eq!(Count(3).minus_refs(4), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn fields_never_reach_into_each_other(word: u32, n in 0..=MAX_REFS) {
            let c = Count(word);
            if let Some(more) = c.plus_refs(n) {
                prop_assert_eq!((more.refs(), more.pins(), more.is_frozen()), (c.refs() + n, c.pins(), c.is_frozen()));
                prop_assert_eq!(more.minus_refs(n), Some(c));
            } else {
                prop_assert!(c.refs() + n > MAX_REFS);
            }
            prop_assert_eq!(c.is_plain_unpin(), c.pins() > 0 && !c.is_frozen());
            if let Some(more) = c.plus_pin() {
                prop_assert_eq!((more.refs(), more.pins(), more.is_frozen()), (c.refs(), c.pins() + 1, c.is_frozen()));
            }
            prop_assert_eq!(c.frozen().thawed(), c.thawed());
        }
    }
}
