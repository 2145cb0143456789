//! Address spaces: tables of entries, and what each address may be used for.

use super::guarded::{Guard, Guarded};
use alloc::boxed::Box;
use alloc::vec::Vec;
use pagelock::leaf::Rights;

/// The number of entries under one page-table lock. A hardware table has 512; with fewer, small
/// spaces have several locks too.
pub const SPLIT: usize = 64;

/// What an address may be used for, whatever is there at the moment.
///
/// ```
/// use pagelock_soft::{Area, AreaKind};
/// assert_eq!(Area::PRIVATE.kind, AreaKind::Private);
/// assert_eq!(Area::default().kind, AreaKind::Unmapped);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Area {
    /// Whether it is mapped, and how.
    pub kind: AreaKind,
    /// The rights; `None` for no access at all.
    pub rights: Option<Rights>,
}

impl Area {
    /// Private and writable memory.
    pub const PRIVATE: Self = Self { kind: AreaKind::Private, rights: Some(Rights::Write) };
}

/// How an address is mapped.
///
/// ```
/// use pagelock_soft::AreaKind;
/// # let (mm, at) = pagelock_soft::example();
/// assert_eq!(mm.entry(at).area().kind, AreaKind::Private);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AreaKind {
    /// It is not mapped.
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
    /// The order of the large entry that each is part of. The word of such an entry is at its first
    /// page.
    pub(super) orders: [u8; SPLIT],
}

#[derive(Debug)]
pub(super) struct Space {
    tables: Box<[Guarded<Table>]>,
    pages: usize,
}

impl Space {
    pub(super) fn new(pages: usize) -> Self {
        let table = |_| {
            Guarded::new(Table {
                words: [0; SPLIT],
                areas: [Area::default(); SPLIT],
                orders: [0; SPLIT],
            })
        };
        Self { tables: (0..pages.div_ceil(SPLIT)).map(table).collect(), pages }
    }

    /// The locked table of the entry for a page, the entry's index in it, and its order.
    pub(super) fn lock(&self, page: usize) -> Option<(Guard<'_, Table>, usize, u32)> {
        let table = self.tables.get(page / SPLIT).filter(|_| page < self.pages)?;
        loop {
            let held = table.lock();
            let order = held.orders[page % SPLIT];
            let head = page & !((1 << order) - 1);
            if head / SPLIT == page / SPLIT {
                return Some((held, head % SPLIT, u32::from(order)));
            }
            drop(held);
            let held = self.tables[head / SPLIT].lock();
            if held.orders[head % SPLIT] == order {
                return Some((held, head % SPLIT, u32::from(order)));
            }
        }
    }

    /// Calls `change` for each of the pages `head..head + count`. The caller has locked their first
    /// table as `held`; the others are locked after it, one by one.
    pub(super) fn each(
        &self,
        held: &mut Table,
        head: usize,
        count: usize,
        mut change: impl FnMut(&mut Table, usize, usize),
    ) {
        for page in head..head + count {
            if page / SPLIT == head / SPLIT {
                change(held, page % SPLIT, page);
            } else if let Some(table) = self.tables.get(page / SPLIT) {
                change(&mut table.lock(), page % SPLIT, page);
            }
        }
    }

    /// The tables of some pages, each locked once, in order.
    pub(super) fn lock_all(&self, mut pages: Vec<usize>) -> Vec<(usize, Guard<'_, Table>)> {
        pages.iter_mut().for_each(|page| *page /= SPLIT);
        pages.sort_unstable();
        pages.dedup();
        pages
            .into_iter()
            .filter_map(|index| Some((index, self.tables.get(index)?.lock())))
            .collect()
    }
}
