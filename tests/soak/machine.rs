//! Memory in two tiers with its page tables and headers, as a group of threads has it to itself.

use crate::ledger::{Ledger, WORDS};
use crate::noise;
use crate::region::{PAGE, Region};
use crate::tables::{At, Locked, PageTables};
use pagelock::leaf::Leaf;
use pagelock::mm::{
    Access, Brought, Entry, Fault, FaultError, Faulter, Memory, Strategy, Tables, ToRam, resolve,
};
use pagelock::{FreezeRule, Migration, OsFutex, PageLock, PageRef};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Counted over all groups.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) accesses: AtomicU64,
    pub(crate) real_faults: AtomicU64,
    pub(crate) software_faults: AtomicU64,
    pub(crate) waits: AtomicU64,
    pub(crate) out: AtomicU64,
    pub(crate) back: AtomicU64,
    pub(crate) aborted: AtomicU64,
}

pub(crate) static TOTALS: Totals = Totals {
    accesses: AtomicU64::new(0),
    real_faults: AtomicU64::new(0),
    software_faults: AtomicU64::new(0),
    waits: AtomicU64::new(0),
    out: AtomicU64::new(0),
    back: AtomicU64::new(0),
    aborted: AtomicU64::new(0),
};

/// Relaxed: a statistic.
pub(crate) fn add(to: &AtomicU64, n: u64) {
    to.fetch_add(n, Relaxed);
}

pub(crate) struct Machine {
    pub(crate) region: Box<dyn Region>,
    /// Whether touching a page that is not there is a fault by itself.
    pub(crate) traps: bool,
    tables: PageTables,
    pub(crate) headers: Vec<PageLock>,
    ledger: Ledger,
}

/// Which way a page goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Out,
    Back,
}

impl Machine {
    /// Pages that are all hot, and zero.
    pub(crate) fn new(region: Box<dyn Region>, traps: bool) -> Self {
        let (mappings, pages) = (region.mappings(), region.pages());
        let ledger = Ledger::new(&[], pages).expect("memory for the ledger");
        let headers: Vec<PageLock> = (0..pages).map(|_| PageLock::new()).collect();
        for header in &headers {
            header.activate(mappings as u32).expect("a fresh header is free");
        }
        Self { tables: PageTables::new(mappings, pages), headers, ledger, region, traps }
    }

    /// Touches a word through a mapping, however often that faults: adds `add` to it, or reads it.
    pub(crate) fn access(&self, at: At, word: usize, add_: Option<usize>) {
        assert!(
            at.mapping < self.region.mappings() && at.page < self.region.pages() && word < WORDS
        );
        add(&TOTALS.accesses, 1);
        let touch = || {
            let addr = self.region.base(at.mapping).cast::<usize>();
            // SAFETY: the mapping has that many words, aligned, and lives as long as the region.
            // All threads access it by atomics; where the page is not there, the access traps and
            // is repeated once it is.
            let word = unsafe { AtomicUsize::from_ptr(addr.add(at.page * WORDS + word)) };
            match add_ {
                Some(add) => word.fetch_add(add, Relaxed),
                None => word.load(Relaxed),
            };
        };
        if self.traps {
            touch();
        } else {
            let access = if add_.is_some() { Access::Write } else { Access::Read };
            loop {
                // Nothing traps, so the entry is asked, and the page kept from leaving by the
                // entry's lock.
                let entry = self.tables.lock(at);
                if matches!(entry.leaf(), Leaf::Present { .. }) {
                    break touch();
                }
                drop(entry);
                add(&TOTALS.software_faults, 1);
                self.fault(at, access).expect("the page can be brought back");
            }
        }
        if let Some(add) = add_ {
            self.ledger.added(at.page, word, add);
        }
    }

    /// Resolves a fault, in the signal handler too.
    pub(crate) fn fault(&self, at: At, access: Access) -> Result<(), FaultError<io::Error>> {
        let strategy = match noise::draw(3) {
            0 => Strategy::WaitThenLock { after: noise::draw(3) as u32 },
            _ => Strategy::Wait,
        };
        let mut faulter = Faulter::new(strategy);
        let outcome = resolve(self, at, access, &mut faulter)?;
        add(&TOTALS.waits, u64::from(faulter.waits()));
        assert!(matches!(outcome, Fault::Resolved | Fault::Present), "{outcome:?}");
        Ok(())
    }

    /// Moves pages out, those of them that are hot and that nobody else has locked; all of them are
    /// locked at the same time.
    pub(crate) fn push_out(&self, pages: &[usize]) {
        let collected: Vec<_> = pages.iter().filter_map(|&page| self.collect(page)).collect();
        for (page, migration, reference) in collected {
            self.migrate(page, Way::Out, migration, Some(reference)).expect("memory moves");
        }
    }

    fn collect(&self, page: usize) -> Option<(usize, Migration<'_>, PageRef<'_>)> {
        let mut entry = self.tables.lock(At { mapping: 0, page });
        let leaf = entry.leaf();
        if !matches!(leaf, Leaf::Present { .. }) {
            return None;
        }
        let guard = self.headers[page].try_lock()?;
        let reference = self.headers[page]
            .try_get()
            .expect("a mapped page has references, and its lock is ours");
        entry.set(leaf.to_migration()?);
        Some((page, guard.begin_migration(), reference))
    }

    /// Whether the page is hot, or said to be on its way.
    pub(crate) fn may_be_hot(&self, at: At) -> bool {
        matches!(self.tables.leaf(at), Leaf::Present { .. } | Leaf::Migration { .. })
    }

    pub(crate) fn is_hot(&self, at: At) -> bool {
        matches!(self.tables.leaf(at), Leaf::Present { .. })
    }

    /// The lock of a page's entry.
    pub(crate) fn ptl(&self, at: At) -> Locked<'_> {
        self.tables.lock(at)
    }

    fn replace(&self, page: usize, with: impl Fn(Leaf) -> Option<Leaf>) {
        for mapping in 0..self.region.mappings() {
            let mut entry = self.tables.lock(At { mapping, page });
            if let Some(leaf) = with(entry.leaf()) {
                entry.set(leaf);
            }
        }
    }

    fn put_up(&self, page: usize, way: Way) {
        self.replace(page, |leaf| match way {
            Way::Out => leaf.to_device_private(page as u64),
            Way::Back => leaf.to_present(page as u64),
        });
    }

    /// Takes down every mapping, freezes, moves, puts up the entries of the other side, commits.
    /// Both the rule by references and the rule by pins are used.
    fn migrate(
        &self,
        page: usize,
        way: Way,
        migration: Migration<'_>,
        reference: Option<PageRef<'_>>,
    ) -> io::Result<bool> {
        let expected = self.region.mappings() as u32 + u32::from(reference.is_some());
        let rule = if noise::draw(2) == 0 {
            FreezeRule::ExactRefs(expected)
        } else {
            FreezeRule::Unpinned
        };
        let origin = if way == Way::Out { Way::Back } else { Way::Out };
        self.replace(page, Leaf::to_migration);
        let frozen = match migration.freeze(rule) {
            Ok(frozen) => frozen,
            Err(busy) => {
                add(&TOTALS.aborted, 1);
                self.put_up(page, origin);
                drop(reference);
                busy.into_migration().abort();
                return Ok(false);
            }
        };
        match self.move_bytes(page, way) {
            Ok(()) => {
                add(if way == Way::Out { &TOTALS.out } else { &TOTALS.back }, 1);
                self.put_up(page, way);
                drop(reference);
                frozen.commit_in_place();
                Ok(true)
            }
            // The system has pinned it, or something of that kind.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                add(&TOTALS.aborted, 1);
                self.put_up(page, origin);
                drop(reference);
                frozen.abort();
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    fn move_bytes(&self, page: usize, way: Way) -> io::Result<()> {
        if way == Way::Back {
            return again(|| self.region.bring_back(page));
        }
        for mapping in 0..self.region.mappings() {
            again(|| self.region.protect(mapping, page))?;
        }
        let out = again(|| self.region.push_out(page));
        if out.is_err() {
            for mapping in 0..self.region.mappings() {
                again(|| self.region.unprotect(mapping, page))?;
            }
        }
        out
    }

    /// Compares every byte with what was written, and every header with what it must be once all
    /// threads have stopped.
    pub(crate) fn check(&self) {
        let mut bytes = [0; PAGE];
        for (page, header) in self.headers.iter().enumerate() {
            let cold = match self.tables.leaf(At { mapping: 0, page }) {
                Leaf::Present { .. } => false,
                Leaf::DevicePrivate { .. } => true,
                other => panic!("page {page} was left as {other:?}"),
            };
            for mapping in 0..self.region.mappings() {
                assert_eq!(
                    self.is_hot(At { mapping, page }),
                    !cold,
                    "page {page}: its mappings disagree"
                );
            }
            self.region
                .read_page(page, cold, &mut bytes)
                .expect("the page is where its entries say");
            assert!(bytes == self.ledger.page(page), "page {page} has lost a write");
            assert!(
                !header.is_locked() && !header.is_migrating() && !header.is_frozen(),
                "page {page}: {header:?}"
            );
            assert_eq!(
                (header.refs(), header.pins()),
                (self.region.mappings() as u32, 0),
                "page {page}: {header:?}"
            );
            assert_eq!(header.sleepers(), 0, "page {page}: {header:?}");
        }
    }
}

/// Repeats a system call that a signal has interrupted.
fn again<R>(mut call: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Every page in words, and what its entries say if their locks can be had: what a watchdog wants.
impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {} retries", self.region.describe(), self.region.retries())?;
        for (page, header) in self.headers.iter().enumerate() {
            write!(f, "    page {page}: {header:?}; entries:")?;
            for mapping in 0..self.region.mappings() {
                match self.tables.try_leaf(At { mapping, page }) {
                    Some(leaf) => write!(f, " {leaf:?}")?,
                    None => f.write_str(" (its lock is held)")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Tables for Machine {
    type Address = At;
    type Entry<'t> = Locked<'t>;

    fn lock(&self, at: At) -> Option<Locked<'_>> {
        Some(self.tables.lock(at))
    }
}

impl Memory for Machine {
    type Futex = OsFutex;
    type Error = io::Error;

    fn header(&self, pfn: u64) -> Option<&PageLock> {
        self.headers.get(usize::try_from(pfn).ok()?)
    }

    fn migrate_to_ram(&self, request: ToRam<'_, At, OsFutex>) -> io::Result<Brought> {
        let is_back = self.migrate(
            request.at.page,
            Way::Back,
            request.page.begin_migration(),
            request.reference,
        )?;
        Ok(if is_back { Brought::Back } else { Brought::Busy })
    }
}
