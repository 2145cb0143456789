//! Batches of references, and waiting until they are put.

use crate::{In, Page, explore_with, on};
use crossbeam_utils::CachePadded;
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use pagelock::mm::drain::{BATCH, Batch, Batches, Cpus, Reach, Unlocked};
use std::cell::Cell;
use std::sync::Arc;

loom::thread_local! {
    static CPU: Cell<usize> = Cell::new(0);
}

/// Two processors, of which the second is told to empty its batch, if its batch is out of reach.
struct Two {
    kicked: Arc<AtomicBool>,
    reach: Reach,
}

impl Cpus for Two {
    fn current(&self) -> usize {
        CPU.with(Cell::get)
    }

    fn kick(&self, _cpu: usize) -> Reach {
        self.kicked.store(true, SeqCst);
        self.reach
    }
}

struct Machine {
    page: Arc<Page>,
    batches: Batches<[CachePadded<Batch<In<0>>>; 2], Two, In<0>>,
    kicked: Arc<AtomicBool>,
}

impl Machine {
    /// A page with two references, of which one is in the second processor's batch, and whose batch
    /// can be reached like this.
    fn new(reach: Reach) -> Arc<Self> {
        let (page, kicked) = (Page::new(), Arc::new(AtomicBool::new(false)));
        page.lock.activate(2).unwrap();
        let each = std::array::from_fn(|_| CachePadded::new(Batch::with_futex(In)));
        let machine = Self {
            page,
            batches: Batches::new(Two { kicked: kicked.clone(), reach }, In, each),
            kicked,
        };
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

    fn put(&self, pfn: u64) {
        if pfn == 0 {
            // SAFETY: the reference that the batch had.
            let _ = unsafe { self.page.lock.put_raw() };
        }
    }

    /// Adds another page to the second processor's batch.
    fn add(&self) -> bool {
        CPU.with(|cpu| cpu.set(1));
        self.batches.add(1, |pfn| self.put(pfn))
    }

    fn drain(&self) {
        self.batches.drain_all(&mut Unlocked::promise(), |pfn| self.put(pfn));
        assert_eq!(self.page.lock.refs(), 1, "drained, and the reference is still seen");
    }
}

/// A drain that has waited for the other processor sees its references put.
#[test]
fn a_drain_sees_what_it_waited_for() {
    explore_with(3, || {
        let machine = Machine::new(Reach::Kicked);
        let worker = on(&machine, |machine| {
            machine.until_kicked();
            machine.batches.run(1, |pfn| machine.put(pfn));
        });
        machine.drain();
        worker.join().unwrap();
    });
}

/// So does one that finds that it need not ask, because the other has begun after it was called.
#[test]
fn a_drain_that_need_not_ask_sees_what_was_put() {
    explore_with(3, || {
        let machine = Machine::new(Reach::Kicked);
        let worker = on(&machine, |machine| {
            machine.batches.run(1, |pfn| machine.put(pfn));
            machine.until_kicked();
            machine.batches.run(1, |pfn| machine.put(pfn));
        });
        machine.drain();
        machine.kicked.store(true, SeqCst);
        worker.join().unwrap();
    });
}

/// A drain that finds the batch in use is told by its user, which has emptied it for the drain.
#[test]
fn whoever_has_the_batch_empties_it_for_a_drain() {
    explore_with(3, || {
        let machine = Machine::new(Reach::Direct);
        let adder = on(&machine, |machine| {
            machine.add();
        });
        machine.drain();
        adder.join().unwrap();
    });
}

/// So is one whose call to the other processor came in the middle of that; the one that answers
/// does not wait.
#[test]
fn a_call_in_the_middle_of_an_add_is_answered() {
    explore_with(2, || {
        let machine = Machine::new(Reach::Kicked);
        let adder = on(&machine, |machine| {
            machine.add();
        });
        let worker = on(&machine, |machine| {
            machine.until_kicked();
            machine.batches.run(1, |pfn| machine.put(pfn));
        });
        machine.drain();
        adder.join().unwrap();
        worker.join().unwrap();
    });
}

/// References that an adder takes out of a full batch are put before a drain is over.
#[test]
fn what_is_taken_out_of_a_full_batch_is_waited_for() {
    explore_with(3, || {
        let machine = Machine::new(Reach::Direct);
        (1..BATCH).for_each(|_| assert!(machine.add()));
        CPU.with(|cpu| cpu.set(0));
        let adder = on(&machine, |machine| {
            machine.add();
        });
        machine.drain();
        adder.join().unwrap();
    });
}

/// Two threads add at the same time: the batch has what the adds said it had.
#[test]
fn one_at_a_time_uses_a_batch() {
    explore_with(3, || {
        let machine = Machine::new(Reach::Direct);
        let adder = on(&machine, |machine| usize::from(machine.add()));
        let added = usize::from(machine.add());
        let added = added + adder.join().unwrap();
        assert_eq!(machine.batches.count(1, |_| unreachable!("nobody drains")), added);
    });
}
