//! Names of pages, address spaces and tiers.

/// Names a page of an address space.
///
/// ```
/// use pagelock_soft::{At, SpaceId};
/// let at = SpaceId(0).page(7);
/// assert_eq!(at, At { space: SpaceId(0), page: 7 });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct At {
    /// The address space.
    pub space: SpaceId,
    /// The page's number in it.
    pub page: usize,
}

/// Names an address space.
///
/// ```
/// # let (mm, at) = pagelock_soft::example();
/// let child = mm.fork(at.space).unwrap();
/// assert_ne!(child, at.space);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpaceId(pub u32);

impl SpaceId {
    /// One of its pages.
    ///
    /// ```
    /// use pagelock_soft::SpaceId;
    /// assert_eq!(SpaceId(3).page(7).page, 7);
    /// ```
    #[must_use]
    pub fn page(self, page: usize) -> At {
        At { space: self, page }
    }
}

/// Names a tier: its place in [`Config::tiers`](crate::Config::tiers).
///
/// ```
/// use pagelock::mm::Tiers;
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// assert_eq!(mm.tier(mm.frame_at(at).unwrap()), TierId(0));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TierId(pub usize);

impl At {
    /// `count` pages from this one on, in order.
    ///
    /// ```
    /// use pagelock_soft::SpaceId;
    /// let at = SpaceId(0).page(7);
    /// assert!(at.pages(2).eq([at, SpaceId(0).page(8)]));
    /// ```
    pub fn pages(self, count: usize) -> impl Iterator<Item = At> + Clone {
        (self.page..self.page.saturating_add(count)).map(move |page| At { page, ..self })
    }
}
