//! What embedders get wrong, or have in a way of their own: frames with numbers that no entry can
//! have, headers that count nothing, owners that find the contents lost at the worst moment. As
//! small a memory manager as there can be, with a hook at each of its calls.

use pagelock::leaf::{FRAME_LIMIT, Leaf, Rights, Tracking, UnknownLeaf};
use pagelock::mm::drain::{NoBatches, Unlocked};
use pagelock::mm::ledger::{Change, Owner};
use pagelock::mm::migrate::{Abort, Order, Outcome, Skip, Slot, bring_back, migrate};
use pagelock::mm::{
    Access, Brought, CopyError, Entry, FaultError, Faulter, Memory, ReverseMap, Span, Strategy,
    Tables, Tiers, ToRam, resolve,
};
use pagelock::{FreezeRule, OsFutex, PageLock};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};

/// Done once, in the middle of a call.
type Hook = Mutex<Option<Box<dyn FnOnce(&Tiny)>>>;

/// Frames `0..8` are RAM. Those of the device are eight from `first` on.
struct Tiny {
    frames: [PageLock; 16],
    first: u64,
    table: Mutex<[Leaf; 2]>,
    free: Mutex<Vec<u64>>,
    /// Called with every reference of a migrator's or a faulter's, when it has been taken.
    on_get: Hook,
    /// Called with a page that a fault brings back, before anything else.
    on_fault: Hook,
    to_ram: AtomicU64,
}

struct Pte<'t>(MutexGuard<'t, [Leaf; 2]>, usize);

impl Entry for Pte<'_> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        Ok(self.0[self.1])
    }

    fn set(&mut self, leaf: Leaf) {
        self.0[self.1] = leaf;
    }
}

impl Tables for Tiny {
    type Address = usize;
    type Entry<'t> = Pte<'t>;

    fn lock(&self, at: usize) -> Option<Pte<'_>> {
        Some(self.entry(at))
    }
}

impl Tiny {
    fn entry(&self, at: usize) -> Pte<'_> {
        Pte(self.table.lock().unwrap(), at)
    }
}

impl ReverseMap for Tiny {
    fn each_mapping(&self, _span: Span, visit: impl FnMut(usize)) {
        (0..2).for_each(visit);
    }
}

impl Memory for Tiny {
    type Futex = OsFutex;
    type Error = Outcome<()>;

    fn header(&self, pfn: u64) -> Option<&PageLock> {
        let index =
            if pfn < 8 { pfn } else { 8 + pfn.checked_sub(self.first).filter(|&i| i < 8)? };
        self.frames.get(index as usize)
    }

    fn migrate_to_ram(&self, request: ToRam<'_, usize, OsFutex>) -> Result<Brought, Outcome<()>> {
        self.to_ram.fetch_add(1, SeqCst);
        let call = self.on_fault.lock().unwrap().take();
        if let Some(call) = call {
            call(self);
        }
        bring_back(self, request, false, &NoBatches)
    }

    fn account(&self, _pfn: u64, owner: Owner, change: Change) {
        if (owner, change) == (Owner::Get, Change::Taken) {
            let call = self.on_get.lock().unwrap().take();
            if let Some(call) = call {
                call(self);
            }
        }
    }
}

impl Tiers for Tiny {
    /// Is it the device's?
    type Tier = bool;
    type Refusal = ();

    fn tier(&self, pfn: u64) -> bool {
        pfn >= 8
    }

    fn is_accessible(&self, device: bool) -> bool {
        !device
    }

    fn allocate(&self, device: bool, order: u32) -> Option<u64> {
        let mut free = self.free.lock().unwrap();
        let index = free.iter().position(|&pfn| order == 0 && self.tier(pfn) == device)?;
        Some(free.swap_remove(index))
    }

    fn free(&self, pfn: u64) {
        assert!(!self.frames[pfn as usize].is_poisoned(), "frame {pfn} is lost, and is used again");
        self.free.lock().unwrap().push(pfn);
    }

    fn copy(&self, _from: u64, _to: u64) -> Result<(), CopyError> {
        Ok(())
    }

    fn zero(&self, _pfn: u64) {}
}

/// With the device's frames from `first` on, and one page: frame `pfn`, at address 0, with `refs`
/// references.
fn tiny(first: u64, pfn: u64, refs: u32) -> &'static Tiny {
    let free = (0..8).chain(first..first + 8).filter(|&free| free != pfn).collect();
    let tiny = Box::leak(Box::new(Tiny {
        frames: [const { PageLock::new() }; 16],
        first,
        table: Mutex::new([Leaf::None; 2]),
        free: Mutex::new(free),
        on_get: Mutex::default(),
        on_fault: Mutex::default(),
        to_ram: AtomicU64::new(0),
    }));
    if refs > 0 {
        tiny.header(pfn).unwrap().activate(refs).unwrap();
    }
    tiny.entry(0).set(leaf_of(pfn));
    tiny
}

fn leaf_of(pfn: u64) -> Leaf {
    let (rights, tracking) = (Rights::Write, Tracking::default());
    if pfn < 8 {
        Leaf::Present { pfn, rights, tracking }
    } else {
        Leaf::DevicePrivate { pfn, rights, tracking }
    }
}

fn leaf(tiny: &Tiny, at: usize) -> Leaf {
    tiny.entry(at).get().unwrap()
}

fn move_out(tiny: &'static Tiny, slot: Slot<'static, Tiny>) -> Outcome<()> {
    let unlocked = &mut Unlocked::promise();
    let mut slots = [slot];
    let _ = migrate(tiny, &mut slots, &Order::to(true).tries(1), &NoBatches, unlocked);
    slots[0].outcome()
}

/// There is a header, and everything else; but no entry could say that the page is there. So it
/// does not go there.
#[test]
fn a_destination_that_no_entry_can_name_puts_the_page_back() {
    for (first, fits) in
        [(8, true), (FRAME_LIMIT - 8, true), (FRAME_LIMIT, false), (u64::MAX - 8, false)]
    {
        let tiny = tiny(first, 3, 1);
        let outcome = move_out(tiny, Slot::at(0));
        if fits {
            let Outcome::Moved { pfn } = outcome else { panic!("{outcome:?}") };
            assert_eq!((leaf(tiny, 0), tiny.frames[3].refs()), (leaf_of(pfn), 0));
        } else {
            assert_eq!(outcome, Outcome::Aborted(Abort::BadDestination), "{first:#x}");
            assert_eq!((leaf(tiny, 0), tiny.frames[3].refs()), (leaf_of(3), 1));
            assert!(tiny.frames[8..].iter().all(|page| page.refs() == 0 && !page.is_locked()));
        }
    }
}

/// An embedder that counts references elsewhere: there is nothing that a migration by these could
/// go by. It says so, and a fault ends.
#[test]
fn a_page_whose_header_counts_nothing_is_an_error_that_ends() {
    for strategy in [
        Strategy::Wait,
        Strategy::TryAndRetry,
        Strategy::EntryInFault,
        Strategy::WaitThenLock { after: 0 },
    ] {
        let tiny = tiny(8, 9, 0);
        let resolved = resolve(tiny, 0, Access::Read, &mut Faulter::new(strategy).patience(10));
        assert_eq!(
            resolved,
            Err(FaultError::ToRam(Outcome::Skipped(Skip::Uncounted))),
            "{strategy:?}"
        );
        assert_eq!((leaf(tiny, 0), tiny.to_ram.load(SeqCst)), (leaf_of(9), 1), "{strategy:?}");
        assert!(!tiny.frames[9].is_locked());
    }
    let tiny = tiny(8, 3, 0);
    assert_eq!(move_out(tiny, Slot::at(0)), Outcome::Skipped(Skip::Uncounted));
    assert_eq!(leaf(tiny, 0), leaf_of(3));
    // By its number alone it is a free frame: nobody says otherwise.
    assert_eq!(move_out(tiny, Slot::frame(3)), Outcome::Freed);
}

/// The page is already at its destination, and the processor cannot access it there: going round
/// would not change that.
#[test]
fn a_fault_that_is_to_bring_a_page_to_where_it_is_ends() {
    let tiny = tiny(8, 9, 1);
    let guard = tiny.frames[9].lock();
    let reference = tiny.frames[9].try_get().ok();
    let request =
        ToRam { at: 0, access: Access::Read, leaf: leaf_of(9), pfn: 9, reference, page: guard };
    assert_eq!(bring_back(tiny, request, true, &NoBatches), Err(Outcome::AlreadyThere));
    assert_eq!((leaf(tiny, 0), tiny.frames[9].refs()), (leaf_of(9), 1));
}

/// The faulter has put the reference of the entry that it replaced. A thread that unmaps it, before
/// anything else is done, puts none.
#[test]
fn an_entry_in_the_fault_that_is_unmapped_at_once_has_no_reference() {
    let tiny = tiny(8, 9, 1);
    *tiny.on_fault.lock().unwrap() = Some(Box::new(|tiny| {
        assert!(matches!(leaf(tiny, 0), Leaf::Migration { pfn: 9, .. }));
        tiny.entry(0).set(Leaf::None);
        assert_eq!(tiny.frames[9].refs(), 1, "the faulter's");
    }));
    let _ = resolve(tiny, 0, Access::Read, &mut Faulter::new(Strategy::EntryInFault).patience(3))
        .unwrap();
    assert_eq!((tiny.frames[9].refs(), leaf(tiny, 0)), (0, Leaf::None));
    assert!(tiny.free.lock().unwrap().contains(&9), "nobody has it, and nobody gave it back");
}

/// A migrator that looks at frames one by one takes no reference to a page that a thread has
/// locked: it would be one too many for a migrator that is about to freeze it.
#[test]
fn a_scanner_by_frame_refers_to_no_page_that_somebody_has() {
    let tiny = tiny(8, 3, 1);
    *tiny.on_get.lock().unwrap() =
        Some(Box::new(|_| panic!("a reference to a page whose lock was not had")));
    let guard = tiny.frames[3].lock();
    assert_eq!(move_out(tiny, Slot::frame(3)), Outcome::Skipped(Skip::Locked));
    let frozen = guard.begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap();
    assert_eq!(move_out(tiny, Slot::frame(3)), Outcome::Skipped(Skip::Locked));
    drop(frozen);
    *tiny.on_get.lock().unwrap() = None;
    assert!(move_out(tiny, Slot::frame(3)).is_done());
}

/// And a frame whose contents are lost is not free for any scanner.
#[test]
fn a_lost_frame_is_not_found_to_be_free() {
    let tiny = tiny(8, 3, 1);
    tiny.entry(0).set(Leaf::None);
    tiny.frames[3].lock().poison();
    // SAFETY: the one that it was made live with.
    let _ = unsafe { tiny.frames[3].put_raw() };
    assert_eq!(move_out(tiny, Slot::frame(3)), Outcome::Skipped(Skip::Poisoned));
    assert_eq!(tiny.frames[3].refs(), 0);
    assert!(!tiny.free.lock().unwrap().contains(&3));
}
