//! A toy machine for the fault path: tables of entries with one lock each, a few frames, and bytes
//! that move.

extern crate std;

use super::*;
use crate::leaf::{Leaf, Marker, Rights, Tracking, UnknownLeaf};
use crate::migration::FreezeRule;
use crate::{Cancel, OsFutex, PageLock, Wake};
use std::string::ToString;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

/// Frames 0 and 1; every frame may be mapped by several entries.
struct Machine {
    entries: Vec<Mutex<u64>>,
    frames: [PageLock; 2],
    to_ram: AtomicU32,
    refused: AtomicU32,
    revoked: AtomicU64,
    /// How far the headers have moved on since a large page was split.
    split: AtomicU32,
    fail: bool,
}

impl Entry for MutexGuard<'_, u64> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        Leaf::decode(**self)
    }

    fn set(&mut self, leaf: Leaf) {
        **self = leaf.encode().unwrap();
    }
}

impl Machine {
    fn entry(&self, at: usize) -> MutexGuard<'_, u64> {
        self.entries[at].lock().unwrap()
    }
}

impl Tables for Machine {
    type Address = usize;
    type Entry<'t> = MutexGuard<'t, u64>;

    fn lock(&self, at: usize) -> Option<MutexGuard<'_, u64>> {
        Some(self.entry(at))
    }
}

impl Memory for Machine {
    type Futex = OsFutex;
    type Error = &'static str;

    fn header(&self, pfn: u64) -> Option<&PageLock> {
        self.frames.get(usize::try_from(pfn).ok()? + self.split.load(SeqCst) as usize)
    }

    fn migrate_to_ram(&self, request: ToRam<'_, usize, OsFutex>) -> Result<Brought, &'static str> {
        if self.fail {
            return Err("no memory");
        }
        self.to_ram.fetch_add(1, SeqCst);
        if matches!(Leaf::decode(*self.entry(request.at)), Ok(Leaf::Migration { .. })) {
            // Taken down by the faulter, with its reference. Here migration entries keep theirs.
            let _ = request.page.page().try_get().unwrap().into_raw();
        }
        let migration = request.page.begin_migration();
        // One reference for each entry, one for the faulter.
        match migration.freeze(FreezeRule::ExactRefs(self.entries.len() as u32 + 1)) {
            Err(busy) => {
                self.refused.fetch_add(1, SeqCst);
                // Put back what the fault path may have taken down.
                *self.entry(request.at) = request.leaf.encode().unwrap();
                busy.into_migration().abort();
                Ok(Brought::Busy)
            }
            Ok(frozen) => {
                for entry in &self.entries {
                    let mut entry = entry.lock().unwrap();
                    let leaf = Leaf::decode(*entry).unwrap();
                    *entry = leaf.to_present(request.pfn).unwrap().encode().unwrap();
                }
                drop(request.reference);
                frozen.commit_in_place();
                Ok(Brought::Back)
            }
        }
    }

    fn revoke_exclusive(&self, pfn: u64) {
        self.revoked.fetch_add(pfn + 1, SeqCst);
    }
}

fn machine(mappings: usize, leaf: Leaf) -> Machine {
    let machine = Machine {
        entries: (0..mappings).map(|_| Mutex::new(leaf.encode().unwrap())).collect(),
        frames: [PageLock::new(), PageLock::new()],
        to_ram: AtomicU32::new(0),
        refused: AtomicU32::new(0),
        revoked: AtomicU64::new(0),
        split: AtomicU32::new(0),
        fail: false,
    };
    machine.frames[0].activate(mappings as u32).unwrap();
    machine
}

const TRACKING: Tracking =
    Tracking { accessed: true, dirty: true, soft_dirty: false, uffd_wp: false };

fn device_private() -> Leaf {
    Leaf::DevicePrivate { pfn: 0, rights: Rights::Write, tracking: TRACKING }
}

fn migrating() -> Leaf {
    device_private().to_migration().unwrap()
}

fn once(m: &Machine, strategy: Strategy) -> Result<Fault, FaultError<&'static str>> {
    fault(m, 0, Access::Write, &mut Faulter::new(strategy))
}

const STRATEGIES: [Strategy; 5] = [
    Strategy::TryAndRetry,
    Strategy::ReferenceAndSleep,
    Strategy::EntryInFault,
    Strategy::Wait,
    Strategy::WaitThenLock { after: 1 },
];

#[test]
fn what_is_the_callers_is_left_to_the_caller() {
    let present = |rights| Leaf::Present { pfn: 0, rights, tracking: TRACKING };
    let cases = [
        (Leaf::None, Fault::Missing),
        (present(Rights::Write), Fault::Present),
        (present(Rights::ReadExclusive), Fault::Protected { rights: Rights::ReadExclusive }),
        (Leaf::Swap { slot: 9, tracking: TRACKING }, Fault::Swapped { slot: 9 }),
        (Leaf::Marker(Marker::Guard), Fault::Marker(Marker::Guard)),
    ];
    for (leaf, expected) in cases {
        for strategy in STRATEGIES {
            assert_eq!(once(&machine(1, leaf), strategy), Ok(expected));
        }
    }
    let m = machine(1, present(Rights::Read));
    assert_eq!(fault(&m, 0, Access::Read, &mut Faulter::new(Strategy::Wait)), Ok(Fault::Present));
}

#[test]
fn errors_say_what_was_seen_and_change_nothing() {
    let m = machine(1, Leaf::Poison { pfn: 5 });
    assert_eq!(once(&m, Strategy::Wait), Err(FaultError::Poisoned { pfn: 5 }));

    *m.entry(0) = 0xf;
    let e = once(&m, Strategy::Wait).unwrap_err();
    assert_eq!(e, FaultError::Unknown(UnknownLeaf { word: 0xf }));
    assert!(e.to_string().contains("0x000000000000000f"), "{e}");
    assert_eq!(*m.entry(0), 0xf);

    for leaf in [
        device_private(),
        migrating(),
        Leaf::DeviceExclusive { pfn: 0, rights: Rights::Read, tracking: TRACKING },
    ] {
        let nowhere = match leaf {
            Leaf::DevicePrivate { rights, tracking, .. } => {
                Leaf::DevicePrivate { pfn: 7, rights, tracking }
            }
            Leaf::Migration { rights, tracking, .. } => {
                Leaf::Migration { pfn: 7, rights, tracking }
            }
            Leaf::DeviceExclusive { rights, tracking, .. } => {
                Leaf::DeviceExclusive { pfn: 7, rights, tracking }
            }
            other => other,
        };
        assert_eq!(once(&machine(1, nowhere), Strategy::Wait), Err(FaultError::NoFrame { pfn: 7 }));
    }

    let mut m = machine(1, device_private());
    m.fail = true;
    assert_eq!(once(&m, Strategy::Wait), Err(FaultError::ToRam("no memory")));
    assert!(!m.frames[0].is_locked());
    assert_eq!(m.frames[0].refs(), 1);
}

#[test]
fn whoever_gets_the_lock_brings_the_page_back_with_its_rights() {
    for strategy in STRATEGIES {
        let m = machine(3, device_private());
        assert_eq!(once(&m, strategy), Ok(Fault::Resolved));
        for at in 0..3 {
            let back = Leaf::decode(*m.entry(at)).unwrap();
            assert_eq!(back, Leaf::Present { pfn: 0, rights: Rights::Write, tracking: TRACKING });
        }
        assert!(!m.frames[0].is_locked() && !m.frames[0].is_frozen());
        assert_eq!(m.frames[0].refs(), 3, "the faulter's reference is put");
    }
}

#[test]
fn one_extra_reference_makes_the_freeze_fail_and_the_fault_retry() {
    let m = machine(2, device_private());
    let extra = m.frames[0].try_get().unwrap();
    for strategy in STRATEGIES {
        assert_eq!(once(&m, strategy), Ok(Fault::Retry(Why::Busy)));
        assert_eq!(
            Leaf::decode(*m.entry(0)),
            Ok(device_private()),
            "{strategy:?} leaves the entry as it was"
        );
    }
    drop(extra);
    assert_eq!(once(&m, Strategy::Wait), Ok(Fault::Resolved));
}

#[test]
fn a_locked_page_is_retried_or_waited_for() {
    for strategy in [Strategy::TryAndRetry, Strategy::EntryInFault] {
        let m = machine(1, device_private());
        let owner = m.frames[0].lock();
        assert_eq!(once(&m, strategy), Ok(Fault::Retry(Why::Locked)));
        drop(owner);
    }
}

#[test]
fn the_entry_is_unlocked_before_the_sleep_and_no_reference_is_taken() {
    for (leaf, strategy) in [
        (device_private(), Strategy::Wait),
        (device_private(), Strategy::WaitThenLock { after: 9 }),
        (
            Leaf::DeviceExclusive { pfn: 0, rights: Rights::Write, tracking: TRACKING },
            Strategy::Wait,
        ),
        (migrating(), Strategy::TryAndRetry),
        (migrating(), Strategy::EntryInFault),
        (migrating(), Strategy::Wait),
    ] {
        let m = machine(1, leaf);
        let owner = m.frames[0].lock();
        std::thread::scope(|s| {
            let faulter = s.spawn(|| once(&m, strategy));
            // The waiters' flag is set while the entry is locked; once it shows, the entry must
            // come free, and the count must not have moved.
            while !std::format!("{:?}", m.frames[0]).contains("awaited") {
                std::thread::yield_now();
            }
            drop(m.entry(0));
            assert_eq!(m.frames[0].refs(), 1);
            drop(owner);
            assert_eq!(faulter.join().unwrap(), Ok(Fault::Retry(Why::Waited(Wake::Released))));
        });
    }
}

#[test]
fn a_reference_taken_to_sleep_with_aborts_the_migration_it_waits_for() {
    let m = machine(1, device_private());
    let owner = m.frames[0].lock().begin_migration();
    std::thread::scope(|s| {
        let faulter = s.spawn(|| once(&m, Strategy::ReferenceAndSleep));
        while m.frames[0].refs() == 1 {
            std::thread::yield_now();
        }
        let busy = owner.freeze(FreezeRule::ExactRefs(1)).unwrap_err();
        assert_eq!(busy.refs(), 2);
        drop(busy);
        assert!(matches!(faulter.join().unwrap(), Ok(Fault::Retry(Why::Waited(_)))));
    });
}

#[test]
fn after_enough_waits_the_faulter_takes_the_lock_itself() {
    let m = machine(1, device_private());
    assert_eq!(queued_during(&m, Access::Write, || drop(m.entry(0))), Ok(Fault::Resolved));
}

/// The result of a fault that queues for the page's lock, if `change` is made meanwhile.
fn queued_during(
    m: &Machine,
    access: Access,
    change: impl FnOnce(),
) -> Result<Fault, FaultError<&'static str>> {
    let owner = m.frames[0].lock();
    std::thread::scope(|s| {
        let faulter =
            s.spawn(|| fault(m, 0, access, &mut Faulter::new(Strategy::WaitThenLock { after: 0 })));
        while !std::format!("{:?}", m.frames[0]).contains("gate closed") {
            std::thread::yield_now();
        }
        change();
        drop(owner);
        faulter.join().unwrap()
    })
}

#[test]
fn an_entry_that_changed_while_the_lock_was_queued_for_is_looked_at_again() {
    let m = machine(1, device_private());
    assert_eq!(
        queued_during(&m, Access::Write, || *m.entry(0) = 0),
        Ok(Fault::Retry(Why::Changed))
    );
    assert!(!m.frames[0].is_locked());
}

/// The entry is the very same word, but the frame has another header by now: the lock is another
/// page's.
#[test]
fn a_split_while_the_lock_was_queued_for_is_noticed() {
    let m = machine(1, device_private());
    assert_eq!(
        queued_during(&m, Access::Write, || m.split.store(1, SeqCst)),
        Ok(Fault::Retry(Why::Changed))
    );
    assert!(!m.frames[0].is_locked());
    assert_eq!(m.to_ram.load(SeqCst), 0);
}

/// Rights and tracking of the entry may have changed: the fault continues with the entry as it is.
#[test]
fn an_entry_that_allows_less_after_the_lock_was_queued_for_is_the_same() {
    let m = machine(1, device_private());
    let restrict = || *m.entry(0) = device_private().restrict(Rights::Read).encode().unwrap();
    assert_eq!(queued_during(&m, Access::Read, restrict), Ok(Fault::Resolved));
    assert_eq!(
        Leaf::decode(*m.entry(0)),
        Ok(Leaf::Present { pfn: 0, rights: Rights::Read, tracking: TRACKING })
    );
}

#[test]
fn exclusive_access_ends_when_the_processor_wants_the_page() {
    let m = machine(1, Leaf::DeviceExclusive { pfn: 1, rights: Rights::Read, tracking: TRACKING });
    assert_eq!(once(&m, Strategy::Wait), Ok(Fault::Resolved));
    assert_eq!(m.revoked.load(SeqCst), 2);
    assert_eq!(
        Leaf::decode(*m.entry(0)),
        Ok(Leaf::Present { pfn: 1, rights: Rights::Read, tracking: TRACKING })
    );
    assert_eq!(once(&m, Strategy::Wait), Ok(Fault::Protected { rights: Rights::Read }));
}

#[test]
fn a_cancelled_faulter_is_told_so() {
    let m = machine(1, migrating());
    let (owner, cancel) = (m.frames[0].lock(), Cancel::new());
    cancel.cancel();
    let mut faulter = Faulter::new(Strategy::Wait).cancellable(&cancel);
    assert_eq!(fault(&m, 0, Access::Read, &mut faulter), Err(FaultError::Cancelled));
    drop(owner);
}

#[test]
fn poison_ends_faults_and_nobody_sleeps_on_it() {
    for leaf in [
        device_private(),
        migrating(),
        Leaf::DeviceExclusive { pfn: 0, rights: Rights::Write, tracking: TRACKING },
    ] {
        let m = machine(1, leaf);
        m.frames[0].lock().poison();
        let _owner = m.frames[0].lock();
        assert_eq!(once(&m, Strategy::Wait), Err(FaultError::Poisoned { pfn: 0 }));
    }
    let m = machine(1, device_private());
    m.frames[0].lock().poison();
    assert_eq!(once(&m, Strategy::Wait), Err(FaultError::Poisoned { pfn: 0 }));
}

#[test]
fn many_faulters_of_one_page_are_resolved_by_one_migration() {
    for mappings in [1, 4] {
        let m = machine(mappings, device_private());
        let worst = AtomicU32::new(0);
        std::thread::scope(|s| {
            for t in 0..32 {
                let (m, worst) = (&m, &worst);
                s.spawn(move || {
                    let mut faulter = Faulter::new(Strategy::Wait);
                    let done = resolve(m, t % mappings, Access::Write, &mut faulter).unwrap();
                    assert!(matches!(done, Fault::Resolved | Fault::Present));
                    worst.fetch_max(faulter.waits(), SeqCst);
                });
            }
        });
        assert_eq!(m.to_ram.load(SeqCst), 1);
        assert_eq!(m.refused.load(SeqCst), 0);
        assert!(worst.load(SeqCst) <= 2, "a faulter waited {worst:?} times for one migration");
    }
}
