//! Why a page could not be frozen, and why an identity could not move.
//!
//! [`Busy`], [`FreezeError`] and [`CommitError`] hand back the stage, which borrows the page. So
//! they cannot leave the function that borrowed it, as an error that is passed on must. The reason
//! can: it is an error of its own that borrows nothing ([`FreezeRefused`], [`NotMigrated`],
//! [`CommitRefused`]). `?` turns each of the three into its reason, or into a boxed one where there
//! is an allocator, and drops the stage, which aborts the migration. For that they must not
//! implement [`Error`](core::error::Error) themselves: `Box<dyn Error>` takes every `Error` as it
//! is.

use super::{FreezeRule, Frozen, Migration};
use crate::futex::{Futex, OsFutex};
use crate::lock::PageGuard;
use core::error::Error;
use core::fmt;

/// Why a page was not frozen: what was counted, and what was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct FreezeRefused {
    /// The references that were counted.
    pub refs: u32,
    /// The pins that were counted.
    pub pins: u32,
    /// Whether the page was frozen already, which only the raw forms make possible.
    pub frozen: bool,
    /// Whether the page's contents are lost: there is nothing to move.
    pub poisoned: bool,
    /// The rule that the counts did not meet.
    pub rule: FreezeRule,
}

/// A page that could not be frozen: why, and the migration as it was before.
///
/// `?` keeps the reason and drops the migration, which aborts it:
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
    /// Returns the references that were counted.
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.activate(2).unwrap();
    /// let migration = page.lock().begin_migration();
    /// let busy = migration.freeze(FreezeRule::ExactRefs(1)).unwrap_err();
    /// assert_eq!(busy.refs(), 2);
    /// ```
    #[must_use]
    pub fn refs(&self) -> u32 {
        self.why.refs
    }

    /// Returns the pins that were counted.
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let pin = page.try_pin().unwrap();
    /// let busy = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap_err();
    /// assert_eq!(busy.pins(), 1);
    /// # drop(pin);
    /// ```
    #[must_use]
    pub fn pins(&self) -> u32 {
        self.why.pins
    }

    /// Returns all that was counted: an error that borrows nothing.
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.activate(2).unwrap();
    /// let migration = page.lock().begin_migration();
    /// let busy = migration.freeze(FreezeRule::ExactRefs(1)).unwrap_err();
    /// assert_eq!(busy.reason().rule, FreezeRule::ExactRefs(1));
    /// ```
    #[must_use]
    pub fn reason(&self) -> FreezeRefused {
        self.why
    }

    /// Returns the reason and aborts the migration.
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.activate(2).unwrap();
    /// let migration = page.lock().begin_migration();
    /// let busy = migration.freeze(FreezeRule::ExactRefs(1)).unwrap_err();
    /// let reason = busy.into_reason();
    /// assert!(!page.is_locked());
    /// assert!(reason.to_string().contains("2 references"));
    /// ```
    #[must_use]
    pub fn into_reason(self) -> FreezeRefused {
        self.why
    }

    /// Returns the migration, as it was before.
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.activate(2).unwrap();
    /// let migration = page.lock().begin_migration();
    /// let busy = migration.freeze(FreezeRule::ExactRefs(1)).unwrap_err();
    /// assert!(busy.into_migration().freeze(FreezeRule::ExactRefs(2)).is_ok());
    /// ```
    pub fn into_migration(self) -> Migration<'a, F> {
        self.migration
    }
}

/// Why [`Migration::freeze_with`] failed.
#[must_use = "the migration is in it, and is aborted when this is dropped"]
pub enum FreezeError<'a, E, F: Futex = OsFutex> {
    /// This crate's counts did not meet the rule.
    Busy(Busy<'a, F>),
    /// The caller's own freeze refused.
    Refused {
        /// The error of the caller's freeze.
        error: E,
        /// The migration, as it was before.
        migration: Migration<'a, F>,
    },
}

impl<E, F: Futex> FreezeError<'_, E, F> {
    /// Returns the reason and aborts the migration.
    ///
    /// ```
    /// use pagelock::{FreezeRule, NotMigrated, PageLock};
    ///
    /// let page = PageLock::new();
    /// let migration = page.lock().begin_migration();
    /// let refused = migration.freeze_with(FreezeRule::Unpinned, |_| Err("mapped elsewhere"));
    /// assert_eq!(refused.unwrap_err().into_reason(), NotMigrated::Own("mapped elsewhere"));
    /// ```
    pub fn into_reason(self) -> NotMigrated<E> {
        match self {
            Self::Busy(busy) => NotMigrated::Busy(busy.into_reason()),
            Self::Refused { error, migration: _ } => NotMigrated::Own(error),
        }
    }
}

/// Why a page was not migrated: the page was busy, or the caller's own part failed. It borrows
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NotMigrated<E> {
    /// This crate's counts did not meet the rule.
    Busy(FreezeRefused),
    /// The caller's own part failed.
    Own(E),
}

/// A migration that could not be committed to another header: why, and both as they were before.
#[must_use = "both pages are in it; dropping it aborts the migration and unlocks the destination"]
#[non_exhaustive]
pub struct CommitError<'a, 'd, F: Futex = OsFutex> {
    /// The reason: an error that borrows nothing.
    pub why: CommitRefused,
    /// The source, as it was before.
    pub frozen: Frozen<'a, F>,
    /// The destination, as it was before.
    pub dst: PageGuard<'d, F>,
}

/// Why an identity cannot move to a header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CommitRefused {
    /// Source and destination are the same page.
    SamePage,
    /// The destination is poisoned.
    Poisoned,
    /// The destination is frozen.
    Frozen,
    /// The source has fewer references by now than should move.
    TooFew {
        /// The source's references.
        have: u32,
        /// The references that should move.
        move_: u32,
    },
    /// The destination cannot count that many.
    Overflow {
        /// The destination's references.
        have: u32,
        /// The references that should move.
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
                write!(f, "{move_} references on top of the destination's {have} ")?;
                f.write_str("are more than can be counted")
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

            impl<E, F: Futex> From<FreezeError<'_, E, F>> for Box<$to>
            where
                E: Error + Send + Sync + 'static,
            {
                fn from(error: FreezeError<'_, E, F>) -> Self {
                    Self::from(error.into_reason())
                }
            }
        )* };
    }
    boxed!(dyn Error, dyn Error + Send + Sync);
}
