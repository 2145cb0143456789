//! Batches of references, one for each processor: what a drain promises (I26), and that it waits
//! for no thread that waits for the drainer (I30, failure class L13).

use crate::batches::{Threads, batches, nothing, on};
use crate::common::own::Own;
use crate::common::{rounds, watched, with_threads};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use pagelock::mm::drain::{Batches, Unlocked};
use pagelock::{PageLock, Put};

/// The drainer empties its own batch first, without waiting, and asks nobody twice for one drain.
#[test]
fn the_own_batch_is_emptied_first_and_by_itself() {
    let unlocked = &mut Unlocked::promise();
    let own = Own::new(1);
    let threads = Threads::new(3, false);
    let all = Batches::new(&threads, own, batches(own, 3));
    for cpu in 0..3 {
        on(cpu);
        assert!(all.add(10 + cpu as u64, |_| ()));
    }
    on(1);
    let mut order = Vec::new();
    all.drain_all(unlocked, |pfn| order.push(pfn));
    assert_eq!(order, [11, 10, 12]);
    assert_eq!(*threads.order.lock().unwrap(), [0, 2]);
}

/// I26: what was in a batch before the drain began is in none when it ends, while others add and
/// drain all the time.
#[test]
fn after_a_drain_no_batch_has_what_it_had_before() {
    let unlocked = &mut Unlocked::promise();
    let own = Own::new(16);
    let threads = Threads::new(4, false);
    let all = Batches::new(&threads, own, batches(own, 4));
    let pages: Vec<PageLock<Own>> = (0..64).map(|_| PageLock::with_futex(own)).collect();
    pages.iter().for_each(|page| page.activate(1).unwrap());
    // SAFETY: called by a batch with what it was given, which is a reference.
    let put = |pfn: u64| assert_eq!(unsafe { pages[pfn as usize].put_raw() }, Put::Kept);
    let adds = AtomicU32::new(0);
    with_threads(&[&pages], |s| {
        for cpu in 0..4 {
            let (all, pages, adds, put) = (&all, &pages, &adds, &put);
            s.spawn(move || {
                let unlocked = &mut Unlocked::promise();
                on(cpu);
                for turn in 0..rounds(3000) {
                    // This thread's pages are nobody else's, so it knows how many references
                    // they have.
                    let pfn = cpu * 16 + turn % 16;
                    pages[pfn].try_get().unwrap().into_raw();
                    if !all.add(pfn as u64, put) {
                        put(pfn as u64);
                    }
                    adds.fetch_add(1, SeqCst);
                    if turn % 7 == 0 {
                        // From another processor than the one whose batch has them.
                        on((cpu + 1) % 4);
                        all.drain_all(unlocked, put);
                        for page in &pages[cpu * 16..][..16] {
                            assert_eq!(page.refs(), 1, "a reference from before the drain");
                        }
                        on(cpu);
                    }
                }
            });
        }
    });
    all.drain_all(unlocked, put);
    assert!(pages.iter().all(|page| page.refs() == 1));
}

/// Processors that empty their batches themselves, when they are kicked: the drainer sleeps until
/// they have.
#[test]
fn a_kicked_processor_is_waited_for() {
    let own = Own::new(1);
    let threads = Threads::new(2, true);
    let all = Batches::new(&threads, own, batches(own, 2));
    on(1);
    assert!(all.add(7, |_| ()));
    let emptied = AtomicUsize::new(0);
    with_threads(&[], |s| {
        s.spawn(|| {
            let unlocked = &mut Unlocked::promise();
            on(0);
            all.drain_all(unlocked, |_| panic!("only its own processor may"));
            assert_eq!(emptied.load(SeqCst), 1, "not before it is empty");
        });
        own.until_asleep(1);
        assert!(threads.kicked[1].load(SeqCst));
        all.run(1, |pfn| {
            assert_eq!(pfn, 7);
            emptied.fetch_add(1, SeqCst);
        });
    });
}

/// Two drains at a time: the one that began first may be done by the other's work, but not by work
/// from before it began.
#[test]
fn a_drain_counts_for_those_who_asked_before_it_and_no_others() {
    let own = Own::new(1);
    let threads = Threads::new(2, true);
    let all = Batches::new(&threads, own, batches(own, 2));
    with_threads(&[], |s| {
        let drain = || {
            s.spawn(|| {
                let unlocked = &mut Unlocked::promise();
                on(0);
                all.drain_all(unlocked, |_| ());
            })
        };
        let (one, two) = (drain(), drain());
        own.until_asleep(2);
        all.run(1, |_| ());
        one.join().unwrap();
        two.join().unwrap();
        // That run was before this drain.
        let three = drain();
        own.until_asleep(1);
        assert!(!three.is_finished());
        all.run(1, |_| ());
        three.join().unwrap();
    });
}

/// The livelock that this crate began with, with the parts it was made of: a page with two
/// mappings; a drain that waits for processor 1; and on processor 1 a thread that faults on the
/// other mapping and serves drains only in between. It does get there, because nothing is locked
/// while the drainer waits, and because a faulter waits for the page and not for luck.
#[test]
fn a_drain_gets_past_a_processor_that_faults_on_the_same_page() {
    use pagelock::mm::migrate::{Mode, Order, Slot, migrate};
    use pagelock_soft::{Config, Kind, Soft, TierConfig, TierId};

    let own = Own::new(16);
    let threads: &'static Threads = Box::leak(Box::new(Threads::new(2, true)));
    let tier = |kind| TierConfig { kind, frames: 64 };
    let tiers = vec![tier(Kind::System), tier(Kind::Device { owner: 1 })];
    let mm =
        Soft::on(own, threads, Config { page_size: 64, pages: 8, spaces: 4, tiers, batches: 2 });
    let (parent, stop) = (mm.spawn().unwrap(), AtomicBool::new(false));
    mm.map(parent.page(0), 4).unwrap();
    with_threads(&[], |s| {
        on(1);
        for at in parent.page(0).pages(4) {
            mm.write(at, 0, &[1]).unwrap();
        }
        let child = mm.fork(parent).unwrap();
        let (mm, stop) = (&mm, &stop);
        s.spawn(move || {
            on(1);
            while !stop.load(SeqCst) {
                for at in child.page(0).pages(4) {
                    mm.read(at, 0, &mut [0]).unwrap();
                }
                if threads.kicked[1].swap(false, SeqCst) {
                    mm.run_batch(1);
                }
            }
        });
        s.spawn(move || {
            let unlocked = &mut Unlocked::promise();
            on(0);
            let mut drains = 0;
            for turn in 0..rounds(200) {
                // Device and ordinary pages in one call, as it was.
                let mut slots: Vec<_> = parent.page(0).pages(4).map(Slot::at).collect();
                let order = Order::to(TierId((turn + 1) % 2)).mode(Mode::SyncLight).tries(3);
                drains += migrate(mm, &mut slots, &order, mm, unlocked).drains;
            }
            assert!(drains > 0, "nothing was waited for");
            stop.store(true, SeqCst);
        });
    });
    on(1);
    mm.run_batch(1);
    mm.audit().unwrap();
}

/// A page in processor 1's batch, on which processor 0 faults. The fault has the batch emptied and
/// waits for nobody, for it may have come in the middle of anything: here, while its thread owns
/// another page. A batch out of reach is one more try for later.
#[test]
fn a_fault_has_batches_emptied_and_waits_for_nobody() {
    use pagelock::mm::ledger::{Change, Owner};
    use pagelock::mm::migrate::{Order, Slot, migrate};
    use pagelock::mm::{Access, Fault, Faulter, Memory, Strategy, Why};
    use pagelock_soft::{Config, Kind, Soft, TierConfig, TierId};

    for remote in [false, true] {
        let own = Own::new(16);
        let threads: &'static Threads = Box::leak(Box::new(Threads::new(2, remote)));
        let tier = |kind| TierConfig { kind, frames: 64 };
        let tiers = vec![tier(Kind::System), tier(Kind::Device { owner: 1 })];
        let mm = Soft::on(
            own,
            threads,
            Config { page_size: 64, pages: 8, spaces: 4, tiers, batches: 2 },
        );
        on(0);
        let [at, other] = [0, 1].map(|n| mm.spawn().unwrap().page(n));
        for at in [at, other] {
            mm.map(at, 1).unwrap();
            mm.write(at, 0, &[7]).unwrap();
        }
        let order = Order::to(TierId(1)).tries(1);
        assert_eq!(
            migrate(&mm, &mut [Slot::at(at)], &order, &mm, &mut Unlocked::promise()).done,
            1
        );
        let pfn = mm.frame_at(at).unwrap();
        mm.page(pfn).unwrap().try_get().unwrap().into_raw();
        mm.account(pfn, Owner::Batch, Change::Taken);
        on(1);
        assert!(mm.batches().add(pfn, |_| panic!("there is room")));
        on(0);
        watched(&[], || {
            let owned = mm.page(mm.frame_at(other).unwrap()).unwrap().lock();
            let fault = || mm.fault(at, Access::Read, &mut Faulter::new(Strategy::Wait)).unwrap();
            assert_eq!(fault(), Fault::Retry(Why::Busy));
            assert!(threads.order.lock().unwrap().contains(&1), "nobody was asked");
            assert_eq!(
                mm.page(pfn).unwrap().refs(),
                1 + u32::from(remote),
                "in reach, and not emptied"
            );
            if remote {
                assert!(threads.kicked[1].swap(false, SeqCst));
                assert_eq!(fault(), Fault::Retry(Why::Busy));
                assert!(threads.kicked[1].load(SeqCst), "asked again");
                mm.run_batch(1);
            }
            assert_eq!(fault(), Fault::Resolved);
            drop(owned);
        });
        let mut byte = [0];
        mm.read(at, 0, &mut byte).unwrap();
        assert_eq!(byte, [7]);
        mm.audit().unwrap();
    }
}

/// The asker may be using its own batch, or hold the lock that another batch's user wants.
#[test]
fn asking_waits_for_no_batch_that_is_in_use() {
    let own = Own::new(1);
    let threads = Threads::new(2, false);
    let all = Batches::new(&threads, own, batches(own, 2));
    let put = AtomicUsize::new(0);
    let count = |_| {
        put.fetch_add(1, SeqCst);
    };
    on(1);
    assert!(all.add(1, nothing));
    on(0);
    assert!(all.add(0, nothing));
    watched(&[], || {
        all.drain_local(|_| {
            put.fetch_add(1, SeqCst);
            all.ask_all(count);
            assert_eq!(
                put.load(SeqCst),
                2,
                "the other one is emptied, and this one left to its user"
            );
        });
    });
    assert_eq!((all.count(0, nothing), all.count(1, nothing)), (0, 0));
    // Both were let go of.
    assert!(all.add(0, nothing));
    on(1);
    assert!(all.add(1, nothing));
}
