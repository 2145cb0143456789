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
    /// ```
    /// use pagelock_soft::{Config, Soft};
    /// let mm = Soft::new(Config::ram_and_device(16, 16));
    /// let space = mm.spawn().unwrap();
    /// mm.map(space.page(0), 16).unwrap();
    /// ```
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

    /// Unmaps everything of a space, whose place a later one can have.
    ///
    /// ```
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.exit(at.space);
    /// assert_eq!(mm.free_frames(TierId(0)), 31); // all but the frame of zeroes
    /// ```
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
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.map(at.space.page(16), 4).unwrap();
    /// mm.write(at.space.page(19), 0, b"new").unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError::BadRange`]: a part is outside the space or mapped already. The pages before that
    /// part are mapped.
    pub fn map(&self, at: At, count: usize) -> Result<(), MapError> {
        self.map_as(at, count, Area::PRIVATE)
    }

    /// Maps `count` pages, shared and writable, of zeroes. The pages are made now: a child could
    /// not find a page that its parent makes later.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let shared = at.space.page(16);
    /// mm.map_shared(shared, 1).unwrap();
    /// let child = mm.fork(at.space).unwrap();
    /// mm.write(shared, 0, b"both").unwrap();
    /// let mut bytes = [0; 4];
    /// mm.read(child.page(16), 0, &mut bytes).unwrap();
    /// assert_eq!(&bytes, b"both");
    /// ```
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
    /// ```
    /// use pagelock::leaf::Rights;
    /// use pagelock_soft::{AccessError, Area};
    /// # let (mm, at) = pagelock_soft::example();
    /// let area = Area { rights: Some(Rights::Read), ..Area::PRIVATE };
    /// mm.map_as(at.space.page(16), 1, area).unwrap();
    /// assert_eq!(mm.write(at.space.page(16), 0, b"x"), Err(AccessError::NotAllowed));
    /// ```
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

    /// Maps, at `to`, a new large page of `1 << order` frames in `tier`, of zeroes, by one entry
    /// for each frame, each with a reference.
    ///
    /// ```
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let head = mm.map_large_by_pages(at.space.page(17), 2, TierId(0)).unwrap();
    /// assert_eq!(mm.page(head).unwrap().refs(), 4);
    /// ```
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

    /// Makes `count` pages, which are mapped, private or shared from now on: for pages that were
    /// mapped as another kind.
    ///
    /// ```
    /// use pagelock_soft::AreaKind;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.set_kind(at, 1, AreaKind::Shared).unwrap();
    /// assert_eq!(mm.entry(at).area().kind, AreaKind::Shared);
    /// ```
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

    /// Maps the page that is at `from` also at `to`, which is unmapped, with the rights of `from`
    /// as far as `area` allows them.
    ///
    /// ```
    /// use pagelock_soft::Area;
    /// # let (mm, at) = pagelock_soft::example();
    /// let to = at.space.page(20);
    /// mm.share(at, to, Area::PRIVATE).unwrap();
    /// assert_eq!(mm.frame_at(to), mm.frame_at(at));
    /// ```
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
        // The reference keeps the page a page. While it has no entry, it also keeps the page where
        // it is.
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
