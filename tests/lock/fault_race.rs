//! Many threads fault on one page in device memory: one of them moves it, the others wait for that,
//! and none of them stands in the move's way (I9, I11 to I14, I16, I29, I31, I35; failure classes
//! L2, L13).
//!
//! The page tables are small: one entry a mapping, behind a page-table lock (PTL) each. The page's
//! header counts what the kernel's would: a device entry or a present entry owns a reference, a
//! migration entry owns none, and the migrator has one.
//!
//! In one turn of three the migrator goes on at once; in one, it begins only when every other
//! faulter is asleep; and in one it freezes only then. So each test sees the page moved under as
//! many sleepers as it has.

use crate::common::{Unprotected, own::Own, rounds, with_threads};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use pagelock::{FreezeRule, PageGuard, PageLock, Put, Wake};
use std::sync::{Barrier, Mutex, MutexGuard};
use std::thread;

type Page = PageLock<Own>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    /// In device memory, which the processor cannot read: touching it is a fault.
    Device,
    /// On its way.
    Migrating,
    /// Here.
    Present,
}

/// What a faulter does when the page is locked by another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loser {
    /// Waits without a reference. The subject of the test.
    Waits,
    /// Takes a reference and sleeps for the lock, as was done before. To see that the test would
    /// notice.
    RefersAndLocks,
}

struct Machine {
    own: Own,
    device: Page,
    system: Page,
    mappings: Vec<Mutex<Entry>>,
    /// What the page holds; it counts how often it was copied.
    copies: Unprotected,
    /// How many faulters must be asleep before the migrator goes on, and where: the migration
    /// lasts as long as that takes.
    audience: AtomicUsize,
    migrations: AtomicU32,
    aborts: AtomicU32,
    most_waits: AtomicU32,
}

type Ptl<'a> = MutexGuard<'a, Entry>;

impl Machine {
    fn new(mappings: usize) -> Self {
        let own = Own::new(1 << 4);
        let machine = Self {
            own,
            device: PageLock::with_futex(own),
            system: PageLock::with_futex(own),
            mappings: (0..mappings).map(|_| Mutex::new(Entry::Present)).collect(),
            copies: Unprotected::new(),
            audience: AtomicUsize::new(0),
            migrations: AtomicU32::new(0),
            aborts: AtomicU32::new(0),
            most_waits: AtomicU32::new(0),
        };
        machine.system.activate(machine.mappings.len() as u32).unwrap();
        machine
    }

    /// Moves the page to the device, with nobody about.
    fn evict(&self) {
        let frozen = self
            .system
            .lock()
            .begin_migration()
            .freeze(FreezeRule::ExactRefs(self.mappings.len() as u32))
            .unwrap();
        self.mappings.iter().for_each(|m| *m.lock().unwrap() = Entry::Device);
        // SAFETY: all of them are the mappings', and raw.
        let _ = unsafe { frozen.commit_to_moving(self.device.lock(), self.mappings.len() as u32) }
            .unwrap();
    }

    /// Touches the page through a mapping. Says how often it had to wait.
    fn touch(&self, mapping: usize, loser: Loser) -> u32 {
        let mut waits = 0;
        loop {
            let ptl = self.mappings[mapping].lock().unwrap();
            match *ptl {
                Entry::Present => return waits,
                Entry::Migrating => {
                    // The entry owns no reference, but the migrator does, and needs this PTL before
                    // it can give that up.
                    waits += 1;
                    assert!(self.device.wait_migration(ptl) != Wake::TimedOut);
                }
                Entry::Device => match (self.device.try_lock(), loser) {
                    (Some(guard), _) => self.migrate(guard, ptl),
                    (None, Loser::Waits) => {
                        waits += 1;
                        assert!(self.device.wait_unlocked(ptl) != Wake::TimedOut);
                    }
                    (None, Loser::RefersAndLocks) => {
                        waits += 1;
                        let reference = self.device.try_get();
                        drop(ptl);
                        if reference.is_ok() {
                            drop(self.device.lock());
                        }
                    }
                },
            }
        }
    }

    /// Brings the page here. `ptl` is of the mapping that was faulted on.
    fn migrate(&self, guard: PageGuard<'_, Own>, ptl: Ptl<'_>) {
        let reference = self.device.try_get().expect("the entry owns a reference");
        drop(ptl);
        let audience = self.audience.load(SeqCst);
        let turn = self.migrations.load(SeqCst);
        if turn % 3 == 1 {
            self.own.until_asleep(audience);
        }
        let migration = guard.begin_migration();
        // Take down every mapping. What the entry owned goes with it.
        for mapping in &self.mappings {
            let mut entry = mapping.lock().unwrap();
            assert_eq!(*entry, Entry::Device, "nobody else changes entries of a locked page");
            *entry = Entry::Migrating;
            // SAFETY: the entry's own reference.
            assert_eq!(unsafe { self.device.put_raw() }, Put::Kept);
        }
        if turn % 3 == 2 {
            self.own.until_asleep(audience);
        }
        let frozen = match migration.freeze(FreezeRule::ExactRefs(1)) {
            Ok(frozen) => frozen,
            Err(busy) => {
                // Put everything back, bit by bit, and tell the waiters as if it had worked.
                self.aborts.fetch_add(1, SeqCst);
                for mapping in &self.mappings {
                    let mut entry = mapping.lock().unwrap();
                    self.device.try_get().expect("not frozen").into_raw();
                    *entry = Entry::Device;
                }
                drop(reference);
                drop(busy);
                return;
            }
        };
        // SAFETY: the page is locked and frozen and nobody has it mapped.
        unsafe { self.copies.add_one() };
        let system = self.system.lock();
        self.system.activate(self.mappings.len() as u32).unwrap();
        for mapping in &self.mappings {
            *mapping.lock().unwrap() = Entry::Present;
        }
        reference.into_raw();
        // SAFETY: as above.
        let _ = unsafe { frozen.commit_to_moving(system, 1) }.unwrap();
        // SAFETY: the migrator's reference, which has moved along.
        assert_eq!(unsafe { self.system.put_raw() }, Put::Kept);
        self.migrations.fetch_add(1, SeqCst);
    }

    /// Lets `faulters` touch the page at the same time, `turns` times over.
    fn run(&self, faulters: usize, turns: usize, loser: Loser) {
        let turn = Barrier::new(faulters + 1);
        self.audience.store(faulters - 1, SeqCst);
        with_threads(&[&self.device, &self.system, &self.mappings], |s| {
            for faulter in 0..faulters {
                let turn = &turn;
                thread::Builder::new()
                    .stack_size(128 << 10)
                    .spawn_scoped(s, move || {
                        for _ in 0..turns {
                            turn.wait();
                            let waits = self.touch(faulter % self.mappings.len(), loser);
                            self.most_waits.fetch_max(waits, SeqCst);
                            turn.wait();
                        }
                    })
                    .unwrap();
            }
            for _ in 0..turns {
                self.evict();
                turn.wait();
                turn.wait();
                assert!(self.mappings.iter().all(|m| *m.lock().unwrap() == Entry::Present));
                assert_eq!(
                    (self.device.refs(), self.device.pins()),
                    (0, 0),
                    "nothing is left of the old page"
                );
                assert_eq!(self.system.refs() as usize, self.mappings.len());
            }
        });
    }
}

fn resolves(faulters: usize, mappings: usize) {
    let turns = rounds(90);
    let mut machine = Machine::new(mappings);
    machine.run(faulters, turns, Loser::Waits);
    assert_eq!(machine.aborts.load(SeqCst), 0, "waiting made a migration fail");
    assert_eq!(
        machine.migrations.load(SeqCst) as usize,
        turns,
        "one migration a turn, however many fault"
    );
    assert_eq!(machine.copies.get() as usize, turns);
    let most = machine.most_waits.load(SeqCst);
    assert!(most <= 2, "a faulter went round {most} times for one migration");
    for page in [&machine.device, &machine.system] {
        assert!(!page.is_locked() && !page.is_migrating() && !page.is_frozen(), "{page:?}");
    }
}

#[test]
fn two_faulters_of_one_mapping() {
    resolves(2, 1);
}

#[test]
fn eight_faulters_of_one_mapping() {
    resolves(8, 1);
}

#[test]
fn thirty_two_faulters_of_one_mapping() {
    resolves(32, 1);
}

#[test]
fn two_faulters_of_two_mappings() {
    resolves(2, 2);
}

#[test]
fn eight_faulters_of_three_mappings() {
    resolves(8, 3);
}

#[test]
fn thirty_two_faulters_of_eight_mappings() {
    resolves(32, 8);
}

/// The same machine with faulters that refer to the page before they sleep: their references make
/// the migration fail that they wait for. Here it is made certain: a faulter of the second mapping
/// comes while the first one's migration begins.
#[test]
fn a_faulter_that_takes_a_reference_does_stand_in_the_way() {
    let machine = Machine::new(2);
    machine.evict();
    with_threads(&[&machine.device, &machine.system, &machine.mappings], |s| {
        let ptl = machine.mappings[0].lock().unwrap();
        let guard = machine.device.try_lock().unwrap();
        let other = s.spawn(|| machine.touch(1, Loser::RefersAndLocks));
        while machine.device.refs() < 3 {
            thread::yield_now();
        }
        machine.migrate(guard, ptl);
        assert_eq!(machine.aborts.load(SeqCst), 1);
        machine.touch(0, Loser::Waits);
        other.join().unwrap();
    });
}

/// And with one that waits, at the same moment.
#[test]
fn a_faulter_that_waits_does_not() {
    let machine = Machine::new(2);
    machine.evict();
    with_threads(&[&machine.device, &machine.system, &machine.mappings], |s| {
        let ptl = machine.mappings[0].lock().unwrap();
        let guard = machine.device.try_lock().unwrap();
        let other = s.spawn(|| machine.touch(1, Loser::Waits));
        while !format!("{:?}", machine.device).contains("awaited") {
            thread::yield_now();
        }
        machine.migrate(guard, ptl);
        assert_eq!((machine.aborts.load(SeqCst), machine.migrations.load(SeqCst)), (0, 1));
        assert_eq!(other.join().unwrap(), 1, "it waited once");
    });
}
