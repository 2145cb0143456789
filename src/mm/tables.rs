//! Page tables, as the crate sees them: entries behind page-table locks.

use crate::leaf::{Leaf, Rights, UnknownLeaf};

/// Page tables with split locks.
///
/// Only [`lock`](Self::lock) takes a PTL; the others are called without one. [All in one place]
/// (crate::mm#what-is-held-when-the-embedder-is-called): what is held, what may sleep, what each
/// must not do.
pub trait Tables {
    /// Names an entry: a virtual address, a guest frame, a pair of table and index.
    type Address: Copy + PartialEq;

    /// An entry whose page-table lock (PTL) is held. Dropping it releases the lock.
    type Entry<'t>: Entry
    where
        Self: 't;

    /// Locks the PTL of the entry for `at`. `None` if there is no table there: then nothing is
    /// mapped.
    ///
    /// It may be the lock of a whole table. While it is held, nobody else reads or writes the
    /// entry. The crate holds one PTL at a time and takes nothing that sleeps while it does.
    fn lock(&self, at: Self::Address) -> Option<Self::Entry<'_>>;

    /// Flushes the translations of all entries that [`Entry::take_unflushed`] has taken since the
    /// last call. Called once for a batch, with its pages locked and without any PTL: after this
    /// nobody accesses those pages. Memory whose [`Entry::take`] flushes has nothing to do here.
    ///
    /// The call comes from the thread that took them, since a batch stays with its thread. So each
    /// thread can keep a list of its own of what is pending.
    ///
    /// Between the taking and the flush a processor may still use what it has cached. So whoever
    /// lets an entry's reader rely on what a migration entry no longer allows (fork, write
    /// protection, unmap) flushes what is pending for that table first, as Linux does.
    fn flush(&self) {}

    /// The entry for `at`, and the large one that it is part of, is about to lose its page or to
    /// allow less: begin an invalidation in every [notifier](super::range::Notifier) for a range
    /// that it is in, and tell whoever has a copy of it, unless `notice` says that he has asked for
    /// it. Called without any PTL, and with a page's lock or without;
    /// [`invalidated`](Self::invalidated) follows in any case.
    ///
    /// The crate calls this for what it does to entries itself: once for each entry and each time
    /// that it takes a page away there. What the caller does to entries (unmap, protect, move, copy
    /// on write) is the caller's to announce.
    fn invalidate(&self, at: Self::Address, notice: Notice) {
        let _ = (at, notice);
    }

    /// The change to the entry for `at` is made: end those invalidations.
    fn invalidated(&self, at: Self::Address) {
        let _ = at;
    }
}

/// Why an entry is about to change, and for whom.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Notice {
    /// Why.
    pub cause: Cause,
    /// Whose order it is: the [`Order::owner`](super::migrate::Order::owner) of a migration, 0 for
    /// nobody's. A driver that moves pages itself need not be told of its own doing.
    pub owner: u64,
}

/// Why an entry is about to change.
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
/// Every method is called with its PTL held, and perhaps with page locks: none may sleep, take a
/// PTL or call the crate. See [the table](crate::mm#what-is-held-when-the-embedder-is-called).
///
/// What the embedder's entry has besides a leaf (a right to execute, a protection key, the kind of
/// caching) is the embedder's: it stays with the entry whatever leaf is set, also across a move.
pub trait Entry {
    /// What the entry says.
    ///
    /// Where the entry is a large one, the leaf names the frame at the address that was locked.
    ///
    /// # Errors
    ///
    /// [`UnknownLeaf`]: it is none that this crate knows, and is left alone.
    fn get(&self) -> Result<Leaf, UnknownLeaf>;

    /// Replaces the entry, in whatever encoding it has. The [reverse map](super::ReverseMap) is
    /// part of it: once this returns, it finds the entry by the frame that `leaf` names.
    ///
    /// Where the entry is a large one, `leaf` names the frame for the address that was locked, and
    /// all of the entry is replaced.
    fn set(&mut self, leaf: Leaf);

    /// The entry as it was at last, before it is replaced by one that is not present: afterwards
    /// nobody accesses the page through it, and what hardware has noted in it is in the answer.
    ///
    /// Where hardware walks the table and sets bits by itself, this clears the entry in one step,
    /// flushes, and returns what the step found. Software tables need do nothing.
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
    /// # Errors
    ///
    /// As [`get`](Self::get).
    fn take_unflushed(&mut self) -> Result<Leaf, UnknownLeaf> {
        self.take()
    }

    /// What a page would be allowed that is put here though nobody has asked for it; `None` if none
    /// is to be. Asked for entries that say that nothing is here, or a frame of zeroes.
    fn hole(&self) -> Option<Rights> {
        Some(Rights::Write)
    }

    /// Whether instructions may be fetched through the entry, if it is present.
    fn may_execute(&self) -> bool {
        true
    }

    /// How many pages the entry is for, as a power of two: more than 0 for a large entry, which
    /// maps so many frames in a row and owns one reference for all of them.
    fn order(&self) -> u32 {
        0
    }

    /// How many pages the address that was locked is behind the first of a large entry.
    fn offset(&self) -> u64 {
        0
    }

    /// Makes a large entry one for each page, saying the same. Asked only for entries that own no
    /// references: those for a page on its way, which is about to be split, and those that say that
    /// nothing is here, or a frame of zeroes, where one page is to be. `false` if it cannot be
    /// done; then the page is not split, and the hole is not filled.
    fn split(&mut self) -> bool {
        false
    }
}
