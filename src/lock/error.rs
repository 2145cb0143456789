//! Why a page could not be locked.

use core::fmt;

/// Why a page could not be locked within the [limits](crate::Limits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum LockError {
    /// The deadline passed, before the call or during it, and the page was still taken.
    TimedOut,
    /// The wait was [cancelled](crate::Cancel), and the page was still taken.
    Cancelled,
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "the page was not released before the deadline",
            Self::Cancelled => "the page was not released before the wait for it was cancelled",
        })
    }
}

impl core::error::Error for LockError {}
