//! A small memory manager over memory whose faults are signals and whose pages userfaultfd moves.

use crate::region::map::{Mapping, peek, system_page_size};
use crate::region::page::Page;
use crate::region::uffd::{self, Uffd};
use crate::region::{PAGE, Pretend, sigbus};
use crate::{
    common::{dmirror::Mirrors, machine::RAM, own::Own},
    real_engine::RealEntry,
};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::ledger::{Change, Owner, Owners};
use pagelock::mm::range::Notifier;
use pagelock::mm::{
    Access, Cause, Entry, Fault, FaultError, Faulter, Memory, Notice, Strategy, Tables, Tiers,
    fault,
};
use pagelock::{PageLock, Put};
use pagelock_soft::{At, SpaceId, TierId};
use std::io;
use std::sync::{Arc, Mutex};

pub(crate) const DEVICE: TierId = TierId(1);
/// Addresses of the process, in pages; frames of system memory, and of the device.
const ADDRESSES: usize = 128;
pub(crate) const FRAMES: usize = 160;
/// Entries under one page-table lock.
const SPLIT: usize = 32;

pub(crate) struct Real {
    pub(crate) map: Mapping,
    pub(crate) uffd: Uffd,
    pub(crate) tables: Vec<Mutex<Table>>,
    pub(crate) headers: Vec<PageLock<Own>>,
    pub(crate) owners: Vec<Owners>,
    /// The address that an entry with the frame is for, plus one; 0 for none. A frame is never
    /// mapped twice.
    pub(crate) reverse: Vec<AtomicUsize>,
    pub(crate) free: [Mutex<Vec<u64>>; 2],
    /// What a page has in it that was never there: number `i` of the process's memory.
    pub(crate) provide: fn(u32) -> u32,
    /// Pages provided.
    pub(crate) provided: AtomicUsize,
    /// Signals.
    pub(crate) faults: AtomicUsize,
    pub(crate) revoked: AtomicUsize,
    /// A frame whose page the system has pinned, which no count of the header says.
    pub(crate) registered: AtomicUsize,
    /// Pages that a thread has begun to move; and how many threads must be asleep before the
    /// first of them moves.
    pub(crate) moves: AtomicUsize,
    pub(crate) audience: AtomicUsize,
    pub(crate) own: Own,
    pub(crate) notifier: Notifier<Own>,
    pub(crate) mirrors: Arc<Mirrors>,
}

pub(crate) struct Table {
    pub(crate) leaves: [Leaf; SPLIT],
    /// Whether there really is a page at the address.
    pub(crate) mapped: [bool; SPLIT],
    pub(crate) areas: [bool; SPLIT],
}

/// All that there are, for the signal handler.
static ALL: [AtomicPtr<Real>; 32] = [const { AtomicPtr::new(ptr::null_mut()) }; 32];

const SPACE: SpaceId = SpaceId(0);

impl Real {
    /// Never dropped: the handler may look for it at any time.
    pub(crate) fn open(provide: fn(u32) -> u32) -> io::Result<&'static Self> {
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

    pub(crate) fn address(&self, page: usize) -> *mut u8 {
        assert!(page < ADDRESSES);
        self.map.at(page)
    }

    pub(crate) fn home(&self, pfn: u64) -> *mut u8 {
        self.map.at(ADDRESSES + pfn as usize)
    }

    /// Moves a page to where none is. Its caller knows that: all pages are moved by this
    /// memory manager alone, each under the lock of the one entry that it is at or will be at. So
    /// "there is one already" means that it was done and not admitted, which Linux 6.18 does.
    pub(crate) fn shift(&self, to: *mut u8, from: *mut u8) -> io::Result<()> {
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
    pub(crate) fn page_at(&self, addr: *mut u8) -> &Page {
        // SAFETY: a page of the mapping, which lives as long as `self` and is used by atomics and
        // the kernel only.
        unsafe { Page::at(addr) }
    }

    pub(crate) fn at(&self, page: usize) -> At {
        SPACE.page(page)
    }

    pub(crate) fn entry(&self, at: At) -> RealEntry<'_> {
        let table = self.tables[at.page / SPLIT].lock().unwrap();
        RealEntry { real: self, page: at.page, table, index: at.page % SPLIT }
    }

    pub(crate) fn map(&self, at: At, pages: usize) {
        self.set_areas(at, pages, true);
    }

    pub(crate) fn set_areas(&self, at: At, pages: usize, is_mapped: bool) {
        for at in at.pages(pages) {
            let mut entry = self.entry(at);
            let index = entry.index;
            entry.table.areas[index] = is_mapped;
        }
    }

    pub(crate) fn unmap(&self, at: At, pages: usize) {
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
    pub(crate) fn fault(&self, at: At, access: Access) -> bool {
        match fault(self, at, access, &mut Faulter::new(Strategy::Wait)) {
            Ok(Fault::Missing) => self.fill(at),
            Ok(Fault::Resolved | Fault::Present | Fault::Retry(_)) => true,
            Ok(_) | Err(FaultError::ToRam(_)) => false,
            Err(e) => panic!("{e:?}"),
        }
    }

    /// Provides a page that was never there.
    pub(crate) fn fill(&self, at: At) -> bool {
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

    pub(crate) fn free_frames(&self, tier: TierId) -> usize {
        self.free[tier.0].lock().unwrap().len()
    }

    /// Counts everything once more, and looks for it where it should be. While no thread is at
    /// work.
    pub(crate) fn audit(&self) {
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
    pub(crate) fn close(&self) {
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
