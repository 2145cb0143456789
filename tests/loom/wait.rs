//! Waiting without a reference.

use crate::{In, Page, explore, explore_with, on};
use loom::sync::Mutex;
use loom::thread;
use pagelock::futex::MonotonicTime;
use pagelock::futex::model::{self, expire, interrupt};
use pagelock::{Cancel, Claim, FreezeRule, Limits, PageLock, Wait, Wake};
use std::sync::Arc;

fn wait(page: &Page) -> Wake {
    page.lock.wait_unlocked(())
}

/// For the end of a model that has joined all its threads: each sleeper was taken off the count of
/// the slot, once.
#[track_caller]
fn assert_nobody_counted() {
    assert_eq!(model::event::<In<0>>(0).sleepers(), 0);
}

#[track_caller]
fn assert_over(wake: Wake) {
    assert!(matches!(wake, Wake::Released | Wake::NotLocked), "{wake:?}");
}

/// A holder that unlocks without ever looking at the page-table lock: only the order of sequence
/// and flag saves the waiter.
#[test]
fn a_holder_that_never_takes_the_ptl() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let waiter = on(&page, |page| {
            let ptl = Mutex::new(());
            let entry = ptl.lock().unwrap();
            page.lock.wait_unlocked(entry)
        });
        drop(guard);
        assert_over(waiter.join().unwrap());
        page.assert_idle();
    });
}

/// The same, with a second owner right behind the first, and another waiter.
#[test]
fn two_holders_in_a_row_and_two_waiters() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let (a, b) = (on(&page, wait), on(&page, wait));
        drop(guard);
        drop(page.lock.lock());
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        page.assert_idle();
    });
}

/// Whoever returns because of a release sees what the releaser did before it.
#[test]
fn a_release_is_seen_by_the_waiter() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let waiter = on(&page, |page| {
            if wait(page) == Wake::Released {
                assert_eq!(page.read(), 1);
            }
        });
        page.add();
        drop(guard);
        waiter.join().unwrap();
    });
}

/// A waiter for the migration against every way to end one.
fn ends(end: impl Fn(pagelock::Migration<'_, In<0>>) + Send + Sync + Copy + 'static) {
    explore(move || {
        let page = Page::<0>::new();
        page.lock.activate(1).unwrap();
        let migration = page.lock.lock().begin_migration();
        let a = on(&page, |page| page.lock.wait_migration(()));
        let b = on(&page, |page| drop(page.lock.lock()));
        end(migration);
        assert_over(a.join().unwrap());
        b.join().unwrap();
        page.assert_idle();
        assert!(!page.lock.is_migrating() && !page.lock.is_frozen());
    });
}

#[test]
fn a_migration_that_is_aborted() {
    ends(|migration| _ = migration.abort());
}

#[test]
fn a_migration_that_is_dropped_while_frozen() {
    ends(|migration| drop(migration.freeze(FreezeRule::ExactRefs(1)).unwrap()));
}

#[test]
fn a_migration_that_is_committed() {
    ends(|migration| _ = migration.freeze(FreezeRule::Unpinned).unwrap().commit_in_place());
}

/// The copy panics: unwinding ends the migration like an abort.
#[test]
fn a_migration_whose_copy_panics() {
    ends(|migration| {
        let frozen = migration.freeze(FreezeRule::ExactRefs(1)).unwrap();
        let copy = std::panic::AssertUnwindSafe(move || {
            let _frozen = frozen;
            // As a panic, but without a report, which would look like a failure of the model.
            std::panic::resume_unwind(Box::new("the source is unreadable"))
        });
        assert!(std::panic::catch_unwind::<_, ()>(copy).is_err());
    });
}

/// A migration that is cancelled is over for those who wait for it, though its owner keeps the
/// lock.
#[test]
fn a_migration_that_is_cancelled() {
    explore(|| {
        let page = Page::<0>::new();
        let migration = page.lock.lock().begin_migration();
        let waiter = on(&page, |page| page.lock.wait_migration(()));
        let guard = migration.cancel();
        assert_over(waiter.join().unwrap());
        drop(guard);
    });
}

/// Both pages of a commit to another header have waiters; they share a slot.
#[test]
fn a_migration_that_moves_to_another_header() {
    explore(|| {
        let (src, dst) = (Page::<0>::new(), Page::<0>::new());
        src.lock.activate(1).unwrap();
        let migration = src.lock.lock().begin_migration();
        let there = dst.lock.lock();
        let a = on(&src, |page| page.lock.wait_migration(()));
        let b = on(&dst, wait);
        let frozen = migration.freeze(FreezeRule::ExactRefs(1)).unwrap();
        // SAFETY: the reference that the page was made with.
        let _ = unsafe { frozen.commit_to_moving(there, 1) }.unwrap();
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        assert_eq!((src.lock.refs(), dst.lock.refs()), (0, 1));
        src.assert_idle();
        dst.assert_idle();
    });
}

/// A header that its owner frees: what was there afterwards is no header, and the model checker
/// fails on an access to it.
struct Freed(*mut PageLock<In<0>>);

// SAFETY: the models hand it over under the mutex that stands for the page-table lock.
unsafe impl Send for Freed {}
// SAFETY: as above.
unsafe impl Sync for Freed {}

impl Freed {
    fn new() -> Self {
        Self(Box::into_raw(Box::new(PageLock::default())))
    }

    /// Frees the header. What it held is overwritten, so that a later access fails whatever the
    /// allocator does.
    ///
    /// # Safety
    ///
    /// Nobody refers to the header any more.
    unsafe fn free(&self) {
        // SAFETY: the caller's promise; the box's memory is given back without another drop of its
        // contents.
        unsafe {
            self.0.drop_in_place();
            self.0.write_bytes(0xff, 1);
            drop(Box::from_raw(self.0.cast::<core::mem::MaybeUninit<PageLock<In<0>>>>()));
        }
    }
}

/// The page goes away as soon as its owner has taken the entry down: the waiter saw the entry under
/// the same lock, and after dropping that it may not look at the page.
#[test]
fn a_page_that_is_freed_right_after_the_unlock() {
    explore_with(3, || {
        let page = Arc::new(Freed::new());
        let table = Arc::new(Mutex::new(true));
        // SAFETY: the header is freed below, and the guard is gone by then.
        let guard = unsafe { &*page.0 }.lock();
        let for_waiter = table.clone();
        let waiter = on(&page, move |page| {
            let entry = for_waiter.lock().unwrap();
            if *entry {
                // SAFETY: the entry is there, and keeps the header as long as its lock is held;
                // `wait_unlocked` does not use the header after it has dropped that.
                assert_over(unsafe { &*page.0 }.wait_unlocked(entry));
            }
        });
        *table.lock().unwrap() = false;
        drop(guard);
        // SAFETY: the entry is down, and whoever saw it has dropped the lock since.
        unsafe { page.free() };
        waiter.join().unwrap();
    });
}

/// The other way round: the page is unlocked first and its entry taken down later, as for
/// device-private memory.
#[test]
fn a_page_that_is_unlocked_and_then_freed() {
    explore_with(3, || {
        let page = Arc::new(Freed::new());
        let table = Arc::new(Mutex::new(true));
        // SAFETY: as above.
        let guard = unsafe { &*page.0 }.lock();
        let for_waiter = table.clone();
        let waiter = on(&page, move |page| {
            let entry = for_waiter.lock().unwrap();
            if *entry {
                // SAFETY: as above.
                assert_over(unsafe { &*page.0 }.wait_unlocked(entry));
            }
        });
        drop(guard);
        *table.lock().unwrap() = false;
        // SAFETY: as above.
        unsafe { page.free() };
        waiter.join().unwrap();
    });
}

/// The next owner frees the page, while the last one's release still has somebody to wake.
#[test]
fn a_page_that_the_next_owner_frees() {
    explore_with(3, || {
        let page = Arc::new(Freed::new());
        // SAFETY: the header is freed below, by the last who uses it.
        let guard = unsafe { &*page.0 }.lock();
        let next = on(&page, |page| {
            // SAFETY: as above.
            drop(unsafe { &*page.0 }.lock());
            // SAFETY: the first owner has released the page, and does nothing else with it.
            unsafe { page.free() };
        });
        drop(guard);
        next.join().unwrap();
    });
}

/// Two pages of one slot: each one's waiter returns, whoever is released first.
#[test]
fn two_pages_on_one_slot() {
    explore(|| {
        let (p, q) = (Page::<0>::new(), Page::<0>::new());
        let (held_p, held_q) = (p.lock.lock(), q.lock.lock());
        let (a, b) = (on(&p, wait), on(&q, wait));
        drop(held_p);
        assert_over(a.join().unwrap());
        drop(held_q);
        assert_over(b.join().unwrap());
        assert_nobody_counted();
    });
}

/// Two pages of different slots: a release of one is nothing to the other's waiter.
#[test]
fn two_pages_on_two_slots() {
    explore(|| {
        let (p, q) = (Page::<0>::new(), Page::<1>::new());
        let (held_p, held_q) = (p.lock.lock(), q.lock.lock());
        let a = on(&p, wait);
        let c = on(&q, |q| _ = q.lock.wait_unlocked(()));
        drop(held_q);
        c.join().unwrap();
        drop(held_p);
        assert_over(a.join().unwrap());
    });
}

/// The release wakes one of three; they wake each other.
#[test]
fn a_chain_of_three() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleepers = [(); 3].map(|()| on(&page, wait));
        drop(guard);
        for sleeper in sleepers {
            assert_over(sleeper.join().unwrap());
        }
        assert_nobody_counted();
    });
}

/// A chain in which one times out: it has not used up a wake, so the chain does not end with it.
#[test]
fn a_chain_in_which_one_times_out() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let a = on(&page, |page| {
            page.lock
                .wait_with((), Wait::unlocked().within(Limits::none().until(MonotonicTime::MAX)))
        });
        let b = on(&page, wait);
        let c = thread::spawn(expire);
        drop(guard);
        let _ = a.join().unwrap();
        assert_over(b.join().unwrap());
        c.join().unwrap();
        assert_nobody_counted();
    });
}

/// A chain in which a signal ends the sleeps: those go back to sleep, or see that they were told.
#[test]
fn a_chain_in_which_all_are_interrupted() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let (a, b) = (on(&page, wait), on(&page, wait));
        let c = thread::spawn(interrupt);
        drop(guard);
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        c.join().unwrap();
        assert_nobody_counted();
    });
}

/// Two chains on one slot: sleepers of the second release do not use up the wakes of the first.
#[test]
fn two_chains_on_one_slot() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let (a, b) = (on(&page, wait), on(&page, wait));
        drop(guard);
        let guard = page.lock.lock();
        let c = on(&page, wait);
        drop(guard);
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        assert_over(c.join().unwrap());
        assert_nobody_counted();
    });
}

/// Two releases of two pages on one slot, by two threads: either may have bumped and not woken yet
/// when the other is done. Three sleepers, under one value or several.
#[test]
fn two_releases_at_once_and_three_sleepers() {
    explore_with(1, || {
        let (p, q) = (Page::<0>::new(), Page::<0>::new());
        p.lock.lock().into_raw();
        let held_q = q.lock.lock();
        let sleepers = [on(&p, wait), on(&p, wait), on(&q, wait)];
        // SAFETY: it was left locked above, for this.
        let releaser = on(&p, |p| drop(unsafe { pagelock::PageGuard::from_raw(&p.lock) }));
        drop(held_q);
        for sleeper in sleepers {
            assert_over(sleeper.join().unwrap());
        }
        releaser.join().unwrap();
        assert_nobody_counted();
    });
}

/// Two releases in a row, and three sleepers of which the time of one is up.
#[test]
fn two_releases_and_three_sleepers_of_which_one_times_out() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let timed = on(&page, |page| {
            page.lock
                .wait_with((), Wait::unlocked().within(Limits::none().until(MonotonicTime::MAX)))
        });
        let (a, b) = (on(&page, wait), on(&page, wait));
        drop(guard);
        let guard = page.lock.lock();
        expire();
        drop(guard);
        let _ = timed.join().unwrap();
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        assert_nobody_counted();
    });
}

/// A model may leave threads behind that sleep, wake and are woken when its main thread is gone.
#[test]
fn a_thread_that_outlives_the_model() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        drop(on(&page, |page| assert_over(wait(page))));
        drop(on(&page, |page| drop(page.lock.lock())));
        drop(guard);
    });
}

/// Nobody releases: only the deadline ends the wait.
#[test]
fn a_deadline_ends_the_wait() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let waiter = on(&page, |page| {
            page.lock
                .wait_with((), Wait::unlocked().within(Limits::none().until(MonotonicTime::MAX)))
        });
        expire();
        let ended = waiter.join().unwrap();
        assert!(matches!(ended, Wake::TimedOut), "{ended:?}");
        drop(guard);
        page.assert_idle();
        assert_nobody_counted();
    });
}

/// In flight means that the owner's release reports it.
#[test]
fn a_claim_is_reported_by_the_release() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let claim = |page: &Page| matches!(page.lock.claim(), Claim::InFlight);
        let (a, b) = (on(&page, claim), on(&page, claim));
        let released = guard.unlock();
        let in_flight = a.join().unwrap();
        // The second may have found the page in the first one's hands, whose release is another.
        let _ = b.join().unwrap();
        assert!(!in_flight || released.event_waiters || page.lock.generation() > 1);
    });
}

/// The same with one claim, where the one release is the only one there is.
#[test]
fn a_claim_is_reported_by_the_only_release() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let claim = on(&page, |page| matches!(page.lock.claim(), Claim::InFlight));
        let released = guard.unlock_fair();
        assert_eq!(claim.join().unwrap(), released.event_waiters);
    });
}

/// A page is kept for a sleeper that gives up: whoever waits for its release is told.
#[test]
fn waiters_for_a_kept_page_are_told_if_its_sleeper_gives_up() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| {
            page.lock.lock_within(Limits::none().until(MonotonicTime::MAX)).map(drop)
        });
        page.until_says("1 sleepers");
        // Its time is up, and it has not left yet when the page is kept for it.
        expire();
        guard.unlock_fair();
        let waiter = on(&page, wait);
        let _ = sleeper.join().unwrap();
        assert_over(waiter.join().unwrap());
        page.assert_idle();
    });
}

/// A page is kept for a sleeper that takes it: whoever waits is told when that one releases.
#[test]
fn waiters_for_a_kept_page_are_told_when_its_sleeper_releases_it() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let sleeper = on(&page, |page| drop(page.lock.lock()));
        page.until_says("1 sleepers");
        guard.unlock_fair();
        let (a, b) = (on(&page, wait), on(&page, wait));
        sleeper.join().unwrap();
        assert_over(a.join().unwrap());
        assert_over(b.join().unwrap());
        page.assert_idle();
    });
}

fn cancelled(with: impl Fn(&Page, &Cancel<In<0>>) -> Wake + Send + Sync + Copy + 'static) {
    explore_with(3, move || {
        let page = Page::<0>::new();
        let switch = Arc::new(Cancel::<In<0>>::default());
        let guard = page.lock.lock().begin_migration();
        let for_waiter = switch.clone();
        let a = on(&page, move |page| {
            // Nobody releases before the waiter is back.
            assert_eq!(with(page, &for_waiter), Wake::Cancelled);
            assert_eq!(page.read(), 1, "what the canceller did before is seen");
        });
        page.add();
        switch.cancel();
        a.join().unwrap();
        drop(guard);
        page.assert_idle();
    });
}

#[test]
fn a_cancelled_wait() {
    cancelled(|page, switch| {
        page.lock.wait_with((), Wait::unlocked().within(Limits::none().unless(switch)))
    });
}

#[test]
fn a_cancelled_wait_for_migration_with_a_deadline() {
    cancelled(|page, switch| {
        page.lock.wait_with(
            (),
            Wait::migration().within(Limits::none().until(MonotonicTime::MAX).unless(switch)),
        )
    });
}

/// Whoever sees the switch thrown sees what the canceller did before, without having waited.
#[test]
fn a_switch_that_is_seen_thrown() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let switch = Arc::new(Cancel::<In<0>>::default());
        let for_watcher = switch.clone();
        let watcher = on(&page, move |page| {
            while !for_watcher.is_cancelled() {
                thread::yield_now();
            }
            assert_eq!(page.read(), 1);
        });
        page.add();
        switch.cancel();
        watcher.join().unwrap();
    });
}

/// Two waiters under one switch, and one who is not and returns with the release.
#[test]
fn a_switch_ends_all_of_its_waits() {
    explore(|| {
        let page = Page::<0>::new();
        let switch = Arc::new(Cancel::<In<0>>::default());
        let guard = page.lock.lock();
        let under = |switch: Arc<Cancel<In<0>>>| {
            move |page: &Page| {
                page.lock.wait_with((), Wait::unlocked().within(Limits::none().unless(&switch)))
            }
        };
        let (a, b) = (on(&page, under(switch.clone())), on(&page, under(switch.clone())));
        let c = on(&page, wait);
        switch.cancel();
        assert_eq!(a.join().unwrap(), Wake::Cancelled);
        assert_eq!(b.join().unwrap(), Wake::Cancelled);
        drop(guard);
        assert_over(c.join().unwrap());
        assert_nobody_counted();
    });
}

/// Poison: those who wait are told, those who come later do not wait, and a locker gets the page
/// and can see it.
#[test]
fn poison_ends_all_waits() {
    explore(|| {
        let page = Page::<0>::new();
        page.lock.activate(1).unwrap();
        let guard = page.lock.lock();
        let waiter = on(&page, wait);
        let locker = on(&page, |page| assert!(page.lock.lock().is_poisoned()));
        guard.poison();
        assert!(matches!(waiter.join().unwrap(), Wake::Released | Wake::Poisoned));
        assert_eq!(wait(&page), Wake::Poisoned);
        assert!(matches!(page.lock.claim(), Claim::Poisoned));
        locker.join().unwrap();
    });
}
