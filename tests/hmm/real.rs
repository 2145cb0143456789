//! The same protocol on real memory: real page faults, real page table entries, real moves of pages
//! between them.
//!
//! There is one mapping of private anonymous memory. Its first pages are the *addresses* of a
//! process; after them every frame has a page of its own, its *home*, by which the memory manager
//! reaches it whatever maps it. To map a frame at an address is to move the page from its home to
//! there (`UFFDIO_MOVE`), in the kernel's page table and in one step; to unmap it is to move it
//! back. So no access to an address succeeds unless the entry for it says so, and an access that
//! does not succeed is a signal (userfaultfd's SIGBUS mode) to the very thread, which resolves the
//! fault in its handler and makes the access again.
//!
//! A device's frames are never mapped: its home is where a device reads and writes.

use super::common::dmirror::{Buffer, Denied, Device, Done, Host, Mirrors, after};
use super::common::machine::RAM;
use super::common::own::Own;
use super::common::{Lots, rounds, watched};
use super::region::map::{Mapping, peek, system_page_size};
use super::region::page::Page;
use super::region::uffd::{self, Uffd};
use super::region::{PAGE, Pretend, sigbus};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst,
};
use pagelock::leaf::{Leaf, Rights, Tracking, UnknownLeaf};
use pagelock::mm::drain::{Drain, Unlocked};
use pagelock::mm::exclusive::make_exclusive;
use pagelock::mm::ledger::{Change, Owner, Owners};
use pagelock::mm::migrate::{
    Mode, Order, Outcome, Skip, Slot, bring_back, migrate as migrate_slots,
};
use pagelock::mm::pin::{PinOrder, PinPolicy, Term, pin_page};
use pagelock::mm::range::Notifier;
use pagelock::mm::{
    Access, Areas, Brought, Cause, CopyError, Entry, Fault, FaultError, Faulter, Memory, Notice,
    ReverseMap, Span, Strategy, Tables, Tiers, ToRam, fault,
};
use pagelock::{Limits, PageLock, Put};
use pagelock_soft::{At, SpaceId, TierId};
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

const DEVICE: TierId = TierId(1);
/// Addresses of the process, in pages; frames of system memory, and of the device.
const ADDRESSES: usize = 128;
const FRAMES: usize = 160;
/// Entries under one page-table lock.
const SPLIT: usize = 32;

pub(super) struct Real {
    map: Mapping,
    uffd: Uffd,
    tables: Vec<Mutex<Table>>,
    headers: Vec<PageLock<Own>>,
    owners: Vec<Owners>,
    /// The address that an entry with the frame is for, plus one; 0 for none. A frame is never
    /// mapped twice.
    reverse: Vec<AtomicUsize>,
    free: [Mutex<Vec<u64>>; 2],
    /// What a page has in it that was never there: number `i` of the process's memory.
    provide: fn(u32) -> u32,
    /// Pages provided.
    provided: AtomicUsize,
    /// Signals.
    faults: AtomicUsize,
    revoked: AtomicUsize,
    /// A frame whose page the system has pinned, which no count of the header says.
    registered: AtomicUsize,
    /// Pages that somebody has set about to move; and how many threads are to be asleep before the
    /// first of them moves.
    moves: AtomicUsize,
    audience: AtomicUsize,
    own: Own,
    notifier: Notifier<Own>,
    mirrors: Arc<Mirrors>,
}

struct Table {
    leaves: [Leaf; SPLIT],
    /// Whether there really is a page at the address.
    mapped: [bool; SPLIT],
    areas: [bool; SPLIT],
}

/// All that there are, for the signal handler.
static ALL: [AtomicPtr<Real>; 32] = [const { AtomicPtr::new(ptr::null_mut()) }; 32];

const SPACE: SpaceId = SpaceId(0);

impl Real {
    /// Never dropped: the handler may look for it at any time.
    fn open(provide: fn(u32) -> u32) -> io::Result<&'static Self> {
        if system_page_size() != PAGE {
            return Err(io::Error::other("pages are of another size"));
        }
        let uffd = Uffd::open(uffd::MOVE, Pretend::default())?;
        let map = Mapping::anonymous(ADDRESSES + 2 * FRAMES)?;
        uffd.register(&map, uffd::MODE_MISSING, &[uffd::NR_COPY, uffd::NR_MOVE])?;
        let zeros = Page::zeroed(1);
        for frame in 0..2 * FRAMES {
            // SAFETY: a readable page, and one of the registered mapping, which is used by atomics
            // and the kernel only.
            unsafe { uffd.copy(map.at(ADDRESSES + frame), zeros[0].as_mut_ptr()) }?;
        }
        let own = Own::new(64);
        let table =
            || Table { leaves: [Leaf::None; SPLIT], mapped: [false; SPLIT], areas: [false; SPLIT] };
        let frames = |tier: usize| {
            (tier * FRAMES..(tier + 1) * FRAMES).rev().map(|pfn| pfn as u64).collect()
        };
        let real = Self {
            map,
            uffd,
            tables: (0..ADDRESSES / SPLIT).map(|_| Mutex::new(table())).collect(),
            headers: (0..2 * FRAMES).map(|_| PageLock::with_futex(own)).collect(),
            owners: (0..2 * FRAMES).map(|_| Owners::new()).collect(),
            reverse: (0..2 * FRAMES).map(|_| AtomicUsize::new(0)).collect(),
            free: [Mutex::new(frames(0)), Mutex::new(frames(1))],
            provide,
            provided: AtomicUsize::new(0),
            faults: AtomicUsize::new(0),
            revoked: AtomicUsize::new(0),
            registered: AtomicUsize::new(usize::MAX),
            moves: AtomicUsize::new(0),
            audience: AtomicUsize::new(0),
            own,
            notifier: Notifier::with_futex(own),
            mirrors: Arc::default(),
        };
        // What a kernel says it can, and what it does on this machine, are two things.
        real.shift(real.address(0), real.home(0))?;
        real.shift(real.home(0), real.address(0))?;
        sigbus::install(resolve)?;
        let real: &'static Self = Box::leak(Box::new(real));
        let slot = ALL.iter().find(|slot| {
            slot.compare_exchange(ptr::null_mut(), ptr::from_ref(real).cast_mut(), SeqCst, SeqCst)
                .is_ok()
        });
        slot.map(|_| real).ok_or_else(|| io::Error::other("more tests than places"))
    }

    fn address(&self, page: usize) -> *mut u8 {
        assert!(page < ADDRESSES);
        self.map.at(page)
    }

    fn home(&self, pfn: u64) -> *mut u8 {
        self.map.at(ADDRESSES + pfn as usize)
    }

    /// Moves a page to where none is. Whoever calls it knows that: all pages are moved by this
    /// memory manager alone, each under the lock of the one entry that it is at or will be at. So
    /// "there is one already" means that it was done and not admitted, which Linux 6.18 does.
    fn shift(&self, to: *mut u8, from: *mut u8) -> io::Result<()> {
        self.uffd.patiently(uffd::PATIENCE, &[libc::EBUSY], || {
            // SAFETY: both are pages of the registered mapping, which is used by atomics and the
            // kernel only.
            match unsafe { self.uffd.move_page(to, from) } {
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
                moved => moved,
            }
        })
    }

    /// A page that is there: at an address whose entry is locked and present, or at the home of a
    /// frame that is not mapped.
    fn page_at(&self, addr: *mut u8) -> &Page {
        // SAFETY: a page of the mapping, which lives as long as `self` and is used by atomics and
        // the kernel only.
        unsafe { Page::at(addr) }
    }

    fn at(&self, page: usize) -> At {
        SPACE.page(page)
    }

    fn entry(&self, at: At) -> RealEntry<'_> {
        let table = self.tables[at.page / SPLIT].lock().unwrap();
        RealEntry { real: self, page: at.page, table, index: at.page % SPLIT }
    }

    fn map(&self, at: At, pages: usize) {
        self.set_areas(at, pages, true);
    }

    fn set_areas(&self, at: At, pages: usize, is_mapped: bool) {
        for at in at.pages(pages) {
            let mut entry = self.entry(at);
            let index = entry.index;
            entry.table.areas[index] = is_mapped;
        }
    }

    fn unmap(&self, at: At, pages: usize) {
        self.set_areas(at, pages, false);
        for at in at.pages(pages) {
            self.invalidate(at, Notice { cause: Cause::Migrate, owner: 0 });
            let mut entry = self.entry(at);
            let leaf = entry.leaf();
            let _ = entry.take();
            entry.set(Leaf::None);
            drop(entry);
            self.invalidated(at);
            let (pfn, owner) = match leaf {
                Leaf::Present { pfn, .. } => (pfn, Owner::Mapping),
                Leaf::DevicePrivate { pfn, .. } | Leaf::DeviceExclusive { pfn, .. } => {
                    (pfn, Owner::Entry)
                }
                _ => continue,
            };
            self.account(pfn, owner, Change::Put);
            // SAFETY: the reference of the entry that was taken out.
            if unsafe { self.headers[pfn as usize].put_raw() } == Put::Last {
                self.free(pfn);
            }
        }
    }

    /// One attempt at a fault. Whether the access may be made again.
    fn fault(&self, at: At, access: Access) -> bool {
        match fault(self, at, access, &mut Faulter::new(Strategy::Wait)) {
            Ok(Fault::Missing) => self.fill(at),
            Ok(Fault::Resolved | Fault::Present | Fault::Retry(_)) => true,
            Ok(_) | Err(FaultError::ToRam(_)) => false,
            Err(e) => panic!("{e:?}"),
        }
    }

    /// Provides a page that was never there.
    fn fill(&self, at: At) -> bool {
        let pfn = Tiers::allocate(self, RAM, 0).expect("there are more frames than addresses");
        let page = self.page_at(self.home(pfn));
        let mut bytes = [0; PAGE];
        for (i, bytes) in bytes.chunks_exact_mut(4).enumerate() {
            bytes.copy_from_slice(&(self.provide)((at.page * (PAGE / 4) + i) as u32).to_ne_bytes());
        }
        page.write(&bytes);
        let mut entry = self.entry(at);
        let (is_mapped, is_empty) = (entry.table.areas[entry.index], entry.leaf() == Leaf::None);
        if is_mapped && is_empty {
            self.headers[pfn as usize].activate(1).expect("it is free");
            self.account(pfn, Owner::Mapping, Change::Taken);
            let leaf = Leaf::Present { pfn, rights: Rights::Write, tracking: Tracking::default() };
            entry.set(leaf);
            self.provided.fetch_add(1, SeqCst);
        } else {
            drop(entry);
            self.free(pfn);
        }
        is_mapped
    }

    fn free_frames(&self, tier: TierId) -> usize {
        self.free[tier.0].lock().unwrap().len()
    }

    /// Everything counted once more, and looked for where it should be. When nobody is at work.
    fn audit(&self) {
        let mut mapped = 0;
        let mut used = [0; 2];
        for at in self.at(0).pages(ADDRESSES) {
            let entry = self.entry(at);
            let leaf = entry.leaf();
            assert!(
                !matches!(leaf, Leaf::Migration { .. }),
                "{at:?} has a migration entry, and nobody migrates"
            );
            let is_present = matches!(leaf, Leaf::Present { .. });
            assert_eq!(entry.table.mapped[entry.index], is_present, "{at:?}");
            assert_eq!(
                peek(self.address(at.page), &mut [0; PAGE]).is_ok(),
                is_present,
                "{at:?}: the kernel's table differs"
            );
            mapped += usize::from(is_present);
            if let Some(pfn) = leaf.pfn() {
                assert_eq!(self.reverse[pfn as usize].load(SeqCst), at.page + 1);
            }
        }
        for pfn in 0..2 * FRAMES {
            let page = &self.headers[pfn];
            assert!(
                !page.is_locked() && !page.is_migrating() && !page.is_frozen(),
                "{pfn}: {page:?}"
            );
            self.owners[pfn].check(pfn as u64, page).unwrap();
            used[pfn / FRAMES] += usize::from(page.refs() > 0);
            mapped -= self.owners[pfn].of(Owner::Mapping) as usize;
        }
        assert_eq!(mapped, 0, "more pages are mapped than counted");
        assert_eq!(used, [RAM, DEVICE].map(|tier| FRAMES - self.free_frames(tier)));
    }

    /// The end of every test.
    fn close(&self) {
        self.audit();
        self.unmap(self.at(0), ADDRESSES);
        self.audit();
        assert_eq!([RAM, DEVICE].map(|tier| self.free_frames(tier)), [FRAMES; 2]);
    }
}

/// What the signal handler does with the address that was accessed.
fn resolve(addr: usize, write: bool) -> bool {
    for real in &ALL {
        // SAFETY: null, or a `Real` that is never dropped.
        let Some(real) = (unsafe { real.load(SeqCst).as_ref() }) else { continue };
        let base = real.address(0) as usize;
        if (base..base + ADDRESSES * PAGE).contains(&addr) {
            real.faults.fetch_add(1, SeqCst);
            return real.fault(
                real.at((addr - base) / PAGE),
                if write { Access::Write } else { Access::Read },
            );
        }
    }
    false
}

pub(super) struct RealEntry<'t> {
    real: &'t Real,
    page: usize,
    table: MutexGuard<'t, Table>,
    index: usize,
}

impl RealEntry<'_> {
    fn leaf(&self) -> Leaf {
        self.table.leaves[self.index]
    }

    /// Takes the page away from the address, if it is there.
    fn withdraw(&mut self) {
        if let (true, Leaf::Present { pfn, .. }) = (self.table.mapped[self.index], self.leaf()) {
            self.real.shift(self.real.home(pfn), self.real.address(self.page)).unwrap();
            self.table.mapped[self.index] = false;
        }
    }
}

impl Entry for RealEntry<'_> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        Ok(self.table.leaves[self.index])
    }

    fn set(&mut self, new: Leaf) {
        let old = self.leaf();
        let is_same = old.pfn() == new.pfn()
            && matches!((old, new), (Leaf::Present { .. }, Leaf::Present { .. }));
        if !is_same {
            self.withdraw();
        }
        self.table.leaves[self.index] = new;
        if old.pfn() != new.pfn() {
            if let Some(pfn) = old.pfn() {
                self.real.reverse[pfn as usize].store(0, SeqCst);
            }
            if let Some(pfn) = new.pfn() {
                self.real.reverse[pfn as usize].store(self.page + 1, SeqCst);
            }
        }
        if let (false, Leaf::Present { pfn, .. }) = (self.table.mapped[self.index], new) {
            self.real.shift(self.real.address(self.page), self.real.home(pfn)).unwrap();
            self.table.mapped[self.index] = true;
        }
    }

    fn take(&mut self) -> Result<Leaf, UnknownLeaf> {
        self.withdraw();
        self.get()
    }
}

impl Tables for Real {
    type Address = At;
    type Entry<'t> = RealEntry<'t>;

    fn lock(&self, at: At) -> Option<RealEntry<'_>> {
        Some(self.entry(at))
    }

    fn invalidate(&self, at: At, _notice: Notice) {
        self.notifier.begin_raw();
        self.mirrors.forget(at, 1);
    }

    fn invalidated(&self, _at: At) {
        self.notifier.end_raw();
    }
}

impl Areas for Real {
    type Failure = ();

    fn allowed(&self, _at: At, entry: Option<&RealEntry<'_>>) -> Option<Rights> {
        entry.is_some_and(|entry| entry.table.areas[entry.index]).then_some(Rights::Write)
    }

    fn settle(&self, at: At, _access: Access, left: Fault) -> Result<(), ()> {
        if left == Fault::Missing && self.fill(at) { Ok(()) } else { Err(()) }
    }
}

impl ReverseMap for Real {
    fn each_mapping(&self, span: Span, mut visit: impl FnMut(At)) {
        // Once, so that a visit which puts the same entry up again is not repeated for ever.
        if let Some(page) = self.reverse[span.head as usize].load(SeqCst).checked_sub(1) {
            visit(self.at(page));
        }
    }
}

impl Memory for Real {
    type Futex = Own;
    type Error = Outcome<()>;

    fn header(&self, pfn: u64) -> Option<&PageLock<Own>> {
        self.headers.get(usize::try_from(pfn).ok()?)
    }

    fn migrate_to_ram(&self, request: ToRam<'_, At, Own>) -> Result<Brought, Outcome<()>> {
        bring_back(self, request, RAM, self)
    }

    fn revoke_exclusive(&self, _pfn: u64) {
        self.revoked.fetch_add(1, SeqCst);
    }

    fn account(&self, pfn: u64, owner: Owner, change: Change) {
        self.owners[pfn as usize].note(owner, change);
    }
}

impl Tiers for Real {
    type Tier = TierId;
    type Refusal = ();

    fn tier(&self, pfn: u64) -> TierId {
        TierId(pfn as usize / FRAMES)
    }

    fn is_accessible(&self, tier: TierId) -> bool {
        tier == RAM
    }

    fn allocate(&self, tier: TierId, order: u32) -> Option<u64> {
        if order > 0 { None } else { self.free[tier.0].lock().unwrap().pop() }
    }

    fn free(&self, pfn: u64) {
        // Never more than there were, so this allocates nothing in the handler.
        self.free[self.tier(pfn).0].lock().unwrap().push(pfn);
    }

    fn copy(&self, from: u64, to: u64) -> Result<(), CopyError> {
        self.page_at(self.home(to)).copy_from(self.page_at(self.home(from)));
        Ok(())
    }

    fn zero(&self, pfn: u64) {
        self.page_at(self.home(pfn)).fill_with(0);
    }

    fn prepare(&self, pfn: u64, _mode: Mode) -> Result<(), ()> {
        if self.registered.load(SeqCst) == pfn as usize {
            return Err(());
        }
        self.moves.fetch_add(1, SeqCst);
        match self.audience.swap(0, SeqCst) {
            0 => {}
            audience => self.own.until_asleep(audience),
        }
        Ok(())
    }
}

impl Drain for Real {
    fn local(&self) {}
    fn all(&self, _unlocked: &mut Unlocked) {}
}

impl Host for Real {
    fn page_size(&self) -> usize {
        PAGE
    }

    fn notifier(&self, _space: SpaceId) -> &Notifier<Own> {
        &self.notifier
    }

    fn mirrors(&self) -> Arc<Mirrors> {
        Arc::clone(&self.mirrors)
    }

    fn load(&self, at: At, pfn: u64, out: &mut [u8]) {
        let mut bytes = [0; PAGE];
        self.page_at(self.where_is(at, pfn)).read(&mut bytes);
        out.copy_from_slice(&bytes);
    }

    fn store(&self, at: At, pfn: u64, bytes: &[u8]) {
        self.page_at(self.where_is(at, pfn)).write(bytes.try_into().unwrap());
    }

    fn cpu_read(&self, at: At, out: &mut [u8]) -> Result<(), Denied> {
        self.may(at)?;
        let mut bytes = [0; PAGE];
        // Loads that fault where the page is not there.
        self.page_at(self.address(at.page)).read(&mut bytes);
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn cpu_write(&self, at: At, bytes: &[u8]) -> Result<(), Denied> {
        self.may(at)?;
        self.page_at(self.address(at.page)).write(bytes.try_into().unwrap());
        Ok(())
    }

    fn frames(&self, tier: TierId) -> Range<u64> {
        (tier.0 * FRAMES) as u64..((tier.0 + 1) * FRAMES) as u64
    }
}

impl Real {
    /// Where a frame is that a device knows to be at `at`: there, if the processor can access it.
    fn where_is(&self, at: At, pfn: u64) -> *mut u8 {
        if self.is_accessible(self.tier(pfn)) { self.address(at.page) } else { self.home(pfn) }
    }

    /// A program that touches what is not mapped dies of it; the tests ask first.
    fn may(&self, at: At) -> Result<(), Denied> {
        let entry = self.entry(at);
        if entry.table.areas[entry.index] { Ok(()) } else { Err(Denied::Fault) }
    }
}

// ---- tests

const PAGES: usize = 64;
const TIMES: usize = 32;

/// Memory for a test, or a loud word why there is none.
fn real(provide: fn(u32) -> u32) -> Option<&'static Real> {
    Real::open(provide)
        .map_err(|e| {
            eprintln!("NOT TESTED on real memory: userfaultfd does not move pages here ({e})")
        })
        .ok()
}

fn written(real: &'static Real, pages: usize, value: impl Fn(u32) -> u32) -> Buffer<'static, Real> {
    real.map(real.at(0), pages);
    let buffer = Buffer::new(real, real.at(0), pages);
    buffer.set(value);
    buffer
}

fn tier_at(real: &Real, at: At) -> TierId {
    real.tier(real.entry(at).leaf().pfn().expect("a page"))
}

#[test]
fn anon_read() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    real.map(real.at(0), PAGES);
    let mut b = Buffer::new(real, real.at(0), PAGES);
    b.set_mirror(|i| i.wrapping_neg());
    b.expect_in(1..2, |_| 0);
    b.set_in(2..PAGES, |i| i);
    assert_eq!(real.faults.load(SeqCst), PAGES - 1, "each page was touched once where it was not");
    assert_eq!(b.device_read(&device), Ok(Done::new(PAGES, 1)));
    b.expect_mirror_in(0..2, |_| 0);
    b.expect_mirror_in(2..PAGES, |i| i);
    assert_eq!(b.device_read(&device), Ok(Done::new(PAGES, 0)));
    real.unmap(after(b.at, 1), 1);
    assert_eq!(b.device_read(&device), Err(Denied::Fault));
    real.close();
}

#[test]
fn anon_write() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    real.map(real.at(0), PAGES);
    let mut b = Buffer::new(real, real.at(0), PAGES);
    b.set_mirror(|i| i);
    assert_eq!(b.device_write(&device), Ok(Done::new(PAGES, 1)));
    b.expect(|i| i);
    assert_eq!(real.faults.load(SeqCst), 0, "the device has faulted all of it in");
    real.close();
}

#[test]
fn migrate() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let mut b = written(real, PAGES, |i| i);
    assert_eq!(b.migrate_to(&device), Ok(PAGES));
    b.expect_mirror(|i| i);
    for at in b.at.pages(PAGES) {
        assert!(
            peek(real.address(at.page), &mut [0; PAGE]).is_err(),
            "the processor can still access page {}",
            at.page
        );
    }
    real.close();
}

#[test]
fn migrate_fault() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let mut b = written(real, PAGES, |i| i);
    assert_eq!(b.migrate_to(&device), Ok(PAGES));
    let faults = real.faults.load(SeqCst);
    b.expect_in(0..PAGES / 2, |i| i);
    assert_eq!(
        real.faults.load(SeqCst) - faults,
        PAGES / 2,
        "one fault for each page that was not there"
    );
    assert_eq!(b.at.pages(PAGES).filter(|&at| tier_at(real, at) == RAM).count(), PAGES / 2);
    b.set_mirror(|_| 0);
    assert_eq!(b.migrate_to(&device), Ok(PAGES));
    b.expect_mirror(|i| i);
    b.expect(|i| i);
    real.close();
}

#[test]
fn migrate_release() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let mut b = written(real, PAGES, |i| i);
    assert_eq!(b.migrate_to(&device), Ok(PAGES));
    b.expect_in(0..PAGES / 2, |i| i);
    let summary = device.release();
    assert_eq!((summary.done as usize, summary.left), (PAGES / 2, 0));
    assert_eq!(real.free_frames(DEVICE), FRAMES);
    let faults = real.faults.load(SeqCst);
    b.expect(|i| i);
    assert_eq!(real.faults.load(SeqCst), faults, "all of it is mapped again");
    real.close();
}

#[test]
fn migrate_multiple() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let pages = 16;
    for turn in 0..rounds(TIMES) as u32 {
        let mut b = written(real, pages, |i| i ^ turn);
        assert_eq!(b.migrate_to(&device), Ok(pages));
        b.expect_mirror(|i| i ^ turn);
        assert_eq!(device.migrate_to_system(b.at, pages), pages);
        b.expect(|i| i ^ turn);
        real.unmap(b.at, pages);
    }
    real.close();
}

#[test]
fn exclusive() {
    let Some(real) = real(|_| 0) else { return };
    let b = written(real, PAGES, |i| i);
    for at in b.at.pages(PAGES) {
        drop(make_exclusive(real, at).unwrap());
    }
    real.audit();
    for page in 0..PAGES {
        b.expect_in(page..page + 1, |i| i);
        b.set_in(page..page + 1, |i| i + 1);
        assert_eq!(real.revoked.load(SeqCst), page + 1, "one access, one page");
    }
    b.expect(|i| i + 1);
    real.close();
}

/// Everything may be pinned, where it can be accessed.
struct Anywhere;

impl PinPolicy<Real> for Anywhere {
    type Refused = ();

    fn permit(&self, _: &Real, _: At, _: &RealEntry<'_>, _: Access, _: Term) -> Result<(), ()> {
        Ok(())
    }

    fn home(&self, _: &Real, tier: TierId) -> Option<TierId> {
        (tier != RAM).then_some(RAM)
    }
}

/// A pin brings a page back from the device, by the fault path on real tables, and keeps it in its
/// frame: no migration moves it, and what the processor writes is where the pin says. When it is
/// dropped the page can be moved again.
#[test]
fn a_pinned_page_stays() {
    let unlocked = &mut Unlocked::promise();
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let mut b = written(real, 2, |i| i);
    for (turn, term) in [Term::Short, Term::Long].into_iter().enumerate() {
        assert_eq!(b.migrate_to(&device), Ok(2));
        assert_eq!(tier_at(real, b.at), DEVICE);
        let order = PinOrder::new(Access::Write, term, Limits::none());
        let pinned = pin_page(real, b.at, &order, &Anywhere, real, unlocked)
            .unwrap_or_else(|e| panic!("{term:?}: {e:?}"));
        assert_eq!(real.tier(pinned.pfn()), RAM);
        for mut slot in [Slot::at(b.at), Slot::frame(pinned.pfn())] {
            let order = Order::to(DEVICE).mode(Mode::SyncLight).tries(2);
            let _ = migrate_slots(real, core::slice::from_mut(&mut slot), &order, real, unlocked);
            assert_eq!(slot.outcome(), Outcome::Skipped(Skip::Pinned { pins: 1 }));
        }
        let value = |i| i + turn as u32 + 1;
        b.set(value);
        let mut bytes = [0; PAGE];
        real.load(b.at, pinned.pfn(), &mut bytes);
        assert_eq!(u32::from_ne_bytes(bytes[4..8].try_into().unwrap()), value(1));
        assert_eq!(real.entry(b.at).leaf().pfn(), Some(pinned.pfn()));
        drop(pinned);
        b.expect(value);
    }
    assert_eq!(b.migrate_to(&device), Ok(2));
    b.expect(|i| i + 2);
    real.close();
}

/// A ring of the system's with `buffer` registered, or a word about why there is none.
fn ring_with(buffer: *mut u8, bytes: usize) -> Option<io_uring::IoUring> {
    let registered = io_uring::IoUring::new(4).and_then(|ring| {
        let buffer = libc::iovec { iov_base: buffer.cast(), iov_len: bytes };
        // SAFETY: the memory is mapped for good, and accessed by atomics and the kernel only.
        unsafe { ring.submitter().register_buffers(&[buffer]) }?;
        Ok(ring)
    });
    match registered {
        Ok(ring) => Some(ring),
        Err(why) => {
            let _ = writeln!(
                io::stderr(),
                "\nio_uring: SKIPPED, no buffer can be registered here: {why}"
            );
            None
        }
    }
}

/// One transfer between the registered buffer and the file, from its start.
fn transfer(ring: &mut io_uring::IoUring, entry: io_uring::squeue::Entry) {
    // SAFETY: the buffer is the registered one, and stays; the file is open until this has
    // returned.
    unsafe { ring.submission().push(&entry) }.unwrap();
    ring.submit_and_wait(1).unwrap();
    let result = ring.completion().next().expect("it was waited for").result();
    assert_eq!(result, PAGE as i32, "{}", io::Error::from_raw_os_error(-result));
}

/// `gup_longterm`'s row of io_uring: the system has pinned the page by itself, and no count of ours
/// says so. So it would refuse to move it, and whoever has registered it refuses before. Transfers
/// go on to be the page's; and when it is not registered any more it moves.
#[test]
fn a_buffer_that_io_uring_has_stays() {
    use io_uring::{opcode, types::Fd};
    let unlocked = &mut Unlocked::promise();
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let mut b = written(real, 2, |i| i);
    let buffer = real.address(b.at.page);
    let Some(mut ring) = ring_with(buffer, PAGE) else { return real.close() };
    // SAFETY: makes a file without a name.
    let file = unsafe { libc::memfd_create(c"transfer".as_ptr(), 0) };
    assert!(file >= 0);
    // The control: without a word from `prepare` the system says no, and that is after the entry
    // was taken down.
    let pfn = real.entry(b.at).leaf().pfn().unwrap();
    // SAFETY: both are pages of the registered mapping, which is used by atomics and the kernel
    // only.
    let refused = unsafe { real.uffd.move_page(real.home(pfn), buffer) }.unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EBUSY));
    real.registered.store(pfn as usize, SeqCst);
    let order = Order::to(DEVICE).mode(Mode::SyncLight).tries(2);
    for turn in 1..3 {
        let mut slots = [Slot::at(b.at), Slot::at(after(b.at, 1))];
        let _ = migrate_slots(real, &mut slots, &order, real, unlocked);
        assert_eq!(
            slots[0].outcome(),
            Outcome::Skipped(Skip::Refused(())),
            "a page that the system has pinned"
        );
        assert!(slots[1].outcome().is_done(), "and its neighbour goes: {slots:?}");
        assert_eq!(tier_at(real, b.at), RAM);
        b.set(|i| i + turn);
        let out = opcode::WriteFixed::new(Fd(file), buffer, PAGE as u32, 0).offset(0);
        transfer(&mut ring, out.build());
        let mut bytes = [0; PAGE];
        // SAFETY: reads into an array of this call's.
        assert_eq!(unsafe { libc::pread(file, bytes.as_mut_ptr().cast(), PAGE, 0) }, PAGE as isize);
        assert_eq!(
            u32::from_ne_bytes(bytes[4..8].try_into().unwrap()),
            1 + turn,
            "a transfer out of the page"
        );
        bytes[4..8].copy_from_slice(&77_u32.to_ne_bytes());
        // SAFETY: writes an array of this call's.
        assert_eq!(unsafe { libc::pwrite(file, bytes.as_ptr().cast(), PAGE, 0) }, PAGE as isize);
        let into = opcode::ReadFixed::new(Fd(file), buffer, PAGE as u32, 0).offset(0);
        transfer(&mut ring, into.build());
        b.expect_in(0..1, |i| if i == 1 { 77 } else { i + turn });
    }
    ring.submitter().unregister_buffers().unwrap();
    drop(ring);
    real.registered.store(usize::MAX, SeqCst);
    // SAFETY: opened above, and used by nobody any more.
    unsafe { libc::close(file) };
    assert_eq!(b.migrate_to(&device), Ok(2));
    b.expect(|i| if i == 1 { 77 } else { i + 2 });
    real.close();
}

#[test]
fn userfaultfd_read() {
    let Some(real) = real(|i| i * 5) else { return };
    let device = Device::new(real, DEVICE);
    real.map(real.at(0), PAGES);
    let mut b = Buffer::new(real, real.at(0), PAGES);
    // Half of them by the processor, then all by the device.
    b.expect_in(0..PAGES / 2, |i| i * 5);
    assert_eq!(b.device_read(&device), Ok(Done::new(PAGES, 1)));
    b.expect_mirror(|i| i * 5);
    assert_eq!(real.provided.load(SeqCst), PAGES, "each page once");
    real.close();
}

/// Threads touch one page that is in the device's memory: one of them moves it, at the first try;
/// the others sleep in their signal handlers until it has.
#[test]
fn many_threads_fault_on_one_device_page() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let threads = 8;
    for turn in 0..8 {
        let mut b = written(real, 1, |i| i + turn);
        assert_eq!(b.migrate_to(&device), Ok(1));
        real.moves.store(0, SeqCst);
        real.audience.store(threads - 1, SeqCst);
        let faults = real.faults.load(SeqCst);
        let pfn = real.entry(b.at).leaf().pfn().unwrap();
        watched(&[&real.headers[pfn as usize]], || {
            thread::scope(|s| {
                for _ in 0..threads {
                    s.spawn(|| b.expect(|i| i + turn));
                }
            });
        });
        assert_eq!(real.moves.load(SeqCst), 1, "a sleeper has made the move fail");
        // Each has run into it once, and perhaps once more if it was woken for something else on
        // the same slot.
        let faults = real.faults.load(SeqCst) - faults;
        assert!((threads..=2 * threads).contains(&faults), "{faults} signals");
        real.unmap(b.at, 1);
    }
    real.close();
}

/// Threads count in pages that go to the device and back all the time, and one of them is a device.
/// No count is lost, and every access that finds its page gone resolves the fault in its own signal
/// handler.
#[test]
fn no_addition_is_lost() {
    let Some(real) = real(|_| 0) else { return };
    let pages = 16;
    let b = written(real, pages, |_| 0);
    let (stop, working) = (AtomicBool::new(false), AtomicUsize::new(3));
    let (turns, faults) = (rounds(4000), pages + rounds(200));
    let counted = watched(&[], || {
        thread::scope(|s| {
            for tier in [DEVICE, RAM] {
                let stop = &stop;
                s.spawn(move || {
                    let unlocked = &mut Unlocked::promise();
                    while !stop.load(SeqCst) {
                        let mut slots: Vec<_> = real.at(0).pages(pages).map(Slot::at).collect();
                        let order = Order::to(tier).mode(Mode::SyncLight).tries(2);
                        let _ = migrate_slots(real, &mut slots, &order, real, unlocked);
                        thread::yield_now();
                    }
                });
            }
            let workers: Vec<_> = (0..3)
                .map(|worker| {
                    let (stop, working) = (&stop, &working);
                    s.spawn(move || {
                        let mut lots = Lots::of(worker);
                        let mut count = 0;
                        // A count takes a few nanoseconds where nothing moves; so until enough has
                        // been found gone.
                        while count < turns || real.faults.load(SeqCst) < faults {
                            let page = lots.draw(pages as u64) as usize;
                            let word = real.address(page).cast::<u32>();
                            // SAFETY: an aligned number in a page of the mapping, which is used by
                            // atomics and the kernel only.
                            let word = unsafe { AtomicU32::from_ptr(word.add(worker)) };
                            word.fetch_add(1, Relaxed);
                            count += 1;
                        }
                        if working.fetch_sub(1, SeqCst) == 1 {
                            stop.store(true, SeqCst);
                        }
                        count
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        })
    });
    real.audit();
    let mut sums = [0; 3];
    for at in b.at.pages(pages) {
        let mut bytes = vec![0; PAGE];
        real.cpu_read(at, &mut bytes).unwrap();
        for (sum, count) in sums.iter_mut().zip(bytes.chunks_exact(4)) {
            *sum += u32::from_ne_bytes(count.try_into().unwrap()) as usize;
        }
    }
    assert_eq!(sums.to_vec(), counted);
    real.close();
}
