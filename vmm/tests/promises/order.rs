//! What was first, and what is newer.

use super::*;

// 3. A slow worker puts old bytes over newer ones.

#[test]
fn a_slow_fetch_never_overwrites_a_newer_page() {
    let rig = Rig::new(1);
    let guest = rig.writer(0, 99);
    let slow = rig.owner(); // and has read 1 from the store
    // While it is at it, nobody else can put the page up, take it out or have it written.
    assert!(matches!(rig.region.fault(0), Fault::InFlight));
    assert!(matches!(rig.region.evict(0), Err(NotEvicted::Owned)));
    assert_eq!(rig.region.prefetch(0..1).count(), 0);
    assert!(!guest.is_finished());
    assert_eq!(slow.fill(&[1; PAGE]).unwrap(), Filled::Bytes);
    assert_eq!(guest.join().unwrap(), Ok(1));
    // And a page that came by another way is left alone.
    let evicted = rig.region.evict(0).unwrap();
    assert_eq!(evicted.bytes()[0], 99);
    evicted.done();
    let Fault::Owner(slow) = rig.region.fault(0) else { panic!() };
    rig.ram.fill(0, &[99; PAGE], false).unwrap();
    assert_eq!(slow.fill(&[1; PAGE]).unwrap(), Filled::There);
    assert_eq!(rig.ram.with(0, false, PATIENCE, |bytes| bytes[0]), Ok(99));
}

#[test]
fn control_two_workers_without_an_owner_bring_old_bytes_back() {
    let rig = Rig::new(1);
    let old = [1; PAGE]; // what the slow worker has read
    rig.ram.fill(0, &old, false).unwrap(); // the fast one
    rig.ram.with(0, true, PATIENCE, |bytes| bytes[0] = 99).unwrap();
    let mut store = [0; PAGE];
    rig.ram.take(0, &mut store, false).unwrap(); // evicted, with 99
    assert!(rig.ram.fill(0, &old, false).unwrap()); // the slow one
    assert_eq!(rig.ram.with(0, false, PATIENCE, |bytes| bytes[0]), Ok(1), "99 is lost");
}

// 4. A fault and a removal are dealt with in another order than they happened.

#[test]
fn a_page_that_was_removed_reads_as_zeroes_however_late_its_fetch_is() {
    for round in 0..50 {
        let rig = Rig::with_removes(1);
        let guest = rig.reader(0);
        let fetch = rig.owner(); // the fault came first, and has old bytes on their way
        assert_eq!(fetch.wants(), Wants::Bytes);
        let remover = thread::spawn({
            let ram = rig.ram.clone();
            move || ram.remove(0, 1)
        });
        if round % 2 == 0 {
            until(|| rig.inbox.next().unwrap().is_some() || remover.is_finished());
            remover.join().unwrap();
            assert!(fetch.is_discarded());
            // From here on nobody may read the old bytes.
            assert_eq!(fetch.fill(&[1; PAGE]).unwrap(), Filled::Zeroes);
            assert_eq!(guest.join().unwrap(), Ok(0));
            continue;
        }
        // The removal is read by the fill, or comes after it. Then the kernel takes the page, the
        // header says that it is in, and the next fault must not go round in circles.
        fetch.fill(&[1; PAGE]).unwrap();
        let server = Server::start(&rig.inbox, 1, filled(|_| 1)).unwrap();
        remover.join().unwrap();
        assert!(guest.join().unwrap().is_ok());
        assert_eq!(rig.ram.with(0, false, PATIENCE, |bytes| bytes[0]), Ok(0), "round {round}");
        server.stop().unwrap();
    }
}

#[test]
fn a_handler_that_is_held_up_between_reading_a_removal_and_noting_it_lets_nothing_old_in() {
    /// Is held up when it has read one.
    struct HeldUp(SoftRam, Arc<AtomicUsize>);
    impl Events for HeldUp {
        fn next(&self) -> io::Result<Option<Event>> {
            let event = self.0.next()?;
            if let Some(Event::Remove { .. }) = event {
                thread::sleep(Duration::from_millis(100));
                self.1.fetch_add(1, SeqCst);
            }
            Ok(event)
        }
        fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.0.fd()
        }
        fn has_removes(&self) -> bool {
            true
        }
        fn pending(&self) -> io::Result<(u64, u64)> {
            self.0.pending()
        }
        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }
    let ram = SoftRam::with_removes(1, PAGE);
    let removals = Arc::new(AtomicUsize::new(0));
    let inbox = Inbox::new(HeldUp(ram.clone(), Arc::clone(&removals))).unwrap();
    let region = Region::new(ram.clone(), &inbox, 0).unwrap();
    let Fault::Owner(fetch) = region.fault(0) else { panic!() };
    thread::scope(|s| {
        s.spawn(|| until(|| inbox.next().unwrap().is_none() && removals.load(SeqCst) == 1));
        ram.remove(0, 1); // returns as soon as the event is read
        assert_eq!(fetch.fill(&[1; PAGE]).unwrap(), Filled::Zeroes);
    });
}

#[test]
fn a_page_that_is_gone_without_a_word_reads_as_zeroes_and_is_not_asked_for_again_and_again() {
    let rig = Rig::new(1);
    let server = Server::start(&rig.inbox, 1, filled(|_| 1)).unwrap();
    assert_eq!(rig.reader(0).join().unwrap(), Ok(1));
    until(|| !rig.region.state(0).unwrap().owned);
    rig.ram.remove(0, 1); // no event, and the header says "in"
    assert_eq!(rig.writer(0, 7).join().unwrap(), Ok(0));
    assert_eq!(rig.reader(0).join().unwrap(), Ok(7));
    assert_eq!(server.stop().unwrap().faults, 2);
}

#[test]
fn a_discard_of_a_page_that_somebody_owns_is_done_when_that_ends() {
    const PAGES: usize = 2;
    let rig = Rig::new(PAGES);
    let server = Server::start(&rig.inbox, 2, filled(|_| 1)).unwrap();
    let done = AtomicUsize::new(0);
    let left = AtomicUsize::new(0);
    thread::scope(|s| {
        // Pages come and go all the time, but for what the guests' own faults do.
        let (rig, done, left) = (&rig, &done, &left);
        s.spawn(move || {
            while done.load(SeqCst) < PAGES {
                for page in 0..PAGES {
                    if let Ok(evicted) = rig.region.evict(page) {
                        thread::yield_now();
                        drop(evicted); // put back
                    }
                }
            }
        });
        for page in 0..PAGES {
            s.spawn(move || {
                for turn in 0..2000 {
                    rig.ram.with(page, true, PATIENCE, |bytes| bytes[0] = 9).unwrap();
                    let gone = rig.region.discard(page..page + 1);
                    left.fetch_add(gone.left, SeqCst);
                    let read = || rig.ram.with(page, false, PATIENCE, |bytes| bytes[0]).unwrap();
                    assert!(gone.left == 1 || read() == 0, "turn {turn}: {gone:?}");
                    until(|| read() == 0);
                }
                done.fetch_add(1, SeqCst);
            });
        }
    });
    println!("{} of {} discards found an owner", left.load(SeqCst), PAGES * 2000);
    server.stop().unwrap();
}

#[test]
fn what_is_written_after_a_discard_is_done_stays_though_others_discard_by_the_side() {
    let rig = Rig::new(1);
    let server = Server::start(&rig.inbox, 2, filled(|_| 1)).unwrap();
    let over = AtomicUsize::new(0);
    thread::scope(|s| {
        let (rig, over) = (&rig, &over);
        // Owners that find at their end that a discard was asked for, and do it.
        s.spawn(move || {
            while over.load(SeqCst) == 0 {
                drop(rig.region.evict(0));
            }
        });
        s.spawn(move || {
            for turn in 0..5000 {
                until(|| rig.region.discard(0..1).done == 1);
                rig.ram.with(0, true, PATIENCE, |bytes| bytes[0] = 9).unwrap();
                assert_eq!(
                    rig.ram.with(0, false, PATIENCE, |bytes| bytes[0]),
                    Ok(9),
                    "turn {turn}"
                );
            }
            over.store(1, SeqCst);
        });
    });
    server.stop().unwrap();
}

#[test]
fn control_a_removal_that_is_noted_late_lets_old_bytes_back_in() {
    let rig = Rig::with_removes(1);
    let remover = thread::spawn({
        let ram = rig.ram.clone();
        move || ram.remove(0, 1)
    });
    // One handler reads the event, and is held up before it has noted it.
    let Ok(Event::Remove { .. }) = wait_for(|| rig.ram.next().transpose()) else { panic!() };
    remover.join().unwrap();
    // Another one has an older fault in hand.
    let Fault::Owner(fetch) = rig.region.fault(0) else { panic!() };
    assert_eq!(fetch.fill(&[1; PAGE]).unwrap(), Filled::Bytes);
    assert_eq!(rig.ram.with(0, false, PATIENCE, |bytes| bytes[0]), Ok(1), "removed, and back");
}

// 5. "Try again" is tried for ever, or put off for ever.

#[test]
fn a_pool_of_one_thread_serves_a_fault_that_a_removal_stands_in_the_way_of() {
    let rig = Rig::with_removes(2);
    let guest = rig.reader(0);
    let fetch = rig.owner();
    let remover = thread::spawn({
        let ram = rig.ram.clone();
        move || ram.remove(1, 2)
    });
    until(|| {
        rig.ram
            .fill(PAGE, &[0; PAGE], false)
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    });
    let fills = rig.counts.fills();
    // The only thread there is: it must read the removal itself.
    assert_eq!(fetch.fill(&[5; PAGE]).unwrap(), Filled::Bytes);
    assert_eq!(guest.join().unwrap(), Ok(5));
    remover.join().unwrap();
    assert_eq!(rig.region.state(1).unwrap().place, Place::Discarded);
    // After each try that is refused it reads what there is, and then lets the remover run.
    let tries = rig.counts.fills() - fills;
    assert!(tries < 2000, "{tries}");
}

#[test]
fn control_trying_again_without_reading_never_ends() {
    let rig = Rig::with_removes(2);
    let remover = thread::spawn({
        let ram = rig.ram.clone();
        move || ram.remove(1, 2)
    });
    until(|| rig.ram.fill(0, &[0; PAGE], false).is_err());
    for _ in 0..10_000 {
        assert!(rig.ram.fill(0, &[5; PAGE], false).is_err());
    }
    rig.inbox.next().unwrap();
    remover.join().unwrap();
}
