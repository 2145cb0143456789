//! Frames: three tiers of them, each with its header, its ledger, and the number of the page that
//! is in it.
//!
//! The free ones are bits of a few words. An interrupt may put the last reference to a page, so
//! giving a frame back takes no lock.

use crate::paging::PAGE;
use crate::platform::Halt;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::PageLock;
use pagelock::mm::ledger::{Change, Owner, Owners};

/// How many of each tier.
pub const PER_TIER: u64 = 256;
/// How many.
pub const COUNT: u64 = 3 * PER_TIER;
/// The first one's number: they begin at 32 MiB.
const FIRST: u64 = 0x2000;
const WORDS: usize = (PER_TIER / 64) as usize;

/// Where a page can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// Memory that is fast.
    Fast,
    /// Memory that is slow, and can be accessed as well.
    Slow,
    /// A device's, which the processors cannot access.
    Device,
}

/// All of them.
pub const TIERS: [Tier; 3] = [Tier::Fast, Tier::Slow, Tier::Device];

static HEADERS: [PageLock<Halt>; COUNT as usize] =
    [const { PageLock::with_futex(Halt) }; COUNT as usize];
static OWNERS: [Owners; COUNT as usize] = [const { Owners::new() }; COUNT as usize];
static PAGES: [AtomicU32; COUNT as usize] = [const { AtomicU32::new(0) }; COUNT as usize];
static FREE: [[AtomicU64; WORDS]; 3] = [const { [const { AtomicU64::new(u64::MAX) }; WORDS] }; 3];

fn index(pfn: u64) -> Option<usize> {
    pfn.checked_sub(FIRST).filter(|&index| index < COUNT).map(|index| index as usize)
}

fn known(pfn: u64) -> usize {
    index(pfn).unwrap_or_else(|| panic!("frame {pfn:#x} is none of ours"))
}

/// The numbers of all frames.
pub fn all() -> core::ops::Range<u64> {
    FIRST..FIRST + COUNT
}

/// The header of a frame.
pub fn header(pfn: u64) -> Option<&'static PageLock<Halt>> {
    HEADERS.get(index(pfn)?)
}

/// The ledger of a frame.
pub fn owners(pfn: u64) -> &'static Owners {
    &OWNERS[known(pfn)]
}

/// Which page is in a frame, for the reverse map.
pub fn page_in(pfn: u64) -> u32 {
    // Relaxed, here and below: written with the page locked before an entry names the frame, and
    // read with it locked, or under a page-table lock whose entry names the frame.
    PAGES[known(pfn)].load(Relaxed)
}

/// Page number `page` is about to be in a frame.
pub fn set_page_in(pfn: u64, page: u32) {
    PAGES[known(pfn)].store(page, Relaxed);
}

/// The tier of a frame.
pub fn tier(pfn: u64) -> Tier {
    TIERS[known(pfn) / PER_TIER as usize]
}

/// Where the bytes of a frame are.
pub fn bytes(pfn: u64) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(pfn as usize * PAGE)
}

/// A free frame of a tier.
pub fn allocate(tier: Tier) -> Option<u64> {
    for (number, word) in FREE[tier as usize].iter().enumerate() {
        let mut seen = word.load(Relaxed);
        while seen != 0 {
            let bit = seen.trailing_zeros();
            // Acquire: pairs with the Release of `free`: the frame's last user is done with it.
            match word.compare_exchange_weak(seen, seen & !(1 << bit), Acquire, Relaxed) {
                Ok(_) => {
                    return Some(
                        FIRST + tier as u64 * PER_TIER + number as u64 * 64 + u64::from(bit),
                    );
                }
                Err(now) => seen = now,
            }
        }
    }
    None
}

/// Gives a frame back. Also in interrupts.
pub fn free(pfn: u64) {
    let index = known(pfn) as u64;
    let (tier, bit) = (index / PER_TIER, index % PER_TIER);
    let was = FREE[tier as usize][bit as usize / 64].fetch_or(1 << (bit % 64), Release);
    assert!(was & 1 << (bit % 64) == 0, "frame {pfn:#x} is free already");
}

/// Whether a frame is free.
pub fn is_free(pfn: u64) -> bool {
    let index = known(pfn) as u64;
    let (tier, bit) = (index / PER_TIER, index % PER_TIER);
    FREE[tier as usize][bit as usize / 64].load(Relaxed) & 1 << (bit % 64) != 0
}

/// How many frames of a tier are free.
pub fn how_many_free(tier: Tier) -> u32 {
    FREE[tier as usize].iter().map(|word| word.load(Relaxed).count_ones()).sum()
}

/// The last reference to the page with this header was put by dropping a guard.
pub fn free_by_header(header: usize) {
    let first = HEADERS.as_ptr().addr();
    if (first..first + size_of_val(&HEADERS)).contains(&header) {
        free(FIRST + ((header - first) / size_of::<PageLock<Halt>>()) as u64);
    }
}

/// Takes a reference for `owner`. `false` if there is no page there that can have one.
pub fn get(pfn: u64, owner: Owner) -> bool {
    let reference = header(pfn).and_then(|page| page.try_get().ok());
    let is_had = reference.is_some();
    if let Some(reference) = reference {
        reference.into_raw();
        owners(pfn).note(owner, Change::Taken);
    }
    is_had
}

/// Puts a reference of `owner`'s, and frees the frame if it was the last. Also in interrupts.
pub fn put(pfn: u64, owner: Owner) {
    owners(pfn).note(owner, Change::Put);
    // SAFETY: the caller has one, from `get` or with an entry that it has taken down.
    if unsafe { HEADERS[known(pfn)].put_raw() } == pagelock::Put::Last {
        free(pfn);
    }
}

/// Puts a working reference, then unlocks the page, and frees the frame if the reference was the
/// last.
pub fn put_locked(pfn: u64, guard: pagelock::PageGuard<'_, Halt>) {
    owners(pfn).note(Owner::Get, Change::Put);
    // SAFETY: as above.
    let put = unsafe { HEADERS[known(pfn)].put_raw() };
    drop(guard);
    if put == pagelock::Put::Last {
        free(pfn);
    }
}
