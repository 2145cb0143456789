//! Accesses by the processor: ask the table, fault if it says no, and repeat.

use super::traits::Refusal;
use super::{Area, AreaKind, At, Soft, SoftEntry, TierId};
use core::fmt;
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Marker, Rights, Tracking, UnknownLeaf};
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::Owner;
use pagelock::mm::migrate::{Abort, Outcome};
use pagelock::mm::{Access, CopyError, Fault, FaultError, Faulter, Memory, Strategy, Tiers, Why};

/// An access that cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AccessError {
    /// The address is not mapped, or the page does not have that many bytes.
    NotMapped,
    /// It is, and not for this.
    NotAllowed,
    /// The page's contents are lost.
    Poisoned {
        /// In this frame.
        pfn: u64,
    },
    /// There is a marker at the address.
    Marker(Marker),
    /// The page is in swap, which is the caller's business.
    Swapped {
        /// The slot.
        slot: u64,
    },
    /// No frame is left.
    NoMemory,
    /// The faulter was cancelled.
    Cancelled,
    /// The time was up.
    TimedOut,
    /// The page was busy for as long as the faulter had patience.
    Busy {
        /// How often it was tried.
        rounds: u32,
    },
    /// The page could not be brought back.
    NotBrought(Outcome<Refusal>),
    /// The table has an entry that is none.
    Unknown(UnknownLeaf),
    /// The table names a frame that does not exist.
    NoFrame {
        /// Its number.
        pfn: u64,
    },
    /// Another error of the fault path.
    Fault(FaultError<Outcome<Refusal>>),
}

impl From<FaultError<Outcome<Refusal>>> for AccessError {
    fn from(e: FaultError<Outcome<Refusal>>) -> Self {
        match e {
            FaultError::Unknown(e) => Self::Unknown(e),
            FaultError::NoFrame { pfn } => Self::NoFrame { pfn },
            FaultError::Poisoned { pfn } => Self::Poisoned { pfn },
            FaultError::Cancelled => Self::Cancelled,
            FaultError::TimedOut => Self::TimedOut,
            FaultError::Busy { rounds } => Self::Busy { rounds },
            FaultError::NoMemory => Self::NoMemory,
            FaultError::ToRam(outcome) => Self::NotBrought(outcome),
            other => Self::Fault(other),
        }
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped => f.write_str("the address is not mapped"),
            Self::NotAllowed => f.write_str("the access is not allowed"),
            Self::Poisoned { pfn } => write!(f, "the contents of frame {pfn:#x} are lost"),
            Self::Marker(marker) => write!(f, "there is a marker, {marker:?}"),
            Self::Swapped { slot } => write!(f, "the page is in swap slot {slot}"),
            Self::NoMemory => f.write_str("no frame is left"),
            Self::Cancelled => f.write_str("the fault was cancelled"),
            Self::TimedOut => f.write_str("the time was up"),
            Self::Busy { rounds } => write!(f, "the page was busy {rounds} times"),
            Self::NotBrought(outcome) => write!(f, "the page could not be brought back: {outcome}"),
            Self::Unknown(e) => e.fmt(f),
            Self::NoFrame { pfn } => {
                write!(f, "the table names frame {pfn:#x}, which does not exist")
            }
            Self::Fault(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for AccessError {}

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Reads bytes of one page, faulting as often as it takes.
    ///
    /// # Errors
    ///
    /// [`AccessError`].
    pub fn read(&self, at: At, offset: usize, out: &mut [u8]) -> Result<(), AccessError> {
        self.read_with(at, offset, out, &mut Faulter::new(Strategy::Wait))
    }

    /// Writes bytes of one page, faulting as often as it takes.
    ///
    /// # Errors
    ///
    /// [`AccessError`].
    pub fn write(&self, at: At, offset: usize, bytes: &[u8]) -> Result<(), AccessError> {
        self.write_with(at, offset, bytes, &mut Faulter::new(Strategy::Wait))
    }

    /// [`read`](Self::read) by a faulter of the caller's.
    ///
    /// # Errors
    ///
    /// [`AccessError`].
    pub fn read_with(
        &self,
        at: At,
        offset: usize,
        out: &mut [u8],
        faulter: &mut Faulter<'_, F>,
    ) -> Result<(), AccessError> {
        self.is_within(offset, out.len())?;
        self.touch(at, Access::Read, faulter, |pfn| self.bytes.read(pfn, offset, out))
    }

    /// [`write`](Self::write) by a faulter of the caller's.
    ///
    /// # Errors
    ///
    /// [`AccessError`].
    pub fn write_with(
        &self,
        at: At,
        offset: usize,
        bytes: &[u8],
        faulter: &mut Faulter<'_, F>,
    ) -> Result<(), AccessError> {
        self.is_within(offset, bytes.len())?;
        self.touch(at, Access::Write, faulter, |pfn| self.bytes.write(pfn, offset, bytes))
    }

    /// Adds to the `word`th `usize` of a page in one step, and says what it was. Faults as often as
    /// it takes.
    ///
    /// # Errors
    ///
    /// [`AccessError`].
    pub fn add(&self, at: At, word: usize, add: usize) -> Result<usize, AccessError> {
        self.is_within(word.saturating_mul(size_of::<usize>()), size_of::<usize>())?;
        self.touch(at, Access::Write, &mut Faulter::new(Strategy::Wait), |pfn| {
            self.bytes.add(pfn, word, add)
        })
    }

    fn is_within(&self, offset: usize, len: usize) -> Result<(), AccessError> {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.page_size());
        if fits { Ok(()) } else { Err(AccessError::NotMapped) }
    }

    /// Has `act` at the frame of a page, with the page-table lock held, once the table allows the
    /// access.
    fn touch<R>(
        &self,
        at: At,
        access: Access,
        faulter: &mut Faulter<'_, F>,
        act: impl FnOnce(u64) -> R,
    ) -> Result<R, AccessError> {
        loop {
            let mut entry = self.entry(at);
            allows(entry.area(), access)?;
            if let Leaf::Present { pfn, rights, mut tracking } = entry.leaf() {
                if access != Access::Write || rights == Rights::Write {
                    // While the lock is held nobody takes the entry down, so the page stays where
                    // it is.
                    let result = act(pfn);
                    // What hardware would note.
                    tracking.accessed = true;
                    tracking.dirty |= access == Access::Write;
                    tracking.soft_dirty |= access == Access::Write;
                    entry.set_leaf(Leaf::Present { pfn, rights, tracking });
                    return Ok(result);
                }
            }
            if let Leaf::Migration { pfn, .. } = entry.leaf() {
                debug_assert!(
                    self.header(pfn).is_some_and(pagelock::PageLock::is_locked),
                    "I12: {at:?} leads to an unlocked page"
                );
            }
            drop(entry);
            if let Fault::Retry(Why::Locked) = self.fault(at, access, faulter)? {
                pagelock::futex::OsFutex.relax();
            }
        }
    }

    /// One attempt at a fault: what the fault path leaves to its caller is done here.
    /// [`Fault::Retry`] and everything else that is not an error mean that the access is to be made
    /// again.
    ///
    /// # Errors
    ///
    /// [`AccessError`].
    pub fn fault(
        &self,
        at: At,
        access: Access,
        faulter: &mut Faulter<'_, F>,
    ) -> Result<Fault, AccessError> {
        allows(self.entry(at).area(), access)?;
        match pagelock::mm::fault(self, at, access, faulter)? {
            Fault::Missing => self.fill(at, access),
            Fault::Protected { .. } => self.unprotect(at),
            Fault::Swapped { slot } => Err(AccessError::Swapped { slot }),
            Fault::Marker(marker) => Err(AccessError::Marker(marker)),
            other => Ok(other),
        }
    }

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

    /// What the entry at an address says.
    #[must_use]
    pub fn leaf(&self, at: At) -> Leaf {
        self.entry(at).leaf()
    }

    /// The frame that the entry at an address names.
    #[must_use]
    pub fn frame_at(&self, at: At) -> Option<u64> {
        self.leaf(at).pfn()
    }
}

/// Why there is no copy of frame `pfn`.
pub(super) fn not_copied(pfn: u64, why: CopyError) -> AccessError {
    match why {
        CopyError::SourceLost => AccessError::Poisoned { pfn },
        CopyError::Failed => AccessError::NotBrought(Outcome::Aborted(Abort::CopyFailed)),
    }
}

/// Whether the area allows the access at all.
pub(super) fn allows(area: Area, access: Access) -> Result<(), AccessError> {
    match (area.kind, area.rights) {
        (AreaKind::Unmapped, _) => Err(AccessError::NotMapped),
        (_, None) => Err(AccessError::NotAllowed),
        (_, Some(rights)) if access == Access::Write && rights != Rights::Write => {
            Err(AccessError::NotAllowed)
        }
        _ => Ok(()),
    }
}

impl<F: Futex, C: Cpus> SoftEntry<'_, F, C> {
    /// Whether the address may be accessed so, whatever is there.
    ///
    /// # Errors
    ///
    /// [`AccessError::NotMapped`], [`AccessError::NotAllowed`].
    pub fn allows(&self, access: Access) -> Result<(), AccessError> {
        allows(self.area(), access)
    }
}
