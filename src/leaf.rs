//! Leaf entries: what a page table says about one page.
//!
//! A leaf is present, or it says why it is not. Non-present leaves carry what is needed to make
//! them present again, and never more: rights that a present leaf did not have cannot come back
//! from a round trip. [`Leaf`] is the value, and [`encode`](Leaf::encode) /
//! [`decode`](Leaf::decode) are one 64-bit encoding of it, for software tables and for tests. A
//! kernel whose hardware dictates the encoding writes its own and keeps the value.
//!
//! ```text
//!   63                                          12 11 10  9    8    7    6   5  4  3    0
//!  ┌──────────────────────────────────────────────┬─────┬────┬────┬────┬────┬─────┬──────┐
//!  │ frame number, swap slot, or marker (52 bits) │ 0 0 │UFWP│SDRT│DIRT│ACCD│right│ kind │
//!  └──────────────────────────────────────────────┴─────┴────┴────┴────┴────┴─────┴──────┘
//! ```
//!
//! | kind | owns a reference to its frame | a fault on it |
//! |---|---|---|
//! | 0 none (the whole word is 0) | – | is the caller's to fill |
//! | 1 present | yes | needs nothing, or rights |
//! | 2 swap | no frame | is the caller's to swap in |
//! | 3 migration | no | waits for the frame's migration |
//! | 4 device-private | yes | brings the page back, or waits for whoever does |
//! | 5 device-exclusive | yes | ends the device's exclusivity |
//! | 6 poison | no | is an error, for good |
//! | 7 marker | no frame | is the caller's, by the marker |
//!
//! The kinds and who owns what are those of Linux (`include/linux/leafops.h`). Bits that a kind
//! does not use are zero, and a word that has them set is [unknown](UnknownLeaf), not guessed at.

use core::fmt;

/// What an entry allows. Ordered: a right includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rights {
    /// To read a page that others may share.
    Read,
    /// To read a page that nobody else maps, so that a write needs no copy, only the right.
    ReadExclusive,
    /// To read and write.
    Write,
}

/// What was observed of a page through this entry: it travels with the entry through every
/// conversion.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tracking {
    /// It was accessed.
    pub accessed: bool,
    /// It was written to.
    pub dirty: bool,
    /// It was written to since soft-dirty tracking was reset.
    pub soft_dirty: bool,
    /// Writes to it are to be reported to a user-space fault handler.
    pub uffd_wp: bool,
}

/// What a marker, a leaf without a page, stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Marker {
    /// Writes are to be reported to a user-space fault handler.
    UffdWp,
    /// Access is an error, by order of a user-space fault handler.
    Poison,
    /// Access is a stray pointer.
    Guard,
}

/// A leaf entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Leaf {
    /// Nothing was ever here.
    None,
    /// The page is in frame `pfn` and accessible.
    Present {
        /// The frame's number.
        pfn: u64,
        /// What is allowed.
        rights: Rights,
        /// What was observed.
        tracking: Tracking,
    },
    /// The page is in swap slot `slot`.
    Swap {
        /// The slot's number.
        slot: u64,
        /// What was observed.
        tracking: Tracking,
    },
    /// The page is in frame `pfn`, which is being migrated.
    Migration {
        /// The source frame's number.
        pfn: u64,
        /// What the entry that this replaces allowed.
        rights: Rights,
        /// What was observed.
        tracking: Tracking,
    },
    /// The page is in frame `pfn` of a device (or of a slow tier), where the processor cannot
    /// access it.
    DevicePrivate {
        /// The device frame's number.
        pfn: u64,
        /// What the page will allow when it is back.
        rights: Rights,
        /// What was observed.
        tracking: Tracking,
    },
    /// The page is in frame `pfn` of ordinary memory, and a device has it to itself for a while.
    DeviceExclusive {
        /// The frame's number.
        pfn: u64,
        /// What the entry that this replaces allowed.
        rights: Rights,
        /// What was observed.
        tracking: Tracking,
    },
    /// The page was in frame `pfn`, and its contents are lost.
    Poison {
        /// The frame's number.
        pfn: u64,
    },
    /// No page; a note to the fault handler.
    Marker(Marker),
}

/// The first number that does not fit where a frame number or swap slot goes: 2^52.
pub const FRAME_LIMIT: u64 = 1 << 52;

const KIND: u64 = 0xf;
const PRESENT: u64 = 1;
const SWAP: u64 = 2;
const MIGRATION: u64 = 3;
const DEVICE_PRIVATE: u64 = 4;
const DEVICE_EXCLUSIVE: u64 = 5;
const POISON: u64 = 6;
const MARKER: u64 = 7;

const RIGHTS_SHIFT: u32 = 4;
const ACCESSED: u64 = 1 << 6;
const DIRTY: u64 = 1 << 7;
const SOFT_DIRTY: u64 = 1 << 8;
const UFFD_WP: u64 = 1 << 9;
const NUMBER_SHIFT: u32 = 12;

impl Rights {
    const fn encode(self) -> u64 {
        (match self {
            Self::Read => 0,
            Self::ReadExclusive => 1,
            Self::Write => 2,
        }) << RIGHTS_SHIFT
    }

    const fn decode(word: u64) -> Option<Self> {
        match (word >> RIGHTS_SHIFT) & 0b11 {
            0 => Some(Self::Read),
            1 => Some(Self::ReadExclusive),
            2 => Some(Self::Write),
            _ => None,
        }
    }
}

impl Tracking {
    const fn encode(self) -> u64 {
        (if self.accessed { ACCESSED } else { 0 })
            | (if self.dirty { DIRTY } else { 0 })
            | (if self.soft_dirty { SOFT_DIRTY } else { 0 })
            | (if self.uffd_wp { UFFD_WP } else { 0 })
    }

    const fn decode(word: u64) -> Self {
        Self {
            accessed: word & ACCESSED != 0,
            dirty: word & DIRTY != 0,
            soft_dirty: word & SOFT_DIRTY != 0,
            uffd_wp: word & UFFD_WP != 0,
        }
    }
}

impl Marker {
    const fn encode(self) -> u64 {
        match self {
            Self::UffdWp => 0,
            Self::Poison => 1,
            Self::Guard => 2,
        }
    }

    const fn decode(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::UffdWp),
            1 => Some(Self::Poison),
            2 => Some(Self::Guard),
            _ => None,
        }
    }
}

impl Leaf {
    /// The leaf as 64 bits.
    ///
    /// # Errors
    ///
    /// [`FrameTooLarge`] when a frame number or swap slot is not below [`FRAME_LIMIT`].
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Rights, Tracking};
    ///
    /// let leaf = Leaf::DevicePrivate { pfn: 77, rights: Rights::Write, tracking: Tracking::default() };
    /// assert_eq!(Leaf::decode(leaf.encode()?), Ok(leaf));
    /// # Ok::<(), pagelock::leaf::FrameTooLarge>(())
    /// ```
    pub fn encode(self) -> Result<u64, FrameTooLarge> {
        let (kind, number, rest) = match self {
            Self::None => return Ok(0),
            Self::Present { pfn, rights, tracking } => {
                (PRESENT, pfn, rights.encode() | tracking.encode())
            }
            Self::Swap { slot, tracking } => (SWAP, slot, tracking.encode()),
            Self::Migration { pfn, rights, tracking } => {
                (MIGRATION, pfn, rights.encode() | tracking.encode())
            }
            Self::DevicePrivate { pfn, rights, tracking } => {
                (DEVICE_PRIVATE, pfn, rights.encode() | tracking.encode())
            }
            Self::DeviceExclusive { pfn, rights, tracking } => {
                (DEVICE_EXCLUSIVE, pfn, rights.encode() | tracking.encode())
            }
            Self::Poison { pfn } => (POISON, pfn, 0),
            Self::Marker(marker) => (MARKER, marker.encode(), 0),
        };
        if number >= FRAME_LIMIT {
            return Err(FrameTooLarge { number });
        }
        Ok(number << NUMBER_SHIFT | rest | kind)
    }

    /// The leaf that 64 bits stand for.
    ///
    /// # Errors
    ///
    /// [`UnknownLeaf`] when [`encode`](Self::encode) makes no such word.
    pub fn decode(word: u64) -> Result<Self, UnknownLeaf> {
        let unknown = UnknownLeaf { word };
        let number = word >> NUMBER_SHIFT;
        let tracking = Tracking::decode(word);
        let rights = Rights::decode(word);
        let leaf = match word & KIND {
            0 => Some(Self::None),
            PRESENT => rights.map(|rights| Self::Present { pfn: number, rights, tracking }),
            SWAP => Some(Self::Swap { slot: number, tracking }),
            MIGRATION => rights.map(|rights| Self::Migration { pfn: number, rights, tracking }),
            DEVICE_PRIVATE => {
                rights.map(|rights| Self::DevicePrivate { pfn: number, rights, tracking })
            }
            DEVICE_EXCLUSIVE => {
                rights.map(|rights| Self::DeviceExclusive { pfn: number, rights, tracking })
            }
            POISON => Some(Self::Poison { pfn: number }),
            MARKER => Marker::decode(number).map(Self::Marker),
            _ => None,
        }
        .ok_or(unknown)?;
        // Whatever bits the kind does not use have to be zero: the one word for a leaf is the one
        // that `encode` makes.
        if leaf.encode() == Ok(word) { Ok(leaf) } else { Err(unknown) }
    }

    /// The frame that the leaf names.
    #[must_use]
    pub fn pfn(self) -> Option<u64> {
        match self {
            Self::Present { pfn, .. }
            | Self::Migration { pfn, .. }
            | Self::DevicePrivate { pfn, .. }
            | Self::DeviceExclusive { pfn, .. }
            | Self::Poison { pfn } => Some(pfn),
            Self::None | Self::Swap { .. } | Self::Marker(_) => None,
        }
    }

    /// The same leaf, with another frame; as it is, if it names none. For tables with large
    /// entries, which have the number of their first frame, and are to say which frame is at an
    /// [address](crate::mm::Entry::get).
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Rights, Tracking};
    ///
    /// let (rights, tracking) = (Rights::Read, Tracking::default());
    /// assert_eq!(Leaf::Present { pfn: 512, rights, tracking }.map_pfn(|pfn| pfn + 7), Leaf::Present { pfn: 519, rights, tracking });
    /// assert_eq!(Leaf::None.map_pfn(|pfn| pfn + 7), Leaf::None);
    /// ```
    #[must_use]
    pub fn map_pfn(self, change: impl FnOnce(u64) -> u64) -> Self {
        let mut leaf = self;
        match &mut leaf {
            Self::Present { pfn, .. }
            | Self::Migration { pfn, .. }
            | Self::DevicePrivate { pfn, .. }
            | Self::DeviceExclusive { pfn, .. }
            | Self::Poison { pfn } => *pfn = change(*pfn),
            Self::None | Self::Swap { .. } | Self::Marker(_) => {}
        }
        leaf
    }

    /// What the leaf allows, or will allow when its page is back.
    #[must_use]
    pub fn rights(self) -> Option<Rights> {
        self.parts().map(|(_, rights, _)| rights)
    }

    /// The migration entry to put in this leaf's place while its frame moves. `None` for a leaf
    /// that has nothing to move.
    ///
    /// The entry does not own the reference that this leaf owns: that one is the migrator's to
    /// drop.
    #[must_use]
    pub fn to_migration(self) -> Option<Self> {
        match self {
            Self::Migration { .. } => None,
            _ => self.parts().map(|(pfn, rights, tracking)| Self::Migration {
                pfn,
                rights,
                tracking,
            }),
        }
    }

    /// The present leaf to put in place of a non-present one, with the page in frame `pfn`: the
    /// recorded rights and tracking, no more.
    #[must_use]
    pub fn to_present(self, pfn: u64) -> Option<Self> {
        self.parts().map(|(_, rights, tracking)| Self::Present { pfn, rights, tracking })
    }

    /// The device-private leaf to put in this one's place, with the page in frame `pfn` of the
    /// device.
    #[must_use]
    pub fn to_device_private(self, pfn: u64) -> Option<Self> {
        self.parts().map(|(_, rights, tracking)| Self::DevicePrivate { pfn, rights, tracking })
    }

    /// The device-exclusive leaf to put in this one's place, in the same frame. For present leaves
    /// only.
    #[must_use]
    pub fn to_device_exclusive(self) -> Option<Self> {
        match self {
            Self::Present { pfn, rights, tracking } => {
                Some(Self::DeviceExclusive { pfn, rights, tracking })
            }
            _ => None,
        }
    }

    /// The leaf with at most `rights`: what write-protection and fork do, also to an entry whose
    /// page is on its way.
    #[must_use]
    pub fn restrict(self, most: Rights) -> Self {
        match self {
            Self::Present { pfn, rights, tracking } => {
                Self::Present { pfn, rights: rights.min(most), tracking }
            }
            Self::Migration { pfn, rights, tracking } => {
                Self::Migration { pfn, rights: rights.min(most), tracking }
            }
            Self::DevicePrivate { pfn, rights, tracking } => {
                Self::DevicePrivate { pfn, rights: rights.min(most), tracking }
            }
            Self::DeviceExclusive { pfn, rights, tracking } => {
                Self::DeviceExclusive { pfn, rights: rights.min(most), tracking }
            }
            Self::None | Self::Swap { .. } | Self::Poison { .. } | Self::Marker(_) => self,
        }
    }

    /// Frame, rights and tracking, of the kinds that have all three.
    fn parts(self) -> Option<(u64, Rights, Tracking)> {
        match self {
            Self::Present { pfn, rights, tracking }
            | Self::Migration { pfn, rights, tracking }
            | Self::DevicePrivate { pfn, rights, tracking }
            | Self::DeviceExclusive { pfn, rights, tracking } => Some((pfn, rights, tracking)),
            Self::None | Self::Swap { .. } | Self::Poison { .. } | Self::Marker(_) => None,
        }
    }
}

/// A word that is no leaf.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UnknownLeaf {
    /// The word.
    pub word: u64,
}

/// A frame number or swap slot that does not fit into a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrameTooLarge {
    /// The number.
    pub number: u64,
}

impl fmt::Display for UnknownLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#018x} is no leaf entry: kind {}, other bits {:#x}",
            self.word,
            self.word & KIND,
            self.word & !KIND
        )
    }
}

impl fmt::Display for FrameTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "frame or slot {:#x} does not fit into a leaf entry, where the limit is {FRAME_LIMIT:#x}",
            self.number
        )
    }
}

impl core::error::Error for UnknownLeaf {}
impl core::error::Error for FrameTooLarge {}

// Nothing but the documented bits: kind, rights, tracking, two zero bits, number.
static_assertions::const_assert_eq!(
    KIND | 0b11 << RIGHTS_SHIFT | ACCESSED | DIRTY | SOFT_DIRTY | UFFD_WP | 0b11 << 10,
    (1 << NUMBER_SHIFT) - 1
);

#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    fn rights() -> impl Strategy<Value = Rights> {
        prop_oneof![Just(Rights::Read), Just(Rights::ReadExclusive), Just(Rights::Write)]
    }

    fn tracking() -> impl Strategy<Value = Tracking> {
        any::<[bool; 4]>().prop_map(|[accessed, dirty, soft_dirty, uffd_wp]| Tracking {
            accessed,
            dirty,
            soft_dirty,
            uffd_wp,
        })
    }

    fn leaf() -> impl Strategy<Value = Leaf> {
        let n = 0..FRAME_LIMIT;
        prop_oneof![
            Just(Leaf::None),
            (n.clone(), rights(), tracking()).prop_map(|(pfn, rights, tracking)| Leaf::Present {
                pfn,
                rights,
                tracking
            }),
            (n.clone(), tracking()).prop_map(|(slot, tracking)| Leaf::Swap { slot, tracking }),
            (n.clone(), rights(), tracking()).prop_map(|(pfn, rights, tracking)| Leaf::Migration {
                pfn,
                rights,
                tracking
            }),
            (n.clone(), rights(), tracking())
                .prop_map(|(pfn, rights, tracking)| Leaf::DevicePrivate { pfn, rights, tracking }),
            (n.clone(), rights(), tracking()).prop_map(|(pfn, rights, tracking)| {
                Leaf::DeviceExclusive { pfn, rights, tracking }
            }),
            n.prop_map(|pfn| Leaf::Poison { pfn }),
            prop_oneof![Just(Marker::UffdWp), Just(Marker::Poison), Just(Marker::Guard)]
                .prop_map(Leaf::Marker),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn decode_undoes_encode(leaf in leaf()) {
            prop_assert_eq!(Leaf::decode(leaf.encode().unwrap()), Ok(leaf));
        }

        #[test]
        fn a_word_is_a_leaf_or_an_error_that_names_it(word: u64) {
            match Leaf::decode(word) {
                Ok(leaf) => prop_assert_eq!(leaf.encode(), Ok(word)),
                Err(e) => prop_assert_eq!(e, UnknownLeaf { word }),
            }
        }

        #[test]
        fn no_round_trip_widens_rights(leaf in leaf(), most in rights(), pfn in 0..FRAME_LIMIT) {
            let before = leaf.rights();
            for after in [leaf.to_migration(), leaf.to_present(pfn), leaf.to_device_private(pfn), leaf.to_device_exclusive()] {
                let Some(after) = after else { continue };
                prop_assert_eq!(after.rights(), before);
                // Protection while the page is on its way holds when it arrives.
                let arrived = after.restrict(most).to_present(pfn).unwrap();
                prop_assert_eq!(arrived.rights(), before.map(|r| r.min(most)));
            }
        }

        #[test]
        fn tracking_survives_the_way_out_and_back(pfn in 0..FRAME_LIMIT, rights in rights(), tracking in tracking()) {
            let before = Leaf::Present { pfn, rights, tracking };
            let after = before.to_migration().and_then(|l| l.to_device_private(1)).and_then(Leaf::to_migration);
            prop_assert_eq!(after.and_then(|l| l.to_present(pfn)), Some(before));
        }
    }

    #[test]
    fn a_leaf_names_its_frame_and_keeps_it_when_it_is_restricted() {
        let (rights, tracking) = (Rights::Write, Tracking { dirty: true, ..Tracking::default() });
        for (leaf, pfn) in [
            (Leaf::Present { pfn: 1, rights, tracking }, Some(1)),
            (Leaf::Migration { pfn: 2, rights, tracking }, Some(2)),
            (Leaf::DevicePrivate { pfn: 3, rights, tracking }, Some(3)),
            (Leaf::DeviceExclusive { pfn: 4, rights, tracking }, Some(4)),
            (Leaf::Poison { pfn: 5 }, Some(5)),
            (Leaf::None, None),
            (Leaf::Swap { slot: 6, tracking }, None),
            (Leaf::Marker(Marker::Guard), None),
        ] {
            let restricted = leaf.restrict(Rights::Read);
            assert_eq!((leaf.pfn(), restricted.pfn()), (pfn, pfn));
            assert_eq!(restricted.rights(), leaf.rights().map(|_| Rights::Read));
            if leaf.rights().is_none() {
                assert_eq!(restricted, leaf);
            }
        }
    }

    #[test]
    fn what_cannot_be_converted_is_not() {
        let (rights, tracking) =
            (Rights::ReadExclusive, Tracking { soft_dirty: true, ..Tracking::default() });
        let present = Leaf::Present { pfn: 1, rights, tracking };
        let migration = Leaf::Migration { pfn: 1, rights, tracking };
        let exclusive = Leaf::DeviceExclusive { pfn: 1, rights, tracking };
        assert_eq!(present.to_migration(), Some(migration));
        assert_eq!(exclusive.to_migration(), Some(migration));
        assert_eq!(migration.to_migration(), None);
        assert_eq!(present.to_device_exclusive(), Some(exclusive));
        assert_eq!(migration.to_device_exclusive(), None);
        for leaf in [
            Leaf::None,
            Leaf::Swap { slot: 1, tracking },
            Leaf::Poison { pfn: 1 },
            Leaf::Marker(Marker::Guard),
        ] {
            assert_eq!(
                (leaf.rights(), leaf.to_migration(), leaf.to_present(2)),
                (None, None, None)
            );
            assert_eq!((leaf.to_device_private(2), leaf.to_device_exclusive()), (None, None));
        }
    }

    /// The picture at the top, bit by bit.
    #[test]
    fn the_encoding_is_the_one_that_is_documented() {
        let pfn = 0xf_ffff_ffff_ffff;
        let none = Tracking::default();
        let all = Tracking { accessed: true, dirty: true, soft_dirty: true, uffd_wp: true };
        for (leaf, word) in [
            (Leaf::None, 0),
            (Leaf::Present { pfn: 1, rights: Rights::Read, tracking: none }, 0x1001),
            (Leaf::Present { pfn: 0, rights: Rights::ReadExclusive, tracking: all }, 0x3d1),
            (Leaf::Swap { slot: 2, tracking: Tracking { accessed: true, ..none } }, 0x2042),
            (
                Leaf::Migration {
                    pfn,
                    rights: Rights::Write,
                    tracking: Tracking { dirty: true, ..none },
                },
                0xffff_ffff_ffff_f0a3,
            ),
            (
                Leaf::DevicePrivate {
                    pfn: 0,
                    rights: Rights::Read,
                    tracking: Tracking { soft_dirty: true, ..none },
                },
                0x104,
            ),
            (
                Leaf::DeviceExclusive {
                    pfn: 0,
                    rights: Rights::Read,
                    tracking: Tracking { uffd_wp: true, ..none },
                },
                0x205,
            ),
            (Leaf::Poison { pfn: 3 }, 0x3006),
            (Leaf::Marker(Marker::UffdWp), 7),
            (Leaf::Marker(Marker::Poison), 0x1007),
            (Leaf::Marker(Marker::Guard), 0x2007),
        ] {
            assert_eq!(leaf.encode(), Ok(word), "{leaf:?}");
            assert_eq!(Leaf::decode(word), Ok(leaf));
        }
    }

    #[test]
    fn zero_is_none_and_nothing_else_is() {
        assert_eq!(Leaf::decode(0), Ok(Leaf::None));
        assert!(Leaf::decode(1 << NUMBER_SHIFT).is_err());
    }

    #[test]
    fn bad_words_say_what_was_seen() {
        for word in [
            8,
            15,
            PRESENT | 3 << RIGHTS_SHIFT,
            PRESENT | 1 << 10,
            POISON | ACCESSED,
            MARKER | 3 << NUMBER_SHIFT,
        ] {
            let e = Leaf::decode(word).unwrap_err();
            assert_eq!(e.word, word);
            assert!(e.to_string().contains(&std::format!("{word:#018x}")), "{e}");
        }
        let e = Leaf::Poison { pfn: FRAME_LIMIT }.encode().unwrap_err();
        assert!(e.to_string().contains("0x10000000000000"), "{e}");
    }
}
