//! Large entries: one for `1 << order` pages, aligned, that are the frames of one large page, with
//! one reference for all of them.

use super::entry::leaf_behind;
use super::space::Area;
use super::{At, MapError, Soft, SoftEntry, TierId};
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::{Change, Owner};
use pagelock::mm::{Memory, Tiers};
use pagelock::refs::GetError;

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Maps, at `to`, a new large page of `1 << order` frames in `tier`, of zeroes: by one large
    /// entry if `to` is aligned, and otherwise [page by page](Self::map_large_by_pages).
    ///
    /// ```
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let head = mm.map_large(at.space.page(16), 3, TierId(0)).unwrap();
    /// assert_eq!(mm.page(head).unwrap().refs(), 1);
    /// assert_eq!(mm.frame_at(at.space.page(18)), Some(head + 2));
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError`].
    pub fn map_large(&self, to: At, order: u32, tier: TierId) -> Result<u64, MapError> {
        let count = 1_usize << order;
        if order == 0 || to.page % count != 0 {
            return self.map_large_by_pages(to, order, tier);
        }
        if !self.is_unmapped(to, count) {
            return Err(MapError::BadRange);
        }
        let head = self.allocate(tier, order).ok_or(MapError::NoMemory)?;
        let page = self.header(head).ok_or(MapError::NoMemory)?;
        page.activate(1).map_err(|_| MapError::NoMemory)?;
        self.span(head).frames().for_each(|pfn| self.bytes.zero(pfn));
        self.place_large(to, order, self.first_leaf(head, head), Area::PRIVATE);
        Ok(head)
    }

    /// Maps private memory, at an aligned address, with one large entry and no page yet.
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.map_large_hole(at.space.page(16), 3).unwrap();
    /// assert_eq!(mm.leaf(at.space.page(18)), Leaf::None);
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError::BadRange`]: it is not aligned, or something is mapped there.
    pub fn map_large_hole(&self, to: At, order: u32) -> Result<(), MapError> {
        let count = 1_usize << order;
        if to.page % count != 0 || !self.is_unmapped(to, count) {
            return Err(MapError::BadRange);
        }
        self.place_large(to, order, Leaf::None, Area::PRIVATE);
        Ok(())
    }

    /// Whether all of these pages are parts of the space, and nothing is mapped there.
    fn is_unmapped(&self, at: At, count: usize) -> bool {
        at.pages(count).all(|at| self.entry(at).is_unmapped())
    }

    /// What the first entry for frame `pfn` of the new page `head` says. The page's reference is
    /// noted as that entry's.
    pub(super) fn first_leaf(&self, pfn: u64, head: u64) -> Leaf {
        let (rights, tracking) = (Rights::Write, Tracking::default());
        let leaf = if self.is_accessible(self.tier(pfn)) {
            Leaf::Present { pfn, rights, tracking }
        } else {
            Leaf::DevicePrivate { pfn, rights, tracking }
        };
        if let Some(owner) = Owner::of_entry(leaf) {
            self.account(head, owner, Change::Taken);
        }
        leaf
    }

    /// Puts a large entry where nothing is mapped. Its reference is the caller's business.
    pub(super) fn place_large(&self, to: At, order: u32, leaf: Leaf, area: Area) {
        let (Some(space), mut entry) = (self.space(to.space), self.entry(to)) else { return };
        let Some((table, _)) = &mut entry.table else { return };
        space.each(table, to.page, 1 << order, |table, index, _| {
            table.areas[index] = area;
            table.orders[index] = order as u8;
        });
        entry.order = order;
        entry.set_leaf(leaf);
    }

    /// Changes the area of every page of an entry.
    pub(super) fn set_areas(&self, entry: &mut SoftEntry<'_, F, C>, area: Area) {
        let (head, count) = (entry.head(), 1 << entry.order);
        if let (Some(space), Some((table, _))) = (self.space(head.space), &mut entry.table) {
            space.each(table, head.page, count, |table, index, _| table.areas[index] = area);
        }
    }

    /// Empties an entry, all of it. Returns what it was, by its first frame.
    pub(super) fn clear(&self, mut entry: SoftEntry<'_, F, C>) -> Leaf {
        let head = entry.head();
        entry.at = head;
        let old = entry.leaf();
        entry.set_leaf(Leaf::None);
        if let (Some(space), Some((table, _)), 1..) =
            (self.space(head.space), &mut entry.table, entry.order)
        {
            space.each(table, head.page, 1 << entry.order, |table, index, _| {
                table.orders[index] = 0
            });
        }
        old
    }

    /// The entry for an address, locked, for this page alone: a large one is split.
    pub(super) fn small(&self, at: At) -> Result<SoftEntry<'_, F, C>, MapError> {
        loop {
            let entry = self.entry(at);
            if entry.order == 0 {
                return Ok(entry);
            }
            self.split_entry(entry)?;
        }
    }

    /// Replaces the large entry for an address, if there is one, by one for each page.
    ///
    /// ```
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let head = mm.map_large(at.space.page(16), 3, TierId(0)).unwrap();
    /// mm.split_at(at.space.page(16)).unwrap();
    /// assert_eq!(mm.page(head).unwrap().refs(), 8);
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError::Uncountable`], with nothing changed: there are not enough references for all of
    /// its pages.
    pub fn split_at(&self, at: At) -> Result<(), MapError> {
        self.small(at).map(drop)
    }

    fn split_entry(&self, mut entry: SoftEntry<'_, F, C>) -> Result<(), MapError> {
        entry.at = entry.head();
        let leaf = entry.leaf();
        let (Some(owner), Some(pfn)) = (Owner::of_entry(leaf), leaf.pfn()) else {
            entry.fill_small(leaf);
            return Ok(());
        };
        let more = (1 << entry.order) - 1;
        for taken in 0..more {
            match self.refer(leaf, owner) {
                Ok(()) => {}
                Err(MapError::Uncountable(GetError::Frozen)) if taken == 0 => {
                    // A migrator waits for its pins to be dropped, and nobody may wait for the
                    // migrator. The entries become migration entries, which own no references, and
                    // the migrator puts them up.
                    entry.fill_small(leaf.to_migration().unwrap_or(leaf));
                    drop(entry);
                    // SAFETY: the reference of the entry that was replaced.
                    unsafe { self.put_as(pfn, owner) };
                    return Ok(());
                }
                Err(e) => {
                    for _ in 0..taken {
                        // SAFETY: one of those just taken.
                        unsafe { self.put_as(pfn, owner) };
                    }
                    return Err(e);
                }
            }
        }
        entry.fill_small(leaf);
        Ok(())
    }

    /// Moves a large entry to another place, aligned and unmapped. `false` if it cannot be moved as
    /// a whole.
    pub(super) fn move_large(&self, from: At, to: At, keep: bool) -> Result<bool, MapError> {
        let Some(space) = self.space(from.space) else { return Ok(false) };
        let order = self.entry(from).order;
        let count = 1 << order;
        if order == 0 || from.page % count != 0 || to.page % count != 0 {
            return Ok(false);
        }
        if !self.is_unmapped(to, count) {
            return Err(MapError::BadRange);
        }
        // All at once, so that nobody sees the page at neither place or both.
        let mut tables =
            space.lock_all(from.pages(count).chain(to.pages(count)).map(|at| at.page).collect());
        let mut word = 0;
        for n in 0..count {
            let mut at = |page: usize, change: &mut dyn FnMut(&mut super::space::Table, usize)| {
                if let Some((_, table)) =
                    tables.iter_mut().find(|(index, _)| *index == page / super::SPLIT)
                {
                    change(table, page % super::SPLIT);
                }
            };
            let mut area = Area::default();
            at(from.page + n, &mut |table, index| {
                area = table.areas[index];
                table.areas[index] = if keep { area } else { Area::default() };
                table.orders[index] = 0;
                word |= core::mem::take(&mut table.words[index]);
            });
            at(to.page + n, &mut |table, index| {
                (table.areas[index], table.orders[index]) = (area, order as u8);
                if n == 0 {
                    table.words[index] = word;
                }
            });
        }
        let pfn = Leaf::decode(word).ok().and_then(Leaf::pfn);
        if let Some(frame) = pfn.and_then(|pfn| super::frames::frame(&self.frames, pfn)) {
            // The copy before the original goes, so that the reverse map always has one of them.
            let mut rmap = frame.rmap.lock();
            rmap.add(to);
            rmap.remove(from);
        }
        Ok(true)
    }
}

impl<F: Futex, C: Cpus> SoftEntry<'_, F, C> {
    /// Splits an entry that owns no reference: for a page that is about to be split, or for one
    /// page in a hole. Afterwards this is the first page's entry.
    pub(super) fn split_unowned(&mut self) -> bool {
        let (at, head) = (self.at, self.head());
        self.at = head;
        let leaf = self.leaf();
        if !matches!(leaf, Leaf::None | Leaf::Migration { .. } | Leaf::Present { pfn: 0, .. }) {
            self.at = at;
            return false;
        }
        self.fill_small(leaf);
        true
    }

    /// Replaces a large entry, at whose first page this is, by one for each page. Afterwards this
    /// is the first one's.
    fn fill_small(&mut self, leaf: Leaf) {
        let (mm, head, count) = (self.mm, self.at, 1 << self.order);
        let (Some(space), Some((table, _))) = (mm.space(head.space), &mut self.table) else {
            return;
        };
        space.each(table, head.page, count, |table, index, page| {
            table.orders[index] = 0;
            let leaf = leaf_behind(leaf, (page - head.page) as u64);
            if page > head.page {
                table.words[index] = leaf.encode().unwrap_or(0);
                let named = leaf.pfn().filter(|_| !matches!(leaf, Leaf::Poison { .. }));
                if let Some(frame) = named.and_then(|pfn| super::frames::frame(&mm.frames, pfn)) {
                    frame.rmap.lock().add(At { page, ..head });
                }
            }
        });
        self.order = 0;
        self.set_leaf(leaf);
    }
}
