//! Leaf entries: what a page table says about one page.
//!
//! A leaf is present, or it says why it is not. A non-present leaf carries what is needed to make
//! it present again, and no more: a round trip cannot add rights. [`Leaf`] is the value;
//! [`encode`](Leaf::encode) and [`decode`](Leaf::decode) are one 64-bit encoding of it, for
//! software page tables and for tests. A kernel whose hardware dictates the encoding writes its own
//! and keeps the value.
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
//! | 4 device-private | yes | brings the page back, or waits for the thread that does |
//! | 5 device-exclusive | yes | ends the device's exclusivity |
//! | 6 poison | no | is an error, for good |
//! | 7 marker | no frame | is the caller's, by the marker |
//!
//! The kinds, and which of them own a reference, are those of Linux (`include/linux/leafops.h`).
//! Bits that a kind does not use are zero; a word with such a bit set is [unknown](UnknownLeaf),
//! not guessed at.

mod encoding;

pub use encoding::{FRAME_LIMIT, FrameTooLarge, UnknownLeaf};

/// What an entry allows. Ordered: a right includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rights {
    /// Reading a page that other entries may map.
    Read,
    /// Reading a page that no other entry maps, so that a write needs the right and no copy
    /// (Linux: `PageAnonExclusive`).
    ReadExclusive,
    /// Reading and writing.
    Write,
}

/// What was observed of a page through this entry. Every conversion keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tracking {
    /// The page was accessed.
    pub accessed: bool,
    /// The page was written to.
    pub dirty: bool,
    /// The page was written to since soft-dirty tracking was reset.
    pub soft_dirty: bool,
    /// Writes must be reported to a user-space fault handler (userfaultfd write protection).
    pub uffd_wp: bool,
}

/// What a marker stands for. A marker is a leaf without a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Marker {
    /// Writes must be reported to a user-space fault handler.
    UffdWp,
    /// Access is an error: a user-space fault handler said so.
    Poison,
    /// A guard: access is a stray pointer.
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
        /// What the replaced entry allowed.
        rights: Rights,
        /// What was observed.
        tracking: Tracking,
    },
    /// The page is in frame `pfn` of a device or of a slow tier. The processor cannot access it.
    DevicePrivate {
        /// The device frame's number.
        pfn: u64,
        /// What the page will allow when it is back.
        rights: Rights,
        /// What was observed.
        tracking: Tracking,
    },
    /// The page is in frame `pfn` of ordinary memory, for the moment a device's alone.
    DeviceExclusive {
        /// The frame's number.
        pfn: u64,
        /// What the replaced entry allowed.
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

impl Leaf {
    /// Returns the number of the frame that the leaf names.
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    ///
    /// assert_eq!(Leaf::Poison { pfn: 5 }.pfn(), Some(5));
    /// assert_eq!(Leaf::None.pfn(), None);
    /// ```
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

    /// Returns the same leaf with another frame number; a leaf that names no frame as it is.
    ///
    /// For tables with large entries. Such an entry stores the number of its first frame, and must
    /// say which frame is at an [address](crate::mm::Entry::get).
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    ///
    /// assert_eq!(Leaf::Poison { pfn: 512 }.map_pfn(|pfn| pfn + 7), Leaf::Poison { pfn: 519 });
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

    /// Returns what the leaf allows, or will allow when its page is back.
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Rights, Tracking};
    ///
    /// let (rights, tracking) = (Rights::Write, Tracking::default());
    /// assert_eq!(Leaf::Migration { pfn: 1, rights, tracking }.rights(), Some(Rights::Write));
    /// assert_eq!(Leaf::Swap { slot: 1, tracking }.rights(), None);
    /// ```
    #[must_use]
    pub fn rights(self) -> Option<Rights> {
        self.parts().map(|(_, rights, _)| rights)
    }

    /// Returns the migration entry that replaces this leaf while its frame moves. `None` for a leaf
    /// that has nothing to move.
    ///
    /// The migration entry does not own the reference that this leaf owns: the migrator must put
    /// it.
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Rights, Tracking};
    ///
    /// let (rights, tracking) = (Rights::Read, Tracking::default());
    /// let before = Leaf::Present { pfn: 1, rights, tracking };
    /// let meanwhile = before.to_migration().unwrap();
    /// assert_eq!(meanwhile, Leaf::Migration { pfn: 1, rights, tracking });
    /// assert_eq!(meanwhile.to_migration(), None);
    /// ```
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

    /// Returns the present leaf that replaces this one once its page is in frame `pfn`: with the
    /// recorded rights and tracking, no more.
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Rights, Tracking};
    ///
    /// let (rights, tracking) = (Rights::Read, Tracking { dirty: true, ..Tracking::default() });
    /// let meanwhile = Leaf::Migration { pfn: 1, rights, tracking };
    /// assert_eq!(meanwhile.to_present(2), Some(Leaf::Present { pfn: 2, rights, tracking }));
    /// ```
    #[must_use]
    pub fn to_present(self, pfn: u64) -> Option<Self> {
        self.parts().map(|(_, rights, tracking)| Self::Present { pfn, rights, tracking })
    }

    /// Returns the device-private leaf that replaces this one once its page is in frame `pfn` of
    /// the device.
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Rights, Tracking};
    ///
    /// let (rights, tracking) = (Rights::Write, Tracking::default());
    /// let meanwhile = Leaf::Migration { pfn: 1, rights, tracking };
    /// let there = Leaf::DevicePrivate { pfn: 9, rights, tracking };
    /// assert_eq!(meanwhile.to_device_private(9), Some(there));
    /// ```
    #[must_use]
    pub fn to_device_private(self, pfn: u64) -> Option<Self> {
        self.parts().map(|(_, rights, tracking)| Self::DevicePrivate { pfn, rights, tracking })
    }

    /// Returns the device-exclusive leaf that replaces this one, in the same frame. `None` unless
    /// this leaf is present.
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Rights, Tracking};
    ///
    /// let (rights, tracking) = (Rights::Write, Tracking::default());
    /// let present = Leaf::Present { pfn: 1, rights, tracking };
    /// let exclusive = Leaf::DeviceExclusive { pfn: 1, rights, tracking };
    /// assert_eq!(present.to_device_exclusive(), Some(exclusive));
    /// assert_eq!(exclusive.to_device_exclusive(), None);
    /// ```
    #[must_use]
    pub fn to_device_exclusive(self) -> Option<Self> {
        match self {
            Self::Present { pfn, rights, tracking } => {
                Some(Self::DeviceExclusive { pfn, rights, tracking })
            }
            _ => None,
        }
    }

    /// Returns the leaf with at most the rights `most`. Write protection and fork do this, also to
    /// an entry whose page is being moved.
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Rights, Tracking};
    ///
    /// let tracking = Tracking::default();
    /// let leaf = Leaf::Migration { pfn: 1, rights: Rights::Write, tracking };
    /// assert_eq!(leaf.restrict(Rights::Read).rights(), Some(Rights::Read));
    /// ```
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

    /// Frame, rights and tracking of the kinds that have all three.
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

#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests;
