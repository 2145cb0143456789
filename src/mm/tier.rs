//! Tiers: where frames come from and go to, and how bytes move between them.

use super::migrate::Mode;
use super::{Memory, ReverseMap};
use crate::page::PageLock;
use core::fmt;

/// Kinds of memory, each with frames to allocate: fast and slow, ordinary and a device's own.
///
/// A method that only answers a question ([`tier`](Self::tier), [`span`](Self::span),
/// [`cached`](Self::cached), ..) may be called with a PTL held, and neither sleeps nor takes one;
/// so may [`prepare`](Self::prepare) with [`Mode::Async`]. A method that does something is called
/// without a PTL and with page locks, several at a time: it may wait for its own locks and its own
/// hardware, and for no page. The [table](crate::mm#what-is-held-when-the-embedder-is-called) has
/// each.
pub trait Tiers: Memory {
    /// Names a tier.
    type Tier: Copy + PartialEq;

    /// Why [`prepare`](Self::prepare) refuses a page; `()` or
    /// [`Infallible`](core::convert::Infallible) for embedders without a reason to name.
    type Refusal: Copy;

    /// The tier of frame `pfn`.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.tier(mm.frame_at(at).unwrap()), TierId(0));
    /// ```
    fn tier(&self, pfn: u64) -> Self::Tier;

    /// Whether the processor can access frames of `tier`. Decides whether a page that arrives there
    /// gets present or device-private entries.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// assert!(mm.is_accessible(TierId(0)) && !mm.is_accessible(TierId(1)));
    /// ```
    fn is_accessible(&self, tier: Self::Tier) -> bool;

    /// A free frame of `tier`, or the first of `1 << order` frames in a row and aligned: a large
    /// page. `None` if there is none.
    ///
    /// Its header has no references. The caller owns the frames, makes the header live and locks
    /// it. This must not sleep for a page's lock, nor free pages by migrating others: the caller
    /// owns locks.
    ///
    /// ```
    /// use pagelock::mm::{Memory, Tiers};
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let head = mm.allocate(TierId(1), 2).unwrap();
    /// assert_eq!((head % 4, mm.header(head).unwrap().refs()), (0, 0));
    /// mm.free(head);
    /// ```
    fn allocate(&self, tier: Self::Tier, order: u32) -> Option<u64>;

    /// [`allocate`](Self::allocate) for the page that is in frame `from` (the first of a large
    /// page), or for a hole. Called wherever the protocol needs a frame; for an embedder with a
    /// place for each page and not just any. The default does not look at `from`.
    ///
    /// The page at `from` is locked and frozen.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.allocate_for(TierId(1), 0, mm.frame_at(at)).unwrap();
    /// assert_eq!(mm.tier(pfn), TierId(1));
    /// # mm.free(pfn);
    /// ```
    fn allocate_for(&self, tier: Self::Tier, order: u32, from: Option<u64>) -> Option<u64> {
        let _ = from;
        self.allocate(tier, order)
    }

    /// Takes back what [`allocate`](Self::allocate) gave. The header has no references, and the
    /// caller does not hold its lock.
    ///
    /// A large page is given back as a whole, by its first frame.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let free = mm.free_frames(TierId(1));
    /// let pfn = mm.allocate(TierId(1), 0).unwrap();
    /// mm.free(pfn);
    /// assert_eq!(mm.free_frames(TierId(1)), free);
    /// ```
    fn free(&self, pfn: u64);

    /// Copies one frame to another. Nobody writes to the one or reads the other meanwhile.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let to = mm.allocate(TierId(1), 0).unwrap();
    /// mm.copy(mm.frame_at(at).unwrap(), to).unwrap();
    /// let mut bytes = [0; 5];
    /// mm.read_frame(to, 0, &mut bytes);
    /// assert_eq!(&bytes, b"hello");
    /// # mm.free(to);
    /// ```
    ///
    /// # Errors
    ///
    /// [`CopyError`] says whether the source is still whole.
    fn copy(&self, from: u64, to: u64) -> Result<(), CopyError>;

    /// Fills a frame with zeroes.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.zero(pfn);
    /// let mut bytes = [1; 5];
    /// mm.read(at, 0, &mut bytes).unwrap();
    /// assert_eq!(bytes, [0; 5]);
    /// ```
    fn zero(&self, pfn: u64);

    /// Whether `pfn` is a frame of zeroes that stands for pages never written to. It has no header
    /// that counts, and nothing to move. The default is that there is none.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// # let (mm, at) = pagelock_soft::example();
    /// let hole = at.space.page(7);
    /// mm.read(hole, 0, &mut [0]).unwrap();
    /// assert!(mm.is_zero_frame(mm.frame_at(hole).unwrap()));
    /// ```
    fn is_zero_frame(&self, pfn: u64) -> bool {
        let _ = pfn;
        false
    }

    /// The large page that frame `pfn` belongs to. The default is that every page has one frame.
    ///
    /// ```
    /// use pagelock::mm::{Span, Tiers};
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let head = mm.map_large(at.space.page(16), 3, TierId(0)).unwrap();
    /// assert_eq!(mm.span(head + 5), Span { head, order: 3 });
    /// ```
    fn span(&self, pfn: u64) -> Span {
        Span { head: pfn, order: 0 }
    }

    /// The header of frame `pfn` alone, whatever page it is part of. For a frame in the middle of a
    /// large page it is one that nobody uses, without references. The default is
    /// [`header`](Memory::header), for memory without large pages.
    ///
    /// ```
    /// use pagelock::mm::{Memory, Tiers};
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let head = mm.map_large(at.space.page(16), 3, TierId(0)).unwrap();
    /// assert_eq!(mm.header(head + 1).unwrap().refs(), 1); // the page's
    /// assert_eq!(mm.own_header(head + 1).unwrap().refs(), 0);
    /// ```
    fn own_header(&self, pfn: u64) -> Option<&PageLock<Self::Futex>> {
        self.header(pfn)
    }

    /// Makes the large page with the first frame `head` into pages of one frame each: from now on
    /// [`Memory::header`] gives every frame its own header, and [`span`](Self::span) says so.
    /// Called with all those headers locked and frozen. The default does nothing, for memory
    /// without large pages.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let head = mm.allocate(TierId(1), 1).unwrap();
    /// mm.split(head); // nobody else knows of it
    /// assert_eq!(mm.span(head).len(), 1);
    /// # mm.free(head);
    /// # mm.free(head + 1);
    /// ```
    fn split(&self, head: u64) {
        let _ = head;
    }

    /// Whether a page may move, asked with its lock held and before anything of it is changed. The
    /// default is that it may.
    ///
    /// The place for what the crate does not know of: writeback, private data, a kind of mapping
    /// that does not migrate. With [`Mode::Async`] a PTL may be held, and other pages' locks: the
    /// call takes nothing that sleeps, and refuses what it would have to wait for. Such a page is
    /// asked about again, alone and with the order's own mode. Then nothing else is held, and with
    /// [`Mode::Sync`] the call may sleep.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Outcome, Skip, Slot, migrate};
    /// use pagelock::mm::{Tiers, drain::Unlocked, migrate::Mode};
    /// use pagelock_soft::{Refusal, TierId};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.set_immovable(true);
    /// assert_eq!(mm.prepare(mm.frame_at(at).unwrap(), Mode::Async), Err(Refusal::Immovable));
    /// let mut slots = [Slot::at(at)];
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let _ = migrate(&mm, &mut slots, &Order::to(TierId(1)), &mm, &mut unlocked);
    /// assert_eq!(slots[0].outcome(), Outcome::Skipped(Skip::Refused(Refusal::Immovable)));
    /// ```
    ///
    /// # Errors
    ///
    /// The reason, which becomes the page's outcome.
    fn prepare(&self, pfn: u64, mode: Mode) -> Result<(), Self::Refusal> {
        let _ = (pfn, mode);
        Ok(())
    }

    /// The page in frame `from` is about to be in frame `to`: the place to move what the embedder
    /// keeps for each frame and belongs to the page (an index, a checksum, a list's links). Called
    /// with both pages locked, the first frozen, the bytes copied, no entry up yet, and without any
    /// PTL; it may wait for a lock of its own, and for no page. A large page comes once, by its
    /// first frames. The [bits](crate::PageLock::user) of the header travel by themselves. The
    /// default does nothing.
    ///
    /// ```
    /// use pagelock::mm::{drain::Unlocked, migrate::{Order, Slot, migrate}};
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let (send, moved) = std::sync::mpsc::channel();
    /// mm.on_moved(move |from, to| send.send((from, to)).unwrap()); // what `moved` calls here
    /// let from = mm.frame_at(at).unwrap();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let _ = migrate(&mm, &mut [Slot::at(at)], &Order::to(TierId(1)), &mm, &mut unlocked);
    /// assert_eq!(moved.try_recv(), Ok((from, mm.frame_at(at).unwrap())));
    /// ```
    fn moved(&self, from: u64, to: u64) {
        let _ = (from, to);
    }

    /// Called between two batches, and between two pages that are tried one by one, with nothing
    /// held: the place to let other threads run. The default does nothing.
    ///
    /// ```
    /// use pagelock::mm::{drain::Unlocked, migrate::{Order, Slot, migrate}};
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let (send, rests) = std::sync::mpsc::channel();
    /// mm.on_rest(move || send.send(()).unwrap()); // what `rest` calls here
    /// let mut slots: Vec<_> = at.pages(4).map(Slot::at).collect();
    /// let order = Order::to(TierId(1)).batch(2);
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// assert_eq!(migrate(&mm, &mut slots, &order, &mm, &mut unlocked).done, 4);
    /// assert_eq!(rests.try_iter().count(), 1);
    /// ```
    fn rest(&self) {}

    /// How many references of the page at `pfn` belong to a cache that
    /// [`move_cached`](Self::move_cached) can move. The default is none.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.cache(100, pfn).unwrap(); // found by the number 100, with a reference
    /// assert_eq!(mm.cached(pfn), 1);
    /// # mm.uncache(100);
    /// ```
    fn cached(&self, pfn: u64) -> u32 {
        let _ = pfn;
        0
    }

    /// Makes the cache find `to` in all the places where it found `from`, which is frozen, if those
    /// places are still `expected`, the caller's [`cached`](Self::cached) count. It compares and
    /// changes them in one step, under the cache's lock. `false`: there are fewer or more by now,
    /// and nothing was done. The default is for memory without a cache.
    ///
    /// The references are the caller's to move. `to` has those of the cache already, so that a
    /// place which is emptied right after this has one to put; `from` keeps its own until the
    /// caller puts them.
    ///
    /// ```
    /// use pagelock::mm::{Tiers, drain::Unlocked, migrate::{Order, Slot, migrate}};
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.cache(100, mm.frame_at(at).unwrap()).unwrap();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let order = Order::to(TierId(1));
    /// assert_eq!(migrate(&mm, &mut [Slot::at(at)], &order, &mm, &mut unlocked).done, 1);
    /// assert_eq!(mm.cached_at(100), mm.frame_at(at)); // by `move_cached`
    /// ```
    fn move_cached(&self, from: u64, to: u64, expected: u32) -> bool {
        let _ = (from, to, expected);
        true
    }
}

/// Everything that the protocol needs: tables, reverse map, frames, tiers. Implemented for every
/// type that has them.
pub trait Mm: Memory + ReverseMap + Tiers {}

impl<M: Memory + ReverseMap + Tiers> Mm for M {}

/// A page of `1 << order` frames in a row, all with one header.
///
/// ```
/// use pagelock::mm::Span;
/// let huge = Span { head: 512, order: 9 };
/// assert_eq!(huge.frames(), 512..1024);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    /// The first frame.
    pub head: u64,
    /// The number of frames, as a power of two (the page order); 0 for an ordinary page.
    pub order: u32,
}

impl Span {
    /// The number of frames.
    ///
    /// ```
    /// assert_eq!(pagelock::mm::Span { head: 8, order: 3 }.len(), 8);
    /// ```
    #[must_use]
    pub fn len(self) -> u64 {
        1 << self.order
    }

    /// `false`: a page has at least one frame.
    ///
    /// ```
    /// assert!(!pagelock::mm::Span { head: 8, order: 0 }.is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(self) -> bool {
        false
    }

    /// Whether `pfn` is one of its frames.
    ///
    /// ```
    /// let span = pagelock::mm::Span { head: 8, order: 3 };
    /// assert!(span.contains(15) && !span.contains(16));
    /// ```
    #[must_use]
    pub fn contains(self, pfn: u64) -> bool {
        pfn >= self.head && pfn - self.head < self.len()
    }

    /// The numbers of its frames.
    ///
    /// ```
    /// assert_eq!(pagelock::mm::Span { head: 8, order: 1 }.frames(), 8..10);
    /// ```
    pub fn frames(self) -> core::ops::Range<u64> {
        self.head..self.head + self.len()
    }
}

/// Why a frame was not copied.
///
/// ```
/// use pagelock::mm::{CopyError, Tiers};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// # let to = mm.allocate(TierId(1), 0).unwrap();
/// let pfn = mm.frame_at(at).unwrap();
/// mm.fail_copies(TierId(1), 1);
/// assert_eq!(mm.copy(pfn, to), Err(CopyError::Failed));
/// mm.set_lost(pfn, true);
/// assert_eq!(mm.copy(pfn, to), Err(CopyError::SourceLost));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CopyError {
    /// The copy failed; the source is whole.
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
