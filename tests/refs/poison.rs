//! Contents that are lost, at every stage of a migration (I25).

use crate::common::sim::Sim;
use crate::common::{watched, with_threads};
use crate::stages::{is_at_rest, live, says};
use FreezeRule::Unpinned;
use pagelock::{FreezeRule, GetError, PageLock, PinError, Wake};

#[test]
fn contents_can_be_lost_at_every_stage() {
    watched(&[], || {
        type Lose = fn(&PageLock);
        const LOSSES: [Lose; 4] = [
            |page| _ = page.lock().poison(),
            |page| _ = page.lock().begin_migration().poison(),
            |page| _ = page.lock().begin_migration().freeze(Unpinned).unwrap().poison(),
            |page| {
                // Twice is once.
                page.lock().poison();
                page.lock().begin_migration().poison();
            },
        ];
        for lose in LOSSES {
            let page = live(2);
            lose(&page);
            assert!(page.is_poisoned());
            is_at_rest(&page, 2, 0);
            assert_eq!(page.try_get().unwrap_err(), GetError::Poisoned);
            assert_eq!(page.try_pin().unwrap_err(), PinError::Poisoned);
            for owner in [None, page.try_lock()] {
                assert_eq!(page.wait_unlocked(()), Wake::Poisoned, "nobody sleeps on it");
                assert_eq!(page.wait_migration(()), Wake::Poisoned);
                assert!(matches!(page.claim(), pagelock::Claim::Poisoned));
                assert!(owner.is_none_or(|o| o.is_poisoned()));
            }
            // For good: there is nothing that another migration could move.
            let busy = page.lock().begin_migration().freeze(Unpinned).unwrap_err();
            assert_eq!((busy.reason().poisoned, busy.reason().frozen), (true, false));
            says(&busy, &["poisoned"]);
            drop(busy);
            assert!(page.is_poisoned());
            is_at_rest(&page, 2, 0);
        }
    });
}

#[test]
fn those_who_slept_when_the_contents_were_lost_find_out() {
    let sim = Sim::new(1);
    let page = PageLock::with_futex(sim);
    with_threads(&[&page], |s| {
        let guard = page.lock();
        let waiter = s.spawn(|| [page.wait_unlocked(()), page.wait_unlocked(())]);
        sim.until_asleep(1);
        assert!(guard.poison().event_waiters);
        assert_eq!(waiter.join().unwrap(), [Wake::Released, Wake::Poisoned]);
    });
}
