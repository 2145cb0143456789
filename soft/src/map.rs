//! Address spaces, and what is mapped in them.

use super::space::Space;
use super::{Area, AreaKind, At, MapError, Soft, SpaceId, TierId};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::{Change, Owner};
use pagelock::mm::{Memory, Tiers};

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
        self.map_as(at, count, Area::PRIVATE)
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
            if !entry.is_unmapped() {
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
            self.entry(at).set_leaf(self.first_leaf(pfn, head));
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
            let owner = Owner::of_entry(leaf)
                .filter(|_| leaf.pfn() != Some(0))
                .ok_or(MapError::BadRange)?;
            self.refer(leaf, owner)?;
            leaf
        };
        // The reference keeps the page a page; while it has no entry, it keeps it where it is as
        // well.
        let mut entry = self.entry(to);
        if !entry.is_unmapped() {
            drop(entry);
            self.put_of(leaf);
            return Err(MapError::BadRange);
        }
        entry.set_area(area);
        entry.set_leaf(leaf.restrict(area.rights.unwrap_or(Rights::Read)));
        Ok(())
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
}
