//! The other side of `tests/peers.c`: a segment in seats, by the crate itself.

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use core::sync::atomic::{
        AtomicU32,
        Ordering::{Relaxed, SeqCst},
    };
    use pagelock::shared::{Left, Seat, Segment, When};
    use pagelock::{FreezeRule, TakenOver, Wait, Wake};
    use std::{env, thread, time::Duration};

    // As in tests/peers.h.
    const PAGES: u32 = 16;
    const READY: u32 = 16;
    const WAITS_OF_RUST: u32 = 18;
    const THREADS: u32 = 2;

    pub(super) fn main() {
        // Should the other side fail, this one does not stay.
        // SAFETY: it touches no memory.
        unsafe { libc::alarm(120) };
        let argument = |n| env::args().nth(n).expect("role, descriptor, and two numbers");
        let number = |n| argument(n).parse::<u32>().expect("a number");
        // SAFETY: it was opened for this program.
        let segment = unsafe { Segment::attach_raw(argument(2).parse().expect("a descriptor")) }
            .expect("a segment");
        match argument(1).as_str() {
            "count" => {
                ready(&segment);
                thread::scope(|scope| {
                    for t in 0..THREADS {
                        let (segment, turns, seed) =
                            (&segment, number(3), number(4) + t * 7919 + 1);
                        scope.spawn(move || count(segment, turns, seed));
                    }
                });
            }
            "hold" => hold(&segment),
            "recover" if number(3) == 1 => recover_what_was_held(&segment),
            "recover" => recover(&segment),
            role => panic!("no role: {role}"),
        }
    }

    fn word(segment: &Segment, page: u32) -> &AtomicU32 {
        segment.page_word(page).expect("a page")
    }

    fn ready(segment: &Segment) {
        word(segment, READY).fetch_add(1, SeqCst);
    }

    /// Two steps, which no other thread may split: an atomic addition would hide that one does.
    fn add(segment: &Segment, page: u32) {
        let number = word(segment, page);
        segment.user_words()[0].fetch_add(1, SeqCst);
        let now = number.load(Relaxed);
        number.store(now + 1, Relaxed);
        segment.user_words()[1].fetch_add(1, SeqCst);
    }

    fn count(segment: &Segment, turns: u32, mut seed: u32) {
        let seat = segment.sit().expect("a seat");
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            seed
        };
        let mut t = 0;
        while turns == 0 || t < turns {
            turn(segment, &seat, next() % PAGES, next());
            t += 1;
        }
    }

    fn turn(segment: &Segment, seat: &Seat<'_>, page: u32, kind: u32) {
        let a_while = || thread::sleep(Duration::from_micros(10));
        match kind % 8 {
            // Some die with it.
            0 if kind % 64 == 0 => _ = seat.pin(page).map(|_pin| a_while()),
            0 => drop(seat.pin(page)),
            1 if kind % 64 == 1 => _ = seat.get(page).map(|_reference| a_while()),
            1 => drop(seat.get(page)),
            2 if seat.wait(page, (), Wait::unlocked()) == Ok(Wake::Released) => {
                word(segment, WAITS_OF_RUST).fetch_add(1, SeqCst);
            }
            _ => {}
        }
        let guard = seat.lock(page).expect("a page");
        if kind % 64 == 4 {
            a_while(); // the others come, and have to sleep
        }
        if kind % 8 == 3 {
            match guard.begin_migration().freeze(FreezeRule::Unpinned) {
                Ok(frozen) => {
                    add(segment, page);
                    frozen.commit_in_place();
                }
                Err(busy) => {
                    let _guard = busy.migration.cancel();
                    add(segment, page);
                }
            }
        } else {
            add(segment, page);
            drop(guard);
        }
    }

    /// Has something of every kind, says so, and waits to be killed.
    fn hold(segment: &Segment) {
        let seat = segment.sit().expect("a seat");
        let locked = |page| {
            let guard = seat.lock(page).expect("a page");
            guard.set_tag(70 + page);
            guard
        };
        let _guard = locked(0);
        let _migration = locked(1).begin_migration();
        let _frozen = locked(2)
            .begin_migration()
            .freeze(FreezeRule::ExactRefs(1))
            .expect("one reference, no pins");
        let _reference = seat.get(3).expect("it is live");
        let _pin = seat.pin(4).expect("it is live");
        ready(segment);
        loop {
            thread::park();
        }
    }

    fn recover_what_was_held(segment: &Segment) {
        let mut seen = Vec::new();
        let each = |left: Left<'_>| {
            assert_eq!((left.when, left.tag), (When::Working, 70 + left.page));
            seen.push(left.page);
            match left.stage {
                TakenOver::Locked(guard) => {
                    assert_eq!(left.page, 0);
                    assert!(guard.unlock().event_waiters, "a locker had waited");
                }
                TakenOver::Migrating(migration) => {
                    assert_eq!(left.page, 1);
                    migration.poison();
                }
                TakenOver::Frozen(frozen) => {
                    assert_eq!(left.page, 2);
                    frozen.commit_in_place();
                }
                other => panic!("{other:?}"),
            }
        };
        let recovered = segment.recover(each).expect("no other process recovers");
        assert_eq!(
            (recovered.seats, recovered.pages, recovered.refs, recovered.pins),
            (1, 3, 1, 1)
        );
        assert_eq!((recovered.freed, recovered.nonsense, recovered.undecided), (0, 0, 0));
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    }

    fn recover(segment: &Segment) {
        let each = |left: Left<'_>| match left.stage {
            TakenOver::Frozen(frozen) => _ = frozen.commit_in_place(),
            stage => drop(stage),
        };
        let recovered = segment.recover(each).expect("no other process recovers");
        assert_eq!((recovered.nonsense, recovered.undecided), (0, 0));
    }
}
