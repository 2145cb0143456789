//! What can go wrong with a segment and with a seat.
//!
//! [`SeatBusy`] and [`SeatCommitError`] hand back the stage. As with the core's, `?` keeps the
//! reason and drops the stage, which aborts the migration.

use super::{SeatBusy, SeatCommitError, Size};
use crate::lock::LockError;
use crate::migration::{CommitRefused, FreezeRefused};
use crate::refs::{CountError, GetError, PinError};
use core::fmt;

/// Why there is no segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SegmentError {
    /// No segment has these numbers: no seat, room for no page, more than the most of either, or
    /// more pages than room.
    Size(Size),
    /// The file does not begin as a segment does.
    NoSegment,
    /// It is a segment of a machine with the other byte order.
    ForeignEndian,
    /// It is a segment with another layout.
    Version {
        /// What it says.
        found: u32,
    },
    /// Its numbers contradict each other.
    Inconsistent,
    /// It is shorter than it says.
    Truncated {
        /// The file's bytes.
        bytes: u64,
        /// What its numbers need.
        needed: u64,
    },
    /// It could be made shorter while it is mapped: it lacks `F_SEAL_SHRINK`, or is no memfd of
    /// ordinary memory.
    NotSealed,
    /// More pages than it has room for.
    Capacity {
        /// The most.
        capacity: u32,
    },
    /// This process has as many segments mapped as it can.
    TooMany,
    /// The system has refused a call.
    System {
        /// Which.
        call: &'static str,
        /// The error number.
        errno: i32,
    },
}

/// Why a seat could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SitError {
    /// Every seat has an owner.
    NoSeat,
    /// Every seat without an owner is of a dead one: [recover](super::Segment::recover) first.
    OnlyDead,
    /// The segment was inherited by `fork`: this process has to attach for itself.
    Forked,
    /// The system has refused to lock.
    System {
        /// The error number.
        errno: i32,
    },
}

/// Why a seat was refused what it asked for. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SeatError {
    /// The segment has no such page, as far as this process has [looked](super::Segment::refresh).
    NoSuchPage,
    /// The seat has no room for another note. Let go of something, or take another seat.
    Full,
    /// Another thread owns the page.
    Locked,
    /// The page was not had within the limits.
    Limit(LockError),
    /// The page cannot be made live.
    Count(CountError),
    /// No reference is given.
    Get(GetError),
    /// No pin is given.
    Pin(PinError),
}

/// Why nothing was recovered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RecoverError {
    /// Another survivor is at it, and may have begun before the death that this call is about: call
    /// again. If that one dies, the kernel lets go of its lock.
    Busy,
    /// The segment was inherited by `fork`: this process has to attach for itself.
    Forked,
    /// The system has refused to lock.
    System {
        /// The error number.
        errno: i32,
    },
}

const FORKED: &str =
    "the segment belongs to the parent process, and this one has to attach for itself";

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => write!(f, "not the size of a segment: {size:?}"),
            Self::NoSegment => f.write_str("the file does not begin as a segment does"),
            Self::ForeignEndian => {
                f.write_str("the segment was made on a machine with the other byte order")
            }
            Self::Version { found } => {
                write!(
                    f,
                    "the segment has layout {found}, and this is for layout {}",
                    super::layout::VERSION
                )
            }
            Self::Inconsistent => f.write_str("the numbers of the segment contradict each other"),
            Self::Truncated { bytes, needed } => {
                write!(f, "the segment has {bytes} bytes and needs {needed}")
            }
            Self::NotSealed => f.write_str("the file is no memfd that is sealed against shrinking"),
            Self::Capacity { capacity } => write!(f, "the segment has room for {capacity} pages"),
            Self::TooMany => f.write_str("this process has too many segments mapped"),
            Self::System { call, errno } => write!(f, "{call} failed with error {errno}"),
        }
    }
}

impl fmt::Display for SitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSeat => f.write_str("all seats are taken"),
            Self::Forked => f.write_str(FORKED),
            Self::OnlyDead => f.write_str("every seat without an owner is of a dead one"),
            Self::System { errno } => {
                write!(f, "a lock of the file was refused with error {errno}")
            }
        }
    }
}

impl fmt::Display for SeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPage => f.write_str("the segment has no such page"),
            Self::Full => f.write_str("the seat has no room for another note"),
            Self::Locked => f.write_str("another thread owns the page"),
            Self::Limit(why) => why.fmt(f),
            Self::Count(why) => why.fmt(f),
            Self::Get(why) => why.fmt(f),
            Self::Pin(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => f.write_str(FORKED),
            Self::Busy => f.write_str("another survivor recovers"),
            Self::System { errno } => {
                write!(f, "a lock of the file was refused with error {errno}")
            }
        }
    }
}

impl core::error::Error for SegmentError {}
impl core::error::Error for SitError {}
impl core::error::Error for SeatError {}
impl core::error::Error for RecoverError {}

impl From<SeatBusy<'_>> for FreezeRefused {
    fn from(busy: SeatBusy<'_>) -> Self {
        busy.why
    }
}
impl From<SeatCommitError<'_>> for CommitRefused {
    fn from(error: SeatCommitError<'_>) -> Self {
        error.why
    }
}

#[cfg(feature = "alloc")]
mod boxed {
    use super::*;
    use alloc::boxed::Box;
    use core::error::Error;

    /// `?` into a boxed error: the reason goes into the box, the stage is dropped.
    macro_rules! boxed {
        ($($to:ty),*) => { $(
            impl From<SeatBusy<'_>> for Box<$to> {
                fn from(busy: SeatBusy<'_>) -> Self {
                    Self::from(busy.why)
                }
            }

            impl From<SeatCommitError<'_>> for Box<$to> {
                fn from(error: SeatCommitError<'_>) -> Self {
                    Self::from(error.why)
                }
            }
        )* };
    }
    boxed!(dyn Error, dyn Error + Send + Sync);
}
