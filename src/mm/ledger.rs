//! Who owns the references of a page.
//!
//! A count says how many references there are. It does not say whose. A formula of what the count
//! should be, kept by hand beside the code, drifts from it: in the kernel each such drift was a
//! kind of page that silently could not be moved. Here every reference that the crate takes, hands
//! over or puts has an [`Owner`], and:
//!
//! * a freeze expects as many references as the migrator has in its [`Hand`], one object for each,
//!   and as the cache says it has: nothing is added by hand;
//! * every change is reported to [`Memory::account`](super::Memory::account). [`Owners`] is a
//!   ledger of one page, to check that the sum is the count. Nothing checks it continuously:
//!   between a change and its report the two differ. `pagelock-soft` keeps such a ledger for every
//!   frame, in every build, and compares when it is asked, which tests do between steps.
//!
//! Unlike in the kernel, pins are no references here, but a count of their own beside them. Each
//! has its [`PagePin`](crate::PagePin), and `pagelock-soft` balances them apart.

use super::{Entry, Span};
use crate::futex::Futex;
use crate::leaf::Leaf;
use crate::page::PageLock;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The most entries that a page may have while it is being migrated. A migration entry owns no
/// reference, so code that copies one (a fork) has to count the page's entries by itself and refuse
/// more than these: there would be no reference for them when the page arrives. Somewhat fewer than
/// [`MAX_REFS`](crate::MAX_REFS), to leave room for references of other kinds.
pub const MAX_MAPPINGS: u32 = crate::MAX_REFS - 1024;

/// What a reference is held for.
///
/// ```
/// use pagelock::mm::ledger::Owner;
/// # let (mm, at) = pagelock_soft::example();
/// let pfn = mm.frame_at(at).unwrap();
/// assert_eq!(mm.owned(pfn, Owner::Mapping), 1); // the present entry's
/// assert_eq!(mm.owned(pfn, Owner::Get), 0); // nobody is at work on it
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Owner {
    /// A present entry.
    Mapping,
    /// A device-private or device-exclusive entry. (Migration entries own none.)
    Entry,
    /// A cache that finds pages by something else than address.
    Cache,
    /// A [batch](super::drain) of a processor.
    Batch,
    /// A thread that is at work on the page: a migrator, a faulter, a device.
    Get,
}

impl Owner {
    /// The owner of the reference that goes with an entry; `None` if an entry that says `leaf` owns
    /// no reference.
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Rights, Tracking};
    /// use pagelock::mm::ledger::Owner;
    ///
    /// let (pfn, rights, tracking) = (7, Rights::Write, Tracking::default());
    /// let present = Leaf::Present { pfn, rights, tracking };
    /// assert_eq!(Owner::of_entry(present), Some(Owner::Mapping));
    /// let private = Leaf::DevicePrivate { pfn, rights, tracking };
    /// assert_eq!(Owner::of_entry(private), Some(Owner::Entry));
    /// let migration = Leaf::Migration { pfn, rights, tracking };
    /// assert_eq!(Owner::of_entry(migration), None);
    /// ```
    #[must_use]
    pub fn of_entry(leaf: Leaf) -> Option<Self> {
        match leaf {
            Leaf::Present { .. } => Some(Self::Mapping),
            Leaf::DevicePrivate { .. } | Leaf::DeviceExclusive { .. } => Some(Self::Entry),
            _ => None,
        }
    }
}

/// The owner of the reference that an entry has to a frame of `span`, if it has one.
pub(super) fn owner_in(entry: &impl Entry, span: Span) -> Option<Owner> {
    let leaf = entry.get().ok()?;
    leaf.pfn().filter(|&pfn| span.contains(pfn)).and_then(|_| Owner::of_entry(leaf))
}

/// All owners, in the order of [`Owners`].
pub const OWNERS: [Owner; 5] =
    [Owner::Mapping, Owner::Entry, Owner::Cache, Owner::Batch, Owner::Get];

/// What happened to the reference.
///
/// ```
/// use pagelock::mm::ledger::{Change, Owner, Owners};
/// let owners = Owners::new();
/// owners.note(Owner::Get, Change::Taken);
/// owners.note(Owner::Get, Change::Put);
/// assert_eq!(owners.sum(), 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// It was taken.
    Taken,
    /// It was put.
    Put,
}

/// The ledger of one page: how many references each owner has.
///
/// ```
/// use pagelock::PageLock;
/// use pagelock::mm::ledger::{Change, Owner, Owners};
/// let (page, owners) = (PageLock::new(), Owners::new());
/// page.activate(1).unwrap();
/// owners.note(Owner::Mapping, Change::Taken);
/// assert_eq!(owners.check(7, &page), Ok(()));
/// ```
#[derive(Debug, Default)]
pub struct Owners([AtomicU32; OWNERS.len()]);

impl Owners {
    /// The ledger of a page without references.
    ///
    /// ```
    /// assert_eq!(pagelock::mm::ledger::Owners::new().sum(), 0);
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; OWNERS.len()])
    }

    /// Notes a change.
    ///
    /// ```
    /// use pagelock::mm::ledger::{Change, Owner, Owners};
    /// let owners = Owners::new();
    /// owners.note(Owner::Batch, Change::Taken);
    /// assert_eq!(owners.of(Owner::Batch), 1);
    /// ```
    pub fn note(&self, owner: Owner, change: Change) {
        // Relaxed: read when the page is at rest.
        let count = &self.0[owner as usize];
        match change {
            Change::Taken => count.fetch_add(1, Relaxed),
            Change::Put => count.fetch_sub(1, Relaxed),
        };
    }

    /// How many references `owner` has.
    ///
    /// ```
    /// use pagelock::mm::ledger::{Owner, Owners};
    /// assert_eq!(Owners::new().of(Owner::Cache), 0);
    /// ```
    #[must_use]
    pub fn of(&self, owner: Owner) -> u32 {
        // Relaxed: as above.
        self.0[owner as usize].load(Relaxed)
    }

    /// How many references all owners have.
    ///
    /// ```
    /// use pagelock::mm::ledger::{Change, Owner, Owners};
    /// let owners = Owners::new();
    /// owners.note(Owner::Mapping, Change::Taken);
    /// owners.note(Owner::Get, Change::Taken);
    /// assert_eq!(owners.sum(), 2);
    /// ```
    #[must_use]
    pub fn sum(&self) -> u32 {
        OWNERS.iter().fold(0, |sum, &owner| sum.wrapping_add(self.of(owner)))
    }

    /// Compares the ledger with the header of a page that is at rest.
    ///
    /// ```
    /// use pagelock::PageLock;
    /// use pagelock::mm::ledger::{Owner, Owners};
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let unbalanced = Owners::new().check(7, &page).unwrap_err();
    /// assert_eq!((unbalanced.pfn, unbalanced.counted), (7, 1));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unbalanced`]: what the two say.
    pub fn check<F: Futex>(&self, pfn: u64, page: &PageLock<F>) -> Result<(), Unbalanced> {
        let counted = page.refs();
        if self.sum() == counted {
            return Ok(());
        }
        Err(Unbalanced { pfn, counted, owned: OWNERS.map(|owner| self.of(owner)) })
    }
}

/// A count that is not the sum of its owners' references; see [`Owners::check`].
///
/// ```
/// use pagelock::PageLock;
/// use pagelock::mm::ledger::Owners;
/// let page = PageLock::new();
/// page.activate(1).unwrap();
/// let unbalanced = Owners::new().check(7, &page).unwrap_err();
/// assert!(unbalanced.to_string().starts_with("frame 0x7 counts 1 references"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Unbalanced {
    /// The page.
    pub pfn: u64,
    /// What its header counts.
    pub counted: u32,
    /// What each owner has, in the order of [`OWNERS`].
    pub owned: [u32; OWNERS.len()],
}

impl fmt::Display for Unbalanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {:#x} counts {} references, and its owners have", self.pfn, self.counted)?;
        for (owner, n) in OWNERS.iter().zip(self.owned) {
            write!(f, " {owner:?}: {n}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Unbalanced {}

/// The references to one page that a migrator has in its hand: one of its own; one for each entry
/// that it has taken down, which it keeps until the entry is up again; and a cache's, which move
/// with the page.
///
/// Once all entries are taken down, the migrator expects the page to count as many references as
/// these.
///
/// ```
/// # use pagelock::mm::ledger::Hand;
/// assert_eq!(Hand::default().expected(), 1); // the migrator's own
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hand {
    /// Of entries that were taken down.
    pub(crate) taken: u32,
    pub(crate) cached: u32,
}

impl Hand {
    /// How many references those are.
    ///
    /// ```
    /// # use pagelock::mm::ledger::Hand;
    /// assert_eq!(Hand::default().expected(), 1);
    /// ```
    #[must_use]
    pub fn expected(self) -> u32 {
        // No overflow: a page has fewer than `MAX_REFS` of all kinds.
        1 + self.cached + self.taken
    }
}
