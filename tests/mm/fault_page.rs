//! The page of a fault: locked by the faulter throughout, and its entry with an owner at every step
//! (I14).

use crate::common::machine::{
    DEVICE, RAM, check_all, is_migrating, machine, move_one, picture, written,
};
use crate::common::with_threads;
use crate::moved::order;
use pagelock::PageRef;
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{
    FaultPage, Order, Outcome, Skip, Slot, bring_back, collect_for_fault, migrate,
};
use pagelock::mm::{Access, Brought, Faulter, Memory, Strategy, Tiers, ToRam};
use pagelock_soft::{AccessError, Refusal};

/// I22: locked before, locked after, by the same guard, whatever becomes of it.
#[test]
fn the_page_of_a_fault_stays_locked_by_the_faulter() {
    let unlocked = &mut Unlocked::promise();
    for outcome in ["moved", "put back", "dropped", "skipped", "lost"] {
        let (mm, _) = machine();
        let at = written(mm, mm.spawn().unwrap(), 2);
        let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
        assert_eq!(migrate(mm, &mut slots, &order(), mm, unlocked).done, 2);
        let pfn = mm.frame_at(at).unwrap();
        let page = mm.page(pfn).unwrap();
        let guard = page.try_lock().unwrap();
        mm.get(pfn).unwrap();
        // SAFETY: taken above.
        let reference = unsafe { PageRef::from_raw(page) };
        let mut fault = FaultPage::new(guard, Some(reference));
        match outcome {
            "put back" => mm.fail_allocations(RAM, 1),
            "skipped" => mm.set_immovable(true),
            "lost" => mm.set_lost(pfn, true),
            _ => {}
        }
        let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
        let copied =
            collect_for_fault(mm, &mut slots, &Order::to(RAM), &mut fault).unmap().check().copy();
        if outcome == "dropped" {
            drop(copied);
        } else {
            let _ = copied.finalize();
        }
        assert!(
            fault.is_owned() && page.is_locked() && !page.is_migrating() && !page.is_frozen(),
            "{outcome}"
        );
        assert_eq!(slots[0].outcome().is_done(), outcome == "moved");
        assert_eq!(
            slots[1].outcome().is_done(),
            !matches!(outcome, "dropped" | "skipped"),
            "the other page"
        );
        mm.account(pfn, pagelock::mm::ledger::Owner::Get, pagelock::mm::ledger::Change::Put);
        let is_free = fault.release();
        assert_eq!(is_free, outcome == "moved");
        if is_free {
            mm.free(pfn);
        }
        assert!(!page.is_locked());
        assert_eq!(page.is_poisoned(), outcome == "lost");
        mm.audit().unwrap();
    }
}

/// The entry was replaced by the fault path already; its reference is not lost.
#[test]
fn an_entry_in_the_fault_is_taken_over() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    for fail in [1, 0] {
        move_one(mm, at, &order());
        mm.fail_allocations(RAM, fail);
        let mut faulter = Faulter::new(Strategy::EntryInFault).patience(20);
        let read = mm.read_with(at, 0, &mut [0], &mut faulter);
        if fail == 1 {
            assert_eq!(read, Err(AccessError::NoMemory));
            assert!(matches!(mm.leaf(at), Leaf::DevicePrivate { .. }));
        } else {
            read.unwrap();
        }
        mm.audit().unwrap();
    }
}

/// The entry was replaced by the fault path, and then the migration does not even begin with the
/// page: the entry is put up again all the same, with its reference, and nothing is lost.
#[test]
fn an_entry_in_the_fault_of_a_page_that_is_skipped_is_put_up_again() {
    for why in ["immovable", "pinned"] {
        let (mm, _) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 1);
        mm.fork(parent).unwrap();
        move_one(mm, at, &order());
        let before = picture(mm, at);
        let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
        let pin = (why == "pinned").then(|| page.try_pin().unwrap());
        mm.set_immovable(why == "immovable");
        let expected = match why {
            "pinned" => AccessError::Busy { rounds: 3 },
            _ => AccessError::NotBrought(Outcome::Skipped(Skip::Refused(Refusal::Immovable))),
        };
        for _ in 0..2 {
            let mut faulter = Faulter::new(Strategy::EntryInFault).patience(3);
            assert_eq!(mm.read_with(at, 0, &mut [0], &mut faulter), Err(expected), "{why}");
            assert!(!is_migrating(mm, at), "{why}: an entry is left that nobody puts up");
        }
        drop(pin);
        mm.set_immovable(false);
        assert_eq!(picture(mm, at), before, "{why}");
        mm.audit().unwrap();
        check_all(mm, at, 1);
        mm.audit().unwrap();
    }
}

/// The callback that says whether the page may move panics. The page is as it was, and so is its
/// entry: a migration entry that nobody puts up would lead all that fault later to a page that
/// nobody owns.
#[test]
fn a_panic_before_the_page_is_begun_with_puts_its_entry_up_again() {
    for strategy in [Some(Strategy::EntryInFault), Some(Strategy::Wait), None] {
        let (mm, _) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 1);
        mm.fork(parent).unwrap();
        if strategy.is_some() {
            assert!(move_one(mm, at, &order()).is_done());
        }
        let before = picture(mm, at);
        mm.on_prepare(|_| panic!("the driver"));
        for _ in 0..2 {
            let text = crate::common::panic_of(|| match strategy {
                Some(strategy) => {
                    let _ = mm.read_with(at, 0, &mut [0], &mut Faulter::new(strategy).patience(1));
                }
                None => drop(move_one(mm, at, &order())),
            });
            assert_eq!(text, "the driver");
            assert!(!is_migrating(mm, at), "{strategy:?}: an entry is left that nobody puts up");
            assert_eq!(picture(mm, at), before, "{strategy:?}");
            mm.audit().unwrap();
        }
        mm.on_prepare(|_| ());
        check_all(mm, at, 1);
        mm.audit().unwrap();
    }
}

/// The entry that was replaced is unmapped before the page is begun with: the reference is put
/// once, by the thread that replaced it.
#[test]
fn an_entry_in_the_fault_that_is_unmapped_meanwhile_puts_no_reference() {
    for is_skipped in [false, true] {
        let (mm, _) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 1);
        let child = mm.fork(parent).unwrap().page(0);
        move_one(mm, at, &order());
        let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
        // With the page's lock held and the entry replaced: the one moment at which a test gets in
        // between.
        mm.on_prepare(move |_| {
            assert!(is_migrating(mm, at) && page.is_locked());
            mm.unmap(at, 1).unwrap();
            assert_eq!(page.refs(), 3, "the other entry's, the faulter's, the migrator's");
            mm.set_immovable(is_skipped);
        });
        let read =
            mm.read_with(at, 0, &mut [0], &mut Faulter::new(Strategy::EntryInFault).patience(1));
        assert!(read.is_err(), "{read:?}");
        mm.on_prepare(|_| {});
        mm.set_immovable(false);
        mm.audit().unwrap();
        check_all(mm, child, 1);
        mm.audit().unwrap();
    }
}

/// I37: every faulter on a page that cannot be brought back is told so; none goes
/// round for ever.
#[test]
fn every_faulter_of_a_page_that_cannot_come_back_gets_an_error() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    move_one(mm, at, &order());
    let pfn = mm.frame_at(at).unwrap();
    let before = picture(mm, at);
    let all = |expected: fn(AccessError) -> bool| {
        with_threads(&[mm.page(pfn).unwrap()], |s| {
            for _ in 0..8 {
                s.spawn(move || {
                    let mut faulter = Faulter::new(Strategy::Wait).patience(20);
                    let e = mm.read_with(at, 0, &mut [0], &mut faulter).unwrap_err();
                    assert!(expected(e), "{e}");
                });
            }
        });
    };
    mm.fail_allocations(RAM, usize::MAX);
    all(|e| e == AccessError::NoMemory);
    mm.fail_allocations(RAM, 0);
    let pin = mm.page(pfn).unwrap().try_pin().unwrap();
    all(|e| e == AccessError::Busy { rounds: 20 });
    drop(pin);
    assert_eq!(picture(mm, at), before);
    mm.audit().unwrap();
    check_all(mm, at, 1);
}

/// What `bring_back` does if the entry is not what it was when the page was locked.
#[test]
fn a_fault_whose_page_is_unmapped_meanwhile_ends() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    move_one(mm, at, &order());
    let leaf = mm.leaf(at);
    let pfn = leaf.pfn().unwrap();
    let page = mm.page(pfn).unwrap();
    let guard = page.try_lock().unwrap();
    let reference = page.try_get().unwrap();
    mm.account(pfn, pagelock::mm::ledger::Owner::Get, pagelock::mm::ledger::Change::Taken);
    mm.unmap(at, 1).unwrap();
    let request =
        ToRam { at, access: Access::Read, leaf, pfn, reference: Some(reference), page: guard };
    assert_eq!(bring_back(mm, request, RAM, mm), Ok(Brought::Back));
    assert!(!is_migrating(mm, at));
    mm.audit().unwrap();
    assert_eq!((mm.free_frames(RAM), mm.free_frames(DEVICE)), (127, 128));
}
