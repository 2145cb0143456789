//! Callers that wait for a page, and what they are told.

use super::*;
use pagelock_vmm::Discarded;

const DONE: Discarded = Discarded { done: 1, left: 0, pinned: 0, failed: 0 };

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

fn read(rig: &Rig) -> u8 {
    rig.ram.with(0, false, PATIENCE, |bytes| bytes[0]).unwrap()
}

fn write(rig: &Rig, value: u8) {
    rig.ram.with(0, true, PATIENCE, |bytes| bytes[0] = value).unwrap();
}

#[test]
fn a_discard_that_waits_returns_when_the_page_is_gone_and_not_before() {
    for as_task in [false, true] {
        let rig = Rig::new(2);
        rig.bring_in(0, 7);
        let owner = rig.region.evict(0).unwrap();
        let region = Arc::clone(&rig.region);
        let balloon = thread::spawn(move || match as_task {
            false => region.discard_blocking(0..2),
            true => runtime().block_on(region.discard_async(0..2)),
        });
        until(|| rig.region.state(0).unwrap().awaited);
        assert!(!balloon.is_finished());
        drop(owner); // put back, if nothing had been asked for
        assert_eq!(balloon.join().unwrap(), Discarded { done: 2, ..DONE });
        assert!(rig.region.states(0..2).all(|(_, state)| state.place == Place::Discarded));
        assert!(!rig.ram.is_there(0) && rig.region.resident() == 0);
    }
}

#[test]
fn control_a_discard_that_does_not_wait_leaves_the_page_for_now() {
    let rig = Rig::new(1);
    rig.bring_in(0, 7);
    let owner = rig.region.evict(0).unwrap();
    assert_eq!(rig.region.discard(0..1), Discarded { done: 0, left: 1, ..DONE });
    assert_eq!(rig.region.state(0).unwrap().place, Place::In);
    drop(owner);
    assert_eq!(rig.region.state(0).unwrap().place, Place::Discarded);
}

#[test]
fn a_discard_that_waits_is_told_of_a_pin_that_was_faster() {
    let rig = Rig::new(1);
    rig.bring_in(0, 7);
    rig.region.clean(0).unwrap().done();
    let pagelock_vmm::Claimed::Owner(owner) = rig.region.write_fault(0) else { panic!() };
    let pin = rig.region.pin(0).unwrap();
    let region = Arc::clone(&rig.region);
    let balloon = thread::spawn(move || region.discard_blocking(0..1));
    until(|| rig.region.state(0).unwrap().awaited);
    // The owner finds the pin, and the caller that waits must not take that for done.
    drop(owner);
    assert_eq!(balloon.join().unwrap(), Discarded { done: 0, pinned: 1, ..DONE });
    assert!(rig.ram.is_there(0));
    drop(pin);
    // An old answer is not the next one's.
    assert_eq!(rig.region.discard_blocking(0..1), DONE);
    assert_eq!(rig.region.discard_blocking(0..1), DONE);
}

#[test]
fn a_discard_that_waits_discards_once() {
    const TURNS: usize = 2000;
    let rig = Rig::new(1);
    let server = Server::start(&rig.inbox, 2, filled(|_| 1)).unwrap();
    let over = AtomicBool::new(false);
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|s| {
        let _over = Over(&over);
        let (rig, over, begun, ended) = (&rig, &over, &begun, &ended);
        // Owners, so that the balloon waits, and others do what it has asked for.
        s.spawn(move || {
            while !over.load(SeqCst) {
                drop(rig.region.evict(0));
            }
        });
        s.spawn(move || {
            for turn in 1..=TURNS {
                until(|| begun.load(SeqCst) == turn || over.load(SeqCst));
                assert_eq!(rig.region.discard_blocking(0..1), DONE);
                ended.store(turn, SeqCst);
            }
        });
        for turn in 1..=TURNS {
            write(rig, 9);
            begun.store(turn, SeqCst);
            until(|| read(rig) == 0);
            // The page is gone, though the call may not have returned; this one is another.
            write(rig, 7);
            until(|| ended.load(SeqCst) == turn);
            assert_eq!(read(rig), 7, "turn {turn}: discarded twice");
        }
    });
    server.stop().unwrap();
}

#[test]
fn a_discard_is_not_lost_to_a_task_that_looks_whether_it_has_to_wait() {
    let rig = Rig::new(1);
    let server = Server::start(&rig.inbox, 1, filled(|_| 1)).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|s| {
        let _over = Over(&over);
        let (rig, over) = (&rig, &over);
        s.spawn(move || {
            while !over.load(SeqCst) {
                drop(rig.region.evict(0));
            }
        });
        s.spawn(move || {
            let runtime = runtime();
            while !over.load(SeqCst) {
                runtime.block_on(rig.region.released(0));
            }
        });
        for _ in 0..3000 {
            write(rig, 9);
            let _ = rig.region.discard(0..1);
            until(|| read(rig) == 0);
        }
    });
    server.stop().unwrap();
}

#[test]
fn control_a_page_that_is_taken_by_its_bare_header_leaves_a_discard_undone() {
    let rig = Rig::new(1);
    rig.bring_in(0, 9);
    let Claim::Owner(guard) = rig.region.header(0).unwrap().claim() else { panic!() };
    assert_eq!(rig.region.discard(0..1).left, 1);
    drop(guard);
    assert_eq!(read(&rig), 9);
}

#[test]
fn a_thread_that_waits_for_a_page_is_told_of_its_release() {
    let rig = Rig::new(1);
    rig.region.wait_released(0); // nobody owns it
    rig.region.wait_released(1); // there is no such page
    let owner = rig.region.prefetch(0..1).next().unwrap();
    let region = Arc::clone(&rig.region);
    let waits = thread::spawn(move || region.wait_released(0));
    until(|| rig.region.state(0).unwrap().awaited);
    assert!(!waits.is_finished());
    drop(owner);
    waits.join().unwrap();
}
