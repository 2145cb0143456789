//! Batches of references, and waiting until they are put.

use crate::{In, Page, explore_with, on};
use crossbeam_utils::CachePadded;
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use pagelock::mm::drain::{Batch, Batches, Cpus, DrainPermit, Reach};
use std::cell::Cell;
use std::sync::Arc;

loom::thread_local! {
    static CPU: Cell<usize> = Cell::new(0);
}

/// Two processors, of which the second is told to empty its batch.
struct Two(Arc<AtomicBool>);

impl Cpus for Two {
    fn current(&self) -> usize {
        CPU.with(Cell::get)
    }

    fn kick(&self, _cpu: usize) -> Reach {
        self.0.store(true, SeqCst);
        Reach::Kicked
    }
}

struct Machine {
    page: Arc<Page>,
    batches: Batches<[CachePadded<Batch<In<0>>>; 2], Two, In<0>>,
    kicked: Arc<AtomicBool>,
}

impl Machine {
    /// A page with two references, of which one is in the second processor's batch.
    fn new() -> Arc<Self> {
        let (page, kicked) = (Page::new(), Arc::new(AtomicBool::new(false)));
        page.lock.activate(2).unwrap();
        let each = std::array::from_fn(|_| CachePadded::new(Batch::with_futex(In)));
        let machine = Self { page, batches: Batches::new(Two(kicked.clone()), In, each), kicked };
        CPU.with(|cpu| cpu.set(1));
        assert!(machine.batches.add(0, |_| unreachable!("there is room")));
        CPU.with(|cpu| cpu.set(0));
        Arc::new(machine)
    }

    fn until_kicked(&self) {
        while !self.kicked.load(SeqCst) {
            loom::thread::yield_now();
        }
    }

    fn put(&self) {
        // SAFETY: the reference that the batch had.
        let _ = unsafe { self.page.lock.put_raw() };
    }

    fn drain(&self) {
        self.batches.drain_all(DrainPermit::promise(), |_| self.put());
        assert_eq!(self.page.lock.refs(), 1, "drained, and the reference is still seen");
    }
}

/// Whoever has waited for the other processor sees that its references are put.
#[test]
fn a_drain_sees_what_it_waited_for() {
    explore_with(3, || {
        let machine = Machine::new();
        let worker = on(&machine, |machine| {
            machine.until_kicked();
            machine.batches.run(1, |_| machine.put());
        });
        machine.drain();
        worker.join().unwrap();
    });
}

/// So does one that finds that it need not ask, because the other has begun after it was called.
#[test]
fn a_drain_that_need_not_ask_sees_what_was_put() {
    explore_with(3, || {
        let machine = Machine::new();
        let worker = on(&machine, |machine| {
            machine.batches.run(1, |_| machine.put());
            machine.until_kicked();
            machine.batches.run(1, |_| machine.put());
        });
        machine.drain();
        machine.kicked.store(true, SeqCst);
        worker.join().unwrap();
    });
}
