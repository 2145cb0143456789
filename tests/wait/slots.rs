//! Event slots: which a page gets, and which a switch disturbs (I24).

use crate::common::{
    sim::{Call, Sim},
    with_threads,
};
use pagelock::futex::SpinFutex;
use pagelock::{Cancel, Futex, Limits, OsFutex, PageLock, Wait, Wake};
use std::collections::BTreeSet;
use std::thread;

/// A switch wakes the slots that its waiters may have used. Those are few, however many there are.
#[test]
fn a_switch_leaves_the_slots_of_others_alone() {
    const SLOTS: usize = 128;
    let sim = Sim::new(SLOTS);
    let pages: &[PageLock<Sim>] = Box::leak((0..40).map(|_| PageLock::with_futex(sim)).collect());
    for page in pages {
        let switch = Cancel::with_futex(sim);
        let own = sim.event(sim.event_index(core::ptr::from_ref(page).addr()));
        let calls = with_threads(&[page], |s| {
            let guard = page.lock();
            let waiter = s.spawn(|| {
                page.wait_with((), Wait::unlocked().within(Limits::none().unless(&switch)))
            });
            sim.until_asleep(1);
            switch.cancel();
            assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
            let calls = sim.calls();
            drop(guard);
            sim.calls();
            calls
        });
        let woken: Vec<usize> = calls
            .iter()
            .map(|call| if let Call::WakeAll { word } = call { *word } else { panic!("{call:?}") })
            .collect();
        assert!(woken.contains(&core::ptr::from_ref(own).addr()));
        assert!(
            woken.len() <= SLOTS.div_ceil(31),
            "one in 31, and there are {SLOTS}: {}",
            woken.len()
        );
    }
}

/// A switch under which nobody has waited disturbs nobody.
#[test]
fn a_switch_that_nobody_waits_under_wakes_nobody() {
    let sim = Sim::new(64);
    Cancel::with_futex(sim).cancel();
    assert_eq!(sim.calls(), []);
}

#[test]
fn neighbours_have_different_slots() {
    let pages = [const { PageLock::new() }; 16];
    let slots: BTreeSet<usize> =
        pages.iter().map(|p| OsFutex.event_index(core::ptr::from_ref(p).addr())).collect();
    assert!(slots.len() > 8, "{slots:?}");
}

/// Fewer than it was asked to wake: the chain ends.
#[test]
fn a_platform_that_wakes_everybody_says_that_nobody_is_left() {
    let word = pagelock::sync::AtomicU32::new(0);
    for n in [1, 4, 9] {
        assert_eq!(SpinFutex.wake_class(&word, n, 1), 0);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_shared_table_is_the_callers() {
    use pagelock::futex::{EventSlot, SharedFutex, SharedSlot};
    static TABLE: [SharedSlot; 4] = [const { EventSlot::new() }; 4];
    let shared = SharedFutex::new(&TABLE, 0).unwrap();
    assert_eq!(shared.events(), 4);
    for (index, slot) in TABLE.iter().enumerate() {
        assert!(core::ptr::eq(shared.event(index), slot));
    }
    let used: BTreeSet<usize> = (0..64).map(|page| shared.event_index(page * 8)).collect();
    assert_eq!(used, BTreeSet::from([0, 1, 2, 3]));
}

/// There is nobody to wake: waiters there look by themselves.
#[test]
fn a_platform_that_spins_wakes_nobody() {
    let word = pagelock::sync::AtomicU32::new(0);
    SpinFutex.wake_one(&word);
    SpinFutex.wake_all(&word);
}

#[test]
fn a_platform_that_spins_waits_until_the_word_changes() {
    use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let (word, back) = (pagelock::sync::AtomicU32::new(7), AtomicBool::new(false));
    SpinFutex.wait(&word, 8);
    with_threads(&[], |s| {
        s.spawn(|| {
            SpinFutex.wait(&word, 7);
            back.store(true, SeqCst);
        });
        thread::sleep(core::time::Duration::from_millis(20));
        assert!(!back.load(SeqCst), "the word has not changed");
        word.store(8, SeqCst);
    });
    assert!(back.into_inner());
}

#[test]
#[cfg(target_os = "linux")]
fn a_shared_platforms_clock_is_the_systems() {
    use core::time::Duration;
    use pagelock::FutexTimed;
    use pagelock::futex::{EventSlot, SharedFutex, SharedSlot};
    static TABLE: [SharedSlot; 1] = [EventSlot::new()];
    let shared = SharedFutex::new(&TABLE, 0).unwrap();
    assert_eq!(shared.late_by(shared.after(Duration::from_secs(3600)).unwrap()), None);
    let past = shared.after(Duration::ZERO).unwrap();
    thread::sleep(Duration::from_millis(2));
    assert!(shared.late_by(past).unwrap() >= Duration::from_millis(2));
}
