//! What an evictor needs: the number of pages that are in, an end, and the pages it may skip.

use super::*;

fn full(pages: usize) -> Rig {
    let rig = Rig::new(pages);
    (0..pages).for_each(|page| rig.bring_in(page, page as u8));
    rig
}

#[test]
fn the_pages_that_are_in_are_counted_whatever_becomes_of_them() {
    let rig = full(4);
    let resident = || rig.region.resident();
    assert_eq!(resident(), 4);
    drop(rig.region.evict(0).unwrap()); // put back
    drop(rig.region.clean(0).unwrap());
    rig.region.clean(0).unwrap().done();
    assert_eq!(resident(), 4);
    rig.region.evict(0).unwrap().done();
    assert_eq!(rig.region.discard(1..2).done, 1);
    assert_eq!(rig.region.discard(0..2).done, 2); // neither is in
    assert_eq!(resident(), 2);
    let Fault::Owner(fetch) = rig.region.fault(0) else { panic!() };
    assert_eq!(resident(), 2);
    fetch.fill(&[1; PAGE]).unwrap();
    let Fault::Owner(fetch) = rig.region.fault(1) else { panic!() };
    fetch.zero().unwrap();
    assert_eq!(resident(), 4);
    // Lost ones are in no memory.
    std::mem::forget(rig.region.evict(2).unwrap());
    // SAFETY: the owner is gone, and nobody else acts for it.
    assert_eq!(unsafe { rig.region.take_over(2) }, TakenOver::Lost);
    rig.region.evict(3).unwrap().done();
    let Fault::Owner(fetch) = rig.region.fault(3) else { panic!() };
    fetch.poison();
    assert_eq!(resident(), 2);
    assert!(rig.region.states(2..4).all(|(_, state)| state.poisoned && state.place == Place::Out));
}

#[test]
fn an_evictor_ends_at_its_limit_and_passes_over_what_it_cannot_have() {
    let rig = full(8);
    let (pin, owner) = (rig.region.pin(6).unwrap(), rig.region.evict(5).unwrap());
    let mut saved = Vec::new();
    // In the caller's order; what is beyond the end or not in is nothing.
    let order = [100, 6, 5, 7, 7, 0, 3, 1, 2, 4];
    let evicted = rig.region.evict_to(5, order, |evict| {
        saved.push((evict.page(), evict.bytes()[0]));
        Ok(())
    });
    let right = Evicted { done: 3, owned: 1, pinned: 1, kept: 0 };
    assert_eq!((evicted.unwrap(), rig.region.resident()), (right, 5));
    assert_eq!(saved, [(7, 7), (0, 0), (3, 3)]);
    // No candidate is taken that is not needed, and none that is left ends it.
    let mut order = 0..8;
    assert_eq!(rig.region.evict_to(5, &mut order, |_| Ok(())).unwrap(), Evicted::default());
    assert_eq!(order.next(), Some(0));
    drop(owner);
    assert_eq!(rig.region.evict_to(0, 0..8, |_| Ok(())).unwrap().done, 4);
    drop(pin);
}

#[test]
fn an_evictor_whose_store_fails_stops_and_the_page_is_back() {
    let rig = full(4);
    let failed = rig.region.evict_to(0, 0..4, |evict| match evict.page() {
        2 => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!((rig.region.resident(), rig.reader(2).join().unwrap()), (2, Ok(2)));
}

#[test]
fn an_evicted_page_says_whether_it_was_written_since_it_was_saved() {
    let rig = full(1);
    let is_clean = |rig: &Rig| rig.region.evict(0).unwrap().is_clean();
    assert!(!is_clean(&rig), "nobody has saved it");
    rig.region.clean(0).unwrap().done();
    assert!(is_clean(&rig) && is_clean(&rig)); // also after it was put back
    rig.region.evict(0).unwrap().done();
    rig.bring_in(0, 1);
    assert!(is_clean(&rig), "it came as it went");
    let writer = rig.writer(0, 9);
    let page = rig.arrived().page;
    let pagelock_vmm::Claimed::Owner(write) = rig.region.write_fault(page) else { panic!() };
    write.allow().unwrap();
    writer.join().unwrap().unwrap();
    assert!(!is_clean(&rig), "it was written");
}

#[test]
fn a_page_that_is_only_watched_is_not_read() {
    let rig = full(1);
    rig.region.clean(0).unwrap().done();
    assert_eq!(rig.counts.reads.load(SeqCst), 0);
    let clean = rig.region.clean(0).unwrap();
    let mut bytes = [9; PAGE];
    clean.read(&mut bytes).unwrap();
    assert_eq!((bytes[0], rig.counts.reads.load(SeqCst)), (0, 1));
    assert_eq!(Some(clean.host_address()), rig.region.host_address(0));
}

#[test]
fn room_is_made_for_zeroes_as_well_as_for_bytes() {
    let rig = Rig::new(4);
    let (store, room) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asked, made) = (Arc::clone(&store), Arc::clone(&room));
    // At most one page, besides the one that comes.
    let settings = Settings::threads(1).on_fetch(move |fetch: &Fetch| {
        fetch.region().evict_to(1, 0..4, |_| Ok(())).unwrap();
        made.fetch_add(1, SeqCst);
    });
    let server = Server::with(&rig.inbox, settings, move |_: &Fetch, into: &mut [u8]| {
        asked.fetch_add(1, SeqCst);
        into.fill(1);
        Ok(())
    });
    let _ = rig.region.discard(0..3);
    for (page, value) in [(0, 0), (1, 0), (3, 1), (2, 0)] {
        assert_eq!(rig.reader(page).join().unwrap(), Ok(value));
        assert!(rig.region.resident() <= 2);
    }
    server.unwrap().stop().unwrap();
    // The store does not hear of zeroes, so it could not have made room.
    assert_eq!((store.load(SeqCst), room.load(SeqCst)), (1, 4));
}
