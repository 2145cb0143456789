//! The crate's traits over real memory. *The part to copy.*
//!
//! A page has a place of its own at every mapping, so its frame says which tier it is in and no
//! more, and to copy it from one frame to another is to have the [region](crate::region) move it
//! out or back.

use crate::frames::Frames;
use crate::ledger::WORDS;
use crate::machine::{COLD, HOT, Machine, at};
use crate::region::{PAGE, Region};
use crate::tables::{Locked, PageTables};
use pagelock::mm::drain::NoBatches;
use pagelock::mm::migrate::{Outcome, bring_back};
use pagelock::mm::{Brought, CopyError, Memory, ReverseMap, Span, Tables, Tiers, ToRam};
use pagelock::{OsFutex, PageLock};
use pagelock_soft::{At, TierId};
use std::collections::TryReserveError;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub struct Real {
    pub region: Box<dyn Region>,
    tables: PageTables,
    frames: Frames,
}

impl Real {
    /// The memory manager of a region, all of which is hot.
    pub fn new(region: Box<dyn Region>) -> Result<Self, TryReserveError> {
        let (mappings, pages) = (region.mappings(), region.pages());
        Ok(Self {
            tables: PageTables::new(mappings, pages)?,
            frames: Frames::new(pages, mappings as u32)?,
            region,
        })
    }

    /// Hot to cold. Stores are stopped in every mapping first, and go on if the page has to stay.
    fn push_out(&self, page: usize) -> io::Result<()> {
        let mut mappings = 0..self.region.mappings();
        let out = mappings
            .try_for_each(|mapping| self.region.protect(mapping, page))
            .and_then(|()| self.region.push_out(page));
        if out.is_err() {
            (0..self.region.mappings())
                .try_for_each(|mapping| self.region.unprotect(mapping, page))?;
        }
        out
    }
}

impl Tables for Real {
    type Address = At;
    type Entry<'t> = Locked<'t>;

    fn lock(&self, at: At) -> Option<Locked<'_>> {
        Some(self.tables.lock(at))
    }
}

impl ReverseMap for Real {
    /// The same place in every mapping. None are made or go.
    fn each_mapping(&self, span: Span, visit: impl FnMut(At)) {
        let page = self.frames.page(span.head);
        (0..self.region.mappings()).map(|mapping| at(mapping, page)).for_each(visit);
    }
}

impl Memory for Real {
    type Futex = OsFutex;
    type Error = Outcome<Infallible>;

    fn header(&self, pfn: u64) -> Option<&PageLock> {
        self.frames.header(pfn)
    }

    fn migrate_to_ram(
        &self,
        request: ToRam<'_, At, OsFutex>,
    ) -> Result<Brought, Outcome<Infallible>> {
        bring_back(self, request, HOT, &NoBatches)
    }
}

impl Tiers for Real {
    type Tier = TierId;
    type Refusal = Infallible;

    fn tier(&self, pfn: u64) -> TierId {
        self.frames.tier(pfn)
    }

    fn is_accessible(&self, tier: TierId) -> bool {
        tier == HOT
    }

    /// A frame is for a page that there is.
    fn allocate(&self, _tier: TierId, _order: u32) -> Option<u64> {
        None
    }

    fn allocate_for(&self, tier: TierId, _order: u32, from: Option<u64>) -> Option<u64> {
        self.frames.allocate(tier, self.frames.page(from?))
    }

    fn free(&self, pfn: u64) {
        self.frames.give_back(pfn);
    }

    /// The page is gone from where it was: nothing else of the migration can fail after this.
    fn copy(&self, from: u64, _to: u64) -> Result<(), CopyError> {
        let page = self.frames.page(from);
        let moved =
            if self.tier(from) == HOT { self.push_out(page) } else { self.region.bring_back(page) };
        moved.map_err(|_| CopyError::Failed)
    }

    /// There are no holes.
    fn zero(&self, _pfn: u64) {}
}

impl Machine for Real {
    fn describe(&self) -> String {
        self.region.describe()
    }

    fn traps(&self) -> bool {
        true
    }

    fn retries(&self) -> u64 {
        self.region.retries()
    }

    fn touch(&self, at: At, word: usize, add: Option<usize>) -> Option<usize> {
        let addr = self.region.base(at.space.0 as usize).cast::<usize>();
        // SAFETY: the mapping has that many words, aligned, and lives as long as the region. All
        // threads access it by atomics; where the page is not there, the access traps and is
        // repeated once it is.
        let word = unsafe { AtomicUsize::from_ptr(addr.add(at.page * (WORDS) + word)) };
        Some(match add {
            Some(add) => word.fetch_add(add, Relaxed),
            None => word.load(Relaxed),
        })
    }

    fn read_page(&self, page: usize, pfn: u64, out: &mut [u8; PAGE]) -> io::Result<()> {
        if self.frames.page(pfn) != page {
            return Err(io::Error::other(format!(
                "frame {pfn} is for page {}",
                self.frames.page(pfn)
            )));
        }
        self.region.read_page(page, self.tier(pfn) == COLD, out)
    }

    fn audit(&self) -> Result<(), String> {
        match self.frames.count() - self.region.pages() {
            free if free == self.frames.count_free() => Ok(()),
            free => {
                Err(format!("{free} frames are unused, and {} are free", self.frames.count_free()))
            }
        }
    }
}
