//! When a page may be a device's alone, and when it stops being that.

use crate::common::machine::{check_all, exclusive, machine, move_one, picture, written};
use crate::common::{watched, with_threads};
use crate::order;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use pagelock::Wake;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::exclusive::ExclusiveError;
use std::thread;

#[test]
fn a_device_has_a_page_to_itself_until_somebody_wants_it() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let pfn = exclusive(mm, at).unwrap();
    assert!(matches!(mm.leaf(at), Leaf::DeviceExclusive { rights: Rights::Write, .. }));
    mm.audit().unwrap();
    let revoked = std::sync::Arc::new(AtomicUsize::new(0));
    let told = revoked.clone();
    mm.on_revoke(move |of| {
        assert_eq!(of, pfn);
        told.fetch_add(1, SeqCst);
    });
    mm.write_frame(pfn, 100, b"device");
    let mut bytes = [0; 6];
    mm.read(at, 100, &mut bytes).unwrap();
    assert_eq!((&bytes, revoked.load(SeqCst)), (b"device", 1));
    assert!(matches!(mm.leaf(at), Leaf::Present { rights: Rights::Write, .. }));
    mm.audit().unwrap();
}

/// A device may take its time to stop: the page is locked meanwhile, and no page table.
#[test]
fn a_device_is_told_without_a_page_table_lock() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    let pfn = exclusive(mm, at).unwrap();
    mm.on_revoke(move |_| {
        assert!(mm.page(pfn).unwrap().is_locked());
        // From another thread, which would wait for a page-table lock for ever.
        thread::scope(|s| {
            s.spawn(move || assert!(matches!(mm.leaf(at), Leaf::DeviceExclusive { .. })))
                .join()
                .unwrap()
        });
    });
    watched(&[], || check_all(mm, at, 2));
    assert!(matches!(mm.leaf(at), Leaf::Present { rights: Rights::Write, .. }));
    mm.audit().unwrap();
}

/// The entry has changed when the device has stopped: it is left as it is.
#[test]
fn an_entry_that_changed_while_a_device_was_told_is_left_alone() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    exclusive(mm, at).unwrap();
    mm.on_revoke(move |_| {
        let Leaf::DeviceExclusive { pfn, rights, tracking } = mm.leaf(at) else { panic!() };
        assert_eq!(rights, Rights::Write);
        let read = Leaf::DeviceExclusive { pfn, rights: Rights::Read, tracking };
        let other = read.to_present(pfn).unwrap();
        mm.entry(at).set_leaf(other);
    });
    watched(&[], || mm.read(at, 0, &mut [0]).unwrap());
    assert!(matches!(mm.leaf(at), Leaf::Present { rights: Rights::Read, .. }), "{:?}", mm.leaf(at));
}

/// Through another entry the processor would write past the device.
#[test]
fn a_page_with_other_mappings_is_not_a_devices_alone() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = space.page(0);
    mm.map_shared(at, 1).unwrap();
    mm.write(at, 0, &[1]).unwrap();
    let other = mm.fork(space).unwrap();
    mm.write(other.page(0), 0, &[2]).unwrap();
    mm.write(at, 0, &[1]).unwrap();
    let before = (picture(mm, at), picture(mm, other.page(0)));
    for at in [at, other.page(0)] {
        assert_eq!(exclusive(mm, at), Err(ExclusiveError::Shared));
    }
    assert_eq!((picture(mm, at), picture(mm, other.page(0))), before);
    mm.audit().unwrap();
    mm.exit(other);
    exclusive(mm, at).unwrap();
    mm.audit().unwrap();
}

/// Its waiters hold no reference, so the page can be moved as soon as it is nobody's
/// for itself.
#[test]
fn those_who_want_an_exclusive_page_are_not_in_the_way() {
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let pfn = exclusive(mm, at).unwrap();
    let page = mm.page(pfn).unwrap();
    with_threads(&[page], |s| {
        let guard = page.lock();
        let waiters: Vec<_> = (0..8).map(|_| s.spawn(move || check_all(mm, at, 1))).collect();
        own.until_asleep(8);
        assert_eq!((page.refs(), page.pins()), (1, 0), "the entry's own");
        drop(guard);
        waiters.into_iter().for_each(|w| w.join().unwrap());
    });
    assert!(move_one(mm, at, &order()).is_done());
    mm.audit().unwrap();
}

#[test]
fn what_cannot_be_a_devices_alone_is_refused() {
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    let at = space.page(0);
    mm.map(at, 2).unwrap();
    assert_eq!(exclusive(mm, at), Err(ExclusiveError::NotPresent));
    mm.read(at, 0, &mut [0]).unwrap();
    assert_eq!(exclusive(mm, at), Err(ExclusiveError::NotWritable));
    mm.write(at, 0, &[1]).unwrap();
    let pfn = mm.frame_at(at).unwrap();
    let page = mm.page(pfn).unwrap();
    let pin = page.try_pin().unwrap();
    assert_eq!(exclusive(mm, at), Err(ExclusiveError::Pinned { pins: 1 }));
    drop(pin);
    let before = picture(mm, at);
    with_threads(&[page], |s| {
        let guard = page.lock();
        let made = s.spawn(move || exclusive(mm, at));
        own.until_asleep(1);
        drop(guard);
        assert_eq!(made.join().unwrap(), Err(ExclusiveError::Waited(Wake::Released)));
    });
    assert_eq!(picture(mm, at), before);
    // A fork has it back first.
    exclusive(mm, at).unwrap();
    let child = mm.fork(space).unwrap();
    assert!(matches!(mm.leaf(at), Leaf::Present { rights: Rights::Read, .. }));
    assert_eq!(mm.leaf(child.page(0)), mm.leaf(at));
    mm.audit().unwrap();
}
