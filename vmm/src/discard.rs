//! Discarding pages: by the balloon, or because the process that maps them has removed them.
//!
//! A discard does not sleep for an owner. It notes its request beside the header, and then asks for
//! the page: either it gets it, or the owner's release tells, and the owner looks at the note
//! afterwards. A fetch looks at it before it puts bytes up, too. A caller that waits for the end
//! finds the answer in the same place.

use crate::inbox::Inbox;
use crate::owned::Owned;
use crate::place::Place;
use crate::region::{PATIENCE, Region};
use crate::seats::What;
use crate::stats::Counter;
use crate::trace;
use pagelock::Claim;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// Asked: the page goes, and reads as zeroes.
const DISCARD: u8 = 1;
/// Asked: the page was taken away by the process that maps it, and reads as zeroes.
const REMOVED: u8 = 2;
const ASKED: u8 = DISCARD | REMOVED;
/// Answered: a device's pin kept the page. Stays until the next request.
const PINNED: u8 = 4;
/// Answered: the system refused.
const FAILED: u8 = 8;

/// What came of a [discard](Region::discard), in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Discarded {
    /// Gone: they read as zeroes from now on.
    pub done: usize,
    /// They have owners, and go when those end, unless a device is faster to pin them; a fetch
    /// drops its bytes. 0 if the call has waited.
    pub left: usize,
    /// A device uses them. They stay as they are.
    pub pinned: usize,
    /// The system refused, or their contents are lost. They stay as they are.
    pub failed: usize,
}

pub(crate) enum Settled {
    Done,
    Left,
    /// A removal must be read first. The request stays.
    Again,
    Pinned,
    Failed,
}

impl Region {
    /// Throws the pages of `range` away: they read as zeroes from now on, and what the store has of
    /// them is not used again. Never sleeps for a page.
    ///
    /// A fetch that is under way is beaten: its bytes are dropped when they arrive. A page that is
    /// pinned stays, and is counted. To know when the last one is gone, use
    /// [`discard_blocking`](Self::discard_blocking) or [`discard_async`](Self::discard_async).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Filled;
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// let owner = region.prefetch(0..1).next().unwrap();
    /// let gone = region.discard(0..2);
    /// assert_eq!((gone.done, gone.left), (1, 1));
    /// // The fetch was beaten: its bytes are dropped.
    /// assert_eq!(owner.fill(&[7; 4096])?, Filled::Zeroes);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(self: &Arc<Self>, range: Range<usize>) -> Discarded {
        let mut sum = Discarded::default();
        for page in self.clamp(range) {
            sum.count(self.ask(page, DISCARD));
        }
        trace::discarded(self, &sum);
        sum
    }

    /// [`discard`](Self::discard), and returns when no page is [left](Discarded::left): each page
    /// is gone, or was kept. For a balloon, which gives the memory away next.
    ///
    /// It discards each page once: what the guest writes to a page that is gone already stays.
    /// Sleeps while others own a page, so it is not for a thread that serves faults, nor for one
    /// that owns a page of the range.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// let owner = region.prefetch(0..1).next().unwrap();
    /// let balloon = std::thread::spawn({
    ///     let region = region.clone();
    ///     move || region.discard_blocking(0..2)
    /// });
    /// drop(owner);
    /// assert_eq!(balloon.join().unwrap().done, 2);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard_blocking(self: &Arc<Self>, range: Range<usize>) -> Discarded {
        let mut sum = Discarded::default();
        for page in self.clamp(range) {
            let mut settled = self.ask(page, DISCARD);
            while matches!(settled, Settled::Left) {
                self.wait_released(page);
                settled = self.settle(page);
            }
            sum.count(settled);
        }
        trace::discarded(self, &sum);
        sum
    }

    /// [`discard_blocking`](Self::discard_blocking), as a task. If the future is dropped, pages
    /// that were asked for go all the same when their owners end.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Region;
    /// # async fn balloon(region: std::sync::Arc<Region>) {
    /// let gone = region.discard_async(0..512).await;
    /// assert_eq!((gone.left, gone.failed), (0, 0));
    /// # }
    /// ```
    pub async fn discard_async(self: &Arc<Self>, range: Range<usize>) -> Discarded {
        let mut sum = Discarded::default();
        for page in self.clamp(range) {
            let mut settled = self.ask(page, DISCARD);
            while matches!(settled, Settled::Left) {
                self.released(page).await;
                settled = self.settle(page);
            }
            sum.count(settled);
        }
        trace::discarded(self, &sum);
        sum
    }

    fn clamp(&self, range: Range<usize>) -> Range<usize> {
        range.start..range.end.min(self.pages())
    }

    /// The process that maps these host addresses removes them. The inbox calls this before
    /// anybody puts another page up.
    pub(crate) fn removed(self: &Arc<Self>, start: usize, end: usize) {
        let range = self.host_range();
        let (start, end) = (start.max(range.start), end.min(range.end));
        if start >= end {
            return;
        }
        let first = (start - range.start) / self.page_size();
        let last = (end - range.start).div_ceil(self.page_size());
        for page in first..last {
            let _ = self.ask(page, REMOVED);
        }
    }

    fn ask(self: &Arc<Self>, page: usize, what: u8) -> Settled {
        // Release: pairs with the Acquire of the owner that answers. An older answer goes: it is
        // of a request that came before this one. It always succeeds, having no condition.
        let _ = self.asked[page].fetch_update(Release, Relaxed, |was| Some(was & ASKED | what));
        // SeqCst: faces the one after a release. Either the release is seen below, and the page can
        // be had; or the owner sees what was asked.
        fence(SeqCst);
        self.settle(page)
    }

    /// After a release and a fence: does what was asked of `page`, if anything was.
    pub(crate) fn settle_released(self: &Arc<Self>, page: usize) {
        // Relaxed: ordered by the fence. What another thread is doing already needs nothing here.
        if self.asked[page].load(Relaxed) & ASKED != 0 {
            let _ = self.settle(page);
        }
    }

    /// After a fence: does what was asked of `page`. That nothing is asked any more does not say
    /// that it is done: another thread may be at it, which owns the page then. So the page is
    /// claimed in any case.
    fn settle(self: &Arc<Self>, page: usize) -> Settled {
        for _ in 0..PATIENCE {
            match self.try_settle(page) {
                // A thread that notes removals cannot read more of them. It notes one that concerns
                // this page as well, or another owner's release comes this way.
                Settled::Again if !Inbox::notes() && self.inbox.catch_up().is_ok() => {
                    std::thread::yield_now()
                }
                settled => return settled,
            }
        }
        Settled::Again
    }

    /// Does what was asked of `page`, unless it has an owner: then that owner does when it
    /// releases.
    fn try_settle(self: &Arc<Self>, page: usize) -> Settled {
        let Some(header) = self.headers.get(page) else { return Settled::Done };
        let guard = match header.claim() {
            Claim::Owner(guard) => guard,
            Claim::InFlight => return Settled::Left,
            // Lost, and lost it stays.
            _ => return Settled::Failed,
        };
        let mut owned = Owned::new(self, page, guard, What::Discard);
        // Acquire: pairs with the Release of `ask`. What was answered stays.
        let asked = self.asked[page].fetch_and(!ASKED, Acquire);
        if asked & ASKED == 0 {
            // Another thread has done it. Relaxed: it has owned the page, and so come before.
            return match self.asked[page].load(Relaxed) {
                answer if answer & PINNED != 0 => Settled::Pinned,
                answer if answer & FAILED != 0 => Settled::Failed,
                _ => Settled::Done,
            };
        }
        if owned.place() != Place::In {
            owned.set(Place::Discarded, false);
            self.counters.count(Counter::Discards);
            return Settled::Done;
        }
        if owned.freeze().is_err() {
            // Removed under a device's pin: the device goes on with memory that is nobody's. A
            // later fault finds no page and gets zeroes, so there is nothing to note.
            self.answered(page, PINNED);
            return Settled::Pinned;
        }
        if asked & REMOVED == 0 {
            match self.layer.drop_page(owned.at()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.not_answered(page, asked & ASKED);
                    return Settled::Again;
                }
                Err(_) => {
                    self.answered(page, FAILED);
                    return Settled::Failed;
                }
            }
        }
        owned.take_out(Place::Discarded);
        self.counters.count(Counter::Discards);
        Settled::Done
    }

    /// Whether a discard waits for the owner of `page`.
    pub(crate) fn is_asked(&self, page: usize) -> bool {
        // Acquire: what the asker did before is seen.
        self.asked[page].load(Acquire) & ASKED != 0
    }

    /// For the owner that is about to put up zeroes, which is all that can be asked, or a page that
    /// is newer than the request. A later request is one for the page that has come by that.
    pub(crate) fn answer(&self, page: usize) -> u8 {
        self.asked[page].swap(0, Acquire) & ASKED
    }

    /// It has not worked: the request stays.
    pub(crate) fn not_answered(&self, page: usize, asked: u8) {
        self.asked[page].fetch_or(asked, Release);
    }

    /// The page has come from behind the mapping: that is newer than a removal, which was over by
    /// then; a discard stays to be done.
    pub(crate) fn answered_by_newer(&self, page: usize, asked: u8) {
        self.not_answered(page, asked & DISCARD);
    }

    /// The owner has kept the page. Relaxed: read by a later owner of the page.
    fn answered(&self, page: usize, answer: u8) {
        self.asked[page].fetch_or(answer, Relaxed);
    }
}

impl Discarded {
    fn count(&mut self, settled: Settled) {
        match settled {
            Settled::Done => self.done += 1,
            Settled::Left => self.left += 1,
            Settled::Pinned => self.pinned += 1,
            Settled::Again | Settled::Failed => self.failed += 1,
        }
    }
}
