//! Owners, and how they end.

use super::*;

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
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
            let task = runtime.spawn(async move {
                let _fetch = fetch;
                std::future::pending::<()>().await;
            });
            task.abort();
            let _ = runtime.block_on(task);
        }),
        ("a time-out", |fetch| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_time()
                .build()
                .unwrap();
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
        // A guest that was told faults again, if the page did not come, and a server that works
        // helps.
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
    for part in [
        "page 2 (guest 0x100002000)",
        "Out",
        "fetch for",
        "\"reading block 17\"",
        "wait",
        "faulters sleep",
    ] {
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
    let store =
        move |fetch: &Fetch, into: &mut [u8]| match (fetch.page(), count.fetch_add(1, SeqCst)) {
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
