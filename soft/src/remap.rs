//! Moving entries to other addresses.

use super::{Area, AreaKind, At, MapError, Soft, SoftEntry};
use pagelock::futex::Futex;
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Cpus;

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Moves `count` pages to another place of the same space, which must be unmapped. With `keep`,
    /// the old place stays mapped, with nothing there.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let (pfn, to) = (mm.frame_at(at), at.space.page(20));
    /// mm.remap(at, to, 4, false).unwrap();
    /// assert_eq!(mm.frame_at(to), pfn);
    /// ```
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
        if !new.is_unmapped() || area.kind == AreaKind::Unmapped {
            return Err(MapError::BadRange);
        }
        new.set_area(area);
        let leaf = old.leaf();
        new.set_leaf(leaf);
        old.leave(keep);
        Ok(())
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

    /// Empties an entry whose page has moved elsewhere.
    fn leave(&mut self, keep: bool) {
        if !keep {
            self.set_area(Area::default());
        }
        self.set_leaf(Leaf::None);
    }
}
