//! Hearing of writes: snapshots and pre-copy.

use super::*;

#[test]
fn pre_copy_hears_of_every_page_that_is_written_and_of_no_other() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    for shared in [false, true] {
        let len = 64 * SMALL;
        let ram = ram(&inbox, len, shared);
        let region = Region::new(ram, &inbox, 0).unwrap();
        let dirty = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&dirty);
        let settings = Settings::threads(2).on_write(move |write: &Unprotect| {
            noted.lock().unwrap().push(write.page());
            Ok(())
        });
        let server = Server::with(&inbox, settings, filled(|_| 3)).unwrap();
        (0..64).for_each(|page| assert_eq!(read(&region, page), 3));
        for round in 0..4 {
            let mut sent = [0; 64];
            for (page, sent) in sent.iter_mut().enumerate() {
                // Whoever was woken by the page's coming may be here before the owner has let go.
                until(|| region.state(page).is_some_and(|state| !state.owned));
                let clean = region.clean(page).unwrap();
                let mut bytes = [0; SMALL];
                clean.read(&mut bytes).unwrap();
                *sent = bytes[0];
                clean.done();
            }
            dirty.lock().unwrap().clear();
            for page in (round..64).step_by(5) {
                assert_eq!(read(&region, page), sent[page]);
                write(&region, page, 10 + round as u8);
            }
            let mut noted = dirty.lock().unwrap().clone();
            noted.sort_unstable();
            assert_eq!(noted, (round..64).step_by(5).collect::<Vec<_>>());
        }
        server.stop().unwrap();
    }
}

#[test]
fn a_page_that_was_saved_is_noticed_when_written_also_after_an_eviction() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    for shared in [false, true] {
        let len = 8 * SMALL;
        let ram = ram(&inbox, len, shared);
        let region = Region::new(ram, &inbox, 0).unwrap();
        let dirty = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&dirty);
        let attempts = AtomicUsize::new(0);
        let settings = Settings::threads(1).on_write(move |write: &Unprotect| {
            // It may fail, and even panic: the writer is told, and comes again.
            match attempts.fetch_add(1, SeqCst) {
                0 => return Err(io::ErrorKind::StorageFull.into()),
                1 => panic!("as this test wants it"),
                _ => {}
            }
            let mut before = [0; SMALL];
            write.read(&mut before)?;
            noted.lock().unwrap().push((write.page(), before[0]));
            Ok(())
        });
        let server = Server::with(&inbox, settings, filled(|page| page as u8)).unwrap();
        (0..8).for_each(|page| assert_eq!(read(&region, page), page as u8));
        until(|| region.states(0..8).all(|(_, state)| !state.owned));
        (1..6).for_each(|page| region.clean(page).unwrap().done());
        region.evict(2).unwrap().done();
        drop(region.evict(3).unwrap()); // and put back
        drop(region.clean(7).unwrap()); // given up, and free to be written
        assert!(region.state(2).unwrap().protected && region.state(3).unwrap().protected);
        assert_eq!(read(&region, 2), 2);
        (0..8).for_each(|page| write(&region, page, 100));
        assert_eq!(*dirty.lock().unwrap(), [1, 2, 3, 4, 5].map(|page| (page, page as u8)));
        assert_eq!(server.stop().unwrap().failed, 2);
    }
}

#[test]
fn the_kernel_notes_what_is_written_and_nobody_sleeps() {
    let Some(inbox) = inbox(Wish::default().write_async()) else { return };
    let region = Region::anonymous(&inbox, 64 * SMALL).unwrap();
    let ram = region.layer().as_any().downcast_ref::<Ram>().unwrap();
    let server = Server::start(&inbox, 1, filled(|_| 1)).unwrap();
    (0..60).for_each(|page| assert_eq!(read(&region, page), 1));
    match ram.take_written(0..64) {
        Ok(came) => assert_eq!(came, (0..60).collect::<Vec<_>>()),
        Err(error) => return println!("SKIPPED: no PAGEMAP_SCAN ({error})"),
    }
    // A protection that stops no writer protects nothing: the bytes could be torn.
    until(|| !region.state(5).unwrap().owned);
    let refused = region.clean(5).unwrap_err();
    assert!(
        matches!(&refused, NotEvicted::Io(error) if error.kind() == io::ErrorKind::Unsupported),
        "{refused}"
    );
    for round in 0..3 {
        (round..60).step_by(7).for_each(|page| write(&region, page, 2));
        assert_eq!(ram.take_written(0..64).unwrap(), (round..60).step_by(7).collect::<Vec<_>>());
        assert!(ram.take_written(0..64).unwrap().is_empty());
    }
    assert_eq!(server.stop().unwrap().faults, 60);
}
