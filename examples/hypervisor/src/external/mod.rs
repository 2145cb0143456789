//! `--external-manager`: faults are served and pages evicted by a second process. Either may be
//! killed at any instruction.
//!
//! ```text
//!   hypervisor                                    manager (the same program, --manage)
//!   processors, device, balloon                   handlers, evictor, store
//!        │  guest memory: a memfd, mapped here         │  the memfd, by read and fallocate
//!        │  userfaultfd: faults of this process ──────▶│  reads them, puts pages up
//!        └──────────── the segment: headers, and a seat for each thread ────────┘
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `home.rs` | the hypervisor's side of memory: balloon, pins |
//! | `keeper.rs` | starts the manager, notices its end, recovers, starts another one |
//! | `manager.rs` | the manager |
//! | `ledger.rs` | what a manager that is alone can know of the guest's memory |
//! | `store.rs` | pages in a file, where a process that dies leaves them |
//! | `run.rs` | one run |

mod device;
mod home;
mod keeper;
mod ledger;
mod manager;
mod run;
mod store;

pub(crate) use manager::manage;
pub(crate) use run::run;

use pagelock_vmm::shared::SharedRegion;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// What the manager is started with, as JSON on its command line. The descriptors are inherited.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Handover {
    segment: i32,
    uffd: i32,
    features: u64,
    memory: i32,
    store: i32,
    base: usize,
    pages: u32,
    vcpus: u32,
    handlers: u8,
    limit: u32,
    /// The seat of the hypervisor's main thread.
    seat: u32,
}

/// Words that both processes see, behind those of the pages: they outlive a manager.
#[derive(Clone, Copy)]
pub(crate) enum Shared {
    /// The manager's first seat, and one.
    Manager,
    /// Set by the hypervisor: the manager ends.
    End,
    Faults,
    Fetched,
    Zeroes,
    There,
    InFlight,
    Evicted,
    RefusedPinned,
    RefusedOwned,
    /// How many there are.
    Count,
}

pub(crate) const SEATS: u32 = 128;

pub(crate) fn word(region: &SharedRegion, which: Shared) -> &AtomicU32 {
    region.word(which as u32).expect("the segment was made with room for these words")
}

pub(crate) fn count(region: &SharedRegion, which: Shared) {
    word(region, which).fetch_add(1, SeqCst);
}
