//! Tiers: where frames come from and go to, and how bytes move between them.

use super::migrate::Mode;
use super::{Memory, ReverseMap};
use crate::page::PageLock;
use core::fmt;

/// Kinds of memory, each with frames to allocate: fast and slow, ordinary and a device's own.
///
/// What only answers a question ([`tier`](Self::tier), [`span`](Self::span),
/// [`cached`](Self::cached), ..) may be asked with a PTL held, and neither sleeps nor takes one; so
/// may [`prepare`](Self::prepare) with [`Mode::Async`]. What does something is called without a PTL
/// and with page locks, several at a time: it may wait for its own locks and its own hardware, and
/// for no page. [The table] (crate::mm#what-is-held-when-the-embedder-is-called) has each.
pub trait Tiers: Memory {
    /// Names a tier.
    type Tier: Copy + PartialEq;

    /// Why [`prepare`](Self::prepare) refuses a page; `()` or
    /// [`Infallible`](core::convert::Infallible) for who has no reason.
    type Refusal: Copy;

    /// The tier of frame `pfn`.
    fn tier(&self, pfn: u64) -> Self::Tier;

    /// Whether the processor can access frames of `tier`. Decides whether a page that arrives there
    /// gets present or device-private entries.
    fn is_accessible(&self, tier: Self::Tier) -> bool;

    /// A free frame of `tier`, or the first of `1 << order` in a row and aligned: a large page.
    /// `None` if there is none.
    ///
    /// Its header has no references. The frames are the caller's, who makes the header live and
    /// locks it. Must not sleep for a page's lock, nor free pages by migrating others: the caller
    /// owns locks.
    fn allocate(&self, tier: Self::Tier, order: u32) -> Option<u64>;

    /// [`allocate`](Self::allocate) for the page that is in the frame (the first of a large page)
    /// `from`, or for a hole. Asked wherever the protocol needs a frame; for who has a place for
    /// each page and not just any.
    ///
    /// The page at `from` is locked and frozen.
    fn allocate_for(&self, tier: Self::Tier, order: u32, from: Option<u64>) -> Option<u64> {
        let _ = from;
        self.allocate(tier, order)
    }

    /// Takes back what [`allocate`](Self::allocate) gave. The header has no references, and its
    /// lock is not held by the caller.
    ///
    /// A large page is given back as a whole, by its first frame.
    fn free(&self, pfn: u64);

    /// Copies one frame to another. Nobody writes to the one or reads the other meanwhile.
    ///
    /// # Errors
    ///
    /// [`CopyError`] says whether the source is still whole.
    fn copy(&self, from: u64, to: u64) -> Result<(), CopyError>;

    /// Fills a frame with zeroes.
    fn zero(&self, pfn: u64);

    /// Whether `pfn` is a frame of zeroes that stands for pages never written to. It has no header
    /// that counts, and nothing to move.
    fn is_zero_frame(&self, pfn: u64) -> bool {
        let _ = pfn;
        false
    }

    /// The large page that frame `pfn` belongs to.
    fn span(&self, pfn: u64) -> Span {
        Span { head: pfn, order: 0 }
    }

    /// The header of frame `pfn` alone, whatever page it is part of. For a frame in the middle of a
    /// large page it is one that nobody uses, without references.
    fn own_header(&self, pfn: u64) -> Option<&PageLock<Self::Futex>> {
        self.header(pfn)
    }

    /// Makes the large page with the first frame `head` into pages of one frame each: from now on
    /// [`Memory::header`] gives every frame its own header, and [`span`](Self::span) says so.
    /// Called with all those headers locked and frozen.
    fn split(&self, head: u64) {
        let _ = head;
    }

    /// Asked before anything of a page is changed, with its lock held: may it move?
    ///
    /// The place for what the crate does not know of: writeback, private data, a kind of mapping
    /// that does not migrate. With [`Mode::Async`] a PTL may be held, and other pages' locks: it
    /// takes nothing that sleeps, and refuses what would have to be waited for. Such a page is
    /// asked about again, alone and with the order's own mode. Then nothing else is held, and with
    /// [`Mode::Sync`] it may sleep.
    ///
    /// # Errors
    ///
    /// The reason, which becomes the page's outcome.
    fn prepare(&self, pfn: u64, mode: Mode) -> Result<(), Self::Refusal> {
        let _ = (pfn, mode);
        Ok(())
    }

    /// The page in frame `from` is about to be in frame `to`: the place for whatever the embedder
    /// keeps for each frame and belongs to the page (an index, a checksum, a list's links). Called
    /// with both pages locked, the first frozen, the bytes copied, no entry up yet, and without any
    /// PTL; may wait for a lock of its own, and for no page. A large page comes once, by its first
    /// frames. The [bits](crate::PageLock::user) of the header travel by themselves.
    fn moved(&self, from: u64, to: u64) {
        let _ = (from, to);
    }

    /// Called between two batches, and between two pages that are tried one by one, with nothing
    /// held: the place to give way to others.
    fn rest(&self) {}

    /// How many references of the page at `pfn` are held by a cache that
    /// [`move_cached`](Self::move_cached) can move.
    fn cached(&self, pfn: u64) -> u32 {
        let _ = pfn;
        0
    }

    /// Makes the cache find `to` in all the places where it found `from`, which is frozen, if those
    /// are still `expected`, and of the caller's [`cached`](Self::cached) references: both are
    /// looked at and changed in one step, under whatever lock the cache has. `false` if there are
    /// fewer or more by now, and nothing was done.
    ///
    /// The references are the caller's to move. `to` has those of the cache already, so that a
    /// place which is emptied right after this has one to put; `from` has them until the caller
    /// puts them.
    fn move_cached(&self, from: u64, to: u64, expected: u32) -> bool {
        let _ = (from, to, expected);
        true
    }
}

/// Everything that the protocol needs: tables, reverse map, frames, tiers. Implemented by whatever
/// has them.
pub trait Mm: Memory + ReverseMap + Tiers {}

impl<M: Memory + ReverseMap + Tiers> Mm for M {}

/// A page of `1 << order` frames in a row, all with one header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    /// The first frame.
    pub head: u64,
    /// How many there are, as a power of two; 0 for an ordinary page.
    pub order: u32,
}

impl Span {
    /// How many frames.
    #[must_use]
    pub fn len(self) -> u64 {
        1 << self.order
    }

    /// Never.
    #[must_use]
    pub fn is_empty(self) -> bool {
        false
    }

    /// Whether `pfn` is one of them.
    #[must_use]
    pub fn contains(self, pfn: u64) -> bool {
        pfn >= self.head && pfn - self.head < self.len()
    }

    /// Their numbers.
    pub fn frames(self) -> core::ops::Range<u64> {
        self.head..self.head + self.len()
    }
}

/// Why a frame was not copied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CopyError {
    /// It did not work; the source is whole.
    Failed,
    /// The source cannot be read: its contents are lost.
    SourceLost,
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "the copy failed",
            Self::SourceLost => "the source of the copy cannot be read",
        })
    }
}

impl core::error::Error for CopyError {}
