//! Exclusive entries: a device has a page to itself until a thread wants it, and is told before it
//! loses it.

use crate::common::machine::{FAR, Mm, check_all, exclusive, machine, written};
use crate::common::own::within;
use crate::order;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Mode, Order, Slot, evict, migrate};
use pagelock::mm::{Cause, Notice};
use std::sync::{Arc, Mutex};
use std::thread;

/// Until the driver has programmed its device nobody takes the page away; and afterwards the device
/// is told before anybody does.
#[test]
fn an_exclusive_page_is_handed_over_locked_and_revoked_with_notice() {
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = told.clone();
    mm.on_notice(move |at, _, notice: Option<Notice>| {
        if let Some(notice) = notice {
            note.lock().unwrap().push((at, notice.cause, notice.owner));
        }
    });
    let device = Arc::new(Mutex::new(None));
    let revoked = device.clone();
    mm.on_revoke(move |pfn| assert_eq!(revoked.lock().unwrap().take(), Some(pfn)));
    let exclusive = pagelock::mm::exclusive::make_exclusive_for(mm, at, 7).unwrap();
    let page = mm.page(exclusive.pfn()).unwrap();
    assert!(page.is_locked() && page.refs() == 2);
    let ticket = thread::scope(|s| {
        let reader = s.spawn(move || check_all(mm, at, 1));
        own.until_asleep(1);
        *device.lock().unwrap() = Some(exclusive.pfn());
        let ticket = mm.notifier(space).unwrap().try_ticket().unwrap();
        drop(exclusive);
        reader.join().unwrap();
        ticket
    });
    assert!(
        !mm.notifier(space).unwrap().is_good(ticket),
        "a device with a copy of the entry is told"
    );
    assert_eq!(*told.lock().unwrap(), [(at, Cause::Exclusive, 7), (at, Cause::Revoke, 0)]);
    mm.audit().unwrap();
}

/// A device that has a page to itself does not keep it for ever: a caller that may wait stops it.
#[test]
fn an_exclusive_page_can_be_taken_away() {
    for by_frame in [false, true] {
        let (mm, own) = machine();
        let at = written(mm, mm.spawn().unwrap(), 2);
        let stopped = Arc::new(AtomicUsize::new(0));
        let told = stopped.clone();
        let frames = [0, 1].map(|page| mm.frame_at(at.space.page(page)).unwrap());
        mm.on_revoke(move |pfn| {
            assert!(
                frames.iter().all(|&other| other == pfn || !mm.page(other).unwrap().is_locked()),
                "with nothing else in hand"
            );
            told.fetch_add(1, SeqCst);
        });
        let slots =
            || -> Vec<Slot<'static, Mm>> {
                at.pages(2)
                    .map(|at| {
                        if by_frame { Slot::frame(mm.frame_at(at).unwrap()) } else { Slot::at(at) }
                    })
                    .collect()
            };
        exclusive(mm, at).unwrap();
        let mut some = slots();
        let _ = migrate(mm, &mut some, &order(), mm, &mut Unlocked::promise());
        assert!(
            !some[0].outcome().is_done()
                && some[1].outcome().is_done()
                && stopped.load(SeqCst) == 0,
            "{some:?}"
        );
        check_all(mm, at.space.page(1), 1);
        let mut all = slots();
        let summary =
            migrate(mm, &mut all, &order().mode(Mode::SyncLight), mm, &mut Unlocked::promise());
        assert_eq!((summary.done, stopped.load(SeqCst)), (2, 1), "{all:?}");
        check_all(mm, at, 2);
        let pfn = exclusive(mm, at).unwrap();
        let outcome =
            evict(mm, pfn, &Order::to(FAR), within(own, 5000), mm, &mut Unlocked::promise());
        assert!(outcome.is_done(), "{outcome:?}");
        check_all(mm, at, 2);
        mm.audit().unwrap();
    }
}
