//! Discarding pages: by the balloon, or because whoever maps them has removed them.
//!
//! A discard does not sleep for an owner. It notes what it wants of the page beside the header,
//! and then asks for the page: either it gets it, or the owner's release tells, and the
//! owner looks at the note afterwards. A fetch looks at it before it puts bytes up, too.

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

/// The page is to be dropped, and to read as zeroes.
const DISCARD: u8 = 1;
/// The page was taken away by whoever maps it; it reads as zeroes.
const REMOVED: u8 = 2;

/// What came of a [discard](Region::discard), in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Discarded {
    /// Gone: they read as zeroes from now on.
    pub done: usize,
    /// Somebody owns them, and they go when that ends, unless a device is faster to pin them; a
    /// fetch drops its bytes.
    pub left: usize,
    /// A device uses them. They stay as they are.
    pub pinned: usize,
    /// The system refused. They stay as they are.
    pub failed: usize,
}

pub(crate) enum Settled {
    Done,
    Left,
    /// A removal has to be read first. What was asked stays to be done.
    Again,
    Pinned,
    Failed,
}

impl Region {
    /// Throws the pages of `range` away: they read as zeroes from now on, and what the store has of
    /// them is not used again. Never sleeps for a page.
    ///
    /// A fetch that is under way is beaten: its bytes are dropped when they arrive. A page that is
    /// pinned stays, and is counted.
    pub fn discard(self: &Arc<Self>, range: Range<usize>) -> Discarded {
        let mut sum = Discarded::default();
        for page in range.start..range.end.min(self.pages()) {
            match self.ask(page, DISCARD) {
                Settled::Done => sum.done += 1,
                Settled::Left => sum.left += 1,
                Settled::Pinned => sum.pinned += 1,
                Settled::Again | Settled::Failed => sum.failed += 1,
            }
        }
        trace::discarded(self, &sum);
        sum
    }

    /// Whoever maps these host addresses removes them. The inbox calls this before anybody puts
    /// another page up.
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
        // Release: pairs with the Acquire of who answers.
        self.asked[page].fetch_or(what, Release);
        // SeqCst: faces the one after a release. Either the release is seen below, and the page can
        // be had; or the owner sees what was asked.
        fence(SeqCst);
        self.settle(page)
    }

    /// After a release and a fence: does what was asked of `page`, if anything was.
    pub(crate) fn settle_released(self: &Arc<Self>, page: usize) {
        // Relaxed: ordered by the fence. What another one is doing already needs nothing here.
        if self.asked[page].load(Relaxed) != 0 {
            let _ = self.settle(page);
        }
    }

    /// After a fence: does what was asked of `page`. That nothing is asked any more does not say
    /// that it is done: somebody may be at it, who owns the page then. So it is claimed in any
    /// case.
    fn settle(self: &Arc<Self>, page: usize) -> Settled {
        for _ in 0..PATIENCE {
            match self.try_settle(page) {
                // Who notes removals cannot read more of them. It notes one that concerns this page
                // as well, or somebody else's release comes this way.
                Settled::Again if !Inbox::notes() && self.inbox.catch_up().is_ok() => {
                    std::thread::yield_now()
                }
                settled => return settled,
            }
        }
        Settled::Again
    }

    /// Does what was asked of `page`, unless somebody owns it: then that one does when it releases.
    fn try_settle(self: &Arc<Self>, page: usize) -> Settled {
        let Some(header) = self.headers.get(page) else { return Settled::Done };
        let guard = match header.claim() {
            Claim::Owner(guard) => guard,
            Claim::InFlight => return Settled::Left,
            // Lost, and lost it stays.
            _ => return Settled::Done,
        };
        let mut owned = Owned::new(self, page, guard, What::Discard);
        // Acquire: pairs with the Release of who has asked.
        let asked = self.asked[page].swap(0, Acquire);
        if asked == 0 {
            return Settled::Done;
        }
        if owned.place() != Place::In {
            owned.set(Place::Discarded, false);
            self.counters.count(Counter::Discards);
            return Settled::Done;
        }
        if owned.freeze().is_err() {
            // Removed under a device's pin: the device goes on with memory that is nobody's. A
            // later fault finds no page and gets zeroes, so nothing is to be noted.
            return Settled::Pinned;
        }
        if asked & REMOVED == 0 {
            match self.layer.drop_page(owned.at()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.not_answered(page, asked);
                    return Settled::Again;
                }
                Err(_) => return Settled::Failed,
            }
        }
        owned.take_out(Place::Discarded);
        self.counters.count(Counter::Discards);
        Settled::Done
    }

    /// Whether a discard waits for the owner of `page`.
    pub(crate) fn is_asked(&self, page: usize) -> bool {
        // Acquire: what the asker did before is seen.
        self.asked[page].load(Acquire) != 0
    }

    /// For the owner, who is about to put up zeroes: what was asked, which is nothing else. What is
    /// asked from now on is asked of the page that has come by that.
    pub(crate) fn answer(&self, page: usize) -> u8 {
        self.asked[page].swap(0, Acquire)
    }

    /// It has not worked: what was asked stays to be done.
    pub(crate) fn not_answered(&self, page: usize, asked: u8) {
        self.asked[page].fetch_or(asked, Release);
    }
}
