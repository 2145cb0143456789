//! Taking away: unmap, discard, replace, protect.

use super::{Area, AreaKind, At, MapError, Soft, SoftEntry};
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::Memory;
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::Owner;

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Unmaps `count` pages. Pages outside the space do not matter.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.unmap(at, 8).unwrap();
    /// assert_eq!(mm.frame_at(at), None);
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError::Uncountable`]: a large entry of which only a part was to go is still mapped,
    /// because the rest of its pages could not be counted. Everything else is unmapped.
    pub fn unmap(&self, at: At, count: usize) -> Result<(), MapError> {
        let _invalidating = self.invalidating(at, count);
        self.each_entry(at, count, |mut entry| {
            self.set_areas(&mut entry, Area::default());
            self.put_of(self.clear(entry));
            Ok(())
        })
    }

    /// Throws away the contents of `count` pages, and leaves them mapped. A page that is pinned
    /// keeps its contents: the pinner would go on writing to a page that is at no address any more.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.discard(at, 1).unwrap();
    /// let mut bytes = [1; 5];
    /// mm.read(at, 0, &mut bytes).unwrap();
    /// assert_eq!(bytes, [0; 5]);
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError::Pinned`]: so many pages were left as they are, and the others are discarded.
    /// [`MapError::Uncountable`] as for [`unmap`](Self::unmap).
    pub fn discard(&self, at: At, count: usize) -> Result<(), MapError> {
        let _invalidating = self.invalidating(at, count);
        let mut pages = 0;
        self.each_entry(at, count, |entry| {
            // With the entry locked, because a pin is taken under its lock.
            if self.is_pinned(entry.leaf()) {
                pages += 1 << entry.order;
            } else {
                // The last reference frees the page, which must not happen with a page-table lock
                // held.
                self.put_of(self.clear(entry));
            }
            Ok(())
        })?;
        if pages > 0 { Err(MapError::Pinned { pages }) } else { Ok(()) }
    }

    /// Calls `change` with every entry of a range, locked. A large entry that is in the range as a
    /// whole stays as it is; others are split. Returns the first error, and goes on after it.
    pub(super) fn each_entry(
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

    pub(super) fn is_pinned(&self, leaf: Leaf) -> bool {
        leaf.pfn()
            .is_some_and(|pfn| pfn != 0 && self.header(pfn).is_some_and(|page| page.pins() > 0))
    }

    /// Replaces the entry by `leaf`, which names no frame. For markers, swap, poison.
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.replace(at, Leaf::Poison { pfn: 7 });
    /// assert_eq!(mm.leaf(at), Leaf::Poison { pfn: 7 });
    /// ```
    pub fn replace(&self, at: At, leaf: Leaf) {
        let _invalidating = self.invalidating(at, 1);
        let Ok(mut entry) = self.small(at) else { return };
        let old = entry.leaf();
        if Owner::of_entry(leaf).is_none() {
            entry.set_leaf(leaf);
            drop(entry);
            self.put_of(old);
        }
    }

    /// Puts the reference that an entry owned.
    pub(super) fn put_of(&self, leaf: Leaf) {
        if let (Some(owner), Some(pfn @ 1..)) = (Owner::of_entry(leaf), leaf.pfn()) {
            // SAFETY: the reference of an entry that was replaced.
            unsafe { self.put_as(pfn, owner) };
        }
    }

    /// Changes what `count` pages may be used for. Entries never get more rights by this: a fault
    /// gives them.
    ///
    /// ```
    /// use pagelock::leaf::Rights;
    /// use pagelock_soft::AccessError;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.protect(at, 1, Some(Rights::Read)).unwrap();
    /// assert_eq!(mm.write(at, 0, b"J"), Err(AccessError::NotAllowed));
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError::BadRange`]: a part is not mapped, and the rest is changed.
    /// [`MapError::Uncountable`] as for [`unmap`](Self::unmap).
    pub fn protect(&self, at: At, count: usize, rights: Option<Rights>) -> Result<(), MapError> {
        let _invalidating = self.invalidating(at, count);
        self.each_entry(at, count, |mut entry| {
            let area = entry.area();
            // A private page that nobody else had stays so, so that it need not be copied when it
            // is written to again.
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
}
