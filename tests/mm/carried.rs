//! What travels with a page, and what embedders may put in the way of the engine.

use crate::common::machine::{DEVICE, Mm, RAM, check_all, machine, move_one, written};
use crate::order;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pagelock::UserBits;
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::exclusive::make_exclusive;
use pagelock::mm::migrate::{Abort, Outcome, Slot, collect, migrate};
use pagelock::mm::{Access, CopyError, Fault, Faulter, Memory, Strategy, resolve};
use std::sync::{Arc, Mutex};
use std::thread;

/// What belongs to the page goes with it, both ways, and nothing stays with the frame.
#[test]
fn what_belongs_to_the_page_moves_with_it() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let old = mm.frame_at(at).unwrap();
    mm.header(old).unwrap().lock().set_user(UserBits::new(3));
    let moved = Arc::new(Mutex::new(Vec::new()));
    let note = moved.clone();
    mm.on_moved(move |from, to| {
        assert!(mm.page(from).unwrap().is_frozen() && mm.page(to).unwrap().is_locked());
        note.lock().unwrap().push((from, to));
    });
    let user = |pfn| mm.header(pfn).unwrap().user().get();
    let Outcome::Moved { pfn: new } = move_one(mm, at, &order()) else { panic!() };
    assert_eq!((user(old), user(new)), (0, 3));
    check_all(mm, at, 1); // back, by a fault
    let back = mm.frame_at(at).unwrap();
    assert_eq!((user(new), user(back)), (0, 3));
    assert_eq!(*moved.lock().unwrap(), [(old, new), (new, back)]);
    // What is put back keeps it, and nothing is told.
    mm.fail_copies(DEVICE, 1);
    assert_eq!(move_one(mm, at, &order()), Outcome::Aborted(Abort::CopyFailed));
    assert_eq!((user(back), moved.lock().unwrap().len()), (3, 2));
}

/// Whether instructions may be fetched is not in a leaf: the entry is asked, and the answer is one
/// that ends.
#[test]
fn a_page_without_the_right_to_execute_has_an_answer_of_its_own() {
    use pagelock::leaf::UnknownLeaf;
    use pagelock::mm::{Brought, Entry, Tables, ToRam};
    use pagelock::{OsFutex, PageLock};
    struct Nx(PageLock);
    struct Pte(bool);
    impl Entry for Pte {
        fn get(&self) -> Result<Leaf, UnknownLeaf> {
            Ok(Leaf::Present { pfn: 0, rights: Rights::Write, tracking: Tracking::default() })
        }
        fn set(&mut self, _leaf: Leaf) {}
        fn may_execute(&self) -> bool {
            self.0
        }
    }
    impl Tables for Nx {
        type Address = usize;
        type Entry<'t> = Pte;
        fn lock(&self, at: usize) -> Option<Pte> {
            (at < 2).then_some(Pte(at == 1))
        }
    }
    impl Memory for Nx {
        type Futex = OsFutex;
        type Error = ();
        fn header(&self, _pfn: u64) -> Option<&PageLock> {
            Some(&self.0)
        }
        fn migrate_to_ram(&self, _request: ToRam<'_, usize, OsFutex>) -> Result<Brought, ()> {
            Err(())
        }
    }
    let nx = Nx(PageLock::new());
    let what = |at, access| resolve(&nx, at, access, &mut Faulter::new(Strategy::Wait));
    assert_eq!(what(0, Access::Execute), Ok(Fault::NotExecutable));
    assert_eq!(what(1, Access::Execute), Ok(Fault::Present));
    assert_eq!(
        [Access::Read, Access::Write].map(|access| what(0, access)),
        [Ok(Fault::Present); 2]
    );
    // And where there is no table, there is nothing.
    assert_eq!(what(2, Access::Execute), Ok(Fault::Missing));
}

/// Batches and what holds them, without an allocator and before anything runs.
#[test]
fn batches_can_be_statics() {
    use pagelock::futex::SpinFutex;
    use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu};
    static EACH: [CachePadded<Batch<SpinFutex>>; 4] =
        [const { CachePadded::new(Batch::with_futex(SpinFutex)) }; 4];
    static ALL: Batches<&[CachePadded<Batch<SpinFutex>>], OneCpu, SpinFutex> =
        Batches::new(OneCpu, SpinFutex, &EACH);
    let put = AtomicUsize::new(0);
    assert!(ALL.add(7, |_| ()));
    ALL.drain_all(&mut Unlocked::promise(), |pfn| {
        assert_eq!(pfn, 7);
        put.fetch_add(1, SeqCst);
    });
    assert_eq!(put.load(SeqCst), 1);
}

/// Scanners that try every frame, beside migrators: no migration fails for a
/// reference of theirs.
#[test]
fn scanners_by_frame_disturb_no_migration() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 32);
    let referenced = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let unlocked = &mut Unlocked::promise();
                while !STOP.load(SeqCst) {
                    let mut slots: Vec<_> =
                        mm.frames_of(RAM).filter(|&pfn| pfn > 0).map(Slot::frame).collect();
                    let _ = migrate(mm, &mut slots, &order().from(RAM), mm, unlocked);
                    let aborted = |slot: &&Slot<'_, Mm>| {
                        matches!(slot.outcome(), Outcome::Aborted(Abort::Referenced { .. }))
                    };
                    referenced.fetch_add(slots.iter().filter(aborted).count(), SeqCst);
                }
            });
        }
        for n in 0..crate::common::rounds(40) {
            check_all(mm, at.space.page(n % 32), 1);
            thread::yield_now();
        }
        STOP.store(true, SeqCst);
    });
    assert_eq!(referenced.load(SeqCst), 0);
    mm.audit().unwrap();
    let _ = make_exclusive::<Mm>;
}

/// A thread pool copies for a migrator. It may go about it in any order; what fails, or is not
/// reported, is put back, and the others arrive.
#[test]
fn an_engine_copies_a_batch_and_answers_for_each_page() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 16);
    let frames: Vec<u64> = at.pages(16).map(|at| mm.frame_at(at).unwrap()).collect();
    mm.set_lost(frames[5], true);
    let mut slots: Vec<_> = at.pages(16).map(Slot::at).collect();
    let order = order();
    let checked = collect(mm, &mut slots, &order, unlocked).unmap().check();
    let copied = checked.copy_by(|jobs| {
        let all: Vec<_> = jobs.iter().collect();
        assert_eq!(all.len(), 16);
        let mut done = thread::scope(|s| {
            let pool: Vec<_> = all
                .chunks(4)
                .map(|jobs| {
                    s.spawn(move || {
                        jobs.iter().map(|job| (job.index, job.copy(mm))).collect::<Vec<_>>()
                    })
                })
                .collect();
            pool.into_iter().rev().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for (index, copied) in done.iter_mut() {
            match *index {
                3 => jobs.done(3, Err(CopyError::Failed)),
                7 => {} // lost by the engine
                index => jobs.done(index, *copied),
            }
        }
        assert_eq!(jobs.iter().map(|job| job.index).collect::<Vec<_>>(), [7]);
    });
    let summary = copied.finalize();
    assert_eq!((summary.done, summary.poisoned, summary.left), (13, 1, 2));
    assert_eq!(slots[5].outcome(), Outcome::Poisoned);
    for put_back in [3, 7] {
        assert_eq!(slots[put_back].outcome(), Outcome::Aborted(Abort::CopyFailed));
        assert_eq!(mm.frame_at(at.space.page(put_back)), Some(frames[put_back]));
    }
    for at in at.pages(16).filter(|at| at.page != 5) {
        check_all(mm, at, 1);
    }
    mm.audit().unwrap();
}
