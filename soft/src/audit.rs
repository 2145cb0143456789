//! Counts everything once more, and compares.

use super::{At, Soft, SpaceId};
use alloc::vec;
use core::fmt;
use pagelock::futex::Futex;
use pagelock::leaf::Leaf;
use pagelock::mm::Tiers;
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::{Owner, Unbalanced};

/// Two counts that do not agree.
///
/// ```
/// use pagelock::mm::{Memory, ledger::{Change, Owner}};
/// use pagelock_soft::AuditError;
/// # let (mm, at) = pagelock_soft::example();
/// mm.account(mm.frame_at(at).unwrap(), Owner::Get, Change::Taken); // without a reference
/// assert!(matches!(mm.audit(), Err(AuditError::Unbalanced(_))));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AuditError {
    /// A page counts other references than its owners have (I14).
    Unbalanced(Unbalanced),
    /// The ledger has other references of entries, or of the cache, than there are.
    Entries {
        /// The page.
        pfn: u64,
        /// Whose.
        owner: Owner,
        /// In the ledger.
        noted: u32,
        /// In the tables or the cache.
        found: u32,
    },
    /// A migration entry is left though no thread migrates its page (I12, I13).
    Orphan {
        /// Where.
        at: At,
        /// For which frame.
        pfn: u64,
    },
    /// The reverse map has other entries for a frame than the tables.
    ReverseMap {
        /// The frame.
        pfn: u64,
        /// In the reverse map.
        noted: usize,
        /// In the tables.
        found: usize,
    },
    /// A page is locked, migrating or frozen, though no thread is at work.
    Held {
        /// The page.
        pfn: u64,
    },
    /// Frames of a tier are neither free nor in use, or both.
    Leaked {
        /// The tier's number.
        tier: usize,
        /// Free.
        free: usize,
        /// In use.
        used: usize,
        /// All.
        frames: usize,
    },
}

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Compares every page's count with its owners' references (I14).
    ///
    /// Holds between any two steps of a thread at work, but not during one: for tests that go step
    /// by step.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.balance().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The first page that is out of balance.
    pub fn balance(&self) -> Result<(), Unbalanced> {
        self.frames
            .iter()
            .enumerate()
            .skip(1)
            .try_for_each(|(pfn, frame)| frame.owners.check(pfn as u64, &frame.header))
    }

    /// How many references `owner` has to the page at `pfn`.
    ///
    /// ```
    /// use pagelock::mm::ledger::Owner;
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.owned(mm.frame_at(at).unwrap(), Owner::Mapping), 1);
    /// ```
    #[must_use]
    pub fn owned(&self, pfn: u64, owner: Owner) -> u32 {
        super::frames::frame(&self.frames, self.span(pfn).head)
            .map_or(0, |frame| frame.owners.of(owner))
    }

    /// Counts every reference, entry and frame, and compares with the headers, the ledger, the
    /// reverse map and the tiers.
    ///
    /// Call it when no thread is at work on any page.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.fork(at.space).unwrap();
    /// mm.audit().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The first [`AuditError`].
    pub fn audit(&self) -> Result<(), AuditError> {
        self.balance().map_err(AuditError::Unbalanced)?;
        let mut present = vec![0_u32; self.frames.len()];
        let mut device = vec![0_u32; self.frames.len()];
        let mut named = vec![0_usize; self.frames.len()];
        for space in 0..self.spaces.len() {
            let space = SpaceId(u32::try_from(space).unwrap_or(u32::MAX));
            if self.space(space).is_none() {
                continue;
            }
            for page in 0..self.pages {
                let at = space.page(page);
                let entry = self.entry(at);
                let leaf = if entry.head() == at { entry.leaf() } else { Leaf::None };
                drop(entry);
                let Some(pfn @ 1..) = leaf.pfn() else { continue };
                if matches!(leaf, Leaf::Poison { .. }) {
                    continue;
                }
                let Ok(index) = usize::try_from(pfn) else { continue };
                if let Leaf::Migration { .. } = leaf {
                    if !self.page(pfn).is_some_and(pagelock::PageLock::is_migrating) {
                        return Err(AuditError::Orphan { at, pfn });
                    }
                }
                let head = usize::try_from(self.span(pfn).head).unwrap_or(index);
                named[index] += 1;
                match Owner::of_entry(leaf) {
                    Some(Owner::Mapping) => present[head] += 1,
                    Some(_) => device[head] += 1,
                    None => {}
                }
            }
        }
        let mut used = vec![0_usize; self.tiers.len()];
        for (index, frame) in self.frames.iter().enumerate().skip(1) {
            let pfn = index as u64;
            let noted = frame.rmap.lock().len();
            if noted != named[index] {
                return Err(AuditError::ReverseMap { pfn, noted, found: named[index] });
            }
            let span = self.span(pfn);
            if span.head != pfn {
                continue;
            }
            let page = &frame.header;
            if page.is_locked() || page.is_migrating() || page.is_frozen() {
                return Err(AuditError::Held { pfn });
            }
            let cached = self.cached_count(pfn);
            for (owner, found) in [
                (Owner::Mapping, present[index]),
                (Owner::Entry, device[index]),
                (Owner::Cache, cached),
            ] {
                let noted = frame.owners.of(owner);
                if noted != found {
                    return Err(AuditError::Entries { pfn, owner, noted, found });
                }
            }
            if page.refs() > 0 || page.pins() > 0 || page.is_poisoned() {
                used[frame.tier.0] += usize::try_from(span.len()).unwrap_or(1);
            }
        }
        // Frame 0 is in use for good.
        if let Some(first) = used.first_mut() {
            *first += 1;
        }
        for (tier, (t, used)) in self.tiers.iter().zip(used).enumerate() {
            let (free, frames) = (t.free_frames(), t.frames);
            if frames > 0 && free + used != frames {
                return Err(AuditError::Leaked { tier, free, used, frames });
            }
        }
        Ok(())
    }

    /// Whether frame `pfn` is in a batch, as the batches say.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert!(!mm.is_batched(mm.frame_at(at).unwrap())); // there are no batches
    /// ```
    #[must_use]
    pub fn is_batched(&self, pfn: u64) -> bool {
        // SAFETY: the batch's own references, given back by the batch.
        self.batches.count(pfn, |pfn| unsafe { self.put_as(pfn, Owner::Batch) }) > 0
    }
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbalanced(e) => e.fmt(f),
            Self::Entries { pfn, owner, noted, found } => {
                write!(
                    f,
                    "frame {pfn:#x}: the ledger has {noted} references of {owner:?}, \
                     the tables {found}"
                )
            }
            Self::Orphan { at, pfn } => {
                write!(f, "{at:?} has a migration entry for frame {pfn:#x}, which nobody migrates")
            }
            Self::ReverseMap { pfn, noted, found } => {
                write!(f, "frame {pfn:#x}: the reverse map has {noted} entries, the tables {found}")
            }
            Self::Held { pfn } => write!(f, "frame {pfn:#x} is held, and nobody is at work"),
            Self::Leaked { tier, free, used, frames } => {
                write!(f, "tier {tier}: {free} free and {used} used frames of {frames}")
            }
        }
    }
}

impl core::error::Error for AuditError {}
