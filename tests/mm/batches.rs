//! Batches of references, one for each processor: nobody waits to add to one, and a full one is
//! emptied.

use crate::common::{own::Own, watched, with_threads};
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use crossbeam_utils::CachePadded;
use pagelock::mm::drain::{BATCH, Batch, Batches, Cpus, OneCpu, Reach, Unlocked};
use std::sync::Mutex;
use std::thread;

std::thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// Threads that say which processor they are on. With `remote`, processor 1 is one whose batch only
/// it can reach.
pub(crate) struct Threads {
    pub(crate) kicked: Vec<AtomicBool>,
    pub(crate) remote: bool,
    pub(crate) order: Mutex<Vec<usize>>,
}

impl Threads {
    pub(crate) fn new(cpus: usize, remote: bool) -> Self {
        Self {
            kicked: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
            remote,
            order: Mutex::default(),
        }
    }
}

impl Cpus for &Threads {
    fn current(&self) -> usize {
        CPU.get()
    }

    fn kick(&self, cpu: usize) -> Reach {
        self.order.lock().unwrap().push(cpu);
        if self.remote && cpu == 1 {
            self.kicked[cpu].store(true, SeqCst);
            Reach::Kicked
        } else {
            Reach::Direct
        }
    }
}

pub(crate) fn batches(own: Own, n: usize) -> Vec<CachePadded<Batch<Own>>> {
    (0..n).map(|_| CachePadded::new(Batch::with_futex(own))).collect()
}

pub(crate) fn on(cpu: usize) {
    CPU.set(cpu);
}

/// Puts references of nobody's.
pub(crate) fn nothing(_pfn: u64) {}

#[test]
fn a_batch_holds_so_many_and_is_then_emptied() {
    let own = Own::new(1);
    let all = Batches::new(OneCpu, own, batches(own, 1));
    let put = Mutex::new(Vec::new());
    for pfn in 0..BATCH as u64 {
        assert!(all.add(pfn, |pfn| put.lock().unwrap().push(pfn)));
    }
    assert!(put.lock().unwrap().is_empty());
    assert!(all.add(100, |pfn| put.lock().unwrap().push(pfn)));
    assert_eq!(*put.lock().unwrap(), (0..BATCH as u64).collect::<Vec<_>>());
    assert_eq!((all.count(3, nothing), all.count(100, nothing)), (0, 1));
    all.drain_local(|pfn| put.lock().unwrap().push(pfn));
    assert_eq!(put.lock().unwrap().last(), Some(&100));
    assert_eq!(all.count(100, nothing), 0);
    all.drain_local(|_| panic!("it is empty"));
}

#[test]
fn without_batches_nothing_is_batched() {
    let unlocked = &mut Unlocked::promise();
    let own = Own::new(1);
    let none = Batches::new(OneCpu, own, batches(own, 0));
    assert!(!none.add(1, |_| ()));
    none.drain_local(|_| ());
    none.drain_all(unlocked, |_| ());
    assert_eq!(none.count(1, nothing), 0);
}

/// An adder does not wait for a batch that another thread empties: the page goes without.
#[test]
fn whoever_adds_never_waits() {
    let own = Own::new(1);
    let all = Batches::new(OneCpu, own, batches(own, 1));
    assert!(all.add(1, |_| ()));
    let mut added = None;
    all.drain_local(|_| added = Some(all.add(2, |_| ())));
    assert_eq!(added, Some(false));
}

/// Nor does a migrator, whose pages are locked: a batch that somebody is emptying he leaves to him.
#[test]
fn a_batch_in_use_is_left_to_its_user() {
    let own = Own::new(1);
    let all = Batches::new(OneCpu, own, batches(own, 1));
    assert!(all.add(1, nothing));
    let put = AtomicUsize::new(0);
    watched(&[], || {
        all.drain_local(|_| {
            put.fetch_add(1, SeqCst);
            thread::scope(|s| {
                s.spawn(|| all.drain_local(|_| panic!("it is not this one's"))).join().unwrap()
            });
        });
    });
    assert_eq!(put.load(SeqCst), 1);
    assert!(all.add(2, nothing), "it was let go of");
    assert_eq!(all.count(2, nothing), 1);
}

/// The interrupt comes in the middle of an `add`, or of a drain, on the processor that it
/// interrupts: it does not wait for what cannot go on before it returns, and the drainer is told
/// nevertheless.
#[test]
fn an_interrupt_in_the_middle_of_using_the_batch_does_not_wait() {
    for in_add in [true, false] {
        let own = Own::new(1);
        let threads = Threads::new(2, true);
        let all = Batches::new(&threads, own, batches(own, 2));
        on(1);
        (0..BATCH as u64).for_each(|pfn| assert!(all.add(pfn, nothing)));
        let put = Cell::new(0);
        let mut waits = true;
        with_threads(&[], |s| {
            let drainer = &s.spawn(|| {
                let unlocked = &mut Unlocked::promise();
                on(0);
                all.drain_all(unlocked, |_| panic!("only its own processor may"));
            });
            own.until_asleep(1);
            let with_an_interrupt = |_| {
                put.set(put.get() + 1);
                all.run(1, |_| panic!("the batch is in use"));
                waits &= !drainer.is_finished();
            };
            if in_add {
                assert!(all.add(100, with_an_interrupt));
            } else {
                all.drain_local(with_an_interrupt);
            }
        });
        // What was added is emptied as well: the drain may have been asked for after it was.
        assert_eq!((put.get(), waits), (BATCH + usize::from(in_add), true));
        assert_eq!(all.count(100, nothing), 0);
    }
}

/// A full batch that an adder is emptying is not empty for a drain before all of
/// it is put.
#[test]
fn what_an_add_takes_out_is_waited_for() {
    let own = Own::new(1);
    let threads = Threads::new(2, false);
    let all = Batches::new(&threads, own, batches(own, 2));
    on(1);
    (0..BATCH as u64).for_each(|pfn| assert!(all.add(pfn, nothing)));
    let put = AtomicUsize::new(0);
    with_threads(&[], |s| {
        let drain = || {
            on(0);
            all.drain_all(&mut Unlocked::promise(), |_| panic!("the batch is in use"));
            assert!(put.load(SeqCst) >= BATCH, "still about to be put");
        };
        let mut drainer = None;
        let added = all.add(100, |_| {
            if drainer.is_none() {
                drainer = Some(s.spawn(drain));
                own.until_asleep(1);
            }
            put.fetch_add(1, SeqCst);
        });
        assert!(added);
    });
    // The drain began before the page was added, and the adder has emptied the batch for it.
    assert_eq!(put.load(SeqCst), BATCH + 1);
}

/// A panic in a `put` costs what was not put, and nobody waits for that.
#[test]
fn a_panic_leaves_an_empty_batch_that_can_be_used() {
    let own = Own::new(1);
    let threads = Threads::new(2, true);
    let all = Batches::new(&threads, own, batches(own, 2));
    on(1);
    assert!(all.add(1, nothing));
    with_threads(&[], |s| {
        s.spawn(|| {
            let unlocked = &mut Unlocked::promise();
            on(0);
            all.drain_all(unlocked, nothing);
        });
        own.until_asleep(1);
        let panics = std::panic::AssertUnwindSafe(|| {
            all.run(1, |_| std::panic::resume_unwind(Box::new(())))
        });
        assert!(std::panic::catch_unwind(panics).is_err());
    });
    assert!(all.add(2, nothing));
    assert_eq!((all.count(1, nothing), all.count(2, nothing)), (0, 1));
}
