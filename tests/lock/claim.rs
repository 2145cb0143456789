//! The claim that never sleeps, for servers whose faulters already sleep elsewhere (failure classes
//! L1, L2, L14).

use crate::common::{
    page_on, rounds,
    sim::{Call, Sim},
    watched, with_threads,
};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use pagelock::futex::Adapt;
use pagelock::{Claim, FreezeRule, OsFutex, PageGuard, PageLock, Wake};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::thread;

#[test]
fn a_free_page_is_claimed() {
    let page = PageLock::new();
    let Claim::Owner(guard) = page.claim() else { panic!("{page:?}") };
    assert!(page.is_locked());
    assert!(!guard.unlock().event_waiters, "nobody else asked");
}

#[test]
fn a_page_in_flight_is_not_slept_for_and_its_release_tells() {
    let sim = Sim::new(1);
    let page = PageLock::with_futex(sim);
    let guard = page.lock();
    assert!(matches!(page.claim(), Claim::InFlight));
    assert!(matches!(page.claim(), Claim::InFlight));
    assert_eq!(sim.slept(), 0);
    assert!(guard.unlock().event_waiters);
    let tells = sim.calls().into_iter().filter(|c| matches!(c, Call::Tell { .. })).count();
    assert_eq!(tells, 1, "once, however many asked");
}

#[test]
fn a_claim_is_for_one_release() {
    watched(&[], || {
        let page = PageLock::new();
        let guard = page.lock();
        assert!(matches!(page.claim(), Claim::InFlight));
        assert!(guard.unlock().event_waiters);
        assert!(!page.lock().unlock().event_waiters, "nobody has asked again");
        let guard = page.lock();
        assert!(matches!(page.claim(), Claim::InFlight));
        assert!(guard.unlock().event_waiters, "and now somebody has");
        assert!(matches!(page.claim(), Claim::Owner(_)));
    });
}

#[test]
fn every_kind_of_release_reports_a_claim() {
    watched(&[], || {
        type Release = fn(pagelock::PageGuard<'_>) -> bool;
        const RELEASES: [Release; 6] = [
            |guard| guard.unlock().event_waiters,
            |guard| guard.unlock_fair().event_waiters,
            |guard| guard.begin_migration().abort().event_waiters,
            |guard| guard.begin_migration().cancel().unlock().event_waiters,
            |guard| {
                guard
                    .begin_migration()
                    .freeze(pagelock::FreezeRule::Unpinned)
                    .unwrap()
                    .commit_in_place()
                    .event_waiters
            },
            |guard| guard.poison().event_waiters,
        ];
        for asked in [false, true] {
            for release in RELEASES {
                let page = PageLock::new();
                let guard = page.lock();
                if asked {
                    assert!(matches!(page.claim(), Claim::InFlight));
                }
                assert_eq!(release(guard), asked);
            }
        }
    });
}

#[test]
fn a_poisoned_page_is_not_claimed() {
    let page = PageLock::new();
    page.lock().poison();
    let before = format!("{page:?}");
    assert!(matches!(page.claim(), Claim::Poisoned));
    assert_eq!(format!("{page:?}"), before);
    let guard = page.lock();
    assert!(matches!(page.claim(), Claim::Poisoned), "there is nothing to wait for");
    assert!(!guard.unlock().event_waiters);
}

/// The owner's own faulter sleeps as well, and has left no flag: the claim leaves it for it.
/// However the owner ends, there is one `tell`.
#[test]
fn an_owner_by_claim_told_tells_its_own_faulter_however_it_ends() {
    watched(&[], || {
        type End = fn(PageGuard<'_, Sim>);
        const ENDS: [(&str, End); 8] = [
            ("done", |guard| assert!(guard.unlock().event_waiters)),
            ("done, fairly", |guard| assert!(guard.unlock_fair().event_waiters)),
            ("dropped, as with a task that is aborted", |guard| drop(guard)),
            ("an error", |guard| {
                let fetch = |_guard| Err::<(), _>("connection reset");
                assert!(fetch(guard).is_err());
            }),
            ("a panic", |guard| {
                let said = crate::common::panic_of(|| {
                    let _guard = guard;
                    panic!("connection reset");
                });
                assert_eq!(said, "connection reset");
            }),
            ("moved", |guard| {
                let _ =
                    guard.begin_migration().freeze(FreezeRule::Unpinned).unwrap().commit_in_place();
            }),
            ("a panic in a migration", |guard| {
                crate::common::panic_of(|| {
                    let _frozen = guard.begin_migration().freeze(FreezeRule::Unpinned).unwrap();
                    panic!("while it copies");
                });
            }),
            ("poisoned", |guard| assert!(guard.poison().event_waiters)),
        ];
        for (how, end) in ENDS {
            let sim = Sim::new(1);
            let page: &PageLock<Sim> = page_on(sim);
            let Claim::Owner(guard) = page.claim_told() else { panic!("{page:?}") };
            assert_eq!(sim.calls(), [], "{how}: not before");
            end(guard);
            let tells = sim.calls().into_iter().filter(|c| matches!(c, Call::Tell { .. })).count();
            assert_eq!(tells, 1, "{how}");
            if !page.is_poisoned() {
                assert!(!page.lock().unlock().event_waiters, "{how}: it was for one release");
            }
        }
    });
}

#[test]
fn claim_told_of_a_page_in_flight_or_poisoned_is_as_claim() {
    let sim = Sim::new(1);
    let page = PageLock::with_futex(sim);
    let guard = page.lock();
    assert!(matches!(page.claim_told(), Claim::InFlight));
    assert!(guard.unlock().event_waiters);
    let Claim::Owner(guard) = page.claim() else { panic!("{page:?}") };
    assert!(!guard.unlock().event_waiters, "an owner that has asked for nothing");
    page.lock().poison();
    assert!(matches!(page.claim_told(), Claim::Poisoned));
}

/// A thread that only passes over busy pages, a prefetcher for instance, must not cost each of
/// their owners a call that wakes nobody.
#[test]
fn try_lock_passes_over_a_busy_page_without_making_its_owner_tell() {
    let sim = Sim::new(1);
    let pages: [PageLock<Sim>; 8] = core::array::from_fn(|_| PageLock::with_futex(sim));
    let busy = [2, 3, 4].map(|n: usize| pages[n].lock());
    let before = format!("{pages:?}");
    assert_eq!(pages.iter().filter_map(PageLock::try_lock).count(), 5);
    assert_eq!(
        format!("{:?}", &pages[2..5]),
        format!("{:?}", busy.each_ref().map(|guard| guard.page()))
    );
    assert!(before.matches("locked").count() == 3 && !format!("{pages:?}").contains("awaited"));
    for guard in busy {
        assert!(!guard.unlock().event_waiters);
    }
    assert_eq!(sim.calls(), []);
}

#[test]
fn a_claim_during_a_migration_is_in_flight() {
    let page = PageLock::new();
    page.activate(1).unwrap();
    let migration = page.lock().begin_migration();
    assert!(matches!(page.claim(), Claim::InFlight));
    let frozen =
        migration.freeze(pagelock::FreezeRule::ExactRefs(1)).expect("a claim is no reference");
    assert!(matches!(page.claim(), Claim::InFlight));
    assert!(frozen.commit_in_place().event_waiters);
}

#[test]
fn claims_and_waiters_are_told_by_the_same_release() {
    let sim = Sim::new(1);
    let page = PageLock::with_futex(sim);
    with_threads(&[&page], |s| {
        let guard = page.lock();
        assert!(matches!(page.claim(), Claim::InFlight));
        let waiter = s.spawn(|| page.wait_unlocked(()));
        sim.until_asleep(1);
        assert!(guard.unlock().event_waiters);
        assert_eq!(waiter.join().unwrap(), Wake::Released);
    });
}

/// A platform that routes the wake itself: here it only notes for which pages it was asked to.
#[derive(Clone, Copy)]
struct Server(&'static Mutex<Vec<usize>>);

impl Adapt for Server {
    type Base = OsFutex;

    fn base(&self) -> &OsFutex {
        &OsFutex
    }

    fn tell(&self, page: usize) {
        self.0.lock().unwrap().push(page);
    }
}

const PAGES: usize = 8;
const FAULTERS: usize = 4;
const SERVERS: usize = 3;

/// Faulters that sleep, servers that resolve, and the queue between them.
struct Pool {
    pages: [PageLock<Server>; PAGES],
    loads: [AtomicU32; PAGES],
    /// The page that each faulter sleeps for.
    asleep: Mutex<[Option<usize>; FAULTERS]>,
    woken: Condvar,
    /// Faults, as page and faulter; `None` closes it.
    queue: Mutex<VecDeque<Option<(usize, usize)>>>,
    queued: Condvar,
    /// How many releases said that a thread had asked.
    told: AtomicUsize,
}

impl Pool {
    fn fault(&self, faulter: usize, page: usize) {
        self.asleep.lock().unwrap()[faulter] = Some(page);
        self.push(Some((page, faulter)));
        let mut asleep = self.asleep.lock().unwrap();
        while asleep[faulter].is_some() {
            asleep = self.woken.wait(asleep).unwrap();
        }
    }

    fn push(&self, fault: Option<(usize, usize)>) {
        self.queue.lock().unwrap().push_back(fault);
        self.queued.notify_one();
    }

    fn pop(&self) -> Option<(usize, usize)> {
        let mut queue = self.queue.lock().unwrap();
        loop {
            match queue.pop_front() {
                Some(fault) => return fault,
                None => queue = self.queued.wait(queue).unwrap(),
            }
        }
    }

    fn wake(&self, chosen: impl Fn(usize, usize) -> bool) {
        for (faulter, page) in self.asleep.lock().unwrap().iter_mut().enumerate() {
            if page.is_some_and(|p| chosen(p, faulter)) {
                *page = None;
            }
        }
        self.woken.notify_all();
    }

    /// Resolves faults. One for a page in flight is dropped: the loader of that page will be
    /// told that somebody asked.
    fn serve(&self) {
        while let Some((page, faulter)) = self.pop() {
            match self.pages[page].claim() {
                Claim::Owner(guard) => {
                    if self.loads[page].load(SeqCst) == 0 {
                        thread::yield_now(); // The load takes a while.
                        self.loads[page].fetch_add(1, SeqCst);
                    }
                    if guard.unlock().event_waiters {
                        self.told.fetch_add(1, SeqCst);
                        self.wake(|p, _| p == page);
                    } else {
                        self.wake(|p, f| (p, f) == (page, faulter));
                    }
                }
                Claim::InFlight => {}
                _ => panic!("nobody poisons pages here"),
            }
        }
    }
}

#[test]
fn a_pool_of_servers_loads_every_page_once_and_loses_no_fault() {
    for _ in 0..rounds(100) {
        let server = Server(Box::leak(Box::default()));
        let pool = Pool {
            pages: core::array::from_fn(|_| PageLock::with_futex(server)),
            loads: Default::default(),
            asleep: Mutex::default(),
            woken: Condvar::new(),
            queue: Mutex::default(),
            queued: Condvar::new(),
            told: AtomicUsize::new(0),
        };
        with_threads(&[&pool.pages, &pool.loads], |s| {
            (0..SERVERS).for_each(|_| drop(s.spawn(|| pool.serve())));
            let faulters: Vec<_> = (0..FAULTERS)
                .map(|faulter| {
                    let pool = &pool;
                    s.spawn(move || {
                        for page in 0..PAGES {
                            pool.fault(faulter, page);
                            assert_eq!(
                                pool.loads[page].load(SeqCst),
                                1,
                                "woken and not loaded once"
                            );
                        }
                    })
                })
                .collect();
            faulters.into_iter().for_each(|f| f.join().unwrap());
            (0..SERVERS).for_each(|_| pool.push(None));
        });
        let told = server.0.lock().unwrap();
        assert_eq!(told.len(), pool.told.into_inner(), "the platform hears what the release says");
        let addresses = pool.pages.each_ref().map(|p| core::ptr::from_ref(p).addr());
        assert!(told.iter().all(|page| addresses.contains(page)));
    }
}
