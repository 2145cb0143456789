//! A copy of an address space.

use super::{AreaKind, At, MapError, Soft, SpaceId};
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::{MAX_MAPPINGS, Owner};
use pagelock::mm::{CopyError, Memory, Tiers};
use pagelock::refs::GetError;

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// How many entries there are for the page that frame `pfn` is part of.
    fn mappings_of(&self, pfn: u64) -> usize {
        self.span(pfn).frames().map(|pfn| self.mappings(pfn)).sum()
    }

    /// A copy of an address space: private pages are shared until one of the two writes to them,
    /// shared ones for good. A private page that is pinned is copied at once: it was pinned through
    /// the parent.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let child = mm.fork(at.space).unwrap();
    /// mm.write(at, 0, b"J").unwrap(); // copies: the child keeps the old page
    /// let mut bytes = [0; 5];
    /// mm.read(child.page(0), 0, &mut bytes).unwrap();
    /// assert_eq!(&bytes, b"hello");
    /// ```
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

    /// Copies one entry. Returns the number of pages that it is for.
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
                // A page to which a device has exclusive access cannot be shared: it comes back
                // first, as if the parent had accessed it.
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
        // Nobody else knows the child yet, so its locks come after the parent's.
        //
        // A page that is pinned is copied at once: shared, the next write would take the parent's
        // address away from it (I19). So is one that is being migrated, if a pin came just before.
        // The fork does not wait for it, because the forking thread may be the pinner. As long as
        // the entry is locked and is not up again, the page is where it was, and nobody writes to
        // it by an address.
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
            // It owns no reference, so nobody else notices if there are too many.
            Leaf::Migration { pfn, .. } if self.mappings_of(pfn) >= MAX_MAPPINGS as usize => {
                return Err(MapError::Uncountable(GetError::Overflow));
            }
            _ => {}
        }
        if let Some(owner) = Owner::of_entry(leaf) {
            match self.refer(leaf, owner) {
                Ok(()) => {}
                // A migrator waits for its pins to be dropped, one of which may be the forking
                // thread's. So the fork does not wait: the child's entry is a migration entry,
                // which the migrator finds and puts up. (It cannot have been here yet: the entry is
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

    /// A copy of a page, by itself. `None` if its contents are lost.
    fn copy_for(&self, pfn: u64) -> Result<Option<u64>, MapError> {
        match self.copied(pfn) {
            Ok(copy) => Ok(Some(copy)),
            Err(None) => Err(MapError::NoMemory),
            Err(Some(CopyError::SourceLost)) => Ok(None),
            Err(Some(_)) => Err(MapError::CopyFailed),
        }
    }
}
