//! What the fault path leaves to its caller: a page where there is none, a copy on write.

use super::access::allows;
use super::{AccessError, AreaKind, At, Soft, SoftEntry, TierId};
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::Owner;
use pagelock::mm::migrate::{Abort, Outcome};
use pagelock::mm::{Access, CopyError, Fault, Memory, Tiers, Why};

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// A page where there was none. Reads get the frame of zeroes, if the page is nobody else's.
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
            // One page of it is to be there.
            drop(entry);
            return self
                .split_at(at)
                .map(|()| Fault::Retry(Why::Changed))
                .map_err(|_| AccessError::NoMemory);
        }
        let pfn = self.new_page(TierId(0), Owner::Mapping).ok_or(AccessError::NoMemory)?;
        self.bytes.zero(pfn);
        let rights = area.rights.unwrap_or(Rights::Read);
        entry.set_leaf(Leaf::Present { pfn, rights, tracking });
        Ok(Fault::Resolved)
    }

    /// A write to a page that is there and may only be read: copy on write, unless the page is
    /// nobody else's.
    pub(super) fn unprotect(&self, at: At) -> Result<Fault, AccessError> {
        // Whoever has a copy of the entry would go on reading the old page.
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
        if entry.order > 0 {
            // One page of it is to be another.
            drop(entry);
            return self
                .split_at(at)
                .map(|()| Fault::Retry(Why::Changed))
                .map_err(|_| AccessError::NoMemory);
        }
        let new = self.new_page(TierId(0), Owner::Mapping).ok_or(AccessError::NoMemory)?;
        if pfn == 0 {
            self.bytes.zero(new);
        } else if let Err(why) = self.copy(pfn, new) {
            drop(entry);
            // SAFETY: the new page's reference, which no entry has come to own.
            unsafe { self.put_as(new, Owner::Mapping) };
            return Err(not_copied(pfn, why));
        }
        entry.set_leaf(write(new));
        drop(entry);
        if pfn != 0 {
            // SAFETY: the reference of the entry that was replaced.
            unsafe { self.put_as(pfn, Owner::Mapping) };
        }
        Ok(Fault::Resolved)
    }

    /// Whether the one reference of a page is that of the entry whose lock the caller holds. Nobody
    /// can have got another from it since, unless through the frame's number, and whoever did so
    /// looks at the entry again.
    pub(super) fn is_sole(&self, entry: &SoftEntry<'_, F, C>) -> bool {
        let Some(pfn @ 1..) = entry.leaf().pfn() else { return false };
        let is_whole = self.span(pfn).order == entry.order;
        is_whole && self.header(pfn).is_some_and(|page| page.refs() == 1 && !page.is_locked())
    }
}

/// Why there is no copy of frame `pfn`.
pub(super) fn not_copied(pfn: u64, why: CopyError) -> AccessError {
    match why {
        CopyError::SourceLost => AccessError::Poisoned { pfn },
        CopyError::Failed => AccessError::NotBrought(Outcome::Aborted(Abort::CopyFailed)),
    }
}
