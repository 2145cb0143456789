//! Accesses by the processor: ask the table, fault if it says no, and repeat.

use super::{AccessError, Area, AreaKind, At, Soft, SoftEntry};
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::Cpus;
use pagelock::mm::{Access, Fault, Faulter, Memory, Strategy, Why};

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Reads bytes of one page, faulting as often as necessary.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut bytes = [0; 4];
    /// mm.read(at, 1, &mut bytes).unwrap();
    /// assert_eq!(&bytes, b"ello");
    /// ```
    ///
    /// # Errors
    ///
    /// [`AccessError`].
    pub fn read(&self, at: At, offset: usize, out: &mut [u8]) -> Result<(), AccessError> {
        self.read_with(at, offset, out, &mut Faulter::new(Strategy::Wait))
    }

    /// Writes bytes of one page, faulting as often as necessary.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.write(at.space.page(7), 0, b"new").unwrap(); // where nothing was
    /// ```
    ///
    /// # Errors
    ///
    /// [`AccessError`].
    pub fn write(&self, at: At, offset: usize, bytes: &[u8]) -> Result<(), AccessError> {
        self.write_with(at, offset, bytes, &mut Faulter::new(Strategy::Wait))
    }

    /// [`read`](Self::read) by the caller's faulter.
    ///
    /// ```
    /// use pagelock::mm::{Faulter, Strategy};
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut faulter = Faulter::new(Strategy::WaitThenLock { after: 4 });
    /// mm.read_with(at, 0, &mut [0; 5], &mut faulter).unwrap();
    /// ```
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

    /// [`write`](Self::write) by the caller's faulter.
    ///
    /// ```
    /// use pagelock::mm::{Faulter, Strategy};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.write_with(at, 0, b"J", &mut Faulter::new(Strategy::TryAndRetry)).unwrap();
    /// ```
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

    /// Adds to the `word`th `usize` of a page in one step, and returns what it was. Faults as often
    /// as necessary.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.add(at, 7, 5), Ok(0));
    /// assert_eq!(mm.add(at, 7, 1), Ok(5));
    /// ```
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

    /// Calls `act` with the frame of a page, under the page-table lock, once the table allows the
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
                    // As hardware would note it.
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

    /// Makes one attempt at a fault, and does the part that the fault path leaves to its caller.
    /// After [`Fault::Retry`], and every other answer that is not an error, the access is made
    /// again.
    ///
    /// ```
    /// use pagelock::mm::{Access, Fault, Faulter, Strategy};
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut faulter = Faulter::new(Strategy::Wait);
    /// let hole = at.space.page(7);
    /// assert_eq!(mm.fault(hole, Access::Write, &mut faulter), Ok(Fault::Resolved)); // filled
    /// ```
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
        self.settled(at, access, pagelock::mm::fault(self, at, access, faulter)?)
    }

    /// What the entry at an address says.
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.leaf(at.space.page(7)), Leaf::None);
    /// ```
    #[must_use]
    pub fn leaf(&self, at: At) -> Leaf {
        self.entry(at).leaf()
    }

    /// The frame that the entry at an address names.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert!(mm.frame_at(at).is_some());
    /// assert_eq!(mm.frame_at(at.space.page(7)), None);
    /// ```
    #[must_use]
    pub fn frame_at(&self, at: At) -> Option<u64> {
        self.leaf(at).pfn()
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
    /// ```
    /// use pagelock::mm::Access;
    /// use pagelock_soft::AccessError;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.protect(at, 1, Some(pagelock::leaf::Rights::Read)).unwrap();
    /// assert_eq!(mm.entry(at).allows(Access::Write), Err(AccessError::NotAllowed));
    /// ```
    ///
    /// # Errors
    ///
    /// [`AccessError::NotMapped`], [`AccessError::NotAllowed`].
    pub fn allows(&self, access: Access) -> Result<(), AccessError> {
        allows(self.area(), access)
    }
}
