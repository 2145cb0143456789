//! A device that has memory of its own and uses a process's through page tables of its own: what
//! Linux's tests of `hmm` have as `test_hmm`, in software.
//!
//! Its page table is filled by [`range`](pagelock::mm::range): what is there is read against the
//! notifier of the address space, what is not is faulted in, all of the range at a time; and what
//! was found goes into the table if the ticket is still good, with the table's lock held. Whoever
//! changes an entry tells the device first, which forgets it under the same lock. So while the
//! device holds that lock, what is in the table is so, and it accesses frames by number and nothing
//! else.

mod buffer;
mod device;

use crate::common::own::Own;
#[allow(unused_imports)] // No test program uses all of it.
pub(crate) use buffer::{Buffer, to_bytes};
use core::fmt::Debug;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
#[allow(unused_imports)]
pub(crate) use device::{Device, after};
use pagelock::mm::drain::Drain;
use pagelock::mm::range::Notifier;
use pagelock::mm::{Areas, Memory, Mm, Tables, Tiers};
use pagelock_soft::{At, SpaceId, TierId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Why something was refused. In brackets what Linux's driver says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Denied {
    /// Nothing may be accessed there (`EFAULT`).
    Fault,
    /// It may be read and not be written to (`EPERM`).
    Permission,
    /// The range is not one that the request is possible for (`EINVAL`).
    Invalid,
    /// The device does not have it (`ENOENT`).
    NotThere,
    /// The time was up (`ETIME`).
    TimedOut,
}

/// Where a page is, for the one who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    System,
    /// The frame of zeroes.
    Zero,
    /// The asking device's own memory.
    Local,
    /// Another device's, which the processor can access.
    Remote,
}

/// What a look at an address without a fault says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// Nothing may be accessed there.
    Error,
    /// There is nothing that could be used without a fault.
    None,
    Page {
        place: Place,
        write: bool,
        /// Part of a large page that is mapped as a whole.
        large: bool,
    },
}

pub(crate) const fn read(place: Place) -> Seen {
    Seen::Page { place, write: false, large: false }
}

pub(crate) const fn write(place: Place) -> Seen {
    Seen::Page { place, write: true, large: false }
}

/// The memory that both use: what the device needs besides the protocol.
pub(crate) trait Host:
    Mm
    + Areas<Failure: Debug>
    + Tables<Address = At>
    + Tiers<Tier = TierId>
    + Memory<Futex = Own, Error: Debug>
    + Drain
    + Sync
{
    fn page_size(&self) -> usize;

    /// That of an address space.
    fn notifier(&self, space: SpaceId) -> &Notifier<Own>;

    /// The tables of devices. All of them are told of what the notifiers are told of.
    fn mirrors(&self) -> Arc<Mirrors>;

    /// Reads frame `pfn`, which is at `at` if the processor can access it, and stays there.
    fn load(&self, at: At, pfn: u64, out: &mut [u8]);

    /// Writes to it.
    fn store(&self, at: At, pfn: u64, bytes: &[u8]);

    /// Reads as the processor does.
    fn cpu_read(&self, at: At, out: &mut [u8]) -> Result<(), Denied>;

    /// Writes as the processor does.
    fn cpu_write(&self, at: At, bytes: &[u8]) -> Result<(), Denied>;

    /// The frames of a tier.
    fn frames(&self, tier: TierId) -> Range<u64>;
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    /// Pages that were read or written.
    pub(crate) pages: usize,
    /// How often a range was faulted in for that.
    pub(crate) faults: usize,
}

impl Done {
    pub(crate) fn new(pages: usize, faults: usize) -> Self {
        Self { pages, faults }
    }
}

/// What a device knows of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mirrored {
    pub(crate) pfn: u64,
    pub(crate) write: bool,
}

/// A device's page table.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) entries: Mutex<BTreeMap<At, Mirrored>>,
    /// How many entries were invalidated.
    pub(crate) forgotten: AtomicUsize,
}

/// The page tables of all devices.
#[derive(Default)]
pub(crate) struct Mirrors(Mutex<Vec<Arc<Table>>>);

impl Mirrors {
    /// What is at these addresses is about to change.
    pub(crate) fn forget(&self, at: At, pages: usize) {
        for table in &*self.0.lock().unwrap() {
            let mut entries = table.entries.lock().unwrap();
            let gone: Vec<At> = entries.range(at..after(at, pages)).map(|(&at, _)| at).collect();
            for at in &gone {
                entries.remove(at);
            }
            table.forgotten.fetch_add(gone.len(), SeqCst);
        }
    }

    fn new_table(&self) -> Arc<Table> {
        let table = Arc::<Table>::default();
        self.0.lock().unwrap().push(Arc::clone(&table));
        table
    }
}
