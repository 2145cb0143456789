//! Page tables, as the crate sees them: entries behind page-table locks.

use crate::leaf::Rights;

/// Page tables with split locks.
pub trait Tables {
    /// Names an entry: a virtual address, a guest frame, a pair of table and index.
    type Address: Copy;

    /// An entry whose page-table lock (PTL) is held. Dropping it releases the lock.
    type Entry<'t>: Entry
    where
        Self: 't;

    /// Locks the PTL of the entry for `at`.
    ///
    /// It may be the lock of a whole table. While it is held, nobody else reads or writes the entry. The crate holds one PTL at a
    /// time and takes nothing that sleeps while it does.
    fn lock(&self, at: Self::Address) -> Self::Entry<'_>;

    /// The entry for `at` is about to lose its page, or to allow less: begin an invalidation in every [notifier](super::range::Notifier) for
    /// a range that it is in, and tell whoever has a copy of it. Called without any PTL. [`invalidated`](Self::invalidated) follows in any
    /// case.
    ///
    /// The crate calls this for what it does to entries itself. What the caller does to them (unmap, protect, move, copy on write) is the
    /// caller's to announce.
    fn invalidate(&self, at: Self::Address) {
        let _ = at;
    }

    /// The change to the entry for `at` is made: end those invalidations.
    fn invalidated(&self, at: Self::Address) {
        let _ = at;
    }
}

/// A locked entry.
pub trait Entry {
    /// The entry, in the encoding of [`Leaf`](crate::leaf::Leaf).
    fn get(&self) -> u64;

    /// Replaces the entry. Flushing translations that the old one has left behind is part of it, and so is the
    /// [reverse map](super::ReverseMap): once this returns, it finds the entry by the frame that `leaf` names.
    fn set(&mut self, leaf: u64);

    /// The entry as it was at last: afterwards nobody accesses the page through it, and what hardware has noted in it is in the answer.
    ///
    /// Called before a present entry is replaced by one that is not. Where hardware walks the table and sets bits by itself, this
    /// clears the entry in one step, flushes, and returns what the step found. Software tables need do nothing.
    fn take(&mut self) -> u64 {
        self.get()
    }

    /// What a page would be allowed that is put here though nobody has asked for it; `None` if none is to be. Asked for entries that
    /// say that nothing is here, or a frame of zeroes.
    fn hole(&self) -> Option<Rights> {
        Some(Rights::Write)
    }
}
