//! A freeze against pins and references: each race has one winner (I1, I19).

use crate::common::{OnDrop, rounds, watched, with_threads};
use crate::stages::{is_at_rest, live};
use FreezeRule::{ExactRefs, Unpinned};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pagelock::{FreezeRule, GetError, PinError};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Two threads meet once a round, and each does its own as soon as the other has come; `judge`
/// looks at what both got when they are done. As often as that goes in a second, but not more than
/// `most` times. Every third time one of them is first, every third time the other, and else
/// whoever is, with some lead: on a busy machine, whose threads take turns, that is always the same
/// one.
fn races<A: Send, B: Send>(
    most: usize,
    a: impl Fn() -> A,
    b: impl Fn() -> B + Sync,
    mut judge: impl FnMut(A, B),
) {
    let (come, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (a_is_done, b_is_done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let answer = Mutex::new(None);
    // False: the other is not there any more.
    let until = |count: &AtomicUsize, least: usize| {
        let mut spins = 0;
        while count.load(SeqCst) < least {
            if over.load(SeqCst) {
                return false;
            }
            spins += 1;
            if spins % 100 == 0 { thread::yield_now() } else { core::hint::spin_loop() }
        }
        true
    };
    let meet = |meeting: usize| {
        come.fetch_add(1, SeqCst);
        until(&come, 2 * meeting + 2)
    };
    let late = |by: usize| (0..by).for_each(|_| core::hint::spin_loop());
    thread::scope(|s| {
        s.spawn(|| {
            let _ends_the_other = OnDrop(|| over.store(true, SeqCst));
            // Two meetings a round: one before, one after.
            for round in 0.. {
                if !meet(2 * round) || (round % 3 == 0 && !until(&a_is_done, round + 1)) {
                    return;
                }
                late(round % 10);
                let got = b();
                b_is_done.store(round + 1, SeqCst);
                *answer.lock().unwrap() = Some(got);
                if !meet(2 * round + 1) {
                    return;
                }
            }
        });
        let _ends_the_other = OnDrop(|| over.store(true, SeqCst));
        let began = Instant::now();
        for round in 0..rounds(most) {
            if !meet(2 * round) || (round % 3 == 1 && !until(&b_is_done, round + 1)) {
                return;
            }
            late(round / 10 % 10);
            let got = a();
            a_is_done.store(round + 1, SeqCst);
            if !meet(2 * round + 1) {
                return;
            }
            let other = answer.lock().unwrap().take().expect("it has been there");
            judge(got, other);
            if began.elapsed() > Duration::from_secs(1) {
                break;
            }
        }
    });
}

#[test]
fn a_pin_and_a_freeze_have_one_winner() {
    let page = live(1);
    watched(&[&page], || {
        races(
            200_000,
            || page.lock().begin_migration().freeze(Unpinned),
            || page.try_pin(),
            |migration, pin| {
                match (pin, migration) {
                    (Ok(pin), Err(busy)) => {
                        assert_eq!(busy.pins(), 1);
                        drop(pin);
                        busy.into_migration().freeze(Unpinned).expect("unpinned").commit_in_place();
                    }
                    (Err(error), Ok(moving)) => {
                        assert!(
                            matches!(error, PinError::Frozen | PinError::Migrating),
                            "{error:?}"
                        );
                        moving.commit_in_place();
                    }
                    (Ok(_), Ok(_)) => panic!("pinned and frozen: {page:?}"),
                    (Err(error), Err(busy)) => {
                        // The pin was refused because the migration had begun, and then nothing
                        // stood in the freeze's way.
                        panic!("both lost: {error:?}, {busy:?}");
                    }
                }
                is_at_rest(&page, 1, 0);
            },
        );
    });
}

#[test]
fn a_reference_and_an_exact_freeze_have_one_winner() {
    let page = live(1);
    watched(&[&page], || {
        races(
            200_000,
            || page.lock().begin_migration().freeze(ExactRefs(1)),
            || page.try_get(),
            |migration, reference| {
                match (reference, migration) {
                    (Ok(reference), Err(busy)) => {
                        assert_eq!((busy.refs(), busy.pins()), (2, 0));
                        drop((reference, busy));
                    }
                    (Err(GetError::Frozen), Ok(moving)) => drop(moving),
                    other => panic!("{other:?}"),
                }
                is_at_rest(&page, 1, 0);
            },
        );
    });
}

/// Each holder of a pin says so for as long as it holds it; the migrator
/// looks whether anybody says so.
#[test]
fn pins_that_come_and_go_are_never_there_while_the_page_moves() {
    let page = live(1);
    let (held, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let pinned = AtomicUsize::new(0);
    with_threads(&[&page], |s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !over.load(SeqCst) {
                    match page.try_pin() {
                        Ok(pin) => {
                            held.fetch_add(1, SeqCst);
                            thread::yield_now();
                            held.fetch_sub(1, SeqCst);
                            pinned.fetch_add(1, SeqCst);
                            drop(pin);
                        }
                        Err(PinError::Frozen | PinError::Migrating) => {
                            let _ = page.wait_migration(());
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let _ends_the_others = OnDrop(|| over.store(true, SeqCst));
        let began = Instant::now();
        for _ in 0..rounds(2_000) {
            if began.elapsed() > Duration::from_secs(1) {
                break;
            }
            // Some thread is in the way.
            let before = pinned.load(SeqCst);
            while pinned.load(SeqCst) == before && held.load(SeqCst) == 0 {
                thread::yield_now();
            }
            let mut migration = page.lock().begin_migration();
            let frozen = loop {
                match migration.freeze(ExactRefs(1)) {
                    Ok(frozen) => break frozen,
                    // There will be no new pins, and those there are will go.
                    Err(busy) => migration = busy.into_migration(),
                }
                thread::yield_now();
            };
            // All this time.
            for _ in 0..3 {
                assert_eq!(held.load(SeqCst), 0, "pinned and moving: {page:?}");
                thread::yield_now();
            }
            frozen.commit_in_place();
        }
    });
    is_at_rest(&page, 1, 0);
}
