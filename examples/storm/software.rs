//! Faults in software: the crate's own memory manager, for systems that have no userfaultfd.
//!
//! Nothing traps, so an access asks the table, and keeps the page from leaving by the entry's lock.

use crate::machine::{Machine, SPARE, at};
use crate::region::PAGE;
use pagelock::leaf::{Leaf, Rights};
use pagelock_soft::{Area, AreaKind, At, Config, MapError, Soft};
use std::io;

/// Pages that are hot and zero, shared by `mappings` address spaces.
pub fn open(pages: usize, mappings: usize) -> Result<Soft, String> {
    // One more is the frame of zeroes.
    let frames = pages + 1 + SPARE;
    // The memory manager does not check for memory, so try it here: the bytes of two tiers, and the
    // records of each page.
    let bytes = 2 * frames * (PAGE + KEPT) + mappings * pages * KEPT;
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|e| e.to_string())?;
    map(frames, pages, mappings).map_err(|e| e.to_string())
}

/// The size of a record, of a frame or an entry, at most.
const KEPT: usize = 256;

fn map(frames: usize, pages: usize, mappings: usize) -> Result<Soft, MapError> {
    let mm = Soft::new(Config {
        page_size: PAGE,
        pages,
        spaces: mappings,
        ..Config::ram_and_device(frames, frames)
    });
    for mapping in 0..mappings {
        mm.spawn()?;
        match mapping {
            0 => mm.map_shared(at(0, 0), pages)?,
            _ => (0..pages).try_for_each(|page| {
                let area = Area { kind: AreaKind::Shared, rights: Some(Rights::Write) };
                mm.share(at(0, page), at(mapping, page), area)
            })?,
        }
    }
    Ok(mm)
}

impl Machine for Soft {
    fn describe(&self) -> String {
        "ordinary memory, faults in software".to_string()
    }

    fn traps(&self) -> bool {
        false
    }

    fn touch(&self, at: At, word: usize, add: Option<usize>) -> Option<usize> {
        let entry = self.entry(at);
        let Leaf::Present { pfn, .. } = entry.leaf() else { return None };
        Some(self.add_frame(pfn, word, add.unwrap_or(0)))
    }

    fn read_page(&self, _page: usize, pfn: u64, out: &mut [u8; PAGE]) -> io::Result<()> {
        self.read_frame(pfn, 0, out);
        Ok(())
    }

    fn audit(&self) -> Result<(), String> {
        Soft::audit(self).map_err(|e| e.to_string())
    }
}
