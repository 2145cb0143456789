//! Why a page was not made live, and why a reference or a pin was refused.

use crate::word::{MAX_PINS, MAX_REFS};
use core::fmt;

/// Why [`PageLock::activate`](crate::PageLock::activate) failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CountError {
    /// The page is live already.
    Live {
        /// Its references.
        refs: u32,
        /// Its pins.
        pins: u32,
    },
    /// A migration has frozen the page's counts.
    Frozen,
    /// The page's contents are lost for good.
    Poisoned,
    /// No references were asked for, and a live page has at least one.
    Zero,
    /// More references were asked for than can be counted.
    Overflow {
        /// The references that the page has.
        have: u32,
        /// The references that were asked for.
        asked: u32,
    },
}

/// Why [`PageLock::try_get`](crate::PageLock::try_get) failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum GetError {
    /// The page is free.
    Free,
    /// A migration has frozen the counts: [wait](crate::PageLock::wait_migration) and try again.
    Frozen,
    /// The contents are lost for good.
    Poisoned,
    /// The page has [`MAX_REFS`] references.
    Overflow,
}

/// Why [`PageLock::try_pin`](crate::PageLock::try_pin) failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum PinError {
    /// The page is free.
    Free,
    /// A migration has frozen the counts: [wait](crate::PageLock::wait_migration) and try again.
    Frozen,
    /// The page is being migrated: [wait](crate::PageLock::wait_migration) and try again.
    Migrating,
    /// The contents are lost for good.
    Poisoned,
    /// The page has [`MAX_PINS`] pins.
    Overflow,
}

impl fmt::Display for CountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live { refs, pins } => {
                write!(f, "the page is live already, with {refs} references and {pins} pins")
            }
            Self::Frozen => f.write_str("the page is frozen by a migration"),
            Self::Poisoned => f.write_str("the page is poisoned"),
            Self::Zero => {
                f.write_str("a live page needs at least one reference, and 0 were asked for")
            }
            Self::Overflow { have, asked } => {
                write!(f, "{asked} references on top of {have} are more than the ")?;
                write!(f, "{MAX_REFS} that can be counted")
            }
        }
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("the page is free: it has neither references nor pins"),
            Self::Frozen => f.write_str("the page is frozen by a migration"),
            Self::Poisoned => f.write_str("the page is poisoned"),
            Self::Overflow => {
                write!(f, "the page has {MAX_REFS} references, and more cannot be counted")
            }
        }
    }
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("the page is free: it has neither references nor pins"),
            Self::Frozen => f.write_str("the page is frozen by a migration"),
            Self::Migrating => f.write_str("the page is being migrated"),
            Self::Poisoned => f.write_str("the page is poisoned"),
            Self::Overflow => write!(f, "the page has {MAX_PINS} pins, and more cannot be counted"),
        }
    }
}

impl core::error::Error for CountError {}
impl core::error::Error for GetError {}
impl core::error::Error for PinError {}
