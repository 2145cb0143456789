//! Everybody gets on.

use super::*;

// 13. Faulters keep each other from the page.

#[test]
fn faulters_evictors_and_prefetchers_of_a_few_pages_all_get_on() {
    const PAGES: usize = 3;
    let rig = Rig::new(PAGES);
    let server = Server::start(&rig.inbox, 3, filled(|page| page as u8)).unwrap();
    let guests: Vec<_> = (0..4)
        .map(|guest| {
            let ram = rig.ram.clone();
            thread::spawn(move || {
                for n in 0..2000 {
                    let page = (n + guest) % PAGES;
                    assert_eq!(
                        ram.with(page, n % 2 == 0, PATIENCE, |bytes| bytes[0]),
                        Ok(page as u8)
                    );
                }
            })
        })
        .collect();
    while !guests.iter().all(|guest| guest.is_finished()) {
        for page in 0..PAGES {
            if let Ok(evicted) = rig.region.evict(page) {
                assert_eq!(evicted.bytes()[1], page as u8);
                evicted.done();
            }
        }
        for fetch in rig.region.prefetch(0..PAGES) {
            let bytes = [fetch.page() as u8; PAGE];
            fetch.fill(&bytes).unwrap();
        }
    }
    guests.into_iter().for_each(|guest| guest.join().unwrap());
    server.stop().unwrap();
}

// 14. A waiter that finds the next owner does not say again that it waits.

#[test]
fn a_faulter_that_finds_one_owner_after_the_other_is_told_by_each() {
    let rig = Rig::new(1);
    let guest = rig.reader(0);
    let mut owner = rig.owner();
    for _ in 0..100 {
        // It is told, faults again, and finds the next owner before it has the page.
        drop(owner);
        owner = rig.region.prefetch(0..1).next().unwrap();
        assert!(matches!(rig.region.fault(rig.arrived().page), Fault::InFlight));
    }
    owner.fill(&[6; PAGE]).unwrap();
    assert_eq!(guest.join().unwrap(), Ok(6));
}

#[test]
fn control_a_flag_that_is_set_once_serves_one_release() {
    // What the header does: the flag goes with the release. So a server that remembered "has
    // registered" and did not claim again would wait in vain.
    let page = PageLock::new();
    let guard = page.lock();
    assert!(matches!(page.claim(), Claim::InFlight));
    assert!(guard.unlock().event_waiters);
    assert!(!page.lock().unlock().event_waiters);
}
