//! The part of a fault that the fault path leaves to its caller: a page where there is none, a copy
//! on write.

use super::access::allows;
use super::{AccessError, AreaKind, At, Soft, SoftEntry, TierId};
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::Owner;
use pagelock::mm::migrate::{Abort, Outcome};
use pagelock::mm::{Access, CopyError, Fault, Memory, Tiers, Why};

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Makes a page where there was none. A read gets the frame of zeroes, if the area is private.
    pub(super) fn fill(&self, at: At, access: Access) -> Result<Fault, AccessError> {
        let mut entry = self.entry(at);
        let area = entry.area();
        allows(area, access)?;
        if entry.leaf() != Leaf::None {
            return Ok(Fault::Retry(Why::Changed));
        }
        let tracking = Tracking::default();
        if access != Access::Write && area.kind == AreaKind::Private {
            // A large entry is one of zeroes as a whole.
            entry.set_leaf(Leaf::Present { pfn: 0, rights: Rights::Read, tracking });
            return Ok(Fault::Resolved);
        }
        if entry.order > 0 {
            return self.split_for(entry);
        }
        let pfn = self.new_page(TierId(0), Owner::Mapping).ok_or(AccessError::NoMemory)?;
        self.bytes.zero(pfn);
        let rights = area.rights.unwrap_or(Rights::Read);
        entry.set_leaf(Leaf::Present { pfn, rights, tracking });
        Ok(Fault::Resolved)
    }

    /// A write to a page that is there and may only be read: copy on write, unless nobody else has
    /// the page.
    pub(super) fn unprotect(&self, at: At) -> Result<Fault, AccessError> {
        // A reader with a copy of the entry would go on reading the old page.
        let _invalidating = self.invalidating(at, 1);
        let mut entry = self.entry(at);
        let area = entry.area();
        allows(area, Access::Write)?;
        let Leaf::Present { pfn, rights, tracking } = entry.leaf() else {
            return Ok(Fault::Retry(Why::Changed));
        };
        if rights == Rights::Write {
            return Ok(Fault::Present);
        }
        let write = |pfn| Leaf::Present { pfn, rights: Rights::Write, tracking };
        if area.kind == AreaKind::Shared || rights == Rights::ReadExclusive || self.is_sole(&entry)
        {
            entry.set_leaf(write(pfn));
            return Ok(Fault::Resolved);
        }
        self.replace_by_copy(entry, pfn, write)
    }

    /// Gives an address a page of its own, unless it has one, without allowing more than before.
    pub(super) fn make_own(&self, at: At) -> Result<Fault, AccessError> {
        let _invalidating = self.invalidating(at, 1);
        let mut entry = self.entry(at);
        let Leaf::Present { pfn, rights: Rights::Read, tracking } = entry.leaf() else {
            return Ok(Fault::Present);
        };
        if entry.area().kind != AreaKind::Private {
            return Ok(Fault::Present);
        }
        let own = |pfn| Leaf::Present { pfn, rights: Rights::ReadExclusive, tracking };
        if self.is_sole(&entry) {
            entry.set_leaf(own(pfn));
            return Ok(Fault::Resolved);
        }
        self.replace_by_copy(entry, pfn, own)
    }

    /// Gives the entry, which names frame `pfn`, a copy of that page, and writes the leaf that
    /// `leaf` makes of the copy's frame. A large entry is split instead, and the access has to be
    /// repeated.
    fn replace_by_copy(
        &self,
        mut entry: SoftEntry<'_, F, C>,
        pfn: u64,
        leaf: impl FnOnce(u64) -> Leaf,
    ) -> Result<Fault, AccessError> {
        if entry.order > 0 {
            return self.split_for(entry);
        }
        let copy = self.copied(pfn).map_err(|why| match why {
            None => AccessError::NoMemory,
            Some(CopyError::SourceLost) => AccessError::Poisoned { pfn },
            Some(_) => AccessError::NotBrought(Outcome::Aborted(Abort::CopyFailed)),
        })?;
        entry.set_leaf(leaf(copy));
        drop(entry);
        if pfn != 0 {
            // SAFETY: the reference of the entry that was replaced.
            unsafe { self.put_as(pfn, Owner::Mapping) };
        }
        Ok(Fault::Resolved)
    }

    /// A new page with the bytes of frame `pfn`, and a reference for an entry. The error is `None`
    /// if there is no frame for it.
    ///
    /// Called with the entry's PTL held, also where it frees the new page again: the lock of the
    /// free frames comes after a PTL.
    pub(super) fn copied(&self, pfn: u64) -> Result<u64, Option<CopyError>> {
        let new = self.new_page(TierId(0), Owner::Mapping).ok_or(None)?;
        if self.is_zero_frame(pfn) {
            self.bytes.zero(new);
            return Ok(new);
        }
        match self.copy(pfn, new) {
            Ok(()) => Ok(new),
            Err(why) => {
                // SAFETY: the new page's reference, which no entry has come to own.
                unsafe { self.put_as(new, Owner::Mapping) };
                Err(Some(why))
            }
        }
    }

    /// One page of a large entry needs an entry of its own: splits the entry, and the access has to
    /// be repeated.
    fn split_for(&self, entry: SoftEntry<'_, F, C>) -> Result<Fault, AccessError> {
        let at = entry.at();
        drop(entry);
        self.split_at(at).map_err(|_| AccessError::NoMemory)?;
        Ok(Fault::Retry(Why::Changed))
    }

    /// Does the part of a fault that the fault path has `left` to its caller.
    pub(super) fn settled(
        &self,
        at: At,
        access: Access,
        left: Fault,
    ) -> Result<Fault, AccessError> {
        match left {
            Fault::Missing => self.fill(at, access),
            Fault::Protected { .. } => self.unprotect(at),
            Fault::Swapped { slot } => Err(AccessError::Swapped { slot }),
            Fault::Marker(marker) => Err(AccessError::Marker(marker)),
            other => Ok(other),
        }
    }

    /// Whether the page's only reference is that of the entry whose lock the caller holds. Nobody
    /// can have got another from it since, unless through the frame's number; a thread that did so
    /// looks at the entry again.
    pub(super) fn is_sole(&self, entry: &SoftEntry<'_, F, C>) -> bool {
        let Some(pfn @ 1..) = entry.leaf().pfn() else { return false };
        let is_whole = self.span(pfn).order == entry.order;
        is_whole && self.header(pfn).is_some_and(|page| page.refs() == 1 && !page.is_locked())
    }
}
