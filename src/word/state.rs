//! The state word: lock, sleepers, promises, migration, poison.
//!
//! One byte per field, so that a word seen in a debugger or a crash dump reads from left to right:
//!
//! ```text
//!   31        24 23        16 15         8 7   6   5    4    3    2    1    0
//!  ┌────────────┬────────────┬────────────┬─────┬────┬────┬────┬────┬────┬────┐
//!  │ generation │  handoffs  │  sleepers  │ user│CRWD│POIS│MIGR│EVNT│LCKW│LOCK│
//!  └────────────┴────────────┴────────────┴─────┴────┴────┴────┴────┴────┴────┘
//! ```
//!
//! | field | meaning | who changes it |
//! |---|---|---|
//! | LOCKED | somebody owns the page | set by the acquirer, cleared by the owner's release |
//! | LOCK_WAITERS | the next release must wake one locker | set by a locker before it sleeps; set or cleared by whoever acquires |
//! | EVENT_WAITERS | the next release must tell the page's event slot | set by a waiter or a claim while the page is taken; cleared by whoever acquires |
//! | MIGRATING | the owner is migrating the page | the owner |
//! | POISONED | the contents are lost, for good | the owner; never cleared |
//! | CROWD | lockers that may not be counted yet wait to be told that they may | set by such a locker, and by a sleeper that is overtaken; cleared by the sleeper that makes room |
//! | user | two bits for the caller | the owner |
//! | sleepers | lockers that are asleep on this word, or on their way to it or from it; exact | each locker for itself |
//! | handoffs | how many of the next acquisitions are promised to sleepers; never more than `sleepers` | a starved locker and a fair release raise it; each sleeper that acquires lowers it |
//! | generation | bumped by every release, and by a sleeper that leaves a promised page; wraps | the owner's release; a sleeper that leaves while there is no owner |
//!
//! The combinations that matter:
//!
//! | LOCKED | handoffs | LOCK_WAITERS | meaning |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free |
//! | 0 | 0 | 1 | free; the release that left the bit is waking a locker, so a newcomer that takes the page may drop the bit |
//! | 0 | >0 | any | released, but promised: only a sleeper may take it. To everybody else the page is still *taken* |
//! | 1 | 0 | 0 | held; if there are sleepers, at least one has been woken and will set LOCK_WAITERS again before it sleeps |
//! | 1 | any | 1 | held; the release must wake a locker |
//! | 1 | >0 | 0 | never |
//!
//! A locker may be counted as a sleeper while there are no promises and fewer than [`MAX_SLEEPERS`] sleepers; one that is starved
//! may be counted all the same, because it makes the promises cover everybody anew (but not if that would hold up for ever those
//! who have been promised the page, or the crowd). So whoever is counted is covered by every promise
//! that exists, and may take the page whenever it is not locked: there is no question of whose turn it is that the word could not
//! answer. The others are the *crowd*: they wait in the event table, as those do who do not want to own the page, until a
//! sleeper that ceases to be one leaves room and no promises.
//!
//! EVENT_WAITERS means something only while the page is taken. A release leaves it behind, already served, and the next
//! acquirer clears it: the release itself is one add and may not touch the page again.

use core::fmt;

/// Somebody owns the page.
pub const LOCKED: u32 = 1 << 0;
/// The next release must wake a locker.
pub const LOCK_WAITERS: u32 = 1 << 1;
/// The next release must tell the page's event slot.
pub const EVENT_WAITERS: u32 = 1 << 2;
/// The owner is migrating the page.
pub const MIGRATING: u32 = 1 << 3;
/// The contents are lost for good.
pub const POISONED: u32 = 1 << 4;
/// Lockers that may not be counted as sleepers yet wait to be told that they may.
pub const CROWD: u32 = 1 << 5;

const USER_SHIFT: u32 = 6;
const USER: u32 = 0b11 << USER_SHIFT;
const SLEEPERS_SHIFT: u32 = 8;
const SLEEPERS: u32 = 0xff << SLEEPERS_SHIFT;
const HANDOFFS_SHIFT: u32 = 16;
const HANDOFFS: u32 = 0xff << HANDOFFS_SHIFT;
const GENERATION_SHIFT: u32 = 24;

/// A newcomer may not take the page while any of these is set.
const TAKEN: u32 = LOCKED | HANDOFFS;
/// With any of these set, acquiring is more than setting LOCKED.
const NOT_PLAIN: u32 = TAKEN | LOCK_WAITERS | EVENT_WAITERS;

/// The most lockers that can be counted as sleepers of one page. More than these wait for a place, without limit to their number, and
/// are outside the bound on bypassing until they have one. (Under the model checkers it is 2, so that a model can have a crowd.)
pub const MAX_SLEEPERS: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 2 } else { SLEEPERS >> SLEEPERS_SHIFT };

/// The two bits of the state word that belong to the caller, as a number from 0 to 3.
///
/// They are read by anybody ([`PageLock::user`](crate::PageLock::user)) and written by the owner
/// ([`PageGuard::set_user`](crate::PageGuard::set_user)); the crate never looks at them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct UserBits(u8);

impl UserBits {
    /// Keeps the lowest two bits of `bits`.
    #[must_use]
    pub const fn new(bits: u8) -> Self {
        Self(bits & 0b11)
    }

    /// The bits, 0 to 3.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// One value of the state word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(pub(crate) u32);

impl State {
    /// What a release adds to the word of a page held as `self` is: LOCKED and MIGRATING go, POISONED comes if asked for, the
    /// generation goes up by one, and its carry falls off the end. Because only the owner changes these bits, one add does it.
    pub(crate) fn release_delta(migrating: bool, poison: bool) -> u32 {
        let mut delta = (1u32 << GENERATION_SHIFT).wrapping_sub(LOCKED);
        if migrating {
            delta = delta.wrapping_sub(MIGRATING);
        }
        if poison {
            delta = delta.wrapping_add(POISONED);
        }
        delta
    }

    /// Locked, or released with a promise: a newcomer has to wait.
    pub(crate) const fn is_taken(self) -> bool {
        self.0 & TAKEN != 0
    }

    /// Nothing but LOCKED has to change for a newcomer to own the page.
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & NOT_PLAIN == 0
    }

    pub(crate) const fn is_locked(self) -> bool {
        self.0 & LOCKED != 0
    }

    pub(crate) const fn has_lock_waiters(self) -> bool {
        self.0 & LOCK_WAITERS != 0
    }

    pub(crate) const fn has_event_waiters(self) -> bool {
        self.0 & EVENT_WAITERS != 0
    }

    /// A release that returned this value has somebody to wake.
    pub(crate) const fn has_waiters(self) -> bool {
        self.0 & (LOCK_WAITERS | EVENT_WAITERS) != 0
    }

    pub(crate) const fn has_crowd(self) -> bool {
        self.0 & CROWD != 0
    }

    /// A locker that is not counted yet can neither take the page nor be counted as a sleeper.
    pub(crate) const fn is_crowded(self, starved: bool) -> bool {
        let promised_to_others = self.handoffs() > 0 && !starved;
        self.is_taken() && (promised_to_others || self.sleepers() == MAX_SLEEPERS)
    }

    pub(crate) const fn is_migrating(self) -> bool {
        self.0 & MIGRATING != 0
    }

    pub(crate) const fn is_poisoned(self) -> bool {
        self.0 & POISONED != 0
    }

    pub(crate) const fn user(self) -> UserBits {
        UserBits(((self.0 & USER) >> USER_SHIFT) as u8)
    }

    pub(crate) const fn sleepers(self) -> u32 {
        (self.0 & SLEEPERS) >> SLEEPERS_SHIFT
    }

    pub(crate) const fn handoffs(self) -> u32 {
        (self.0 & HANDOFFS) >> HANDOFFS_SHIFT
    }

    pub(crate) const fn generation(self) -> u8 {
        (self.0 >> GENERATION_SHIFT) as u8
    }

    pub(crate) const fn with_locked(self) -> Self {
        Self(self.0 | LOCKED)
    }

    pub(crate) const fn with_event_waiters(self) -> Self {
        Self(self.0 | EVENT_WAITERS)
    }

    pub(crate) const fn with_crowd(self) -> Self {
        Self(self.0 | CROWD)
    }

    /// A sleeper has ceased to be one: unless promises are left, there is room for the crowd.
    const fn with_room(self) -> Self {
        if self.handoffs() > 0 { self } else { Self(self.0 & !CROWD) }
    }

    pub(crate) const fn with_user(self, user: UserBits) -> Self {
        Self(self.0 & !USER | (user.0 as u32) << USER_SHIFT)
    }

    const fn with_handoffs(self, handoffs: u32) -> Self {
        Self(self.0 & !HANDOFFS | handoffs << HANDOFFS_SHIFT)
    }

    const fn with_lock_waiters(self, set: bool) -> Self {
        if set { Self(self.0 | LOCK_WAITERS) } else { Self(self.0 & !LOCK_WAITERS) }
    }

    /// A newcomer takes a free page. LOCK_WAITERS goes: the release that left it has woken a locker, and that one sets it
    /// again before it sleeps. EVENT_WAITERS goes: that release has told the event slot.
    pub(crate) const fn taken_by_newcomer(self) -> Self {
        Self(self.0 & !(LOCK_WAITERS | EVENT_WAITERS) | LOCKED)
    }

    /// A registered sleeper takes the page: one sleeper fewer, one promise kept if there was one, and LOCK_WAITERS exactly if
    /// others are left. EVENT_WAITERS stays if the page was promised, because then waiters may have set it since the release.
    ///
    /// If CROWD goes, it is the caller's to tell them.
    pub(crate) fn taken_by_sleeper(self) -> Self {
        let promised = self.handoffs() > 0;
        let mut next = Self((self.0 - (1 << SLEEPERS_SHIFT)) | LOCKED);
        if promised {
            next = next.with_handoffs(self.handoffs() - 1);
        }
        if !promised {
            next = Self(next.0 & !EVENT_WAITERS);
        }
        next.with_lock_waiters(next.sleepers() > 0).with_room()
    }

    /// A locker is about to sleep: counted if it was not, LOCK_WAITERS set; and if it is `starved`, the page is promised to
    /// everybody who sleeps now. Wakes are first in, first out, so that is exactly until its own turn.
    ///
    /// `None` when one more sleeper [cannot be counted](Self::is_crowded).
    pub(crate) fn with_sleeper(self, registered: bool, starved: bool) -> Option<Self> {
        let mut next = self.with_lock_waiters(true);
        if !registered {
            if self.is_crowded(starved) {
                return None;
            }
            next.0 += 1 << SLEEPERS_SHIFT;
        }
        Some(if starved { next.with_handoffs(next.sleepers()) } else { next })
    }

    /// A registered sleeper gives up. A promise without a sleeper to keep it would lock the page for ever, so there are never
    /// more of them than sleepers; and as this one may have been woken, LOCK_WAITERS makes the owner wake another.
    ///
    /// Without an owner the leaver passes its wake on itself. One that has registered and is not asleep yet misses that wake, and must
    /// not sleep: the generation makes sure that the word stays another, also if somebody registers in the leaver's place.
    pub(crate) fn without_sleeper(self) -> Self {
        let mut next = Self(self.0 - (1 << SLEEPERS_SHIFT));
        let sleepers = next.sleepers();
        if next.handoffs() > sleepers {
            next = next.with_handoffs(sleepers);
        }
        next = next.with_room();
        if next.is_locked() {
            return next.with_lock_waiters(sleepers > 0);
        }
        Self(next.0.wrapping_add(1 << GENERATION_SHIFT))
    }

    /// Nobody sleeps, and nothing is promised. The generation as when a sleeper leaves.
    pub(crate) const fn without_sleepers(self) -> Self {
        let next = Self(self.0 & !(SLEEPERS | HANDOFFS | LOCK_WAITERS | CROWD));
        if next.is_locked() { next } else { Self(next.0.wrapping_add(1 << GENERATION_SHIFT)) }
    }

    /// What a release leaves behind.
    pub(crate) fn released(self) -> Self {
        Self(self.0.wrapping_add(Self::release_delta(self.is_migrating(), false)))
    }

    /// A fair release: free, but promised to a sleeper. Call it only with sleepers.
    pub(crate) fn released_to_sleeper(self) -> Self {
        let next = self.released();
        if next.handoffs() == 0 { next.with_handoffs(1) } else { next }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lock = match (self.is_locked(), self.handoffs()) {
            (true, _) => "locked",
            (false, 0) => "free",
            (false, _) => "promised",
        };
        f.write_str(lock)?;
        if self.is_migrating() {
            f.write_str(", migrating")?;
        }
        if self.is_poisoned() {
            f.write_str(", poisoned")?;
        }
        if self.sleepers() > 0 {
            write!(f, ", {} sleepers", self.sleepers())?;
        }
        if self.handoffs() > 0 {
            write!(f, ", {} handoffs promised", self.handoffs())?;
        }
        if self.has_crowd() {
            f.write_str(", crowded")?;
        }
        if self.is_taken() && self.has_event_waiters() {
            f.write_str(", awaited")?;
        }
        if self.user().get() != 0 {
            write!(f, ", user {}", self.user().get())?;
        }
        write!(f, ", generation {}", self.generation())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    #[test]
    fn striking_the_sleepers_leaves_the_rest_and_ages_a_page_that_nobody_has() {
        let kept = EVENT_WAITERS | 0b10 << USER_SHIFT;
        let struck = LOCK_WAITERS | CROWD | 3 << SLEEPERS_SHIFT | 2 << HANDOFFS_SHIFT;
        let at = |generation: u32| generation << GENERATION_SHIFT;
        assert_eq!(State(kept | struck | at(7)).without_sleepers(), State(kept | at(8)));
        assert_eq!(State(kept | struck | LOCKED | at(7)).without_sleepers(), State(kept | LOCKED | at(7)));
        assert_eq!(State(struck | at(0xff)).without_sleepers(), State(0), "the generation comes round");
    }

    /// Every state with few enough sleepers to enumerate, that the state table allows.
    fn legal() -> impl Iterator<Item = State> {
        (0u32..1 << 5)
            .flat_map(|flags| {
                [0u32, 1, 2, MAX_SLEEPERS - 1, MAX_SLEEPERS].into_iter().flat_map(move |sleepers| {
                    [0, 1, 2, MAX_SLEEPERS].into_iter().flat_map(move |handoffs| {
                        [0u32, 1, 0xff].into_iter().map(move |generation| {
                            State(
                                flags
                                    | 0b10 << USER_SHIFT
                                    | sleepers << SLEEPERS_SHIFT
                                    | handoffs << HANDOFFS_SHIFT
                                    | generation << GENERATION_SHIFT,
                            )
                        })
                    })
                })
            })
            .filter(is_legal)
    }

    fn is_legal(s: &State) -> bool {
        let promises_kept = s.handoffs() <= s.sleepers();
        let promised_is_woken = !(s.is_locked() && s.handoffs() > 0 && !s.has_lock_waiters());
        let only_the_owner_migrates = s.is_locked() || !s.is_migrating();
        let the_crowd_has_something_to_wait_for = !s.has_crowd() || s.sleepers() > 0;
        promises_kept && promised_is_woken && only_the_owner_migrates && the_crowd_has_something_to_wait_for
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
            let mut next = std::vec::Vec::new();
            if !s.is_taken() {
                next.push(s.taken_by_newcomer());
            }
            if !s.is_locked() && s.sleepers() > 0 {
                next.push(s.taken_by_sleeper());
            }
            if s.is_taken() {
                next.push(s.with_event_waiters());
                next.extend(s.with_sleeper(false, false));
                next.extend(s.with_sleeper(false, true));
                for starved in [false, true] {
                    assert_eq!(s.with_sleeper(false, starved).is_none(), s.is_crowded(starved), "{s:?}");
                    if s.is_crowded(starved) {
                        next.push(s.with_crowd());
                    }
                }
                if s.sleepers() > 0 {
                    next.extend(s.with_sleeper(true, true));
                }
            }
            if s.sleepers() > 0 {
                next.push(s.without_sleeper());
            }
            next.push(s.without_sleepers());
            if s.is_locked() && !s.is_migrating() && s.sleepers() > 0 {
                next.push(s.released_to_sleeper());
            }
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
            assert_eq!((n.sleepers(), n.handoffs(), kept(n)), (s.sleepers(), s.handoffs(), kept(s)));
            assert_eq!(n.has_waiters(), s.has_waiters());
            if !s.is_poisoned() {
                assert!(State(s.0.wrapping_add(State::release_delta(s.is_migrating(), true))).is_poisoned());
            }
        }
    }

    #[test]
    fn a_promise_is_kept_by_sleepers_only_and_is_used_up() {
        for s in legal().filter(|s| !s.is_locked() && s.handoffs() > 0) {
            assert!(s.is_taken());
            assert_eq!(s.taken_by_sleeper().handoffs(), s.handoffs() - 1);
        }
    }

    /// Somebody who has registered and is about to sleep under `s` misses the wake that a leaver passes on. The word must not come back
    /// to what it was when another registers in the leaver's place.
    #[test]
    fn leaving_a_promised_page_cannot_be_undone_by_another_that_registers() {
        for s in legal().filter(|s| !s.is_locked() && s.handoffs() > 0) {
            let left = s.without_sleeper();
            for again in [left.with_sleeper(false, false), left.with_sleeper(false, true)].into_iter().flatten() {
                assert_ne!(again, s, "{s:?}");
            }
        }
    }

    /// Sooner would be for nothing: while there are promises, nobody of the crowd may be counted.
    #[test]
    fn the_crowd_is_told_when_no_promises_are_left() {
        for s in legal().filter(|s| s.sleepers() > 0).map(State::with_crowd) {
            let left = s.without_sleeper();
            assert_eq!(left.has_crowd(), left.handoffs() > 0, "{s:?} -> {left:?}");
            if !s.is_locked() {
                let taken = s.taken_by_sleeper();
                assert_eq!(taken.has_crowd(), taken.handoffs() > 0, "{s:?} -> {taken:?}");
            }
        }
    }

    #[test]
    fn one_more_than_the_most_sleepers_is_refused() {
        let full = State(LOCKED | LOCK_WAITERS | MAX_SLEEPERS << SLEEPERS_SHIFT);
        assert!(full.with_sleeper(false, false).is_none());
        assert!(full.with_sleeper(true, false).is_some());
    }

    #[test]
    fn debug_speaks_in_words() {
        let s = State(
            LOCKED
                | LOCK_WAITERS
                | EVENT_WAITERS
                | MIGRATING
                | 2 << SLEEPERS_SHIFT
                | 1 << HANDOFFS_SHIFT
                | 7 << GENERATION_SHIFT,
        );
        assert_eq!(format!("{s:?}"), "locked, migrating, 2 sleepers, 1 handoffs promised, awaited, generation 7");
        assert_eq!(format!("{:?}", State(0)), "free, generation 0");
    }

    #[test]
    fn user_bits_are_two() {
        assert_eq!(UserBits::new(7).get(), 3);
        assert_eq!(State(LOCKED).with_user(UserBits::new(2)).user(), UserBits::new(2));
    }
}
