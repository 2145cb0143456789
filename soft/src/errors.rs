//! Why something could not be done.

use super::Refusal;
use core::fmt;
use pagelock::leaf::{Marker, UnknownLeaf};
use pagelock::mm::FaultError;
use pagelock::mm::migrate::Outcome;
use pagelock::refs::GetError;

/// A change that was not made, or not as a whole.
///
/// ```
/// use pagelock_soft::MapError;
/// # let (mm, at) = pagelock_soft::example();
/// assert_eq!(mm.map(at, 1), Err(MapError::BadRange)); // mapped already
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MapError {
    /// There are as many address spaces as there can be.
    NoSpace,
    /// A part of the range is outside the space, or is mapped and must not be, or is not and must
    /// be.
    BadRange,
    /// No frame is left.
    NoMemory,
    /// A page has as many references as can be counted, or is frozen.
    Uncountable(GetError),
    /// A page that had to be copied was not, and is whole.
    CopyFailed,
    /// Pages are pinned, and the pinner would go on writing to pages that nobody sees.
    Pinned {
        /// How many pages of the range are pinned.
        pages: usize,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => f.write_str("there are as many address spaces as there can be"),
            Self::BadRange => f.write_str("the range is not as it should be"),
            Self::NoMemory => f.write_str("no frame is left"),
            Self::CopyFailed => f.write_str("a page could not be copied"),
            Self::Pinned { pages } => write!(f, "{pages} pages are pinned"),
            Self::Uncountable(e) => write!(f, "a page cannot be referred to once more: {e}"),
        }
    }
}

impl core::error::Error for MapError {}

/// An access that cannot be made.
///
/// ```
/// use pagelock_soft::AccessError;
/// # let (mm, at) = pagelock_soft::example();
/// let unmapped = at.space.page(20);
/// assert_eq!(mm.read(unmapped, 0, &mut [0]), Err(AccessError::NotMapped));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AccessError {
    /// The address is not mapped, or the page does not have that many bytes.
    NotMapped,
    /// It is mapped, but not for this access.
    NotAllowed,
    /// The page's contents are lost.
    Poisoned {
        /// In this frame.
        pfn: u64,
    },
    /// There is a marker at the address.
    Marker(Marker),
    /// The page is in swap, which the caller handles.
    Swapped {
        /// The slot.
        slot: u64,
    },
    /// No frame is left.
    NoMemory,
    /// The faulter was cancelled.
    Cancelled,
    /// The time was up.
    TimedOut,
    /// The page was busy until the faulter's patience ended.
    Busy {
        /// How often it was tried.
        rounds: u32,
    },
    /// The page could not be brought back.
    NotBrought(Outcome<Refusal>),
    /// The table has an entry that is no leaf.
    Unknown(UnknownLeaf),
    /// The table names a frame that does not exist.
    NoFrame {
        /// Its number.
        pfn: u64,
    },
    /// Another error of the fault path.
    Fault(FaultError<Outcome<Refusal>>),
}

impl From<FaultError<Outcome<Refusal>>> for AccessError {
    fn from(e: FaultError<Outcome<Refusal>>) -> Self {
        match e {
            FaultError::Unknown(e) => Self::Unknown(e),
            FaultError::NoFrame { pfn } => Self::NoFrame { pfn },
            FaultError::Poisoned { pfn } => Self::Poisoned { pfn },
            FaultError::Cancelled => Self::Cancelled,
            FaultError::TimedOut => Self::TimedOut,
            FaultError::Busy { rounds } => Self::Busy { rounds },
            FaultError::NoMemory => Self::NoMemory,
            FaultError::ToRam(outcome) => Self::NotBrought(outcome),
            other => Self::Fault(other),
        }
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped => f.write_str("the address is not mapped"),
            Self::NotAllowed => f.write_str("the access is not allowed"),
            Self::Poisoned { pfn } => write!(f, "the contents of frame {pfn:#x} are lost"),
            Self::Marker(marker) => write!(f, "there is a marker, {marker:?}"),
            Self::Swapped { slot } => write!(f, "the page is in swap slot {slot}"),
            Self::NoMemory => f.write_str("no frame is left"),
            Self::Cancelled => f.write_str("the fault was cancelled"),
            Self::TimedOut => f.write_str("the time was up"),
            Self::Busy { rounds } => write!(f, "the page was busy {rounds} times"),
            Self::NotBrought(outcome) => write!(f, "the page could not be brought back: {outcome}"),
            Self::Unknown(e) => e.fmt(f),
            Self::NoFrame { pfn } => {
                write!(f, "the table names frame {pfn:#x}, which does not exist")
            }
            Self::Fault(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for AccessError {}
