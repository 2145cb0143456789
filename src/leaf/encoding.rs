//! The 64-bit encoding of a leaf, and the words that are none.

use super::{Leaf, Marker, Rights, Tracking};
use core::fmt;

/// The first number that does not fit where a frame number or swap slot goes: 2^52.
pub const FRAME_LIMIT: u64 = 1 << 52;

pub(super) const KIND: u64 = 0xf;
pub(super) const PRESENT: u64 = 1;
pub(super) const SWAP: u64 = 2;
pub(super) const MIGRATION: u64 = 3;
pub(super) const DEVICE_PRIVATE: u64 = 4;
pub(super) const DEVICE_EXCLUSIVE: u64 = 5;
pub(super) const POISON: u64 = 6;
pub(super) const MARKER: u64 = 7;

pub(super) const RIGHTS_SHIFT: u32 = 4;
pub(super) const ACCESSED: u64 = 1 << 6;
pub(super) const DIRTY: u64 = 1 << 7;
pub(super) const SOFT_DIRTY: u64 = 1 << 8;
pub(super) const UFFD_WP: u64 = 1 << 9;
pub(super) const NUMBER_SHIFT: u32 = 12;

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
    /// Encodes the leaf as 64 bits, laid out as in [the picture](crate::leaf).
    ///
    /// # Errors
    ///
    /// [`FrameTooLarge`] when a frame number or swap slot is not below [`FRAME_LIMIT`].
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::leaf::{FRAME_LIMIT, FrameTooLarge, Leaf, Rights, Tracking};
    ///
    /// let leaf = |pfn| Leaf::Present { pfn, rights: Rights::Read, tracking: Tracking::default() };
    /// assert_eq!(leaf(77).encode(), Ok(0x4d001));
    /// assert_eq!(leaf(FRAME_LIMIT).encode(), Err(FrameTooLarge { number: FRAME_LIMIT }));
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

    /// Decodes what [`encode`](Self::encode) made.
    ///
    /// # Errors
    ///
    /// [`UnknownLeaf`] for a word that `encode` never makes.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, UnknownLeaf};
    ///
    /// assert_eq!(Leaf::decode(0x5006), Ok(Leaf::Poison { pfn: 5 }));
    /// // An access is not tracked there.
    /// assert_eq!(Leaf::decode(0x5046), Err(UnknownLeaf { word: 0x5046 }));
    /// ```
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
        // The bits that the kind does not use must be zero: a leaf has one word, the one that
        // `encode` makes.
        if leaf.encode() == Ok(word) { Ok(leaf) } else { Err(unknown) }
    }
}

/// A word that encodes no leaf.
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
            "frame or slot {:#x} does not fit into a leaf entry: the limit is {FRAME_LIMIT:#x}",
            self.number
        )
    }
}

impl core::error::Error for UnknownLeaf {}
impl core::error::Error for FrameTooLarge {}

// The documented fields fill the word: kind, rights, tracking, two zero bits, number.
static_assertions::const_assert_eq!(
    KIND | 0b11 << RIGHTS_SHIFT | ACCESSED | DIRTY | SOFT_DIRTY | UFFD_WP | 0b11 << 10,
    (1 << NUMBER_SHIFT) - 1
);
