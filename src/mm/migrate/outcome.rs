//! What became of a page, and why.

use crate::leaf::{Marker, UnknownLeaf};
use core::fmt;

/// What became of a page. `R` is the embedder's own [reason](crate::mm::Tiers::Refusal).
///
/// ```
/// use pagelock::mm::migrate::{Outcome, Skip};
/// let outcome: Outcome<()> = Outcome::Skipped(Skip::Locked);
/// assert!(outcome.is_transient() && !outcome.is_done());
/// assert_eq!(Outcome::<&str>::Skipped(Skip::Locked).to_string(), "not touched: it is locked");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome<R> {
    /// Nothing yet.
    Pending,
    /// It is in frame `pfn` now.
    Moved {
        /// The frame.
        pfn: u64,
    },
    /// It is in frame `pfn` now, and some entries for it are poison: so many had been made
    /// meanwhile that no reference could be counted for them. Code that copies migration entries
    /// refuses more than [`MAX_MAPPINGS`](crate::mm::ledger::MAX_MAPPINGS).
    Uncounted {
        /// The frame.
        pfn: u64,
        /// How many entries.
        entries: u32,
    },
    /// There was no page, or a page of zeroes that nobody had written to; now there is one, of
    /// zeroes, in frame `pfn`.
    Filled {
        /// The frame.
        pfn: u64,
    },
    /// It was a large page, which could not be moved as such. It was split, and some of its frames
    /// have moved.
    Split {
        /// How many frames have moved.
        moved: u32,
        /// How many frames it had.
        of: u32,
    },
    /// It was where it should be.
    AlreadyThere,
    /// Nobody had a reference any more: it is free, which is as good as moved.
    Freed,
    /// It was not touched.
    Skipped(Skip<R>),
    /// It was taken down and put back as it was.
    Aborted(Abort),
    /// Its contents are lost: every access to it is an error from now on.
    Poisoned,
}

/// Why a page was not touched.
///
/// ```
/// use pagelock::mm::drain::Unlocked;
/// use pagelock::mm::migrate::{Order, Outcome, Skip, Slot, migrate};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// let mut slots = [Slot::at(at.space.page(7))];
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let _ = migrate(&mm, &mut slots, &Order::to(TierId(1)), &mm, &mut unlocked);
/// assert_eq!(slots[0].outcome(), Outcome::Skipped(Skip::Hole));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Skip<R> {
    /// There is no page, and the order fills no holes.
    Hole,
    /// The entry is in swap.
    Swapped,
    /// The entry is a marker.
    Marker(Marker),
    /// The crate does not know the entry.
    Unknown(UnknownLeaf),
    /// The contents were lost before.
    Poisoned,
    /// The entry names a frame that has no header.
    NoFrame,
    /// Another thread is moving it.
    Migrating,
    /// A device has exclusive access, and the order may not wait for it.
    Exclusive,
    /// The order [selects](super::Select) others.
    NotSelected,
    /// Another thread owns its lock.
    Locked,
    /// It is pinned.
    Pinned {
        /// The number of pins.
        pins: u32,
    },
    /// It has as many references as can be counted, or is frozen.
    Uncountable,
    /// Its header counts no references, although an entry says that the page is there. Migration
    /// goes by the counts of this crate's headers, and has nothing to go by if they are kept
    /// elsewhere.
    Uncounted,
    /// [`Tiers::prepare`](crate::mm::Tiers::prepare) refused it.
    Refused(R),
    /// The entry changed during the wait for its page.
    Changed,
}

/// Why a page that was taken down was put back.
///
/// ```
/// use pagelock::mm::migrate::Abort;
/// let why = Abort::Referenced { refs: 4, expected: 3 };
/// assert_eq!(why.to_string(), "it has 4 references, and 3 are accounted for");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Abort {
    /// References, of whatever owner and for whatever purpose, besides those that the migrator has
    /// in its hand.
    Referenced {
        /// How many the page counts.
        refs: u32,
        /// How many the migrator has in its hand.
        expected: u32,
    },
    /// It was pinned after it was collected and before pins were refused.
    Pinned {
        /// The number of pins.
        pins: u32,
    },
    /// A device has exclusive access through one of its mappings, and the order may not wait for
    /// it.
    Exclusive,
    /// Some entries could not be taken down.
    StillMapped,
    /// The tier has no frame for it.
    NoDestination,
    /// The caller's `choose` gave no destination.
    Declined,
    /// Another thread owns the lock of the destination.
    DestinationBusy,
    /// The destination is not free, or is the page itself, or its number is not below
    /// [`FRAME_LIMIT`](crate::leaf::FRAME_LIMIT), so that no entry can say that the page is there.
    BadDestination,
    /// Source and destination are not of the same size.
    SizeMismatch,
    /// The copy failed; the source is whole.
    CopyFailed,
    /// A cache's slot for it has changed.
    CacheChanged,
    /// A fault has filled the hole first.
    HoleFilled,
    /// It is a large page, which had to be split, and splitting failed.
    SplitFailed,
    /// The migration was given up: a stage was dropped.
    Abandoned,
}

impl<R> Outcome<R> {
    /// Whether the page is where it should be, or gone.
    ///
    /// ```
    /// use pagelock::mm::migrate::Outcome;
    /// assert!(Outcome::<()>::Moved { pfn: 7 }.is_done() && !Outcome::<()>::Pending.is_done());
    /// ```
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self {
            Self::Moved { .. } | Self::Filled { .. } | Self::AlreadyThere | Self::Freed => true,
            Self::Split { moved, of } => moved == of,
            _ => false,
        }
    }

    /// Whether the page has not moved for a reason that may go away by itself.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Outcome, Skip};
    /// assert!(Outcome::<()>::Skipped(Skip::Pinned { pins: 1 }).is_transient());
    /// assert!(!Outcome::<()>::Skipped(Skip::Swapped).is_transient());
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Skipped(
                Skip::Locked
                    | Skip::Migrating
                    | Skip::Pinned { .. }
                    | Skip::Changed
                    | Skip::Uncountable
            ) | Self::Aborted(
                Abort::Referenced { .. }
                    | Abort::Pinned { .. }
                    | Abort::StillMapped
                    | Abort::DestinationBusy
                    | Abort::CacheChanged
                    | Abort::HoleFilled
            )
        )
    }
}

impl<R: fmt::Display> fmt::Display for Outcome<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("not tried"),
            Self::Moved { pfn } => write!(f, "moved to frame {pfn:#x}"),
            Self::Uncounted { pfn, entries } => {
                write!(f, "moved to frame {pfn:#x}, and {entries} entries could not be counted")
            }
            Self::Filled { pfn } => write!(f, "made of zeroes in frame {pfn:#x}"),
            Self::Split { moved, of } => write!(f, "split, and {moved} of {of} frames moved"),
            Self::AlreadyThere => f.write_str("was there already"),
            Self::Freed => f.write_str("was free"),
            Self::Skipped(why) => write!(f, "not touched: {why}"),
            Self::Aborted(why) => write!(f, "put back: {why}"),
            Self::Poisoned => f.write_str("its contents are lost"),
        }
    }
}

impl<R: fmt::Display> fmt::Display for Skip<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hole => f.write_str("there is no page"),
            Self::Swapped => f.write_str("it is in swap"),
            Self::Marker(marker) => write!(f, "the entry is a marker, {marker:?}"),
            Self::Unknown(e) => e.fmt(f),
            Self::Poisoned => f.write_str("its contents were lost before"),
            Self::NoFrame => f.write_str("the entry names a frame that does not exist"),
            Self::Migrating => f.write_str("another thread is moving it"),
            Self::Exclusive => f.write_str("a device has it to itself"),
            Self::NotSelected => f.write_str("it was not selected"),
            Self::Locked => f.write_str("it is locked"),
            Self::Pinned { pins } => write!(f, "it has {pins} pins"),
            Self::Uncountable => f.write_str("no reference to it could be had"),
            Self::Uncounted => {
                f.write_str("its header counts no references, although it is mapped")
            }
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Changed => f.write_str("its entry has changed"),
        }
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Referenced { refs, expected } => {
                write!(f, "it has {refs} references, and {expected} are accounted for")
            }
            Self::Pinned { pins } => write!(f, "it has {pins} pins"),
            Self::Exclusive => f.write_str("a device has one of its mappings to itself"),
            Self::StillMapped => f.write_str("it is still mapped"),
            Self::NoDestination => f.write_str("there is no frame to move it to"),
            Self::Declined => f.write_str("no destination was given"),
            Self::DestinationBusy => f.write_str("the destination is locked"),
            Self::BadDestination => f.write_str("the destination is not a free page"),
            Self::SizeMismatch => f.write_str("the destination has another size"),
            Self::CopyFailed => f.write_str("the copy failed"),
            Self::CacheChanged => f.write_str("its place in the cache has changed"),
            Self::HoleFilled => f.write_str("a fault has filled the hole first"),
            Self::SplitFailed => f.write_str("it could not be split"),
            Self::Abandoned => f.write_str("the migration was given up"),
        }
    }
}

/// What a migration came to, in figures. The slots have it page by page.
///
/// ```
/// use pagelock::mm::drain::Unlocked;
/// use pagelock::mm::migrate::{Order, Slot, migrate};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// let mut slots: Vec<_> = at.pages(5).map(Slot::at).collect();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let summary = migrate(&mm, &mut slots, &Order::to(TierId(1)), &mm, &mut unlocked);
/// assert_eq!((summary.done, summary.left, summary.tries), (4, 1, 1));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// Pages that are where they should be, or gone.
    pub done: u32,
    /// Pages whose contents were lost, counting each frame of a page that was
    /// [split](Outcome::Split); and entries that [could not be counted](Outcome::Uncounted).
    pub poisoned: u32,
    /// Pages that are as they were, or were split and have not moved as a whole.
    pub left: u32,
    /// How many of those are so for a reason that may have gone by now.
    pub transient: u32,
    /// How many tries were made.
    pub tries: u32,
    /// How often the migration waited for every processor.
    pub drains: u32,
}
