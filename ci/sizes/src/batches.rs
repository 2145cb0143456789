//! Batches of references, drained here and everywhere.

use crate::pages::{Halt, PAGES};
use core::hint::black_box;
use pagelock::mm::drain::{Batch, Batches, CachePadded, Drain, OneCpu, Unlocked};

static BATCHES: Batches<[CachePadded<Batch<Halt>>; 1], OneCpu, Halt> =
    Batches::new(OneCpu, Halt, [CachePadded::new(Batch::with_futex(Halt))]);

fn put(pfn: u64) {
    if let Some(page) = PAGES.get(pfn as usize) {
        // SAFETY: not run.
        let _ = unsafe { page.put_raw() };
    }
}

/// This processor's batch, and how to put a reference.
pub(crate) struct Mine;

impl Drain for Mine {
    fn local(&self) {
        BATCHES.drain_local(put);
    }

    fn all(&self, unlocked: &mut Unlocked) {
        BATCHES.drain_all(unlocked, put);
    }
}

pub(crate) fn work() {
    black_box(BATCHES.add(black_box(7), put));
    Mine.local();
    Mine.all(&mut Unlocked::promise());
}
