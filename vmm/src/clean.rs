//! Saving a page while the guest goes on, and hearing of the next write: snapshots and pre-copy.

use crate::evict::NotEvicted;
use crate::owned::Owned;
use crate::place::Place;
use crate::region::Region;
use crate::seats::What;
use crate::stats::Counter;
use std::fmt;
use std::sync::Arc;

impl Region {
    /// Write protects `page` and reads it, for the caller to save. The guest goes on to read it; a
    /// write sleeps until the answer is [done](Clean::done) or dropped. Never sleeps for the page.
    ///
    /// A device that has the page pinned writes to it without a fault. So a pinned page is refused,
    /// and is to be saved when the device has stopped.
    ///
    /// # Errors
    ///
    /// [`NotEvicted`], with nothing changed. Private memory that others may remove
    /// ([`Wish::removes`](crate::uffd::Wish::removes)) cannot be read in safety, and is refused
    /// ([`Unsupported`](std::io::ErrorKind::Unsupported)).
    pub fn clean(self: &Arc<Self>, page: usize) -> Result<Clean, NotEvicted> {
        let Some(header) = self.headers.get(page) else { return Err(NotEvicted::NotIn) };
        // Who looks first leaves no trace on a page that is out; a fetch may be about to say "in".
        if Place::of(header.user()) != Place::In {
            return Err(if header.is_locked() { NotEvicted::Owned } else { NotEvicted::NotIn });
        }
        let Some(guard) = header.try_lock() else { return Err(NotEvicted::Owned) };
        let mut owned = Owned::new(self, page, guard, What::Cleaning);
        if owned.place() != Place::In || owned.header().is_poisoned() {
            return Err(NotEvicted::NotIn);
        }
        owned.freeze().map_err(NotEvicted::Pinned)?;
        let at = owned.at();
        self.patiently(|layer| layer.protect(at, true)).map_err(NotEvicted::Io)?;
        owned.set(Place::In, true);
        let mut clean =
            Clean { owned: Some(owned), bytes: vec![0; self.page_size()].into_boxed_slice() };
        self.layer.read(at, &mut clean.bytes).map_err(NotEvicted::Io)?;
        Ok(clean)
    }
}

/// A page that is write protected while it is saved. Dropping it lifts the protection, and tells.
#[must_use = "dropping it lifts the protection"]
pub struct Clean {
    /// `None` once it is done.
    owned: Option<Owned>,
    bytes: Box<[u8]>,
}

impl Clean {
    /// The page's number.
    #[must_use]
    pub fn page(&self) -> usize {
        self.owned.as_ref().expect("it is there until the end").page()
    }

    /// What the page has.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes are safe. The page stays protected, also across an eviction, and the next write to
    /// it is a [write fault](Region::write_fault).
    pub fn done(mut self) {
        if let Some(owned) = self.owned.take() {
            owned.region().counters.count(Counter::Cleaned);
        }
    }
}

impl Drop for Clean {
    fn drop(&mut self) {
        let Some(mut owned) = self.owned.take() else { return };
        let (region, at) = (Arc::clone(owned.region()), owned.at());
        if region.patiently(|layer| layer.protect(at, false)).is_ok() {
            owned.set(Place::In, false);
        }
    }
}

impl fmt::Debug for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clean").field(&self.owned).finish()
    }
}
