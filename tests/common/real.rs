//! The protocol over real memory: the pages of a region of the storm example, which userfaultfd
//! moves between two places.
//!
//! A page has two frames, one hot, one cold, and is in one of them. So where a page goes is not a
//! choice, and the stages of a migration are called one by one, with [`Real::twin`] for the
//! destination.

#[allow(dead_code, clippy::all)]
#[path = "../../examples/storm/region/mod.rs"]
pub(crate) mod region;

use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::leaf::{Leaf, Rights, Tracking, UnknownLeaf};
use pagelock::mm::drain::{NoBatches, Unlocked};
use pagelock::mm::migrate::{Abort, FaultPage, Order, Outcome, Slot, collect, collect_for_fault};
use pagelock::mm::{
    Access, Brought, CopyError, Entry, Faulter, Memory, ReverseMap, Span, Strategy, Tables, Tiers,
    ToRam, resolve,
};
use pagelock::{OsFutex, PageLock};
use region::{Kind, PAGE, Pretend, Region};
use std::sync::{Mutex, MutexGuard};

/// Where the processor can access a page, and where not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Hot,
    Cold,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct At {
    pub(crate) mapping: usize,
    pub(crate) page: usize,
}

/// Entries under one lock.
const SPLIT: usize = 8;

pub(crate) struct Real {
    region: Box<dyn Region>,
    tables: Vec<Vec<Mutex<[Leaf; SPLIT]>>>,
    /// First the hot frames', then the cold ones'.
    headers: Vec<PageLock>,
    /// Which frames are in use. Late to change: a frame is given back when its page has been let go
    /// of at the other one.
    is_used: Vec<AtomicBool>,
    /// Where the bytes of each page are. Written by the owner of the page's lock.
    is_cold: Vec<AtomicBool>,
    /// How often a thread waited in its fault handler.
    pub(crate) waits: AtomicUsize,
}

/// Memory whose pages trap, all of them hot; or why there is none.
pub(crate) fn open(kind: Kind, pages: usize) -> Result<Real, String> {
    let (region, missing) = region::open(kind, pages, Pretend::default());
    let region = region.ok_or_else(|| missing.unwrap_or_default())?;
    let mappings = region.mappings();
    let headers: Vec<_> = (0..2 * pages).map(|_| PageLock::new()).collect();
    for header in &headers[..pages] {
        header.activate(mappings as u32).unwrap();
    }
    let present = |page: usize| Leaf::Present {
        pfn: page as u64,
        rights: Rights::Write,
        tracking: Tracking::default(),
    };
    let table = |_| {
        (0..pages.div_ceil(SPLIT))
            .map(|n| Mutex::new(core::array::from_fn(|i| present(n * SPLIT + i))))
            .collect()
    };
    let flags = |n: usize, set: usize| (0..n).map(|i| AtomicBool::new(i < set)).collect();
    let (is_used, is_cold) = (flags(2 * pages, pages), flags(pages, 0));
    Ok(Real {
        region,
        tables: (0..mappings).map(table).collect(),
        headers,
        is_used,
        is_cold,
        waits: AtomicUsize::new(0),
    })
}

/// What the process's fault handler works on. One at a time: a handler is the process's.
static CURRENT: AtomicPtr<Real> = AtomicPtr::new(core::ptr::null_mut());
static TURN: Mutex<()> = Mutex::new(());

/// Has the faults of this process on `real`'s pages resolved while `body` runs.
pub(crate) fn handling_faults<R>(real: &Real, body: impl FnOnce() -> R) -> R {
    let _turn = TURN.lock().unwrap_or_else(|panicked| panicked.into_inner());
    // Release: pairs with the Acquire in the handler.
    CURRENT.store(core::ptr::from_ref(real).cast_mut(), Release);
    region::on_fault(on_fault).unwrap();
    let result = body();
    CURRENT.store(core::ptr::null_mut(), Release);
    result
}

/// Runs in the thread that trapped, at the instruction that did. Allocates nothing.
fn on_fault(addr: usize, write: bool) -> bool {
    // SAFETY: set while `handling_faults` borrows it, and the threads that trap end within its
    // body.
    let Some(real) = (unsafe { CURRENT.load(Acquire).as_ref() }) else { return false };
    let Some((mapping, page)) = real.region.locate(addr) else { return false };
    let mut faulter = Faulter::new(Strategy::Wait);
    let access = if write { Access::Write } else { Access::Read };
    let resolved = resolve(real, At { mapping, page }, access, &mut faulter).is_ok();
    real.waits.fetch_add(faulter.waits() as usize, Relaxed);
    resolved
}

impl Real {
    pub(crate) fn pages(&self) -> usize {
        self.region.pages()
    }

    pub(crate) fn describe(&self) -> String {
        self.region.describe()
    }

    /// A word of a page, through a mapping. Using it traps while the page is elsewhere.
    pub(crate) fn word(&self, at: At, word: usize) -> &AtomicU64 {
        assert!(at.page < self.pages() && word < PAGE / 8);
        // SAFETY: a word of the mapping, aligned, which lives as long as the region and is used by
        // atomics and the kernel only.
        unsafe {
            AtomicU64::from_ptr(
                self.region.base(at.mapping).cast::<u64>().add(at.page * (PAGE / 8) + word),
            )
        }
    }

    /// The other frame of a page.
    pub(crate) fn twin(&self, pfn: u64) -> u64 {
        let pages = self.pages() as u64;
        if pfn < pages { pfn + pages } else { pfn - pages }
    }

    /// The same, taken for a page that will go there. The page that last left may
    /// still have to give it back.
    fn destination(&self, src: Option<u64>) -> Result<u64, Abort> {
        let pfn = self.twin(src.ok_or(Abort::Declined)?);
        // Acquire: pairs with the Release in `free`.
        while self.is_used[pfn as usize].swap(true, Acquire) {
            std::thread::yield_now();
        }
        Ok(pfn)
    }

    fn page_of(&self, pfn: u64) -> usize {
        pfn as usize % self.pages()
    }

    /// Moves pages, and calls `pause` when their bytes are where they should be and their entries
    /// not yet.
    pub(crate) fn migrate<'m>(
        &'m self,
        slots: &mut [Slot<'m, Self>],
        to: Side,
        pause: impl FnOnce(),
    ) {
        let unlocked = &mut Unlocked::promise();
        let copied = collect(self, slots, &Order::to(to), unlocked)
            .unmap()
            .drain_local(&NoBatches)
            .check()
            .copy_to(|src, _| self.destination(src));
        pause();
        let _ = copied.finalize();
    }

    /// When all is quiet: every entry, count and lock is as it should be.
    pub(crate) fn audit(&self) {
        let mappings = self.tables.len();
        for page in 0..self.pages() {
            let is_cold = self.is_cold[page].load(Relaxed);
            let pfn = if is_cold { self.twin(page as u64) } else { page as u64 };
            for mapping in 0..mappings {
                let leaf = self.lock(At { mapping, page }).unwrap().get().unwrap();
                assert_eq!(leaf.pfn(), Some(pfn), "page {page}, mapping {mapping}: {leaf:?}");
                assert_eq!(
                    matches!(leaf, Leaf::Present { .. }),
                    !is_cold,
                    "page {page}, mapping {mapping}: {leaf:?}"
                );
            }
            let (live, free) =
                (&self.headers[pfn as usize], &self.headers[self.twin(pfn) as usize]);
            assert_eq!(
                (live.refs(), live.pins(), live.is_locked()),
                (mappings as u32, 0, false),
                "page {page}: {live:?}"
            );
            assert_eq!(
                (free.refs(), free.pins(), free.is_locked()),
                (0, 0, false),
                "page {page}: {free:?}"
            );
        }
    }

    /// To wherever the page is not.
    fn shift(&self, page: usize) -> std::io::Result<()> {
        let mappings = 0..self.region.mappings();
        if self.is_cold[page].load(Relaxed) {
            self.region.bring_back(page)?;
        } else {
            let out = mappings
                .clone()
                .try_for_each(|m| self.region.protect(m, page))
                .and_then(|()| self.region.push_out(page));
            if let Err(e) = out {
                mappings.clone().try_for_each(|m| self.region.unprotect(m, page))?;
                return Err(e);
            }
        }
        self.is_cold[page].fetch_xor(true, Relaxed);
        Ok(())
    }
}

pub(crate) struct Locked<'t>(MutexGuard<'t, [Leaf; SPLIT]>, usize);

impl Entry for Locked<'_> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        Ok(self.0[self.1])
    }

    fn set(&mut self, leaf: Leaf) {
        self.0[self.1] = leaf;
    }
}

impl Tables for Real {
    type Address = At;
    type Entry<'t> = Locked<'t>;

    fn lock(&self, at: At) -> Option<Locked<'_>> {
        let table = self.tables[at.mapping][at.page / SPLIT].lock();
        Some(Locked(table.unwrap_or_else(|panicked| panicked.into_inner()), at.page % SPLIT))
    }
}

impl ReverseMap for Real {
    fn each_mapping(&self, span: Span, mut visit: impl FnMut(At)) {
        let page = self.page_of(span.head);
        (0..self.tables.len()).for_each(|mapping| visit(At { mapping, page }));
    }
}

impl Memory for Real {
    type Futex = OsFutex;
    type Error = Outcome<()>;

    fn header(&self, pfn: u64) -> Option<&PageLock> {
        self.headers.get(pfn as usize)
    }

    fn migrate_to_ram(&self, request: ToRam<'_, At, OsFutex>) -> Result<Brought, Outcome<()>> {
        let ToRam { pfn, reference, page, .. } = request;
        let mut fault = FaultPage::new(page, reference);
        let mut slots = [Slot::frame(pfn)];
        let _ = collect_for_fault(self, &mut slots, &Order::to(Side::Hot), &mut fault)
            .unmap()
            .drain_local(&NoBatches)
            .check()
            .copy_to(|src, _| self.destination(src))
            .finalize();
        if fault.release() {
            self.free(pfn);
        }
        match slots[0].outcome() {
            outcome if outcome.is_done() => Ok(Brought::Back),
            outcome if outcome.is_transient() => Ok(Brought::Busy),
            outcome => Err(outcome),
        }
    }
}

impl Tiers for Real {
    type Tier = Side;
    type Refusal = ();

    fn tier(&self, pfn: u64) -> Side {
        if (pfn as usize) < self.pages() { Side::Hot } else { Side::Cold }
    }

    fn is_accessible(&self, side: Side) -> bool {
        side == Side::Hot
    }

    /// See the top: a page's destination is its other frame.
    fn allocate(&self, _side: Side, _order: u32) -> Option<u64> {
        None
    }

    /// A frame that is given back while the page's bytes are in it was a destination, of a
    /// migration that was given up.
    fn free(&self, pfn: u64) {
        let page = self.page_of(pfn);
        if self.is_cold[page].load(Relaxed) == (self.tier(pfn) == Side::Cold) {
            self.shift(page).unwrap();
        }
        self.is_used[pfn as usize].store(false, Release);
    }

    fn copy(&self, from: u64, to: u64) -> Result<(), CopyError> {
        assert_eq!(self.twin(from), to);
        self.shift(self.page_of(from)).map_err(|_| CopyError::Failed)
    }

    fn zero(&self, pfn: u64) {
        unreachable!("frame {pfn:#x}: there are no holes");
    }
}
