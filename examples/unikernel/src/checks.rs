//! When all processors are at rest, everything adds up.

use crate::batches::Drains;
use crate::counters::{BATCHED, UNBATCHED};
use crate::layout::{DATA, OWN, PATTERN, PRIVATE, TRANSFER, WORDS};
use crate::load::{COMMON, OWNED, WRITTEN, wrong};
use crate::paging::{self, At};
use crate::{cpu, device, frames, layout};
use core::sync::atomic::Ordering::Relaxed;
use pagelock::leaf::Leaf;
use pagelock::mm::Entry;
use pagelock::mm::drain::{Drain, Unlocked};

/// What was compared.
pub struct Sums {
    /// Words.
    pub words: u64,
    /// What was added to them.
    pub added: u64,
    /// Entries that have a reference.
    pub entries: u32,
}

/// Compares contents, counts and ledgers.
pub fn all() -> Sums {
    Drains.all(&mut Unlocked::promise());
    assert_eq!(BATCHED.get(), UNBATCHED.get(), "references are left in batches");
    let (words, added) = contents();
    Sums { words, added, entries: counts() }
}

fn contents() -> (u64, u64) {
    let (mut words, mut added) = (0, 0);
    let mut compare = |what, page, word, wanted| {
        let found = layout::word(0, page, word).load(Relaxed);
        if found != wanted {
            wrong(what, page, found, wanted);
        }
        words += 1;
    };
    for page in DATA.chain(PRIVATE) {
        let common = (0..cpu::MAX).map(|cpu| COMMON[cpu][page].load(Relaxed)).sum();
        compare("the common word", page, 0, common);
        added += common;
        for cpu in 0..cpu::MAX {
            compare("a processor's own word", page, OWN + cpu, OWNED[cpu][page].load(Relaxed));
            let value = WRITTEN[cpu][page].load(Relaxed);
            for n in 0..device::WORDS {
                let wanted = if value == 0 { 0 } else { value + n as u64 };
                compare("what the device wrote", page, TRANSFER + cpu * device::WORDS + n, wanted);
            }
        }
        for word in PATTERN..WORDS {
            let wanted = if PRIVATE.contains(&page) { 0 } else { layout::pattern(page, word) };
            compare("an unchanging word", page, word, wanted);
        }
    }
    (words, added)
}

/// Each header counts what the tables say, its ledger agrees, and no lock, pin or sleeper is left.
fn counts() -> u32 {
    let mut entries = [0_u32; frames::COUNT as usize];
    let mut total = 0;
    for space in 0..paging::SPACES {
        for page in 0..PRIVATE.end {
            let mut is_dirty = false;
            for window in layout::windows(page) {
                let at = At::new(space, window, page);
                let leaf = paging::lock(at).get();
                match leaf {
                    Ok(
                        Leaf::Present { pfn, tracking, .. }
                        | Leaf::DevicePrivate { pfn, tracking, .. },
                    ) => {
                        assert_eq!(
                            frames::page_in(pfn) as usize,
                            page,
                            "the reverse map of frame {pfn:#x} is wrong"
                        );
                        entries[(pfn - frames::all().start) as usize] += 1;
                        total += 1;
                        is_dirty |= tracking.dirty;
                    }
                    Ok(Leaf::None) => {}
                    other => panic!("{other:?} is left at {:#x}", at.address()),
                }
            }
            let was_written =
                space == 0 && COMMON.iter().any(|added| added[page].load(Relaxed) > 0);
            assert!(
                is_dirty || !was_written,
                "page {page} was written to, and what hardware noted of that is lost"
            );
        }
    }
    for (pfn, entries) in frames::all().zip(entries) {
        let page = frames::header(pfn).expect("a frame");
        assert_eq!((page.refs(), page.pins()), (entries, 0), "frame {pfn:#x}: {page:?}");
        assert!(
            !page.is_locked() && !page.is_migrating() && page.sleepers() == 0,
            "frame {pfn:#x}: {page:?}"
        );
        assert_eq!(frames::is_free(pfn), entries == 0, "frame {pfn:#x}: {page:?}");
        if let Err(unbalanced) = frames::owners(pfn).check(pfn, page) {
            panic!("{unbalanced}");
        }
    }
    total
}
