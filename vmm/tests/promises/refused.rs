//! The memory below refuses, or is not as the headers say.

use super::*;

#[test]
fn a_page_that_the_memory_refuses_is_lost_in_the_end_and_waits_where_there_is_no_room() {
    for (kind, tries) in [(io::ErrorKind::InvalidInput, 3), (io::ErrorKind::OutOfMemory, 6)] {
        let rig = Rig::new(1);
        *rig.counts.refuses.lock().unwrap() = Some(kind);
        let settings = Settings::threads(1).attempts(3);
        let server = Server::with(&rig.inbox, settings, filled(|_| 7)).unwrap();
        let guest = rig.reader(0);
        until(|| rig.counts.fills() >= tries);
        if kind == io::ErrorKind::OutOfMemory {
            *rig.counts.refuses.lock().unwrap() = None; // there is room again
            assert_eq!(guest.join().unwrap(), Ok(7));
            assert_eq!(server.stop().unwrap().lost, 0);
        } else {
            assert_eq!(guest.join().unwrap(), Err(Failed::Poisoned));
            assert_eq!(server.stop().unwrap().lost, 1);
        }
    }
}

#[test]
fn an_evicted_page_that_cannot_be_put_back_is_lost_and_not_zeroes() {
    let rig = Rig::new(1);
    rig.bring_in(0, 9);
    *rig.counts.refuses.lock().unwrap() = Some(io::ErrorKind::InvalidInput);
    drop(rig.region.evict(0).unwrap());
    assert!(rig.region.state(0).unwrap().poisoned && rig.region.resident() == 0);
    let server = Server::start(&rig.inbox, 1, filled(|_| 0)).unwrap();
    assert_eq!(rig.reader(0).join().unwrap(), Err(Failed::Poisoned));
    // And a balloon does not take it for a page of zeroes.
    let gone = rig.region.discard_blocking(0..1);
    assert_eq!((gone.done, gone.failed), (0, 1));
    server.stop().unwrap();
}

#[test]
fn a_protection_that_no_header_knows_of_is_lifted() {
    let rig = Rig::new(1);
    let server = Server::start(&rig.inbox, 1, filled(|_| 7)).unwrap();
    assert_eq!(rig.reader(0).join().unwrap(), Ok(7));
    until(|| !rig.region.state(0).unwrap().owned);
    rig.ram.protect(0, true).unwrap(); // by another hand
    assert_eq!(rig.writer(0, 9).join().unwrap(), Ok(7));
    server.stop().unwrap();
}

#[test]
fn a_hook_that_panics_costs_no_thread() {
    let rig = Rig::new(2);
    let calls = AtomicUsize::new(0);
    let settings = Settings::threads(1).on_fetch(move |_: &Fetch| {
        assert!(calls.fetch_add(1, SeqCst) > 1, "as this test wants it");
    });
    let server = Server::with(&rig.inbox, settings, filled(|_| 7)).unwrap();
    assert_eq!([0, 1].map(|page| rig.reader(page).join().unwrap()), [Ok(7), Ok(7)]);
    assert_eq!(server.stop().unwrap().failed, 2);
}

#[test]
fn callers_that_wait_are_told_when_the_region_is_unplugged() {
    let rig = Rig::new(3);
    let owned: Vec<_> = rig.region.prefetch(0..3).collect();
    let region = || Arc::clone(&rig.region);
    let (one, two, three) = (region(), region(), region());
    let device = thread::spawn(move || one.pin_or_fetch(0, |_| Ok(())).err());
    let balloon = thread::spawn(move || two.discard_blocking(1..2));
    let task = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(three.released(2));
    });
    until(|| rig.region.states(0..3).all(|(_, state)| state.awaited));
    rig.region.unplug().unwrap();
    for fetch in owned {
        assert!(matches!(fetch.fill(&[1; PAGE]), Err(pagelock_vmm::FillError::Gone)));
    }
    assert!(device.join().unwrap().is_some(), "there is nothing to pin");
    assert_eq!(balloon.join().unwrap().left, 0);
    task.join().unwrap();
}
