//! How a locker waits while it is awake: what a short hold is worth waiting for.
//!
//! Only speed depends on it. What it is for:
//!
//! * *Long holds are handed on at once.* Who finds the page taken [hangs back](hang_back) for a tenth of a microsecond and then looks often, so
//!   that it takes the page within the time that the line needs to get from one cache to the other.
//! * *Short holds come in runs.* An owner that releases the page and takes it again has the page's line and the data in its own cache; every look
//!   of somebody else takes the line away from it. So if the page was released and taken again while a locker hung back, that one gives its
//!   processor away and then hangs back for longer.
//! * *Who was woken gets to run.* A free page with LOCK_WAITERS is one that a locker has been woken for. If that one has not come yet, it may be
//!   waiting for this very processor, which is offered to it, once.
//! * *Processors are passed on.* Two threads that pass the page back and forth do not sleep, and everybody else has to wait for the scheduler's
//!   tick. So every so many holds whoever finds the page taken gives its processor away. That goes on for a few holds: in one alone it
//!   may be the same processor of two, time after time.
//!
//! Pauses are not time: they last from 10 to 45 ns, by processor. The curves are in [`tuning`](crate::docs::tuning).

use crate::futex::Futex;
use crate::page::PageLock;
use crate::sync::spin_loop;
use crate::tune::{ARRIVAL_PAUSES, GIVE_WAY, GIVE_WAY_HOLDS, LOOKS, RUN_PAUSES, YIELDS};
use crate::word::State;
use core::ops::Range;

/// What a locker that has come upon a taken page does before it looks again.
pub(crate) fn hang_back<F: Futex>(page: &PageLock<F>) {
    let found = page.state();
    if !found.is_taken() && found.has_waiters() {
        // Released a moment ago or long since, and those who waited have been told.
        if found.has_lock_waiters() {
            page.futex.relax();
        }
        return;
    }
    if is_to_give_way(found.generation()) {
        return page.futex.relax();
    }
    pause(ARRIVAL_PAUSES);
    if is_a_run(found, page.state()) {
        page.futex.relax();
        pause(RUN_PAUSES);
    }
}

fn is_to_give_way(generation: u8) -> bool {
    u32::from(generation).checked_rem(GIVE_WAY).is_some_and(|hold| hold < GIVE_WAY_HOLDS)
}

/// Whether the page was released and taken again between two looks. A page that was released once and is free may be one that is held long.
fn is_a_run(found: State, now: State) -> bool {
    match now.generation().wrapping_sub(found.generation()) {
        0 => false,
        1 => now.is_taken(),
        _ => true,
    }
}

/// How many turns at looking a locker takes before it sleeps. None under loom: registering begins with a look anyway.
pub(crate) fn turns() -> Range<u32> {
    0..if cfg!(pagelock_loom) { 0 } else { 1 + YIELDS }
}

/// Looks in each turn.
pub(crate) fn looks() -> Range<u32> {
    0..LOOKS
}

/// Between two looks.
pub(crate) fn between_looks() {
    pause(2);
}

fn pause(n: u32) {
    for _ in 0..n {
        spin_loop();
    }
}

#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests {
    use super::*;
    use crate::futex::{EventSlot, Sleep};
    use crate::lock::PageGuard;
    use crate::sync::{
        AtomicU32,
        Ordering::{AcqRel, Relaxed},
    };
    use crate::word::state::{EVENT_WAITERS, LOCKED};

    /// Whoever gives its processor away here counts it, and if the page was left to be released, that is done meanwhile. Nobody sleeps.
    #[derive(Clone, Copy)]
    struct Meanwhile(&'static Elsewhere);

    struct Elsewhere {
        given: AtomicU32,
        to_release: AtomicU32,
        page: PageLock<Meanwhile>,
    }

    impl Elsewhere {
        const fn new(this: &'static Self) -> Self {
            let page = PageLock::with_futex(Meanwhile(this));
            Self { given: AtomicU32::new(0), to_release: AtomicU32::new(0), page }
        }
    }

    impl Futex for Meanwhile {
        fn wait(&self, _word: &AtomicU32, _expected: u32) -> Sleep {
            unreachable!("the page is released before anybody has to sleep")
        }

        fn wake_one(&self, _word: *const AtomicU32) {}

        fn wake_all(&self, _word: *const AtomicU32) {}

        fn relax(&self) {
            self.0.given.fetch_add(1, Relaxed);
            if self.0.to_release.swap(0, AcqRel) == 1 {
                // SAFETY: whoever sets `to_release` has locked the page and left it to this.
                drop(unsafe { PageGuard::from_raw(&self.0.page) });
            }
        }

        fn event(&self, _index: usize) -> &EventSlot {
            unreachable!("nobody waits")
        }

        fn events(&self) -> usize {
            1
        }
    }

    #[test]
    fn every_so_many_holds_a_locker_gives_way_for_a_few() {
        static HERE: Elsewhere = Elsewhere::new(&HERE);
        for hold in 0..2 * GIVE_WAY {
            let guard = HERE.page.try_lock().expect("nobody else has it");
            HERE.given.store(0, Relaxed);
            hang_back(&HERE.page);
            drop(guard);
            assert_eq!(HERE.given.load(Relaxed), u32::from(hold % GIVE_WAY < GIVE_WAY_HOLDS), "in hold {hold}");
        }
    }

    #[test]
    fn a_page_that_was_released_and_taken_again_meanwhile_is_in_a_run() {
        let taken = State(LOCKED);
        let free = taken.released();
        let taken_again = free.taken_by_newcomer();
        assert!(!is_a_run(taken, taken));
        assert!(!is_a_run(taken, free), "the end of a hold that may have been long");
        assert!(is_a_run(taken, taken_again));
        assert!(is_a_run(taken, taken_again.released()));
        assert!(!is_a_run(free, free));
    }

    #[test]
    fn a_locker_that_was_woken_is_offered_the_processor_of_who_comes_before_it_has_run() {
        static HERE: Elsewhere = Elsewhere::new(&HERE);
        let after = |word: State| {
            HERE.given.store(0, Relaxed);
            HERE.page.state.store(word.0, Relaxed);
            hang_back(&HERE.page);
            HERE.given.load(Relaxed)
        };
        let slept_for = State(LOCKED).with_sleeper(false, false).expect("there is room");
        assert_eq!(after(slept_for.released()), 1, "released, a locker woken");
        assert_eq!(after(State(EVENT_WAITERS)), 0, "released, waiters told");
    }

    #[test]
    fn who_gives_its_processor_away_looks_again_before_it_sleeps() {
        static HERE: Elsewhere = Elsewhere::new(&HERE);
        for round in 1..=2 * GIVE_WAY {
            let _ = HERE.page.try_lock().expect("nobody else has it").into_raw();
            HERE.to_release.store(1, Relaxed);
            drop(HERE.page.lock());
            assert_eq!(HERE.given.load(Relaxed), round);
        }
    }
}
