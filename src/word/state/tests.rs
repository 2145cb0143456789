extern crate std;
use super::*;
use std::format;
use std::vec::Vec;

/// Every legal state, with few enough sleepers to enumerate.
fn legal() -> impl Iterator<Item = State> {
    (0u32..1 << 7)
        .flat_map(|flags| {
            [0u32, 1, 2, MAX_SLEEPERS - 1, MAX_SLEEPERS].into_iter().flat_map(move |sleepers| {
                [0u32, 1, 0xff].into_iter().map(move |generation| {
                    let user = 0b01010 << USER_SHIFT;
                    State(
                        flags | user | sleepers << SLEEPERS_SHIFT | generation << GENERATION_SHIFT,
                    )
                })
            })
        })
        .filter(is_legal)
}

fn is_legal(s: &State) -> bool {
    let a_crowd_stands_outside_a_closed_gate = !s.has_crowd() || s.is_closed();
    let somebody_opens_the_gate = !s.is_closed() || s.sleepers() > 0;
    let only_the_owner_migrates = s.is_locked() || !s.is_migrating();
    a_crowd_stands_outside_a_closed_gate && somebody_opens_the_gate && only_the_owner_migrates
}

#[test]
fn the_published_masks_of_the_state_cover_the_word_once() {
    let masks = [
        LOCKED,
        LOCK_WAITERS,
        EVENT_WAITERS,
        MIGRATING,
        POISONED,
        CLOSED,
        CROWD,
        USER,
        SLEEPERS,
        GENERATION,
    ];
    assert_eq!(masks.iter().fold(0, |all, mask| all | mask), u32::MAX);
    assert_eq!(masks.iter().map(|mask| mask.count_ones()).sum::<u32>(), u32::BITS);
    let word = State(3 << GENERATION_SHIFT | 2 << SLEEPERS_SHIFT | 9 << USER_SHIFT);
    assert_eq!((word.generation(), word.sleepers(), word.user().get()), (3, 2, 9));
}

/// The bits that no lock operation may change.
fn kept(s: State) -> u32 {
    s.0 & (POISONED | USER)
}

#[test]
fn every_transition_leads_to_a_legal_state() {
    let mut seen = 0;
    for s in legal() {
        seen += 1;
        let mut next = Vec::new();
        if !s.is_taken() {
            next.push(s.taken_by_newcomer());
        }
        if !s.is_locked() && s.sleepers() > 0 {
            next.push(s.taken_by_sleeper());
        }
        if s.is_taken() {
            next.push(s.with_event_waiters());
            for starved in [false, true] {
                if s.admits(starved) {
                    next.extend([s.with_sleeper(false, false), s.with_sleeper(false, true)]);
                } else {
                    next.push(s.with_crowd());
                }
            }
        }
        if s.is_locked() && s.sleepers() > 0 {
            next.extend([s.with_sleeper(true, false), s.with_sleeper(true, true)]);
            if !s.is_migrating() {
                next.push(s.released_fairly());
            }
        }
        if s.sleepers() > 0 {
            next.push(s.without_sleeper());
        }
        next.push(s.without_sleepers());
        for n in next {
            assert!(is_legal(&n), "{s:?} -> {n:?}");
            assert_eq!(kept(s), kept(n), "{s:?} -> {n:?}");
        }
    }
    assert!(seen > 500, "the enumeration has shrunk to {seen}");
}

#[test]
fn release_is_one_add_that_keeps_everything_else() {
    for s in legal().filter(|s| s.is_locked()) {
        let n = s.released();
        assert!(!n.is_locked() && !n.is_migrating());
        assert_eq!(n.generation(), s.generation().wrapping_add(1));
        assert_eq!((n.sleepers(), n.is_closed(), kept(n)), (s.sleepers(), s.is_closed(), kept(s)));
        assert_eq!(n.has_waiters(), s.has_waiters());
        if !s.is_poisoned() {
            assert!(
                State(s.0.wrapping_add(State::release_delta(s.is_migrating(), true))).is_poisoned()
            );
        }
    }
}

/// A locker that has registered and is about to sleep under `s` misses the wake that a leaver
/// passes on. The word must not come back to what it was when another registers in the leaver's
/// place.
#[test]
fn leaving_a_page_that_nobody_owns_cannot_be_undone_by_another_that_registers() {
    for s in legal().filter(|s| !s.is_locked() && s.sleepers() > 0) {
        let left = s.without_sleeper();
        for close in [false, true] {
            assert_ne!(left.with_sleeper(false, close), s, "{s:?}");
        }
    }
}

#[test]
fn the_last_sleeper_out_opens_the_gate_and_no_other() {
    for s in legal().filter(|s| s.sleepers() > 0 && s.is_closed()) {
        let mut next = std::vec![s.without_sleeper()];
        if !s.is_locked() {
            next.push(s.taken_by_sleeper());
        }
        for n in next {
            assert_eq!(n.is_closed(), s.sleepers() > 1, "{s:?} -> {n:?}");
            assert_eq!(n.has_crowd(), s.has_crowd() && s.sleepers() > 1, "{s:?} -> {n:?}");
        }
    }
}

#[test]
fn a_full_word_admits_nobody_and_closes_the_gate_on_who_comes() {
    let full = State(LOCKED | LOCK_WAITERS | MAX_SLEEPERS << SLEEPERS_SHIFT);
    assert!(!full.admits(false) && !full.admits(true));
    assert!(full.with_crowd().is_closed());
    assert_eq!(
        full.with_sleeper(true, false).sleepers(),
        MAX_SLEEPERS,
        "who is in is counted once"
    );
}

#[test]
fn striking_the_sleepers_leaves_the_rest_and_ages_a_page_that_nobody_has() {
    let kept = EVENT_WAITERS | 0b10 << USER_SHIFT;
    let struck = LOCK_WAITERS | CLOSED | CROWD | 3 << SLEEPERS_SHIFT;
    let at = |generation: u32| generation << GENERATION_SHIFT;
    assert_eq!(State(kept | struck | at(7)).without_sleepers(), State(kept | at(8)));
    assert_eq!(
        State(kept | struck | LOCKED | at(7)).without_sleepers(),
        State(kept | LOCKED | at(7))
    );
    assert_eq!(State(struck | at(0xff)).without_sleepers(), State(0), "the generation comes round");
}

#[test]
fn debug_speaks_in_words() {
    let s = State(
        LOCKED
            | LOCK_WAITERS
            | EVENT_WAITERS
            | MIGRATING
            | CLOSED
            | CROWD
            | 2 << SLEEPERS_SHIFT
            | 7 << GENERATION_SHIFT,
    );
    assert_eq!(
        format!("{s:?}"),
        "locked, migrating, 2 sleepers, gate closed, crowd outside, awaited, generation 7"
    );
    assert_eq!(format!("{:?}", State(0)), "free, generation 0");
}

#[test]
fn user_bits_are_five() {
    assert_eq!(UserBits::new(0xff).get(), 31);
    assert_eq!(State(LOCKED).with_user(UserBits::new(19)).user(), UserBits::new(19));
}
