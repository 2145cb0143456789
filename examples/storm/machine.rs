//! What the storm needs of a memory manager, beyond what the crate's protocol needs.

use crate::region::PAGE;
use pagelock::OsFutex;
use pagelock::leaf::Leaf;
use pagelock::mm::{Entry, Memory, Mm, Tables, Tiers};
use pagelock_soft::{At, SpaceId, TierId};
use std::fmt::Display;
use std::io;

/// Where pages can be accessed.
pub const HOT: TierId = TierId(0);
/// Where they cannot.
pub const COLD: TierId = TierId(1);
/// Frames of each tier beyond one for every page: a page has two while it moves, and each thread
/// moves one, and the migrator a batch.
pub const SPARE: usize = 1024;

/// Memory in two tiers, seen through several mappings, whose pages `pagelock::mm` moves.
pub trait Machine:
    Mm
    + Tables<Address = At>
    + Memory<Futex = OsFutex, Error: Display>
    + Tiers<Tier = TierId, Refusal: Display>
    + Sync
    + Sized
{
    /// The memory in words, for the report.
    fn describe(&self) -> String;

    /// Faults are real ones.
    fn traps(&self) -> bool;

    /// How often the system had to be asked again.
    fn retries(&self) -> u64 {
        0
    }

    /// Adds to a word through a mapping, or reads it. `None` if that is a fault, for the caller to
    /// resolve; memory that traps has it resolved by itself.
    fn touch(&self, at: At, word: usize, add: Option<usize>) -> Option<usize>;

    /// Reads a page that the tables say is in frame `pfn`. Never faults: where they are wrong, it
    /// is an error.
    fn read_page(&self, page: usize, pfn: u64, out: &mut [u8; PAGE]) -> io::Result<()>;

    /// Compares every frame's header with the tables, while no thread runs.
    fn audit(&self) -> Result<(), String>;

    /// What the entry says. The tables hold nothing but leaves.
    fn leaf(&self, at: At) -> Leaf {
        self.lock(at)
            .and_then(|entry| entry.get().ok())
            .expect("the tables hold nothing but leaves")
    }
}

/// A page in one of the mappings. Each is an address space.
pub fn at(mapping: usize, page: usize) -> At {
    SpaceId(mapping as u32).page(page)
}
