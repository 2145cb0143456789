//! Page tables, as the crate sees them: entries behind page-table locks.

use crate::leaf::{Leaf, Rights, UnknownLeaf};

/// Page tables with split locks.
///
/// Only [`lock`](Self::lock) takes a PTL; the other methods are called without one. The
/// [table](crate::mm#what-is-held-when-the-embedder-is-called) says for each call what is held,
/// what may sleep, and what it must not do.
pub trait Tables {
    /// Names an entry: a virtual address, a guest frame, a pair of table and index.
    type Address: Copy + PartialEq;

    /// An entry whose page-table lock (PTL) is held. Dropping it releases the lock.
    type Entry<'t>: Entry
    where
        Self: 't;

    /// Locks the PTL of the entry for `at`. `None`: there is no table, so nothing is mapped there.
    ///
    /// It may be the lock of a whole table. While it is held, nobody else reads or writes the
    /// entry. The crate holds one PTL at a time and takes nothing that sleeps while it does.
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    /// use pagelock::mm::{Entry, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// let entry = mm.lock(at).unwrap();
    /// assert!(matches!(entry.get(), Ok(Leaf::Present { .. })));
    /// assert!(mm.lock(at.space.page(1 << 20)).is_none());
    /// ```
    fn lock(&self, at: Self::Address) -> Option<Self::Entry<'_>>;

    /// Flushes the translations of all entries that [`Entry::take_unflushed`] has taken since the
    /// last call. Called once for a batch, with its pages locked and without any PTL: once it
    /// returns, nobody accesses those pages. Tables whose [`Entry::take`] flushes have nothing to
    /// do here.
    ///
    /// The call names no batch and needs none: it comes from the thread that took the entries,
    /// because a batch stays with its thread. An implementation that collects what is pending keeps
    /// a list for each thread and flushes the caller's; one that flushes more than that is correct,
    /// and slower.
    ///
    /// Between the taking and the flush a processor may still use what it has cached. So a caller
    /// that lets the reader of an entry rely on what a migration entry no longer allows (fork,
    /// write protection, unmap) first flushes what is pending for that table, as Linux does.
    ///
    /// ```
    /// use pagelock::mm::Tables;
    /// # let (mm, at) = pagelock_soft::example();
    /// let before = mm.counted();
    /// mm.flush();
    /// assert_eq!(mm.counted().since(before).flushes, 1);
    /// ```
    fn flush(&self) {}

    /// The entry for `at`, and the large entry that it is part of, is about to lose its page or to
    /// allow less. An implementation begins an invalidation in every
    /// [notifier](super::range::Notifier) whose range has the address, and tells every device with
    /// a copy of the entry, except the one that `notice` names as the owner. No PTL is held; a
    /// page's lock may be. [`invalidated`](Self::invalidated) follows in any case.
    ///
    /// The crate calls this for what it does to entries itself: once for each entry and each time
    /// that it takes a page away there. What the caller does to entries (unmap, protect, move, copy
    /// on write) is the caller's to announce.
    ///
    /// ```
    /// use pagelock::mm::{Cause, Notice, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// let notifier = mm.notifier(at.space).unwrap();
    /// mm.invalidate(at, Notice { cause: Cause::Migrate, owner: 0 });
    /// assert!(notifier.try_ticket().is_none());
    /// mm.invalidated(at);
    /// assert!(notifier.try_ticket().is_some());
    /// ```
    fn invalidate(&self, at: Self::Address, notice: Notice) {
        let _ = (at, notice);
    }

    /// The change to the entry for `at` is made: ends the invalidations that
    /// [`invalidate`](Self::invalidate) began, whose example shows both.
    ///
    /// ```
    /// use pagelock::mm::{Cause, Notice, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.invalidate(at, Notice { cause: Cause::Poison, owner: 0 });
    /// mm.invalidated(at);
    /// assert_eq!(mm.notifier(at.space).unwrap().active(), 0);
    /// ```
    fn invalidated(&self, at: Self::Address) {
        let _ = at;
    }
}

/// Why an entry is about to change, and on whose behalf.
///
/// ```
/// use pagelock::mm::migrate::{Order, Slot, migrate};
/// use pagelock::mm::{Cause, drain::Unlocked};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// mm.on_notice(|_, _, notice| {
///     let notice = notice.unwrap();
///     assert_eq!((notice.cause, notice.owner), (Cause::Migrate, 7));
/// });
/// let order = Order::to(TierId(1)).owner(7);
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// assert_eq!(migrate(&mm, &mut [Slot::at(at)], &order, &mm, &mut unlocked).done, 1);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Notice {
    /// Why it changes.
    pub cause: Cause,
    /// On whose behalf: the [`Order::owner`](super::migrate::Order::owner) of a migration, 0 for
    /// nobody's. A driver that moves pages itself need not be told of its own doing.
    pub owner: u64,
}

/// Why an entry is about to change; the word that a [`Notice`] has for it.
///
/// ```
/// use pagelock::mm::Cause;
/// let is_a_loss = |cause| matches!(cause, Cause::Poison);
/// assert!(is_a_loss(Cause::Poison) && !is_a_loss(Cause::Migrate));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// Its page moves.
    Migrate,
    /// It gets a page in place of the frame of zeroes.
    Fill,
    /// A device gets its page to itself.
    Exclusive,
    /// A device no longer has its page to itself.
    Revoke,
    /// Its page is lost.
    Poison,
}

/// A locked entry.
///
/// Every method is called with the entry's PTL held, and perhaps with page locks: none may sleep,
/// take a PTL or call the crate. See the
/// [table](crate::mm#what-is-held-when-the-embedder-is-called).
///
/// What the embedder's entry has besides a leaf (a right to execute, a protection key, a caching
/// mode) is the embedder's: it stays with the entry whatever leaf is set, also across a move.
pub trait Entry {
    /// What the entry says.
    ///
    /// Where the entry is a large one, the leaf names the frame at the address that was locked.
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    /// use pagelock::mm::{Entry, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// let entry = mm.lock(at.space.page(7)).unwrap();
    /// assert_eq!(entry.get(), Ok(Leaf::None));
    /// ```
    ///
    /// # Errors
    ///
    /// [`UnknownLeaf`]: the crate does not know this leaf, and leaves the entry alone.
    fn get(&self) -> Result<Leaf, UnknownLeaf>;

    /// Replaces the entry, in whatever encoding it has. The [reverse map](super::ReverseMap) is
    /// part of it: once this returns, the map finds the entry by the frame that `leaf` names.
    ///
    /// Where the entry is a large one, `leaf` names the frame for the address that was locked, and
    /// all of the entry is replaced.
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Marker};
    /// use pagelock::mm::{Entry, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut entry = mm.lock(at.space.page(7)).unwrap();
    /// entry.set(Leaf::Marker(Marker::Guard));
    /// assert_eq!(entry.get(), Ok(Leaf::Marker(Marker::Guard)));
    /// ```
    fn set(&mut self, leaf: Leaf);

    /// The entry as it was at last, before the caller replaces it by one that is not present.
    /// Afterwards nobody accesses the page through it, and the answer has what hardware has noted
    /// in the entry.
    ///
    /// Where hardware walks the table and sets bits by itself, this clears the entry in one step,
    /// flushes, and returns what the step found. Software tables need do nothing.
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    /// use pagelock::mm::{Entry, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// let Ok(Leaf::Present { tracking, .. }) = mm.lock(at).unwrap().take() else { panic!() };
    /// assert!(tracking.dirty); // it was written to
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    fn take(&mut self) -> Result<Leaf, UnknownLeaf> {
        self.get()
    }

    /// [`take`](Self::take) that may leave the flush to [`Tables::flush`], which follows before the
    /// page is copied or freed. Called in place of `take` for pages that move. The default is
    /// `take`, and so flushes each entry: safe, and slow where a flush is a shootdown.
    ///
    /// ```
    /// use pagelock::mm::{Entry, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// let taken = mm.lock(at).unwrap().take_unflushed();
    /// assert!(taken.is_ok());
    /// mm.flush(); // before anything relies on it
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    fn take_unflushed(&mut self) -> Result<Leaf, UnknownLeaf> {
        self.take()
    }

    /// The rights of a page that a migration puts here without a fault; `None` if no page may be
    /// put here. Asked of entries that say that nothing is here, or a frame of zeroes. The default
    /// is to write.
    ///
    /// ```
    /// use pagelock::leaf::Rights;
    /// use pagelock::mm::{Entry, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.lock(at.space.page(7)).unwrap().hole(), Some(Rights::Write));
    /// assert_eq!(mm.lock(at.space.page(20)).unwrap().hole(), None); // not mapped
    /// ```
    fn hole(&self) -> Option<Rights> {
        Some(Rights::Write)
    }

    /// Whether instructions may be fetched through the entry, if it is present. The default is that
    /// they may.
    ///
    /// ```
    /// use pagelock::mm::{Entry, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// assert!(mm.lock(at).unwrap().may_execute());
    /// ```
    fn may_execute(&self) -> bool {
        true
    }

    /// The number of pages that the entry is for, as a power of two (the page order). More than 0
    /// is a large entry, which maps so many frames in a row and owns one reference for all of them.
    ///
    /// ```
    /// use pagelock::mm::{Entry, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.map_large_hole(at.space.page(16), 3).unwrap();
    /// assert_eq!(mm.lock(at.space.page(18)).unwrap().order(), 3);
    /// assert_eq!(mm.lock(at).unwrap().order(), 0);
    /// ```
    fn order(&self) -> u32 {
        0
    }

    /// The distance, in pages, of the address that was locked from the first page of a large entry.
    ///
    /// ```
    /// use pagelock::mm::{Entry, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.map_large_hole(at.space.page(16), 3).unwrap();
    /// assert_eq!(mm.lock(at.space.page(18)).unwrap().offset(), 2);
    /// ```
    fn offset(&self) -> u64 {
        0
    }

    /// Replaces a large entry by one for each page, which say the same. Called only for entries
    /// that own no references: a migration entry whose page is about to be split, and an entry that
    /// says that nothing is here, or a frame of zeroes, where one page is needed. `false` if it
    /// cannot be done; then the page is not split, and the hole is not filled.
    ///
    /// ```
    /// use pagelock::mm::{Entry, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.map_large_hole(at.space.page(16), 3).unwrap();
    /// assert!(mm.lock(at.space.page(18)).unwrap().split());
    /// assert_eq!(mm.lock(at.space.page(18)).unwrap().order(), 0);
    /// ```
    fn split(&mut self) -> bool {
        false
    }
}
