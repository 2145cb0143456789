//! The fault path over page tables of two mappings a page: threads that fault, evictors that move
//! pages away again, and passers-by that take references and pins.
//!
//! Frame `2 * n` is page `n`'s place in ordinary memory, frame `2 * n + 1` its place on the device.
//! An entry that is present or device-private owns a reference to its frame, a migration entry owns
//! none.

use crate::{In, THREADS, below, explore, in_threads};
use pagelock::leaf::{Leaf, Rights, Tracking, UnknownLeaf};
use pagelock::mm::{
    Access, Brought, Entry, Fault, FaultError, Faulter, Memory, Strategy, Tables, ToRam, resolve,
};
use pagelock::{Cancel, FreezeRule, Migration, PageLock, PageRef, Put};
use shuttle::sync::{Mutex, MutexGuard};
use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

const PAGES: usize = 2;
const MAPPINGS: usize = 2;
/// Mapping 0 may write, mapping 1 may not.
const RIGHTS: [Rights; MAPPINGS] = [Rights::Write, Rights::Read];
/// Noted in every entry, as by hardware; nobody may lose it.
const TRACKING: Tracking =
    Tracking { accessed: true, dirty: false, soft_dirty: true, uffd_wp: false };

struct Machine {
    entries: [[Mutex<u64>; MAPPINGS]; PAGES],
    frames: [Frame; 2 * PAGES],
    written: AtomicU32,
    moves: AtomicU32,
    switch: Cancel<In>,
}

struct Frame {
    lock: PageLock<In>,
    in_use: AtomicBool,
    bytes: UnsafeCell<u32>,
}

// SAFETY: shuttle runs its threads one at a time, and `Frame::access` fails the scenario if two of
// them are at the bytes.
unsafe impl Sync for Machine {}
// SAFETY: plain values.
unsafe impl Send for Machine {}

impl Frame {
    fn access(&self, new: impl FnOnce(u32) -> u32) -> u32 {
        assert!(!self.in_use.swap(true, SeqCst), "two at the bytes of a frame");
        // SAFETY: nobody else is here.
        let seen = unsafe { *self.bytes.get() };
        shuttle::thread::yield_now();
        // SAFETY: as above.
        unsafe { *self.bytes.get() = new(seen) };
        self.in_use.store(false, SeqCst);
        seen
    }
}

struct Ptl<'t>(MutexGuard<'t, u64>);

impl Entry for Ptl<'_> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        Leaf::decode(*self.0)
    }

    fn set(&mut self, leaf: Leaf) {
        *self.0 = leaf.encode().unwrap();
    }
}

impl Ptl<'_> {
    fn leaf(&self) -> Leaf {
        self.get().unwrap()
    }

    fn put_up(&mut self, leaf: Leaf) {
        self.set(leaf);
    }
}

impl Tables for Machine {
    type Address = (usize, usize);
    type Entry<'t> = Ptl<'t>;

    fn lock(&self, at: (usize, usize)) -> Option<Ptl<'_>> {
        Some(self.entry(at))
    }
}

impl Memory for Machine {
    type Futex = In;
    type Error = Infallible;

    fn header(&self, pfn: u64) -> Option<&PageLock<In>> {
        self.frames.get(pfn as usize).map(|frame| &frame.lock)
    }

    fn migrate_to_ram(
        &self,
        request: ToRam<'_, (usize, usize), In>,
    ) -> Result<Brought, Infallible> {
        let (page, _) = request.at;
        let reference = request.reference.expect("the entry owned one when the page was locked");
        let is_back = self.migrate(
            page,
            request.pfn as usize,
            2 * page,
            request.page.begin_migration(),
            reference,
        );
        Ok(if is_back { Brought::Back } else { Brought::Busy })
    }
}

impl Machine {
    fn entry(&self, (page, mapping): (usize, usize)) -> Ptl<'_> {
        Ptl(self.entries[page][mapping].lock().unwrap())
    }

    fn new() -> Self {
        let machine = Self {
            entries: std::array::from_fn(|page| {
                std::array::from_fn(|mapping| {
                    let leaf = Leaf::DevicePrivate {
                        pfn: 2 * page as u64 + 1,
                        rights: RIGHTS[mapping],
                        tracking: TRACKING,
                    };
                    Mutex::new(leaf.encode().unwrap())
                })
            }),
            // Frames of different pages share event slots: there are two.
            frames: std::array::from_fn(|n| Frame {
                lock: PageLock::with_futex(In(n / 2)),
                in_use: AtomicBool::new(false),
                bytes: UnsafeCell::new(0),
            }),
            written: AtomicU32::new(0),
            moves: AtomicU32::new(0),
            switch: Cancel::with_futex(In(0)),
        };
        for page in 0..PAGES {
            machine.frames[2 * page + 1].lock.activate(MAPPINGS as u32).unwrap();
        }
        machine
    }

    /// Moves page `page` from frame `from`, which the caller has locked and refers to, to frame
    /// `to`; or leaves all as it was.
    fn migrate(
        &self,
        page: usize,
        from: usize,
        to: usize,
        migration: Migration<'_, In>,
        reference: PageRef<'_, In>,
    ) -> bool {
        let (source, target) = (&self.frames[from], &self.frames[to]);
        // The other direction locks these two the other way round.
        let Some(there) = target.lock.try_lock() else {
            drop((reference, migration));
            return false;
        };
        for mapping in 0..MAPPINGS {
            let mut entry = self.entry((page, mapping));
            let leaf = entry.leaf();
            assert_eq!(leaf.pfn(), Some(from as u64), "nobody else moves a locked page: {leaf:?}");
            entry.put_up(
                leaf.to_migration()
                    .expect("a migration has ended without putting its entries back"),
            );
            // SAFETY: the entry's own reference.
            assert_eq!(unsafe { source.lock.put_raw() }, Put::Kept);
        }
        let result = migration.freeze(FreezeRule::ExactRefs(1));
        let arrived = result.is_ok();
        if arrived {
            let bytes = source.access(|bytes| bytes);
            target.access(|_| bytes);
            target.lock.activate(MAPPINGS as u32).unwrap();
            self.moves.fetch_add(1, SeqCst);
        }
        let place = if arrived { to } else { from };
        for mapping in 0..MAPPINGS {
            let mut entry = self.entry((page, mapping));
            let leaf = entry.leaf();
            assert!(matches!(leaf, Leaf::Migration { .. }), "{leaf:?}");
            let back = if place % 2 == 0 {
                leaf.to_present(place as u64)
            } else {
                leaf.to_device_private(place as u64)
            }
            .unwrap();
            assert_eq!((back.rights(), tracking(back)), (Some(RIGHTS[mapping]), TRACKING));
            if !arrived {
                source.lock.try_get().expect("it is live and not frozen").into_raw();
            }
            entry.put_up(back);
        }
        match result {
            Ok(frozen) => {
                assert_eq!(reference.put(), Put::Last);
                frozen.commit_in_place();
            }
            Err(busy) => {
                drop(reference);
                drop(busy);
            }
        }
        drop(there);
        arrived
    }

    /// Moves the page to the device, if it is in ordinary memory and nobody is in the way.
    fn evict(&self, page: usize) {
        let frame = &self.frames[2 * page].lock;
        let Some(guard) = frame.try_lock() else { return };
        if let Ok(reference) = frame.try_get() {
            self.migrate(page, 2 * page, 2 * page + 1, guard.begin_migration(), reference);
        }
    }

    /// One access, from fault to fault until it is made. Says whether it was; it is not if the
    /// faulter was cancelled.
    fn access(&self, at: (usize, usize), faulter: &mut Faulter<'_, In>) -> bool {
        let access = if RIGHTS[at.1] == Rights::Write { Access::Write } else { Access::Read };
        loop {
            match resolve(self, at, access, faulter) {
                Ok(Fault::Resolved | Fault::Present) => {}
                Err(FaultError::Cancelled) => return false,
                other => panic!("{other:?}"),
            }
            let entry = self.entry(at);
            if let Leaf::Present { pfn, rights, .. } = entry.leaf() {
                assert_eq!(rights, RIGHTS[at.1]);
                let frame = &self.frames[pfn as usize];
                if access == Access::Write {
                    frame.access(|bytes| bytes + 1);
                    self.written.fetch_add(1, SeqCst);
                }
                return true;
            }
        }
    }

    /// For the end of a scenario: no migration entry, no reference but the entries', no lock, and
    /// no lost write.
    fn assert_settled(&self) {
        let mut total = 0;
        for page in 0..PAGES {
            let leaves: Vec<Leaf> =
                (0..MAPPINGS).map(|mapping| self.entry((page, mapping)).leaf()).collect();
            let home = leaves[0].pfn().unwrap() as usize;
            for (mapping, leaf) in leaves.iter().enumerate() {
                assert!(!matches!(leaf, Leaf::Migration { .. }), "an orphan: {leaf:?}");
                assert_eq!((leaf.pfn(), leaf.rights()), (Some(home as u64), Some(RIGHTS[mapping])));
            }
            for n in [2 * page, 2 * page + 1] {
                let frame = &self.frames[n];
                let expected = if n == home { MAPPINGS as u32 } else { 0 };
                assert_eq!(
                    (frame.lock.refs(), frame.lock.pins()),
                    (expected, 0),
                    "frame {n}: {:?}",
                    frame.lock
                );
                assert!(
                    !frame.lock.is_migrating()
                        && !frame.lock.is_frozen()
                        && frame.lock.try_lock().is_some()
                );
            }
            total += self.frames[home].access(|bytes| bytes);
        }
        assert_eq!(total, self.written.load(SeqCst), "a write was lost");
    }
}

fn tracking(leaf: Leaf) -> Tracking {
    match leaf {
        Leaf::Present { tracking, .. } | Leaf::DevicePrivate { tracking, .. } => tracking,
        other => panic!("{other:?}"),
    }
}

/// Four faulters, two evictors, one that takes references and pins, one that faults until it is
/// cancelled.
#[test]
fn eight_threads_fault_and_evict() {
    explore(|| {
        let machine = Arc::new(Machine::new());
        in_threads(THREADS, &machine, |machine, i| match i {
            0 | 1 => {
                for _ in 0..2 {
                    machine.evict(below(PAGES));
                    shuttle::thread::yield_now();
                }
            }
            2 => {
                for n in 0..2 * PAGES {
                    let lock = &machine.frames[n].lock;
                    match below(3) {
                        0 => drop(lock.try_get()),
                        1 => drop(lock.try_pin()),
                        _ => _ = lock.wait_migration(()),
                    }
                }
                machine.switch.cancel();
            }
            3 => {
                let mut faulter = Faulter::new(Strategy::Wait).cancellable(&machine.switch);
                machine.access((below(PAGES), below(MAPPINGS)), &mut faulter);
            }
            _ => {
                for _ in 0..2 {
                    let strategy = if i % 2 == 0 {
                        Strategy::Wait
                    } else {
                        Strategy::WaitThenLock { after: below(2) as u32 }
                    };
                    assert!(
                        machine
                            .access((below(PAGES), below(MAPPINGS)), &mut Faulter::new(strategy))
                    );
                }
            }
        });
        machine.assert_settled();
    });
}

/// One page, seven faulters on its two mappings, nobody evicts: it moves once, and the waiters
/// abort nothing.
#[test]
fn waiters_do_not_stand_in_the_way() {
    explore(|| {
        let machine = Arc::new(Machine::new());
        in_threads(THREADS - 1, &machine, |machine, i| {
            let strategy =
                if i % 3 == 0 { Strategy::WaitThenLock { after: 1 } } else { Strategy::Wait };
            assert!(machine.access((0, i % MAPPINGS), &mut Faulter::new(strategy)));
        });
        assert_eq!(machine.moves.load(SeqCst), 1);
        machine.assert_settled();
    });
}
