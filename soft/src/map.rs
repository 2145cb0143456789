//! Changes to address spaces: map, unmap, protect, move, fork.

use super::space::Space;
use super::{Area, AreaKind, At, Soft, SoftEntry, SpaceId, TierId};
use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::Ordering;
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::{Change, MAX_MAPPINGS, Owner};
use pagelock::mm::{CopyError, Memory, Tiers};
use pagelock::refs::GetError;

/// A change that was not made, or not as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MapError {
    /// There are as many address spaces as there can be.
    NoSpace,
    /// A part of the range is outside the space, or mapped where it must not be, or not where it
    /// must.
    BadRange,
    /// No frame is left.
    NoMemory,
    /// A page cannot be referred to once more.
    Uncountable(GetError),
    /// A page that had to be copied was not, and is whole.
    CopyFailed,
    /// A page is pinned, and whoever has pinned it would go on writing to what nobody sees.
    Pinned {
        /// How many pages of the range are.
        pages: usize,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => f.write_str("there are as many address spaces as there can be"),
            Self::BadRange => f.write_str("the range is not as it should be"),
            Self::NoMemory => f.write_str("no frame is left"),
            Self::CopyFailed => f.write_str("a page could not be copied"),
            Self::Pinned { pages } => write!(f, "{pages} pages are pinned"),
            Self::Uncountable(e) => write!(f, "a page cannot be referred to once more: {e}"),
        }
    }
}

impl core::error::Error for MapError {}

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// A new, empty address space.
    ///
    /// # Errors
    ///
    /// [`MapError::NoSpace`].
    pub fn spawn(&self) -> Result<SpaceId, MapError> {
        let mut used = self.used.lock();
        let index = used.iter().position(|used| !used).ok_or(MapError::NoSpace)?;
        let id = SpaceId(u32::try_from(index).map_err(|_| MapError::NoSpace)?);
        if self.space(id).is_none() {
            // Release: pairs with the look in `space`.
            self.spaces[index]
                .store(Box::into_raw(Box::new(Space::new(self.pages))), Ordering::Release);
        }
        used[index] = true;
        Ok(id)
    }

    /// Unmaps everything of a space, which is then used for a later one.
    pub fn exit(&self, space: SpaceId) {
        // All of it, so nothing has to be split.
        let _ = self.unmap(space.page(0), self.pages);
        if let Some(used) = self.used.lock().get_mut(usize::try_from(space.0).unwrap_or(usize::MAX))
        {
            *used = false;
        }
    }

    /// Maps `count` pages, private and writable, with nothing there yet.
    ///
    /// # Errors
    ///
    /// [`MapError::BadRange`]: a part is outside the space or mapped already; what comes before that part is mapped.
    pub fn map(&self, at: At, count: usize) -> Result<(), MapError> {
        self.map_as(at, count, Area { kind: AreaKind::Private, rights: Some(Rights::Write) })
    }

    /// Maps `count` pages, shared and writable, of zeroes. Those are made now: there is nothing by
    /// which a child could find those that its parent makes later.
    ///
    /// # Errors
    ///
    /// [`MapError`].
    pub fn map_shared(&self, at: At, count: usize) -> Result<(), MapError> {
        self.map_as(at, count, Area { kind: AreaKind::Shared, rights: Some(Rights::Write) })?;
        for at in at.pages(count) {
            let pfn = self.new_page(TierId(0), Owner::Mapping).ok_or(MapError::NoMemory)?;
            self.bytes.zero(pfn);
            self.entry(at).set_leaf(Leaf::Present {
                pfn,
                rights: Rights::Write,
                tracking: Tracking::default(),
            });
        }
        Ok(())
    }

    /// Maps `count` pages as `area` says, with nothing there yet.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub fn map_as(&self, at: At, count: usize, area: Area) -> Result<(), MapError> {
        for at in at.pages(count) {
            let mut entry = self.entry(at);
            if entry.table.is_none() || entry.area().kind != AreaKind::Unmapped {
                return Err(MapError::BadRange);
            }
            entry.set_area(area);
        }
        Ok(())
    }

    /// Maps, at `to`, the large page of `1 << order` frames that is allocated for it in `tier`, of
    /// zeroes, by an entry for each page, which has a reference each.
    ///
    /// # Errors
    ///
    /// [`MapError`].
    pub fn map_large_by_pages(&self, to: At, order: u32, tier: TierId) -> Result<u64, MapError> {
        let count = 1_usize << order;
        self.map(to, count)?;
        let head = self.allocate(tier, order).ok_or(MapError::NoMemory)?;
        let page = self.header(head).ok_or(MapError::NoMemory)?;
        let refs = u32::try_from(count).map_err(|_| MapError::BadRange)?;
        page.activate(refs).map_err(|_| MapError::NoMemory)?;
        for (pfn, at) in self.span(head).frames().zip(to.pages(count)) {
            self.bytes.zero(pfn);
            let (rights, tracking) = (Rights::Write, Tracking::default());
            let (leaf, owner) = if self.is_accessible(tier) {
                (Leaf::Present { pfn, rights, tracking }, Owner::Mapping)
            } else {
                (Leaf::DevicePrivate { pfn, rights, tracking }, Owner::Entry)
            };
            self.account(head, owner, Change::Taken);
            self.entry(at).set_leaf(leaf);
        }
        Ok(head)
    }

    /// Makes `count` pages, which are mapped, private or shared from now on: for those that were
    /// mapped as something else than they are.
    ///
    /// # Errors
    ///
    /// [`MapError::BadRange`]: a part is not mapped.
    pub fn set_kind(&self, at: At, count: usize, kind: AreaKind) -> Result<(), MapError> {
        self.each_entry(at, count, |mut entry| {
            let area = entry.area();
            if area.kind == AreaKind::Unmapped {
                return Err(MapError::BadRange);
            }
            self.set_areas(&mut entry, Area { kind, ..area });
            Ok(())
        })
    }

    /// Maps, at `to`, which is unmapped, the page that is at `from`, with as much right as that has
    /// and as `area` allows.
    ///
    /// # Errors
    ///
    /// [`MapError`]. `from` has to be present or in a device's memory.
    pub fn share(&self, from: At, to: At, area: Area) -> Result<(), MapError> {
        let leaf = {
            let entry = self.entry(from);
            let leaf = entry.leaf();
            let owner =
                owner_of(leaf).filter(|_| leaf.pfn() != Some(0)).ok_or(MapError::BadRange)?;
            self.refer(leaf, owner)?;
            leaf
        };
        // The reference keeps the page a page; while it has no entry, it keeps it where it is as
        // well.
        let mut entry = self.entry(to);
        if entry.table.is_none() || entry.area().kind != AreaKind::Unmapped {
            drop(entry);
            self.put_of(leaf);
            return Err(MapError::BadRange);
        }
        entry.set_area(area);
        entry.set_leaf(leaf.restrict(area.rights.unwrap_or(Rights::Read)));
        Ok(())
    }

    /// Unmaps `count` pages. Pages outside the space do not matter.
    ///
    /// # Errors
    ///
    /// [`MapError::Uncountable`]: a large entry is mapped still, because a part of it was to go, and the rest of its pages could not be
    /// counted. What else there was is unmapped.
    pub fn unmap(&self, at: At, count: usize) -> Result<(), MapError> {
        let _invalidating = self.invalidating(at, count);
        self.each_entry(at, count, |mut entry| {
            self.set_areas(&mut entry, Area::default());
            self.put_of(self.clear(entry));
            Ok(())
        })
    }

    /// Throws away what `count` pages contain, and leaves them mapped. Pages that are pinned keep
    /// it: whoever has pinned them would go on writing to a page that is at no address any more.
    ///
    /// # Errors
    ///
    /// [`MapError::Pinned`]: so many pages were left as they are, and the others are discarded. [`MapError::Uncountable`] as for
    /// [`unmap`](Self::unmap).
    pub fn discard(&self, at: At, count: usize) -> Result<(), MapError> {
        let _invalidating = self.invalidating(at, count);
        let mut pages = 0;
        self.each_entry(at, count, |entry| {
            // With the entry locked: a pin is taken under it.
            if self.is_pinned(entry.leaf()) {
                pages += 1 << entry.order;
            } else {
                // The last reference frees the page, which is nothing to do with a page-table lock
                // held.
                self.put_of(self.clear(entry));
            }
            Ok(())
        })?;
        if pages > 0 { Err(MapError::Pinned { pages }) } else { Ok(()) }
    }

    /// Calls `change` with every entry of a range, locked; large ones that are in it as a whole are
    /// as they are, and others split. The first error is the answer, and does not end it.
    fn each_entry(
        &self,
        at: At,
        count: usize,
        mut change: impl FnMut(SoftEntry<'_, F, C>) -> Result<(), MapError>,
    ) -> Result<(), MapError> {
        let mut result = Ok(());
        let (mut page, end) = (at.page, at.page.saturating_add(count));
        while page < end {
            let at = At { page, ..at };
            let entry = self.entry(at);
            let large = 1_usize << entry.order;
            let done = if entry.table.is_none() {
                // There is none after it either.
                break;
            } else if entry.order == 0 || (entry.head() == at && end - page >= large) {
                page += large;
                change(entry)
            } else {
                page += 1;
                drop(entry);
                self.small(at).and_then(&mut change)
            };
            result = result.and(done);
        }
        result
    }

    fn is_pinned(&self, leaf: Leaf) -> bool {
        leaf.pfn()
            .is_some_and(|pfn| pfn != 0 && self.header(pfn).is_some_and(|page| page.pins() > 0))
    }

    /// How many entries there are for the page that frame `pfn` is part of.
    fn mappings_of(&self, pfn: u64) -> usize {
        self.span(pfn).frames().map(|pfn| self.mappings(pfn)).sum()
    }

    /// Replaces what an entry says by `leaf`, which names no frame. For markers, swap, poison.
    pub fn replace(&self, at: At, leaf: Leaf) {
        let _invalidating = self.invalidating(at, 1);
        let Ok(mut entry) = self.small(at) else { return };
        let old = entry.leaf();
        if owner_of(leaf).is_none() {
            entry.set_leaf(leaf);
            drop(entry);
            self.put_of(old);
        }
    }

    /// Puts the reference that an entry owned.
    fn put_of(&self, leaf: Leaf) {
        if let (Some(owner), Some(pfn @ 1..)) = (owner_of(leaf), leaf.pfn()) {
            // SAFETY: the reference of an entry that was replaced.
            unsafe { self.put_as(pfn, owner) };
        }
    }

    /// Takes a reference for another entry like this.
    pub(super) fn refer(&self, leaf: Leaf, owner: Owner) -> Result<(), MapError> {
        let Some(pfn @ 1..) = leaf.pfn() else { return Ok(()) };
        let head = self.span(pfn).head;
        let page = self.header(head).ok_or(MapError::BadRange)?;
        page.try_get().map_err(MapError::Uncountable)?.into_raw();
        self.account(head, owner, Change::Taken);
        Ok(())
    }

    /// Changes what `count` pages may be used for. Entries never get more than they have by this: a
    /// fault does that.
    ///
    /// # Errors
    ///
    /// [`MapError::BadRange`]: a part is not mapped, and the rest is changed. [`MapError::Uncountable`] as for [`unmap`](Self::unmap).
    pub fn protect(&self, at: At, count: usize, rights: Option<Rights>) -> Result<(), MapError> {
        let _invalidating = self.invalidating(at, count);
        self.each_entry(at, count, |mut entry| {
            let area = entry.area();
            // A private page that was nobody else's still is, so that it need not be copied when it
            // is to be written to again.
            let most = match (rights, area.kind) {
                (_, AreaKind::Unmapped) => return Err(MapError::BadRange),
                (Some(Rights::Write), _) => Rights::Write,
                (_, AreaKind::Private) => Rights::ReadExclusive,
                _ => Rights::Read,
            };
            self.set_areas(&mut entry, Area { rights, ..area });
            let leaf = entry.leaf().restrict(most);
            entry.set_leaf(leaf);
            Ok(())
        })
    }

    /// Moves `count` pages to another place of the same space, which has to be unmapped. With
    /// `keep`, the old place stays mapped, with nothing there.
    ///
    /// # Errors
    ///
    /// [`MapError::BadRange`]; the pages before the one for which it is have moved.
    pub fn remap(&self, from: At, to: At, count: usize, keep: bool) -> Result<(), MapError> {
        if from.space != to.space || from.page.abs_diff(to.page) < count {
            return Err(MapError::BadRange);
        }
        let _invalidating = self.invalidating(from, count);
        let mut n = 0;
        while n < count {
            let (from, to) = (At { page: from.page + n, ..from }, At { page: to.page + n, ..to });
            let large = 1 << self.entry(from).order;
            if count - n >= large && self.move_large(from, to, keep)? {
                n += large;
            } else {
                drop(self.small(from)?);
                self.move_entry(from, to, keep)?;
                n += 1;
            }
        }
        Ok(())
    }

    fn move_entry(&self, from: At, to: At, keep: bool) -> Result<(), MapError> {
        // Both locks at once, in order, so that nobody sees the page at neither place or both; and
        // one lock if they have one table.
        let (table_from, table_to) = (from.page / super::SPLIT, to.page / super::SPLIT);
        if table_from == table_to {
            let mut entry = self.entry(from);
            let (leaf, area) = (entry.leaf(), entry.area());
            entry.index_to(to)?;
            if entry.area().kind != AreaKind::Unmapped || area.kind == AreaKind::Unmapped {
                return Err(MapError::BadRange);
            }
            // The copy before the original goes, so that the reverse map always has one of them.
            entry.set_area(area);
            entry.set_leaf(leaf);
            entry.index_to(from)?;
            entry.leave(keep);
            return Ok(());
        }
        let (mut old, mut new);
        if table_from < table_to {
            old = self.entry(from);
            new = self.entry(to);
        } else {
            new = self.entry(to);
            old = self.entry(from);
        }
        let area = old.area();
        if new.table.is_none()
            || new.area().kind != AreaKind::Unmapped
            || area.kind == AreaKind::Unmapped
        {
            return Err(MapError::BadRange);
        }
        new.set_area(area);
        let leaf = old.leaf();
        new.set_leaf(leaf);
        old.leave(keep);
        Ok(())
    }

    /// A copy of an address space: private pages are shared until somebody writes to them, shared
    /// ones for good. A private page that is pinned is copied at once: whoever pinned it did so
    /// through the parent.
    ///
    /// # Errors
    ///
    /// [`MapError`]; there is no child then.
    pub fn fork(&self, parent: SpaceId) -> Result<SpaceId, MapError> {
        let child = self.spawn()?;
        let mut page = 0;
        while page < self.pages {
            match self.fork_entry(parent.page(page), child.page(page)) {
                Ok(pages) => page += pages,
                Err(e) => {
                    self.exit(child);
                    return Err(e);
                }
            }
        }
        Ok(child)
    }

    /// Says for how many pages the entry is.
    fn fork_entry(&self, from: At, to: At) -> Result<usize, MapError> {
        // Private entries are write protected by this.
        let (_invalidating, mut old) = loop {
            let invalidating = self.invalidating(from, 1);
            let old = self.entry(from);
            let leaf = old.leaf();
            let Some(page) = leaf.pfn().filter(|&pfn| pfn != 0).and_then(|pfn| self.header(pfn))
            else {
                break (invalidating, old);
            };
            match leaf {
                // A device's for itself is nobody's to share: it comes back first, as if the parent
                // had accessed it.
                Leaf::DeviceExclusive { .. } => match page.try_lock() {
                    Some(guard) => pagelock::mm::exclusive::revoke(self, from, old, &guard),
                    None => {
                        let _ = page.wait_unlocked((old, invalidating));
                    }
                },
                _ => break (invalidating, old),
            }
        };
        let area = old.area();
        let (order, count) = (old.order, 1 << old.order);
        if area.kind == AreaKind::Unmapped {
            return Ok(count);
        }
        let leaf = old.leaf();
        let mut for_child = leaf;
        // The child is nobody else's yet, so its locks come after the parent's.
        //
        // A page that is pinned is copied at once: shared, the next write would take the parent's
        // address away from it (I19). Also one that is on its way, whose pin came just before. It
        // is not waited for, which whoever forks may have pinned; and as long as its entry is
        // locked and is not up again, it is where it was, and nobody writes to it by an address.
        if let (
            AreaKind::Private,
            true,
            Leaf::Present { pfn, rights, tracking } | Leaf::Migration { pfn, rights, tracking },
        ) = (area.kind, self.is_pinned(leaf), leaf)
        {
            for (pfn, to) in (pfn..).zip(to.pages(count)) {
                let copy = self.copy_for(pfn)?;
                let mut new = self.entry(to);
                new.set_area(area);
                new.set_leaf(copy.map_or(Leaf::Poison { pfn }, |pfn| Leaf::Present {
                    pfn,
                    rights,
                    tracking,
                }));
            }
            return Ok(count);
        }
        match leaf {
            // Owns no reference, so nobody else notices if there are too many.
            Leaf::Migration { pfn, .. } if self.mappings_of(pfn) >= MAX_MAPPINGS as usize => {
                return Err(MapError::Uncountable(GetError::Overflow));
            }
            _ => {}
        }
        if let Some(owner) = owner_of(leaf) {
            match self.refer(leaf, owner) {
                Ok(()) => {}
                // Somebody waits for its pins to be dropped, one of which may be the forker's. So
                // it is not waited for: the child's entry is one for a page on its way, which
                // whoever waits finds and puts up. (He cannot have been here yet: the entry is
                // locked.)
                Err(MapError::Uncountable(GetError::Frozen)) => {
                    for_child = leaf.to_migration().unwrap_or(leaf)
                }
                Err(e) => return Err(e),
            }
        }
        if area.kind == AreaKind::Private {
            for_child = for_child.restrict(Rights::Read);
            old.set_leaf(leaf.restrict(Rights::Read));
        }
        self.place_large(to, order, for_child, area);
        Ok(count)
    }

    /// A copy of a page, by itself. `None` if there is nothing left to copy.
    fn copy_for(&self, pfn: u64) -> Result<Option<u64>, MapError> {
        let copy = self.new_page(TierId(0), Owner::Mapping).ok_or(MapError::NoMemory)?;
        let Err(why) = self.copy(pfn, copy) else { return Ok(Some(copy)) };
        // SAFETY: the new page's reference, which no entry has come to own.
        unsafe { self.put_as(copy, Owner::Mapping) };
        match why {
            CopyError::SourceLost => Ok(None),
            CopyError::Failed => Err(MapError::CopyFailed),
        }
    }
}

impl<F: Futex, C: Cpus> SoftEntry<'_, F, C> {
    /// Goes on to another entry under the same lock.
    fn index_to(&mut self, at: At) -> Result<(), MapError> {
        match &mut self.table {
            Some((_, index)) if at.page / super::SPLIT == self.at.page / super::SPLIT => {
                *index = at.page % super::SPLIT;
                self.at = at;
                Ok(())
            }
            _ => Err(MapError::BadRange),
        }
    }

    /// The end of an entry whose page has moved elsewhere.
    fn leave(&mut self, keep: bool) {
        if !keep {
            self.set_area(Area::default());
        }
        self.set_leaf(Leaf::None);
    }
}

/// As what an entry owns its reference, if it does.
pub(super) fn owner_of(leaf: Leaf) -> Option<Owner> {
    match leaf {
        Leaf::Present { .. } => Some(Owner::Mapping),
        Leaf::DevicePrivate { .. } | Leaf::DeviceExclusive { .. } => Some(Owner::Entry),
        _ => None,
    }
}
