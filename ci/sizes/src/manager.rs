//! As small a memory manager as there can be: a page table of 64 entries behind a spin lock, as
//! many frames, two tiers.

use crate::pages::{Halt, PAGES};
use core::cell::UnsafeCell;
use core::hint::black_box;
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use pagelock::PageLock;
use pagelock::leaf::{Leaf, UnknownLeaf};
#[cfg(feature = "bring_back")]
use pagelock::mm::drain::NoBatches;
use pagelock::mm::{Access, Brought, Entry, Faulter, Memory, Strategy, Tables, ToRam, resolve};

pub(crate) struct Machine {
    leaves: UnsafeCell<[Leaf; 64]>,
    lock: AtomicBool,
}

// SAFETY: the leaves are behind the lock.
unsafe impl Sync for Machine {}

pub(crate) static MACHINE: Machine =
    Machine { leaves: UnsafeCell::new([Leaf::None; 64]), lock: AtomicBool::new(false) };

pub(crate) struct Pte<'t>(&'t Machine, usize);

impl Drop for Pte<'_> {
    fn drop(&mut self) {
        self.0.lock.store(false, Release);
    }
}

impl Entry for Pte<'_> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        // SAFETY: this has the lock.
        Ok(unsafe { (*self.0.leaves.get())[self.1 % 64] })
    }

    fn set(&mut self, leaf: Leaf) {
        // SAFETY: as above.
        unsafe { (*self.0.leaves.get())[self.1 % 64] = leaf };
    }
}

impl Tables for Machine {
    type Address = usize;
    type Entry<'t> = Pte<'t>;

    fn lock(&self, at: usize) -> Option<Pte<'_>> {
        while self.lock.swap(true, Acquire) {
            core::hint::spin_loop();
        }
        Some(Pte(self, at))
    }
}

impl Memory for Machine {
    type Futex = Halt;
    type Error = ();

    fn header(&self, pfn: u64) -> Option<&PageLock<Halt>> {
        PAGES.get(usize::try_from(pfn).ok()?)
    }

    #[cfg(not(feature = "bring_back"))]
    fn migrate_to_ram(&self, request: ToRam<'_, usize, Halt>) -> Result<Brought, ()> {
        drop(request.page);
        Ok(black_box(Brought::Back))
    }

    #[cfg(feature = "bring_back")]
    fn migrate_to_ram(&self, request: ToRam<'_, usize, Halt>) -> Result<Brought, ()> {
        pagelock::mm::migrate::bring_back(self, request, 0, &NoBatches).map_err(drop)
    }
}

pub(crate) fn work() {
    let mut faulter = Faulter::new(Strategy::Wait);
    let _ = black_box(resolve(&MACHINE, black_box(3), Access::Write, &mut faulter));
    #[cfg(feature = "all")]
    moving::work();
}

#[cfg(feature = "bring_back")]
mod tiers {
    use super::Machine;
    use core::hint::black_box;
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use pagelock::mm::{CopyError, ReverseMap, Span, Tiers};

    static NEXT: AtomicU64 = AtomicU64::new(0);

    impl ReverseMap for Machine {
        fn each_mapping(&self, span: Span, mut visit: impl FnMut(usize)) {
            visit(span.head as usize);
        }
    }

    impl Tiers for Machine {
        type Tier = u8;
        type Refusal = ();

        fn tier(&self, pfn: u64) -> u8 {
            (pfn / 32) as u8
        }

        fn is_accessible(&self, tier: u8) -> bool {
            tier == 0
        }

        fn allocate(&self, tier: u8, order: u32) -> Option<u64> {
            (order == 0).then(|| u64::from(tier) * 32 + NEXT.fetch_add(1, Relaxed) % 32)
        }

        fn free(&self, pfn: u64) {
            NEXT.store(pfn, Relaxed);
        }

        fn copy(&self, from: u64, to: u64) -> Result<(), CopyError> {
            black_box((from, to));
            Ok(())
        }

        fn zero(&self, pfn: u64) {
            black_box(pfn);
        }
    }
}

#[cfg(feature = "all")]
mod moving {
    use super::MACHINE;
    use crate::batches::Mine;
    use core::hint::black_box;
    use pagelock::mm::drain::Unlocked;
    use pagelock::mm::migrate::{Mode, Order, Slot, migrate};

    pub(super) fn work() {
        let mut slots = [const { 0usize }; 16].map(Slot::at);
        let order = Order::to(black_box(1)).mode(Mode::Sync);
        black_box(migrate(&MACHINE, &mut slots, &order, &Mine, &mut Unlocked::promise()));
    }
}
