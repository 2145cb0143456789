//! Address spaces: tables of entries, and what each address may be used for.

use super::At;
use super::guarded::{Guard, Guarded};
use crate::leaf::Rights;
use alloc::boxed::Box;

/// Entries under one page-table lock. A hardware table has 512; with fewer, small spaces have several locks too.
pub const SPLIT: usize = 64;

/// What an address may be used for, whatever is there at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Area {
    /// Whether it is mapped, and how.
    pub kind: AreaKind,
    /// What is allowed; `None` for nothing at all.
    pub rights: Option<Rights>,
}

/// How an address is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AreaKind {
    /// Not.
    #[default]
    Unmapped,
    /// Copied on write after a fork.
    Private,
    /// Shared after a fork.
    Shared,
}

#[derive(Debug)]
pub(super) struct Table {
    /// In the crate's own encoding.
    pub(super) words: [u64; SPLIT],
    pub(super) areas: [Area; SPLIT],
}

#[derive(Debug)]
pub(super) struct Space {
    tables: Box<[Guarded<Table>]>,
    pages: usize,
}

impl Space {
    pub(super) fn new(pages: usize) -> Self {
        let table = |_| Guarded::new(Table { words: [0; SPLIT], areas: [Area::default(); SPLIT] });
        Self { tables: (0..pages.div_ceil(SPLIT)).map(table).collect(), pages }
    }

    /// The locked table of a page, and the page's place in it.
    pub(super) fn lock(&self, page: usize) -> Option<(Guard<'_, Table>, usize)> {
        let table = self.tables.get(page / SPLIT).filter(|_| page < self.pages)?;
        Some((table.lock(), page % SPLIT))
    }
}

impl At {
    /// The pages after this one, in order.
    pub fn pages(self, count: usize) -> impl Iterator<Item = At> + Clone {
        (self.page..self.page.saturating_add(count)).map(move |page| At { page, ..self })
    }
}
