//! Each processor's batch of references, and how it is emptied: by an interrupt, or by a worker.
//!
//! An interrupt comes whatever the processor is doing. A kernel that cannot touch its batches in an
//! interrupt has a worker instead, which runs when the processor has nothing else to do, as when it
//! sleeps. The livelock that this crate began with needs a worker and a faulter that never sleeps.

use crate::counters::{BATCHED, DRAINED, UNBATCHED};
use crate::platform::Halt;
use crate::{apic, cpu, frames};
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::mm::drain::{Batch, Batches, CachePadded, Cpus, Drain, Reach, Unlocked};
use pagelock::mm::ledger::{Change, Owner};

/// These processors.
pub struct Processors;

type Each = [CachePadded<Batch<Halt>>; cpu::MAX];

static BATCHES: Batches<Each, Processors, Halt> =
    Batches::new(Processors, Halt, [const { CachePadded::new(Batch::with_futex(Halt)) }; cpu::MAX]);

/// Whether batches are emptied by workers.
pub static BY_WORKER: AtomicBool = AtomicBool::new(false);

impl Cpus for Processors {
    fn current(&self) -> usize {
        cpu::this().index()
    }

    fn kick(&self, index: usize) -> Reach {
        if index >= cpu::up() {
            return Reach::Direct;
        }
        let cpu = cpu::of(index);
        if BY_WORKER.load(Relaxed) {
            // Release: pairs with the Acquire of `work`.
            cpu.work.store(true, Release);
            apic::send(cpu, apic::Vector::Wake);
        } else {
            apic::send(cpu, apic::Vector::Drain);
        }
        Reach::Kicked
    }
}

fn put(pfn: u64) {
    UNBATCHED.one();
    frames::put(pfn, Owner::Batch);
}

/// Puts `owner`'s reference to the page into this processor's batch, which owns it then. `false` if
/// the batch is in use; then the reference is put at once.
pub fn add(pfn: u64, owner: Owner) -> bool {
    // Noted first: as soon as it is in, it may be put.
    frames::owners(pfn).note(owner, Change::Put);
    frames::owners(pfn).note(Owner::Batch, Change::Taken);
    let is_added = BATCHES.add(pfn, put);
    if is_added {
        BATCHED.one();
    } else {
        frames::put(pfn, Owner::Batch);
    }
    is_added
}

/// [`add`], and calls `meanwhile` while the batch is in use. For tests of what an interrupt may do
/// then.
pub fn add_and(pfn: u64, meanwhile: impl Fn()) {
    while frames::get(pfn, Owner::Batch) {
        BATCHED.one();
        let mut is_emptied = false;
        let added = BATCHES.add(pfn, |pfn| {
            if !core::mem::replace(&mut is_emptied, true) {
                meanwhile();
            }
            put(pfn);
        });
        assert!(added, "nobody else uses this batch");
        if is_emptied {
            break;
        }
    }
}

/// Empties this processor's batch, in an interrupt or a worker.
pub fn empty() {
    DRAINED.one();
    BATCHES.run(cpu::this().index(), put);
}

/// The worker.
pub fn work() {
    let cpu = cpu::this();
    // Relaxed: a look.
    if cpu.work.load(Relaxed) && cpu.work.swap(false, Acquire) {
        empty();
    }
}

/// Asks all processors, and waits for none.
pub fn ask_all() {
    BATCHES.ask_all(put);
}

/// How a migration has batches drained.
pub struct Drains;

impl Drain for Drains {
    fn local(&self) {
        BATCHES.drain_local(put);
    }

    fn all(&self, unlocked: &mut Unlocked) {
        BATCHES.drain_all(unlocked, put);
    }
}
