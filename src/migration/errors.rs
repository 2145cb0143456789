//! Why a page could not be frozen, and why an identity could not move.
//!
//! [`Busy`], [`FreezeError`] and [`CommitError`] hand back the stage, which borrows the page. So
//! they cannot leave the function that borrowed it, as an error that is passed on has to. The
//! reason can: it is an error of its own that borrows nothing ([`FreezeRefused`], [`NotMigrated`],
//! [`CommitRefused`]). `?` turns each of the three into its reason, and into a boxed one where
//! there is an allocator; the stage is dropped, which aborts the migration. That is why they do not
//! implement [`Error`](core::error::Error) themselves: what does cannot be boxed as its reason.

use super::{FreezeRule, Frozen, Migration};
use crate::futex::{Futex, OsFutex};
use crate::lock::PageGuard;
use core::error::Error;
use core::fmt;

/// Why a page was not frozen: what was counted, and what was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FreezeRefused {
    /// The references that were counted.
    pub refs: u32,
    /// The pins that were counted.
    pub pins: u32,
    /// Whether it was frozen already: possible only through the raw forms.
    pub frozen: bool,
    /// Whether its contents are lost: there is nothing to move.
    pub poisoned: bool,
    /// What was asked for.
    pub rule: FreezeRule,
}

/// A page that could not be frozen: why, and the migration as it was before.
///
/// ```
/// use pagelock::{FreezeRule, PageLock};
///
/// fn migrate(page: &PageLock) -> Result<(), Box<dyn std::error::Error>> {
///     let frozen = page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1))?;
///     // ... copy ...
///     frozen.commit_in_place();
///     Ok(())
/// }
/// ```
#[must_use = "the migration is in it, and is aborted when this is dropped"]
pub struct Busy<'a, F: Futex = OsFutex> {
    pub(super) why: FreezeRefused,
    pub(super) migration: Migration<'a, F>,
}

impl<'a, F: Futex> Busy<'a, F> {
    /// The references that were counted.
    #[must_use]
    pub fn refs(&self) -> u32 {
        self.why.refs
    }

    /// The pins that were counted.
    #[must_use]
    pub fn pins(&self) -> u32 {
        self.why.pins
    }

    /// Everything that was counted: an error that borrows nothing.
    #[must_use]
    pub fn reason(&self) -> FreezeRefused {
        self.why
    }

    /// The reason alone. The migration is aborted.
    #[must_use]
    pub fn into_reason(self) -> FreezeRefused {
        self.why
    }

    /// The migration, as it was before.
    pub fn into_migration(self) -> Migration<'a, F> {
        self.migration
    }
}

/// Why [`Migration::freeze_with`] failed.
#[must_use = "the migration is in it, and is aborted when this is dropped"]
pub enum FreezeError<'a, E, F: Futex = OsFutex> {
    /// By this crate's counts.
    Busy(Busy<'a, F>),
    /// By the caller's own.
    Refused {
        /// What the caller's freeze said.
        error: E,
        /// The migration, as it was before.
        migration: Migration<'a, F>,
    },
}

impl<E, F: Futex> FreezeError<'_, E, F> {
    /// The reason alone. The migration is aborted.
    pub fn into_reason(self) -> NotMigrated<E> {
        match self {
            Self::Busy(busy) => NotMigrated::Busy(busy.into_reason()),
            Self::Refused { error, migration: _ } => NotMigrated::Own(error),
        }
    }
}

/// Why a page was not migrated: the page was busy, or the caller's own part failed. It borrows
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotMigrated<E> {
    /// By this crate's counts.
    Busy(FreezeRefused),
    /// By the caller's own part.
    Own(E),
}

/// A migration that could not be committed to another header: why, and both as they were before.
#[must_use = "both pages are in it; dropping it aborts the migration and unlocks the destination"]
pub struct CommitError<'a, 'd, F: Futex = OsFutex> {
    /// The reason: an error that borrows nothing.
    pub why: CommitRefused,
    /// The source, as it was before.
    pub frozen: Frozen<'a, F>,
    /// The destination, as it was before.
    pub dst: PageGuard<'d, F>,
}

/// Why an identity cannot move to a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CommitRefused {
    /// Source and destination are one.
    SamePage,
    /// The destination is poisoned.
    Poisoned,
    /// The destination is frozen.
    Frozen,
    /// The source has fewer references by now than are to be moved.
    TooFew {
        /// What it has.
        have: u32,
        /// What was to be moved.
        move_: u32,
    },
    /// The destination cannot count so many.
    Overflow {
        /// What it has.
        have: u32,
        /// What was to be moved.
        move_: u32,
    },
}

impl fmt::Display for FreezeRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            _ if self.poisoned => f.write_str("the page is poisoned"),
            _ if self.frozen => f.write_str("the page is frozen already"),
            FreezeRule::ExactRefs(n) => {
                write!(
                    f,
                    "the page has {} references and {} pins, where {n} and 0 were expected",
                    self.refs, self.pins
                )
            }
            FreezeRule::Unpinned => write!(f, "the page has {} pins", self.pins),
        }
    }
}

impl<E: fmt::Display> fmt::Display for NotMigrated<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(why) => why.fmt(f),
            Self::Own(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for CommitRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SamePage => f.write_str("source and destination are the same page"),
            Self::Poisoned => f.write_str("the destination is poisoned"),
            Self::Frozen => f.write_str("the destination is frozen"),
            Self::TooFew { have, move_ } => {
                write!(f, "{move_} references were to move, and the source has {have}")
            }
            Self::Overflow { have, move_ } => {
                write!(
                    f,
                    "{move_} references on top of the destination's {have} are more than can be counted"
                )
            }
        }
    }
}

impl<F: Futex> fmt::Display for Busy<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl<E: fmt::Display, F: Futex> fmt::Display for FreezeError<'_, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(busy) => busy.fmt(f),
            Self::Refused { error, .. } => write!(f, "the caller's own count refused: {error}"),
        }
    }
}

impl<F: Futex> fmt::Display for CommitError<'_, '_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl<F: Futex> fmt::Debug for Busy<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Busy").field("why", &self.why).finish_non_exhaustive()
    }
}

impl<E: fmt::Debug, F: Futex> fmt::Debug for FreezeError<'_, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(busy) => f.debug_tuple("Busy").field(busy).finish(),
            Self::Refused { error, .. } => {
                f.debug_struct("Refused").field("error", error).finish_non_exhaustive()
            }
        }
    }
}

impl<F: Futex> fmt::Debug for CommitError<'_, '_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitError").field("why", &self.why).finish_non_exhaustive()
    }
}

impl Error for FreezeRefused {}
impl Error for CommitRefused {}

impl<E: Error + 'static> Error for NotMigrated<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Busy(_) => None,
            Self::Own(error) => error.source(),
        }
    }
}

impl<F: Futex> From<Busy<'_, F>> for FreezeRefused {
    fn from(busy: Busy<'_, F>) -> Self {
        busy.into_reason()
    }
}

impl<E, F: Futex> From<FreezeError<'_, E, F>> for NotMigrated<E> {
    fn from(error: FreezeError<'_, E, F>) -> Self {
        error.into_reason()
    }
}

impl<F: Futex> From<CommitError<'_, '_, F>> for CommitRefused {
    fn from(error: CommitError<'_, '_, F>) -> Self {
        error.why
    }
}

#[cfg(feature = "alloc")]
mod boxed {
    use super::*;
    use alloc::boxed::Box;

    /// `?` into a boxed error: the reason goes into the box, the stage is dropped.
    macro_rules! boxed {
        ($($to:ty),*) => { $(
            impl<F: Futex> From<Busy<'_, F>> for Box<$to> {
                fn from(busy: Busy<'_, F>) -> Self {
                    Self::from(busy.into_reason())
                }
            }

            impl<F: Futex> From<CommitError<'_, '_, F>> for Box<$to> {
                fn from(error: CommitError<'_, '_, F>) -> Self {
                    Self::from(error.why)
                }
            }

            impl<E: Error + Send + Sync + 'static, F: Futex> From<FreezeError<'_, E, F>> for Box<$to> {
                fn from(error: FreezeError<'_, E, F>) -> Self {
                    Self::from(error.into_reason())
                }
            }
        )* };
    }
    boxed!(dyn Error, dyn Error + Send + Sync);
}
