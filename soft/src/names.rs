//! Names of pages, address spaces and tiers.

/// Names a page of an address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct At {
    /// The address space.
    pub space: SpaceId,
    /// The page's number in it.
    pub page: usize,
}

/// Names an address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpaceId(pub u32);

impl SpaceId {
    /// One of its pages.
    #[must_use]
    pub fn page(self, page: usize) -> At {
        At { space: self, page }
    }
}

/// Names a tier: its place in [`Config::tiers`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TierId(pub usize);

impl At {
    /// The pages after this one, in order.
    pub fn pages(self, count: usize) -> impl Iterator<Item = At> + Clone {
        (self.page..self.page.saturating_add(count)).map(move |page| At { page, ..self })
    }
}
