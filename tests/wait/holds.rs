//! Which hold a wait waits for: the next one anew, a migration's own, or one kept for a sleeper
//! (I9, I27).

use crate::common::page_on;
use crate::common::sim::Sim;
use crate::common::{watched, with_threads};
use crate::ptl::text;
use pagelock::{FreezeRule, Migration, PageLock, Wake};

#[test]
fn the_next_hold_has_to_be_waited_for_anew() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        let waiter =
            s.spawn(|| [page.wait_unlocked(()), page.wait_unlocked(()), page.wait_unlocked(())]);
        sim.until_asleep(1);
        let mut guard = Some(guard);
        for _ in 0..2 {
            sim.hold();
            assert!(guard.take().unwrap().unlock().event_waiters, "the flag is set for every wait");
            // Before the waiter runs there is another owner, as after a migration at once by
            // the next.
            guard = page.try_lock();
            assert!(!text(page).contains("awaited"), "the flag is for one release: {page:?}");
            sim.resume();
            sim.until_asleep(1);
        }
        drop(guard);
        assert_eq!(waiter.join().unwrap(), [Wake::Released; 3]);
    });
}

#[test]
fn a_wait_for_migration_ignores_other_holds() {
    watched(&[], || {
        let sim = Sim::new(1);
        let page = page_on(sim);
        let guard = page.lock();
        let before = text(page);
        assert_eq!(page.wait_migration(()), Wake::NotLocked);
        assert_eq!(text(page), before, "the owner has nobody to tell");
        let migration = guard.begin_migration();
        assert!(page.is_migrating());
        let guard = migration.cancel();
        assert!(!page.is_migrating());
        assert_eq!(page.wait_migration(()), Wake::NotLocked);
        drop(guard);
    });
}

/// `cancel` ends a migration and keeps the lock, perhaps for long. A waiter for the migration
/// does not wait for that.
#[test]
fn a_wait_for_migration_ends_with_the_migration_and_not_with_the_hold() {
    on_a_page!(|s, sim, page| {
        let migration = page.lock().begin_migration();
        s.spawn(|| page.wait_migration(()));
        sim.until_asleep(1);
        let guard = migration.cancel();
        let asleep = sim.asleep();
        drop(guard);
        assert_eq!(asleep, 0, "the migration is over and they are asleep");
    });
}

#[test]
fn a_page_that_is_kept_for_a_sleeper_is_waited_for_until_its_next_release() {
    on_a_page!(|s, sim, page| {
        let guard = page.lock();
        let sleeper = s.spawn(|| page.lock().unlock().event_waiters);
        sim.until_asleep(1);
        sim.hold();
        guard.unlock_fair();
        let waiter = s.spawn(|| page.wait_unlocked(()));
        sim.until_asleep(1);
        sim.resume();
        assert!(sleeper.join().unwrap(), "the sleeper has somebody to tell");
        assert_eq!(waiter.join().unwrap(), Wake::Released);
    });
}

/// Ends a migration in one of the ways there are.
type End = fn(Migration<'_, Sim<true>>);

const ENDS: [(&str, End); 9] = [
    ("committed in place", |m| _ = m.freeze(FreezeRule::ExactRefs(1)).unwrap().commit_in_place()),
    ("committed to another header", |m| {
        let dst = PageLock::with_futex(Sim::with_classes(1));
        _ = m.freeze(FreezeRule::ExactRefs(1)).unwrap().commit_to(dst.lock()).unwrap();
    }),
    ("aborted", |m| _ = m.abort()),
    ("aborted when frozen", |m| _ = m.freeze(FreezeRule::Unpinned).unwrap().abort()),
    ("refused and dropped", |m| drop(m.freeze(FreezeRule::ExactRefs(7)).unwrap_err())),
    ("dropped", |m| drop(m)),
    ("dropped when frozen", |m| drop(m.freeze(FreezeRule::Unpinned).unwrap())),
    ("cancelled and unlocked", |m| drop(m.cancel())),
    ("poisoned", |m| _ = m.poison()),
];

#[test]
fn however_a_migration_ends_it_wakes_the_same_set() {
    for (how, end) in ENDS {
        for sleepers in [1, 2, 8, 20] {
            let sim = Sim::with_classes(1);
            let page = page_on(sim);
            page.activate(1).unwrap();
            with_threads(&[page], |s| {
                let migration = page.lock().begin_migration();
                let waiters: Vec<_> = (0..sleepers)
                    .map(|n| {
                        s.spawn(move || {
                            if n % 2 == 0 {
                                page.wait_migration(())
                            } else {
                                page.wait_unlocked(())
                            }
                        })
                    })
                    .collect();
                sim.until_asleep(sleepers);
                end(migration);
                for waiter in waiters {
                    assert_eq!(waiter.join().unwrap(), Wake::Released, "{how}");
                }
            });
            assert!(
                !page.is_locked() && !page.is_migrating() && !page.is_frozen(),
                "{how}: {page:?}"
            );
        }
    }
}
