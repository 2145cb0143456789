//! A page that comes with its contents, as a fault handler outside of the memory manager fetches
//! it.

use super::{AreaKind, At, MapError, Soft, TierId};
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::Owner;

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Puts a page with these bytes, and zeroes after them, where none is. A reader finds all of it
    /// or nothing.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let hole = at.space.page(7);
    /// mm.copy_in(hole, b"fetched").unwrap();
    /// let mut bytes = [0; 7];
    /// mm.read(hole, 0, &mut bytes).unwrap();
    /// assert_eq!(&bytes, b"fetched");
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError::BadRange`]: something is there already, which stays; or nothing is mapped there.
    /// [`MapError::NoMemory`].
    pub fn copy_in(&self, at: At, bytes: &[u8]) -> Result<(), MapError> {
        let pfn = self.new_page(TierId(0), Owner::Mapping).ok_or(MapError::NoMemory)?;
        self.bytes.zero(pfn);
        self.bytes.write(pfn, 0, &bytes[..bytes.len().min(self.page_size())]);
        let Ok(mut entry) = self.small(at) else {
            // SAFETY: the new page's reference, which no entry has come to own.
            unsafe { self.put_as(pfn, Owner::Mapping) };
            return Err(MapError::BadRange);
        };
        let area = entry.area();
        if area.kind == AreaKind::Unmapped || entry.leaf() != Leaf::None {
            drop(entry);
            // SAFETY: the new page's reference, which no entry has come to own.
            unsafe { self.put_as(pfn, Owner::Mapping) };
            return Err(MapError::BadRange);
        }
        let rights = area.rights.unwrap_or(Rights::Read);
        entry.set_leaf(Leaf::Present { pfn, rights, tracking: Tracking::default() });
        Ok(())
    }
}
