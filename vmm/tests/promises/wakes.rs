//! Who is woken, and how often.

use super::*;

// 1. A wake is lost because a page is there already, or because the faulter came late.

#[test]
fn a_fault_on_a_page_that_is_there_already_is_woken() {
    let rig = Rig::new(1);
    let guest = rig.reader(0);
    let fetch = rig.owner();
    // The page has come by a way that the header does not know, and nobody was woken.
    rig.ram.fill_unheard(0, &[7; PAGE]);
    assert_eq!(fetch.fill(&[8; PAGE]).unwrap(), Filled::There);
    assert_eq!(guest.join().unwrap(), Ok(7));
    // And one that the header knows of.
    let wakes = rig.counts.wakes();
    assert!(matches!(rig.region.fault(0), Fault::Present));
    assert_eq!(rig.counts.wakes(), wakes + 1);
}

#[test]
fn a_fault_that_is_read_while_the_page_is_fetched_is_woken_by_the_owner() {
    let rig = Rig::new(1);
    let first = rig.reader(0);
    let fetch = rig.owner();
    let second = rig.reader(0);
    assert!(matches!(rig.region.fault(rig.arrived().page), Fault::InFlight));
    fetch.fill(&[3; PAGE]).unwrap();
    assert_eq!((first.join().unwrap(), second.join().unwrap()), (Ok(3), Ok(3)));
}

#[test]
fn control_a_server_that_takes_there_already_for_done_strands_the_guest() {
    let rig = Rig::new(1);
    let guest = rig.reader_for(0, CONTROL);
    let page = rig.arrived().page;
    rig.ram.fill_unheard(page, &[7; PAGE]);
    assert!(!rig.ram.fill(page * PAGE, &[8; PAGE], false).unwrap()); // "exists": done, it thinks
    assert_eq!(guest.join().unwrap(), Err(Failed::Stranded));
}

// 2. Each faulter of a page has it fetched.

/// Several guests fault on each of several pages; how many fetches there were.
fn fetches_of_a_storm(tracked: bool) -> usize {
    const PAGES: usize = 16;
    let rig = Rig::new(PAGES);
    let fetches = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(Barrier::new(4));
    let guests: Vec<_> = (0..4)
        .map(|_| {
            let (ram, barrier) = (rig.ram.clone(), Arc::clone(&barrier));
            thread::spawn(move || {
                for page in 0..PAGES {
                    barrier.wait();
                    assert_eq!(ram.with(page, false, PATIENCE, |bytes| bytes[0]), Ok(page as u8));
                }
            })
        })
        .collect();
    let slow = Duration::from_millis(2);
    if tracked {
        let count = Arc::clone(&fetches);
        let server = Server::start(&rig.inbox, 4, move |fetch: &Fetch, into: &mut [u8]| {
            count.fetch_add(1, SeqCst);
            thread::sleep(slow);
            into.fill(fetch.page() as u8);
            Ok(())
        });
        guests.into_iter().for_each(|guest| guest.join().unwrap());
        assert_eq!(server.unwrap().stop().unwrap().fetched, PAGES as u64);
    } else {
        let handlers: Vec<_> = (0..4)
            .map(|_| {
                let (inbox, count, ram) =
                    (Arc::clone(&rig.inbox), Arc::clone(&fetches), rig.ram.clone());
                thread::spawn(move || {
                    while !ram.is_there(PAGES - 1) {
                        let Some(arrived) = inbox.next().unwrap() else {
                            thread::sleep(Duration::from_micros(100));
                            continue;
                        };
                        count.fetch_add(1, SeqCst);
                        thread::sleep(slow);
                        ram.fill(arrived.page * PAGE, &[arrived.page as u8; PAGE], false).unwrap();
                        ram.wake(arrived.page * PAGE);
                    }
                })
            })
            .collect();
        handlers.into_iter().for_each(|handler| handler.join().unwrap());
        guests.into_iter().for_each(|guest| guest.join().unwrap());
    }
    fetches.load(SeqCst)
}

#[test]
fn a_page_is_fetched_once_however_many_fault_on_it() {
    assert_eq!(fetches_of_a_storm(true), 16);
}

#[test]
fn control_without_tracking_a_page_is_fetched_by_each_faulter() {
    assert!(fetches_of_a_storm(false) > 16);
}

// 10. Everybody is woken, and all but one in vain.

#[test]
fn a_release_wakes_for_its_own_page_and_only_if_somebody_waits() {
    let rig = Rig::new(512);
    // Passed over by a prefetcher and a discard's look, pages are not "awaited".
    let owned: Vec<_> = rig.region.prefetch(0..512).step_by(2).collect();
    assert_eq!(rig.region.prefetch(0..512).count(), 256);
    let wakes = rig.counts.wakes();
    drop(owned);
    assert_eq!(rig.counts.wakes(), wakes, "owners told although nobody had asked");
    // One waits for one page: one wake, when 100 others are released.
    let owned: Vec<_> = rig.region.prefetch(0..100).collect();
    assert!(matches!(rig.region.fault(42), Fault::InFlight));
    assert!(rig.region.state(42).unwrap().awaited && !rig.region.state(41).unwrap().awaited);
    drop(owned);
    assert_eq!(rig.counts.wakes(), wakes + 1);
}

#[test]
fn control_asking_for_busy_pages_makes_their_owners_tell() {
    let rig = Rig::new(8);
    let owned: Vec<_> = rig.region.prefetch(0..8).collect();
    for page in 0..8 {
        let _ = rig.region.fault(page); // what a prefetcher by `claim` would do
    }
    drop(owned);
    assert_eq!(rig.counts.wakes(), 8);
}

// 11. Somebody spins for the length of an I/O.

#[test]
fn who_waits_for_a_slow_store_faults_once() {
    let rig = Rig::new(1);
    let server = Server::start(&rig.inbox, 2, |_: &Fetch, into: &mut [u8]| {
        thread::sleep(Duration::from_millis(50));
        into.fill(1);
        Ok(())
    })
    .unwrap();
    let guests: Vec<_> = (0..4).map(|_| rig.reader(0)).collect();
    guests.into_iter().for_each(|guest| assert_eq!(guest.join().unwrap(), Ok(1)));
    // One message each; a second one for a guest that was woken by two releases at once.
    assert!(server.stop().unwrap().faults <= 8);
}

#[test]
fn control_a_server_that_says_try_again_has_the_guest_spin() {
    let rig = Rig::new(1);
    let owner = rig.region.prefetch(0..1).next().unwrap();
    let guest = rig.reader(0);
    for _ in 0..1000 {
        let _ = rig.arrived();
        rig.ram.wake(0);
    }
    owner.fill(&[1; PAGE]).unwrap();
    guest.join().unwrap().unwrap();
}
