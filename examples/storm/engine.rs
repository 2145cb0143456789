//! Page tables, headers and memory put together: the traits that the crate's fault path wants, and both directions of migration.
//!
//! A page has one header, whichever tier it is in. Its references are one for each entry that maps it, and one for whoever is at
//! work on it. Whoever changes a page's entries owns its lock.

use crate::counters::Counters;
use crate::options::{Drain as Order, Plan};
use crate::region::Region;
use crate::tables::{At, Locked, PageTables, decode, encode};
use pagelock::leaf::Leaf;
use pagelock::mm::{Access, Entry, Fault, FaultError, Faulter, Memory, Strategy, Tables, ToRam, fault, resolve};
use pagelock::{Busy, FreezeRule, Migration, OsFutex, PageLock, PageRef};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

pub struct Engine {
    pub region: Box<dyn Region>,
    pub tables: PageTables,
    pub headers: Vec<PageLock>,
    pub plan: Plan,
    pub counters: Counters,
    /// The time is up. Faults that are still unresolved are waited for properly, whatever the strategy, so that all threads end.
    pub stop: AtomicBool,
}

/// Which way a page goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Out,
    Back,
}

/// A page that the migrator has taken for a batch: locked, and no more than its first mapping's entry replaced.
struct Collected<'e> {
    page: usize,
    way: Way,
    migration: Migration<'e>,
    reference: PageRef<'e>,
}

impl Engine {
    pub fn new(region: Box<dyn Region>, plan: Plan) -> Self {
        let (mappings, pages) = (region.mappings(), region.pages());
        let headers: Vec<PageLock> = (0..pages).map(|_| PageLock::new()).collect();
        for header in &headers {
            header.activate(mappings as u32).expect("a fresh header is free");
        }
        Self {
            tables: PageTables::new(mappings, pages),
            headers,
            plan,
            counters: Counters::default(),
            stop: AtomicBool::new(false),
            region,
        }
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    fn strategy(&self) -> Strategy {
        if self.stopped() { Strategy::Wait } else { self.plan.strategy }
    }

    /// One access that trapped, or would have. Afterwards the access is to be made again.
    pub fn fault(&self, at: At, access: Access) -> Result<(), FaultError<io::Error>> {
        let mut faulter = Faulter::new(self.strategy());
        let outcome = match self.strategy() {
            // Counts its waits across attempts, so it has to make all of them here.
            Strategy::WaitThenLock { .. } => {
                let outcome = resolve(self, at, access, &mut faulter)?;
                self.counters.retries.add(u64::from(faulter.waits()));
                outcome
            }
            _ => fault(self, at, access, &mut faulter)?,
        };
        if matches!(outcome, Fault::Retry(_)) {
            self.counters.retries.add(1);
        }
        Ok(())
    }

    /// Adds `add` to a word through a mapping, or reads it, however often that faults. The word is one of the region's.
    pub fn access(&self, at: At, word: usize, add: Option<u64>) -> Result<u64, FaultError<io::Error>> {
        let touch = || {
            let addr = self.region.base(at.mapping).cast::<u64>();
            let index = at.page * (crate::region::PAGE / 8) + word;
            // SAFETY: the mapping has that many words, aligned, and lives as long as the region. All threads access it by
            // atomics; where the page is not there, the access traps and is repeated once it is.
            let word = unsafe { AtomicU64::from_ptr(addr.add(index)) };
            match add {
                Some(add) => word.fetch_add(add, Relaxed),
                None => word.load(Relaxed),
            }
        };
        if self.region.traps() {
            return Ok(touch());
        }
        let access = if add.is_some() { Access::Write } else { Access::Read };
        loop {
            // Nothing traps, so the entry is asked, and the page kept from leaving by the entry's lock.
            let entry = self.tables.lock(at);
            if matches!(decode(entry.get()), Leaf::Present { .. }) {
                return Ok(touch());
            }
            drop(entry);
            super::worker::count_fault();
            self.fault(at, access)?;
        }
    }

    fn mappings(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.region.mappings()
    }

    /// Replaces a page's entry in one mapping.
    fn replace(&self, at: At, with: impl FnOnce(Leaf) -> Option<Leaf>) {
        let mut entry = self.tables.lock(at);
        if let Some(leaf) = with(decode(entry.get())) {
            entry.set(encode(leaf));
        }
    }

    /// Puts up entries in every mapping that say where the page is.
    fn put_up(&self, page: usize, way: Way) {
        let pfn = page as u64;
        for mapping in self.mappings() {
            self.replace(At { mapping, page }, |leaf| match way {
                Way::Out => leaf.to_device_private(pfn),
                Way::Back => leaf.to_present(pfn),
            });
        }
    }

    /// Takes down every mapping, freezes, moves, puts up the entries of the other side, commits. The page's lock is released in any
    /// case.
    ///
    /// `reference` is whoever is at work's own. It is put *before* the lock is released: put after, it would be one too many
    /// for the next one who locks the page.
    fn migrate(&self, page: usize, way: Way, migration: Migration<'_>, reference: Option<PageRef<'_>>) -> io::Result<bool> {
        let references = self.region.mappings() as u32 + u32::from(reference.is_some());
        for mapping in self.mappings() {
            self.replace(At { mapping, page }, Leaf::to_migration);
        }
        let origin = match way {
            Way::Out => Way::Back,
            Way::Back => Way::Out,
        };
        let frozen = match migration.freeze(FreezeRule::ExactRefs(references)) {
            Ok(frozen) => frozen,
            Err(busy) => {
                self.count_busy(&busy);
                self.put_up(page, origin);
                drop(reference);
                busy.into_migration().abort();
                return Ok(false);
            }
        };
        match self.move_bytes(page, way) {
            Ok(()) => {
                self.put_up(page, way);
                drop(reference);
                frozen.commit_in_place();
                Ok(true)
            }
            Err(e) => {
                self.counters.aborted_system.add(1);
                self.put_up(page, origin);
                drop(reference);
                frozen.abort();
                Err(e)
            }
        }
    }

    fn move_bytes(&self, page: usize, way: Way) -> io::Result<()> {
        if way == Way::Back {
            return self.region.bring_back(page);
        }
        let out = self
            .mappings()
            .try_for_each(|mapping| self.region.protect(mapping, page))
            .and_then(|()| self.region.push_out(page));
        if out.is_err() {
            for mapping in self.mappings() {
                self.region.unprotect(mapping, page)?;
            }
        }
        out
    }

    fn count_busy(&self, busy: &Busy<'_>) {
        if busy.pins > 0 {
            self.counters.aborted_pins.add(1);
        } else {
            self.counters.aborted_refs.add(1);
        }
    }

    /// Moves a batch of pages, those that are hot out and those that are cold back: collect, drain, unmap, freeze, move.
    ///
    /// Best effort: a page that somebody else has locked is left alone. `drain` is where the trap is. Inside, it runs
    /// while the batch is locked and entries are still to be replaced, which is where the kernel has it.
    pub fn migrate_batch(&self, pages: &[usize], drain: &dyn Fn()) {
        if self.plan.drain == Order::Outside {
            drain();
        }
        let collected: Vec<_> = pages.iter().filter_map(|&page| self.collect(page)).collect();
        if self.plan.drain == Order::Inside && !collected.is_empty() {
            drain();
        }
        for Collected { page, way, migration, reference } in collected {
            // An error is a page that did not move, and is counted.
            if self.migrate(page, way, migration, Some(reference)).is_ok_and(|moved| moved) {
                match way {
                    Way::Out => self.counters.out.add(1),
                    Way::Back => self.counters.ahead.add(1),
                }
            }
        }
    }

    /// Locks a page for a batch, if nobody else has, and replaces the first mapping's entry. The others are found by the reverse map,
    /// one table's lock at a time, once this one is let go of; the drain comes in between.
    fn collect(&self, page: usize) -> Option<Collected<'_>> {
        let at = At { mapping: 0, page };
        let mut entry = self.tables.lock(at);
        let leaf = decode(entry.get());
        let way = match leaf {
            Leaf::Present { .. } => Way::Out,
            Leaf::DevicePrivate { .. } => Way::Back,
            _ => {
                self.counters.skipped_locked.add(1);
                return None;
            }
        };
        let Some(guard) = self.headers[page].try_lock() else {
            self.counters.skipped_locked.add(1);
            return None;
        };
        let reference = self.headers[page].try_get().expect("a mapped page has references, and its lock is ours");
        let migration = guard.begin_migration();
        if let Some(leaf) = leaf.to_migration() {
            entry.set(encode(leaf));
        }
        Some(Collected { page, way, migration, reference })
    }
}

impl Tables for Engine {
    type Address = At;
    type Entry<'t> = Locked<'t>;

    fn lock(&self, at: At) -> Locked<'_> {
        self.tables.lock(at)
    }
}

impl Memory for Engine {
    type Futex = OsFutex;
    type Error = io::Error;

    fn header(&self, pfn: u64) -> Option<&PageLock> {
        self.headers.get(usize::try_from(pfn).ok()?)
    }

    fn migrate_to_ram(&self, request: ToRam<'_, At, OsFutex>) -> io::Result<bool> {
        let migration = request.page.begin_migration();
        let moved = self.migrate(request.at.page, Way::Back, migration, request.reference)?;
        self.counters.back.add(u64::from(moved));
        Ok(moved)
    }
}
