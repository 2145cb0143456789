//! Page tables, which are the processor's own and the only ones.
//!
//! A *space* has 1,024 pages from 512 GiB on, in two tables of 512 entries, each behind a spin lock
//! (its PTL). The second table is a second window on the same pages: page number `n` is at `n` and
//! at `512 + n`, in each space.

use crate::apic;
use crate::shootdown;
use crate::spin::{Held, Spin};
use crate::{boot, cpu};
use core::arch::asm;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use pagelock::leaf::{Leaf, Marker, Rights, Tracking, UnknownLeaf};
use pagelock::mm::Entry;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Entries of a table: pages of a window.
pub const WINDOW: usize = 512;
/// How many spaces there are. A fork's child has a greater number than its parent, so a walk that
/// has not reached the parent's entry has not reached the child's either, as the reverse map
/// promises.
pub const SPACES: usize = 2;
/// Where a space's pages are.
pub const BASE: usize = 1 << 39;
/// Where the headers are that can be unmapped.
const HEADERS: usize = 2 << 39;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
// Three bits that the hardware leaves to the kernel.
const EXCLUSIVE: u64 = 1 << 9;
const SOFT_DIRTY: u64 = 1 << 10;
const UFFD_WP: u64 = 1 << 11;
const NO_EXECUTE: u64 = 1 << 63;

/// An address, as the crate sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// The space.
    pub space: u8,
    /// Window and page, from 0 to 1,023.
    pub entry: u16,
}

impl At {
    /// Page `page` in window `window` of `space`.
    pub fn new(space: usize, window: usize, page: usize) -> Self {
        Self { space: space as u8, entry: (window * WINDOW + page) as u16 }
    }

    /// What is at `address` of the space that this processor is in.
    pub fn of(address: usize) -> Option<Self> {
        let entry = address.checked_sub(BASE)? / PAGE;
        (entry < 2 * WINDOW)
            .then(|| Self { space: cpu::this().space.load(Relaxed) as u8, entry: entry as u16 })
    }

    /// The page's number.
    pub fn page(self) -> usize {
        usize::from(self.entry) % WINDOW
    }

    /// Where it is for a processor in its space.
    pub fn address(self) -> usize {
        BASE + usize::from(self.entry) * PAGE
    }
}

#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    fn entry(&self) -> u64 {
        (&raw const *self).addr() as u64 | 3
    }
}

struct Space {
    /// The upper three levels.
    upper: [Table; 3],
    tables: [Table; 2],
    locks: [Spin<()>; 2],
}

static SPACES_: [Space; SPACES] = [const {
    Space {
        upper: [const { Table::new() }; 3],
        tables: [const { Table::new() }; 2],
        locks: [Spin::new(()), Spin::new(())],
    }
}; SPACES];
static HEADER_TABLES: [Table; 3] = [const { Table::new() }; 3];

/// Makes the upper levels.
pub fn set_up() {
    for space in &SPACES_ {
        let [root, third, second] = &space.upper;
        root.0[0].store(boot::identity_entry(), Relaxed);
        root.0[1].store(third.entry(), Relaxed);
        root.0[2].store(HEADER_TABLES[0].entry(), Relaxed);
        third.0[0].store(second.entry(), Relaxed);
        for (number, table) in space.tables.iter().enumerate() {
            second.0[number].store(table.entry(), Relaxed);
        }
    }
    HEADER_TABLES[0].0[0].store(HEADER_TABLES[1].entry(), Relaxed);
    HEADER_TABLES[1].0[0].store(HEADER_TABLES[2].entry(), Relaxed);
}

/// Has this processor use a space. What it has cached of the last one is gone.
pub fn enter(space: usize) {
    cpu::this().space.store(space, Relaxed);
    let root = (&raw const SPACES_[space].upper[0]).addr();
    // SAFETY: the space has the kernel where it is in every other.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) }
}

/// Locks the PTL of an entry.
pub fn lock(at: At) -> Pte<'static> {
    let space = &SPACES_[usize::from(at.space)];
    let table = usize::from(at.entry) / WINDOW;
    Pte { at, entry: &space.tables[table].0[at.page()], _ptl: space.locks[table].lock() }
}

/// An entry whose PTL is held.
pub struct Pte<'t> {
    at: At,
    entry: &'t AtomicU64,
    _ptl: Held<'t, ()>,
}

impl Pte<'_> {
    /// Makes an entry for a page where none was. Whether instructions may be fetched from it never
    /// changes.
    pub fn set_executable(&mut self, may: bool) {
        self.entry.store(if may { 0 } else { NO_EXECUTE }, Relaxed);
    }
}

impl Entry for Pte<'_> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        // Acquire: as a table in software would; the PTL orders it.
        decode(self.entry.load(Acquire))
    }

    fn set(&mut self, leaf: Leaf) {
        let stays = self.entry.load(Relaxed) & NO_EXECUTE;
        // Release: a walk that finds the entry finds the page's bytes. A processor never caches an
        // entry that is not present, so none is told.
        self.entry.store(encode(leaf) | stays, Release);
    }

    fn take(&mut self) -> Result<Leaf, UnknownLeaf> {
        let leaf = self.take_unflushed();
        shootdown::flush();
        leaf
    }

    /// One step: the processors set bits here until it is done, and none after.
    fn take_unflushed(&mut self) -> Result<Leaf, UnknownLeaf> {
        let was = self.entry.fetch_and(NO_EXECUTE, AcqRel);
        if was & PRESENT != 0 {
            shootdown::note(self.at.address());
        }
        decode(was)
    }

    fn may_execute(&self) -> bool {
        self.entry.load(Relaxed) & NO_EXECUTE == 0
    }
}

/// Present entries are encoded for the hardware. All others are the crate's own word, one bit to
/// the left: the hardware looks at bit 0 only, and [`Leaf::encode`] sets it for some that are not
/// present. Bit 63 is the entry's own: the page may not be executed.
fn encode(leaf: Leaf) -> u64 {
    let Leaf::Present { pfn, rights, tracking } = leaf else {
        return leaf.encode().expect("our frames have small numbers") << 1;
    };
    let bit = |is_set, bit| if is_set { bit } else { 0 };
    pfn << 12
        | PRESENT
        | bit(rights == Rights::Write, WRITABLE)
        | bit(rights == Rights::ReadExclusive, EXCLUSIVE)
        | bit(tracking.accessed, ACCESSED)
        | bit(tracking.dirty, DIRTY)
        | bit(tracking.soft_dirty, SOFT_DIRTY)
        | bit(tracking.uffd_wp, UFFD_WP)
}

fn decode(word: u64) -> Result<Leaf, UnknownLeaf> {
    let word = word & !NO_EXECUTE;
    if word & PRESENT == 0 {
        return Leaf::decode(word >> 1);
    }
    let has = |bit| word & bit != 0;
    let rights = match (has(WRITABLE), has(EXCLUSIVE)) {
        (true, _) => Rights::Write,
        (_, true) => Rights::ReadExclusive,
        _ => Rights::Read,
    };
    let tracking = Tracking {
        accessed: has(ACCESSED),
        dirty: has(DIRTY),
        soft_dirty: has(SOFT_DIRTY),
        uffd_wp: has(UFFD_WP),
    };
    Ok(Leaf::Present { pfn: word >> 12, rights, tracking })
}

/// Checks that every kind of leaf comes back from an entry as it was, and that the hardware takes
/// only a present one for present.
pub fn check_encoding() -> usize {
    let (pfn, slot) = (0x2345, 0x77);
    let mut checked = 0;
    let mut check = |leaf: Leaf| {
        let word = encode(leaf);
        assert_eq!(word & PRESENT != 0, matches!(leaf, Leaf::Present { .. }), "{leaf:?}");
        assert_eq!(decode(word), Ok(leaf));
        assert_eq!(decode(word | NO_EXECUTE), Ok(leaf));
        checked += 1;
    };
    [Leaf::None, Leaf::Poison { pfn }, Leaf::Marker(Marker::Guard)]
        .into_iter()
        .for_each(&mut check);
    for bits in 0..16_u8 {
        let has = |bit: u8| bits & 1 << bit != 0;
        let tracking =
            Tracking { accessed: has(0), dirty: has(1), soft_dirty: has(2), uffd_wp: has(3) };
        check(Leaf::Swap { slot, tracking });
        for rights in [Rights::Read, Rights::ReadExclusive, Rights::Write] {
            check(Leaf::Present { pfn, rights, tracking });
            check(Leaf::Migration { pfn, rights, tracking });
            check(Leaf::DevicePrivate { pfn, rights, tracking });
            check(Leaf::DeviceExclusive { pfn, rights, tracking });
        }
    }
    checked
}

/// Maps the page at physical address `of` where headers can be unmapped, and says where that is.
pub fn map_headers(of: usize) -> usize {
    HEADER_TABLES[2].0[0].store(of as u64 | 3 | NO_EXECUTE, Release);
    HEADERS
}

/// Unmaps them, on all processors.
pub fn unmap_headers() {
    HEADER_TABLES[2].0[0].store(0, Release);
    apic::forget(HEADERS);
    shootdown::note(HEADERS);
    shootdown::flush();
}

/// Makes each of `pages` in the first window of `parent` the same in `child`, with what `both`
/// makes of it. Both tables are locked, and everything is flushed once before they are unlocked,
/// also entries that are not present: another processor may have taken them down without a flush
/// yet.
pub fn share(
    parent: usize,
    child: usize,
    pages: core::ops::Range<usize>,
    mut both: impl FnMut(Leaf) -> Leaf,
) {
    assert!(parent < child, "a parent's lock comes first");
    let _parent = SPACES_[parent].locks[0].lock();
    let _child = SPACES_[child].locks[0].lock();
    for page in pages {
        let (from, to) = (&SPACES_[parent].tables[0].0[page], &SPACES_[child].tables[0].0[page]);
        let was = from.fetch_and(NO_EXECUTE, AcqRel);
        let leaf = both(decode(was).expect("our tables have leaves only"));
        let word = encode(leaf) | was & NO_EXECUTE;
        from.store(word, Release);
        to.store(word, Release);
        if leaf != Leaf::None {
            shootdown::note(At::new(parent, 0, page).address());
        }
    }
    if shootdown::NOT_IN_FORK.load(Relaxed) {
        shootdown::forget_notes();
    }
    shootdown::flush();
}
