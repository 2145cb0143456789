//! The fourteen ways in which published fault servers have failed, each as a promise of this one.
//!
//! Where a check could be blind, a *control* follows it: a server that is wrong in just that way,
//! and the same check, which must see it.

mod common;

use common::{CONTROL, PAGE, PATIENCE, Rig, filled, until};
use pagelock::{Claim, PageLock};
use pagelock_vmm::soft::{Failed, SoftRam};
use pagelock_vmm::{
    Event, Events, Fault, Fetch, Filled, Inbox, Layer, NotEvicted, NotPinned, Place, Region, Server, Settings, TakenOver, Wants,
};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

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
                let (inbox, count, ram) = (Arc::clone(&rig.inbox), Arc::clone(&fetches), rig.ram.clone());
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
    struct HeldUp(SoftRam);
    impl Events for HeldUp {
        fn next(&self) -> io::Result<Option<Event>> {
            let event = self.0.next()?;
            if let Some(Event::Remove { .. }) = event {
                thread::sleep(Duration::from_millis(100));
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
    let inbox = Inbox::new(HeldUp(ram.clone())).unwrap();
    let region = Region::new(ram.clone(), &inbox, 0).unwrap();
    let Fault::Owner(fetch) = region.fault(0) else { panic!() };
    thread::scope(|s| {
        // The handler: until it has noted the removal, by which the page is awaited.
        s.spawn(|| until(|| inbox.next().unwrap().is_none() && region.state(0).unwrap().awaited));
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
    until(|| rig.ram.fill(PAGE, &[0; PAGE], false).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
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

// 6. Something is unlocked twice: that does not compile, since a guard is used up by its end.

// See `Fetch`. And a release releases once:

#[test]
fn a_guard_ends_once() {
    let rig = Rig::new(1);
    rig.bring_in(0, 1);
    let generation = rig.region.header(0).unwrap().generation();
    rig.region.evict(0).unwrap().done();
    assert_eq!(rig.region.header(0).unwrap().generation(), generation.wrapping_add(1));
}

// 7. Somebody sleeps where he must not. 8. Somebody waits for what he has himself.

#[test]
fn no_verb_sleeps_for_a_page_not_even_for_the_callers_own() {
    let rig = Rig::new(2);
    let Fault::Owner(mine) = rig.region.fault(0) else { panic!() };
    // All of this in the thread that owns page 0: it returns, and says so.
    assert!(matches!(rig.region.fault(0), Fault::InFlight));
    assert!(matches!(rig.region.write_fault(0), pagelock_vmm::Claimed::InFlight));
    assert_eq!(rig.region.prefetch(0..1).count(), 0);
    assert!(matches!(rig.region.evict(0), Err(NotEvicted::Owned)));
    assert!(matches!(rig.region.clean(0), Err(NotEvicted::Owned)));
    assert_eq!(rig.region.pin(0).unwrap_err(), NotPinned::Out);
    assert_eq!(rig.region.discard(0..1).left, 1);
    assert_eq!(rig.region.states(0..2).filter(|(_, state)| state.owned).count(), 1);
    drop(mine);
    assert_eq!(rig.region.state(0).unwrap().place, Place::Discarded);
    rig.bring_in(1, 1);
    let evicting = rig.region.evict(1).unwrap();
    assert!(matches!(rig.region.evict(1), Err(NotEvicted::Owned)));
    assert_eq!(rig.region.pin(1).unwrap_err(), NotPinned::Leaving);
    drop(evicting);
}

// 9. A page that a device uses is changed or moved.

#[test]
fn a_pinned_page_is_not_evicted_discarded_or_protected() {
    let rig = Rig::new(1);
    assert_eq!(rig.region.pin(0).unwrap_err(), NotPinned::Out, "what is out cannot be pinned");
    rig.bring_in(0, 1);
    let (first, second) = (rig.region.pin(0).unwrap(), rig.region.pin(0).unwrap());
    let is_kept = |pins| {
        assert!(matches!(rig.region.evict(0), Err(NotEvicted::Pinned(n)) if n == pins));
        assert!(matches!(rig.region.clean(0), Err(NotEvicted::Pinned(n)) if n == pins));
        assert_eq!(rig.region.discard(0..1).pinned, 1);
        assert!(rig.ram.is_there(0));
    };
    is_kept(2);
    thread::spawn(move || drop(second)).join().unwrap();
    is_kept(1);
    drop(first);
    rig.region.evict(0).unwrap().done();
    assert_eq!(rig.region.pin(0).unwrap_err(), NotPinned::Out);
}

#[test]
fn a_device_and_an_evictor_never_have_a_page_at_once() {
    let rig = Rig::new(4);
    let server = Server::start(&rig.inbox, 2, filled(|_| 1)).unwrap();
    let devices: Vec<_> = (0..2)
        .map(|_| {
            let (region, ram) = (Arc::clone(&rig.region), rig.ram.clone());
            thread::spawn(move || {
                for n in 0..2000 {
                    let page = n % 4;
                    let pin = region.pin_or_fetch(page, |fetch| Ok(fetch.fill(&[1; PAGE]).map(drop)?)).unwrap();
                    assert!(ram.is_there(page), "pinned, and gone");
                    thread::yield_now();
                    assert!(ram.is_there(page), "gone under the pin");
                    drop(pin);
                }
            })
        })
        .collect();
    let mut evicted = 0;
    while !devices.iter().all(|device| device.is_finished()) {
        for page in 0..4 {
            evicted += rig.region.evict(page).map(pagelock_vmm::Evict::done).is_ok() as u32;
        }
    }
    devices.into_iter().for_each(|device| device.join().unwrap());
    assert!(evicted > 0);
    server.stop().unwrap();
}

#[test]
fn control_without_the_pin_the_page_goes_under_the_device() {
    let rig = Rig::new(1);
    rig.bring_in(0, 1);
    assert!(rig.ram.is_there(0)); // a device has looked, and begins
    rig.region.evict(0).unwrap().done();
    assert!(!rig.ram.is_there(0));
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
    // One message each; a second one for whoever was woken by two releases at once.
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

// 12. The owner dies.

#[test]
fn however_an_owner_ends_its_own_faulter_and_all_who_came_meanwhile_are_told() {
    type End = fn(Fetch);
    let ends: [(&str, End); 6] = [
        ("done", |fetch| _ = fetch.fill(&[7; PAGE]).unwrap()),
        ("an error", |fetch| {
            let failed: io::Result<()> = (|| {
                let _fetch = fetch;
                Err(io::ErrorKind::ConnectionReset)?;
                Ok(())
            })();
            failed.unwrap_err();
        }),
        ("not a page", |fetch| _ = fetch.fill(&[7; 5]).unwrap_err()),
        ("a panic", |fetch| {
            let thread = thread::spawn(move || {
                let _fetch = fetch;
                panic!("the store is broken, as this test wants it");
            });
            thread.join().unwrap_err();
        }),
        ("a dropped task", |fetch| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
            let task = runtime.spawn(async move {
                let _fetch = fetch;
                std::future::pending::<()>().await;
            });
            task.abort();
            let _ = runtime.block_on(task);
        }),
        ("a time-out", |fetch| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
            runtime
                .block_on(async {
                    let never = async move {
                        let _fetch = fetch;
                        std::future::pending::<()>().await;
                    };
                    tokio::time::timeout(Duration::from_millis(5), never).await
                })
                .unwrap_err();
        }),
    ];
    for (how, end) in ends {
        let rig = Rig::new(1);
        let (first, second) = (rig.reader(0), rig.reader(0));
        let fetch = rig.owner();
        assert!(matches!(rig.region.fault(rig.arrived().page), Fault::InFlight));
        end(fetch);
        assert!(!rig.region.state(0).unwrap().owned, "{how}");
        // Whoever was told faults again, if the page did not come, and a server that works helps.
        let server = Server::start(&rig.inbox, 1, filled(|_| 7)).unwrap();
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (Ok(7), Ok(7)), "{how}");
        server.stop().unwrap();
    }
}

#[test]
fn control_an_owner_that_drops_a_bare_claim_strands_its_faulter() {
    let rig = Rig::new(1);
    let guest = rig.reader_for(0, CONTROL);
    let page = rig.arrived().page;
    // The core's claim without "told": what the guard's end does not do by itself.
    let Claim::Owner(guard) = rig.region.header(page).unwrap().claim() else { panic!() };
    drop(guard);
    assert_eq!(guest.join().unwrap(), Err(Failed::Stranded));
}

#[test]
fn an_owner_that_is_gone_without_an_end_is_in_the_report() {
    let rig = Rig::new(4);
    let guest = rig.reader(2);
    let fetch = rig.owner();
    fetch.note("reading block 17");
    std::mem::forget(fetch);
    let _ = rig.reader_for(2, CONTROL);
    let server = Server::start(&rig.inbox, 1, filled(|_| 9)).unwrap();
    until(|| rig.region.state(2).unwrap().awaited);
    until(|| !rig.region.report(Duration::ZERO).held[0].waiters.is_empty());
    let report = rig.region.report(Duration::ZERO).to_string();
    for part in ["page 2 (guest 0x100002000)", "Out", "fetch for", "\"reading block 17\"", "wait", "faulters sleep"] {
        assert!(report.contains(part), "{part} is not in:\n{report}");
    }
    assert!(rig.region.report(Duration::from_secs(3600)).held.is_empty());
    // SAFETY: the owner is gone, and nobody else acts for it.
    assert_eq!(unsafe { rig.region.take_over(2) }, TakenOver::Released);
    assert_eq!(guest.join().unwrap(), Ok(9));
    server.stop().unwrap();
}

#[test]
fn an_eviction_that_is_leaked_loses_its_page_and_a_cleaning_does_not() {
    let rig = Rig::new(2);
    rig.bring_in(0, 1);
    rig.bring_in(1, 1);
    std::mem::forget(rig.region.evict(0).unwrap());
    std::mem::forget(rig.region.clean(1).unwrap());
    let guests = [rig.reader(0), rig.reader(1)];
    let server = Server::start(&rig.inbox, 1, filled(|_| 2)).unwrap();
    // SAFETY: the owners are gone, and nobody else acts for them.
    let taken = [0, 1, 1].map(|page| unsafe { rig.region.take_over(page) });
    assert_eq!(taken, [TakenOver::Lost, TakenOver::Released, TakenOver::NotOwned]);
    // Not the zeroes of a page that is gone, and not the store's old bytes.
    assert_eq!(guests.map(|guest| guest.join().unwrap()), [Err(Failed::Poisoned), Ok(1)]);
    assert!(rig.region.report(Duration::ZERO).held.is_empty() && rig.region.pin(1).is_ok());
    server.stop().unwrap();
}

#[test]
fn a_store_that_fails_is_tried_again_and_in_the_end_the_page_is_lost() {
    let rig = Rig::new(2);
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let store = move |fetch: &Fetch, into: &mut [u8]| match (fetch.page(), count.fetch_add(1, SeqCst)) {
        (0, 0) => Err(io::ErrorKind::TimedOut.into()),
        (0, 1) => panic!("as this test wants it"),
        (0, _) => {
            into.fill(4);
            Ok(())
        }
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let server = Server::with(&rig.inbox, Settings::threads(2).attempts(3), store).unwrap();
    assert_eq!(rig.reader(0).join().unwrap(), Ok(4));
    assert_eq!(rig.reader(1).join().unwrap(), Err(Failed::Poisoned));
    let served = server.stop().unwrap();
    assert_eq!((served.fetched, served.failed, served.lost), (1, 5, 1));
    assert!(rig.region.state(1).unwrap().poisoned);
}

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
                    assert_eq!(ram.with(page, n % 2 == 0, PATIENCE, |bytes| bytes[0]), Ok(page as u8));
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

fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < end);
        thread::sleep(Duration::from_micros(100));
    }
}
