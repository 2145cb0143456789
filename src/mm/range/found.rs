//! What is at an address, for a reader that is not the processor.

use crate::leaf::{Leaf, Marker, Rights, UnknownLeaf};
use crate::mm::{Access, Areas, Entry, Tiers};

/// What a reader wants of a page.
///
/// ```
/// use pagelock::mm::range::Want;
/// assert_eq!(Want::default(), Want::Nothing);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Want {
    /// To know what is there.
    #[default]
    Nothing,
    /// To read it.
    Read,
    /// To write to it.
    Write,
}

/// What is there.
///
/// ```
/// use pagelock::mm::range::{Found, Page, Want};
/// # let (mm, at) = pagelock_soft::example();
/// assert_eq!(Page::new(at, Want::Read).found, Found::NotLooked);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Found {
    /// Nobody has looked yet.
    #[default]
    NotLooked,
    /// The address is not mapped, or for no access at all.
    Forbidden,
    /// Nothing: a fault would make a page.
    Hole,
    /// A frame of zeroes that stands for a page never written to. It may be read.
    Zero,
    /// A page where the processor can access it.
    Local {
        /// The frame.
        pfn: u64,
        /// What may be done with it.
        rights: Rights,
    },
    /// A page in the reader's own tier.
    Own {
        /// The frame.
        pfn: u64,
        /// What may be done with it.
        rights: Rights,
    },
    /// A page in a tier that neither the processor nor the reader can access.
    Remote {
        /// The frame.
        pfn: u64,
        /// What may be done with it once it is back.
        rights: Rights,
    },
    /// A page that is being migrated.
    Migrating {
        /// The frame that it comes from.
        pfn: u64,
    },
    /// A page to which a device has exclusive access.
    Exclusive {
        /// The frame.
        pfn: u64,
    },
    /// A page whose contents are lost.
    Poisoned {
        /// The frame that had them.
        pfn: u64,
    },
    /// A marker.
    Marker(Marker),
    /// A page in swap.
    Swapped {
        /// Where.
        slot: u64,
    },
    /// The entry is none that this crate knows.
    Unknown(UnknownLeaf),
}

/// A page of a range: what is wanted of it and what was found.
///
/// ```
/// use pagelock::mm::range::{Page, Want};
/// # let (mm, at) = pagelock_soft::example();
/// let pages: Vec<_> = at.pages(8).map(|at| Page::new(at, Want::Read)).collect();
/// assert_eq!(pages[7].at, at.space.page(7));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Page<A> {
    /// Where it is.
    pub at: A,
    /// What is wanted of it.
    pub want: Want,
    /// What is there. After an error it is what the last look saw, and not as of one time with the
    /// others.
    pub found: Found,
    /// The number of pages that the entry is for, as a power of two: more than 0 for a large one.
    pub order: u32,
}

impl Want {
    pub(super) fn access(self) -> Option<Access> {
        match self {
            Self::Nothing => None,
            Self::Read => Some(Access::Read),
            Self::Write => Some(Access::Write),
        }
    }
}

impl<A> Page<A> {
    /// A page that has not been looked at.
    ///
    /// ```
    /// use pagelock::mm::range::{Page, Want};
    /// # let (mm, at) = pagelock_soft::example();
    /// assert!(!Page::new(at, Want::Nothing).is_as_wanted());
    /// ```
    #[must_use]
    pub fn new(at: A, want: Want) -> Self {
        Self { at, want, found: Found::NotLooked, order: 0 }
    }

    /// Whether the finding is as good as the wish.
    ///
    /// ```
    /// use pagelock::Limits;
    /// use pagelock::mm::range::{Page, RangeOrder, Want, snapshot};
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut pages = [at, at.space.page(7)].map(|at| Page::new(at, Want::Read));
    /// let notifier = mm.notifier(at.space).unwrap();
    /// let _ = snapshot(&mm, notifier, &mut pages, &RangeOrder::new(Limits::none())).unwrap();
    /// assert!(pages[0].is_as_wanted() && !pages[1].is_as_wanted()); // a page, a hole
    /// ```
    #[must_use]
    pub fn is_as_wanted(&self) -> bool {
        match (self.want, self.found) {
            (_, Found::NotLooked) => false,
            (Want::Nothing, _) => true,
            (Want::Read, Found::Zero | Found::Local { .. } | Found::Own { .. }) => true,
            (Want::Write, Found::Local { rights, .. } | Found::Own { rights, .. }) => {
                rights == Rights::Write
            }
            _ => false,
        }
    }
}

/// Looks at what is there, as far as the address allows it.
pub(super) fn look<M: Areas + Tiers>(mm: &M, page: &mut Page<M::Address>, own: Option<M::Tier>) {
    let entry = mm.lock(page.at);
    page.order = entry.as_ref().map_or(0, Entry::order);
    page.found = match (mm.allowed(page.at, entry.as_ref()), entry) {
        (None, _) => Found::Forbidden,
        (Some(_), None) => Found::Hole,
        (Some(most), Some(entry)) => what(mm, &entry, most, own),
    };
}

fn what<M: Areas + Tiers>(
    mm: &M,
    entry: &M::Entry<'_>,
    most: Rights,
    own: Option<M::Tier>,
) -> Found {
    match entry.get() {
        Err(e) => Found::Unknown(e),
        Ok(Leaf::None) => Found::Hole,
        Ok(Leaf::Present { pfn, .. }) if mm.is_zero_frame(pfn) => Found::Zero,
        Ok(Leaf::Present { pfn, rights, .. }) if own == Some(mm.tier(pfn)) => {
            Found::Own { pfn, rights: rights.min(most) }
        }
        Ok(Leaf::Present { pfn, rights, .. }) => Found::Local { pfn, rights: rights.min(most) },
        Ok(Leaf::DevicePrivate { pfn, rights, .. }) if own == Some(mm.tier(pfn)) => {
            Found::Own { pfn, rights: rights.min(most) }
        }
        Ok(Leaf::DevicePrivate { pfn, rights, .. }) => {
            Found::Remote { pfn, rights: rights.min(most) }
        }
        Ok(Leaf::Migration { pfn, .. }) => Found::Migrating { pfn },
        Ok(Leaf::DeviceExclusive { pfn, .. }) => Found::Exclusive { pfn },
        Ok(Leaf::Poison { pfn }) => Found::Poisoned { pfn },
        Ok(Leaf::Marker(marker)) => Found::Marker(marker),
        Ok(Leaf::Swap { slot, .. }) => Found::Swapped { slot },
    }
}

/// Whether the address may be accessed so, whatever is there.
pub(in crate::mm) fn is_allowed<M: Areas>(
    mm: &M,
    at: M::Address,
    entry: Option<&M::Entry<'_>>,
    access: Access,
) -> bool {
    mm.allowed(at, entry).is_some_and(|most| access != Access::Write || most == Rights::Write)
}
