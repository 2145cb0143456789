//! Frames: header, reverse map, ledger, and which large page each is part of; and the tiers that
//! they are in.

use super::guarded::Guarded;
use super::{At, Kind, TierConfig, TierId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{
    AtomicU32, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::PageLock;
use pagelock::futex::Futex;
use pagelock::mm::Span;
use pagelock::mm::ledger::Owners;

#[derive(Debug)]
pub(super) struct Frame<F: Futex> {
    pub(super) header: PageLock<F>,
    pub(super) rmap: Guarded<Rmap>,
    pub(super) owners: Owners,
    pub(super) tier: TierId,
    /// How far back the first frame of its page is.
    back: AtomicU32,
    /// The page's order, at its first frame.
    order: AtomicU32,
    /// Whether it cannot be copied: for injection.
    pub(super) lost: AtomicU32,
    /// How many slots of the cache have the page.
    pub(super) cached: AtomicU32,
}

impl<F: Futex> Frame<F> {
    pub(super) fn new(futex: F, tier: TierId) -> Self {
        Self {
            header: PageLock::with_futex(futex),
            rmap: Guarded::new(Rmap::default()),
            owners: Owners::new(),
            tier,
            back: AtomicU32::new(0),
            order: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            cached: AtomicU32::new(0),
        }
    }
}

/// The large page that `pfn` is part of.
pub(super) fn span<F: Futex>(frames: &[Frame<F>], pfn: u64) -> Span {
    let Some(frame) = frame(frames, pfn) else { return Span { head: pfn, order: 0 } };
    // Acquire: pairs with `set_span`, so that a thread that finds a frame to be a page of its own
    // finds its header as the split left it.
    let head = pfn - u64::from(frame.back.load(Acquire));
    let order = self::frame(frames, head).map_or(0, |frame| frame.order.load(Acquire));
    Span { head, order }
}

/// Makes the frames of `span` one page.
pub(super) fn set_span<F: Futex>(frames: &[Frame<F>], span: Span) {
    for pfn in span.frames() {
        if let Some(frame) = frame(frames, pfn) {
            let back = u32::try_from(pfn - span.head).unwrap_or(0);
            frame.order.store(if back == 0 { span.order } else { 0 }, Release);
            // Release: pairs with `span`.
            frame.back.store(back, Release);
        }
    }
}

pub(super) fn frame<F: Futex>(frames: &[Frame<F>], pfn: u64) -> Option<&Frame<F>> {
    frames.get(usize::try_from(pfn).ok()?)
}

/// The entries that name a frame, in the order in which they came to do so. A walk that takes them
/// out takes the first.
#[derive(Debug, Default)]
pub(super) struct Rmap {
    next: u64,
    entries: VecDeque<(u64, At)>,
}

impl Rmap {
    pub(super) fn add(&mut self, at: At) {
        self.next += 1;
        self.entries.push_back((self.next, at));
    }

    pub(super) fn remove(&mut self, at: At) {
        if let Some(index) = self.entries.iter().position(|&(_, have)| have == at) {
            self.entries.remove(index);
        }
    }

    /// The first that came after number `last`.
    pub(super) fn after(&self, last: u64) -> Option<(u64, At)> {
        self.entries.get(self.entries.partition_point(|&(number, _)| number <= last)).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// A tier: a range of frames, those that are free, and what was made to fail.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) kind: Kind,
    pub(super) first: u64,
    pub(super) frames: usize,
    free: Guarded<Free>,
    /// How many allocations will fail.
    pub(super) fail_allocations: AtomicUsize,
    /// How many allocations of large pages will fail.
    pub(super) fail_large: AtomicUsize,
    /// How many copies into this tier will fail.
    pub(super) fail_copies: AtomicUsize,
}

#[derive(Debug)]
struct Free {
    /// Frames that were free when they were pushed: `is_free` decides.
    stack: Vec<u64>,
    is_free: Vec<bool>,
    count: usize,
}

impl Tier {
    /// The tier of frames `first..`, without frame 0, which is the frame of zeroes.
    pub(super) fn new(config: &TierConfig, first: u64) -> Self {
        let TierConfig { kind, frames } = *config;
        let is_zero = |i: usize| first == 0 && i == 0;
        let free = Free {
            stack: (0..frames).rev().filter(|&i| !is_zero(i)).map(|i| first + i as u64).collect(),
            is_free: (0..frames).map(|i| !is_zero(i)).collect(),
            count: frames - usize::from(frames > 0 && first == 0),
        };
        Self {
            kind,
            first,
            frames,
            free: Guarded::new(free),
            fail_allocations: AtomicUsize::new(0),
            fail_large: AtomicUsize::new(0),
            fail_copies: AtomicUsize::new(0),
        }
    }

    pub(super) fn free_frames(&self) -> usize {
        self.free.lock().count
    }

    pub(super) fn allocate(&self, order: u32) -> Option<u64> {
        if use_up(&self.fail_allocations) || order > 0 && use_up(&self.fail_large) {
            return None;
        }
        let mut free = self.free.lock();
        let free = &mut *free;
        let len = 1_usize.checked_shl(order)?;
        let index = if order == 0 {
            loop {
                let index = usize::try_from(free.stack.pop()? - self.first).ok()?;
                if free.is_free[index] {
                    break index;
                }
            }
        } else {
            // Aligned by number, as hardware has it.
            let skip =
                usize::try_from(self.first.next_multiple_of(len as u64) - self.first).ok()?;
            (skip..(self.frames + 1).saturating_sub(len))
                .step_by(len)
                .find(|&i| free.is_free[i..i + len].iter().all(|&f| f))?
        };
        free.is_free[index..index + len].fill(false);
        free.count -= len;
        Some(self.first + index as u64)
    }

    pub(super) fn free(&self, span: Span) {
        let mut free = self.free.lock();
        for pfn in span.frames() {
            let index = usize::try_from(pfn - self.first).unwrap_or(usize::MAX);
            debug_assert!(free.is_free.get(index) == Some(&false), "frame {pfn:#x} is freed twice");
            if let Some(is_free) = free.is_free.get_mut(index) {
                *is_free = true;
                free.stack.push(pfn);
                free.count += 1;
            }
        }
    }
}

/// Takes one off a count of failures to come, if there are any.
pub(super) fn use_up(count: &AtomicUsize) -> bool {
    // Relaxed: a test's own switch.
    count.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok()
}
