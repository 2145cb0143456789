//! The state word: lock, sleepers, gate, migration, poison.
//!
//! ```text
//!   31        24 23                 12 11      7   6    5    4    3    2    1    0
//!  ┌────────────┬─────────────────────┬─────────┬────┬────┬────┬────┬────┬────┬────┐
//!  │ generation │      sleepers       │  user   │CRWD│CLSD│POIS│MIGR│EVNT│LCKW│LOCK│
//!  └────────────┴─────────────────────┴─────────┴────┴────┴────┴────┴────┴────┴────┘
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | LOCKED | the page has an owner |
//! | LOCK_WAITERS | the next release must wake one locker |
//! | EVENT_WAITERS | the next release must tell the page's event slot |
//! | MIGRATING | the owner is migrating the page |
//! | POISONED | the contents are lost, for good |
//! | CLOSED | the gate: only registered sleepers may take the page |
//! | CROWD | lockers wait outside for the gate to open |
//! | user | five bits for the caller |
//! | sleepers | registered lockers: asleep on this word, on the way to it or from it; exact |
//! | generation | counts releases, and sleepers that leave a page without an owner; wraps |
//!
//! | field | set by | cleared by |
//! |---|---|---|
//! | LOCKED | the acquirer | the owner's release |
//! | LOCK_WAITERS | a locker that goes to sleep, or acquires | an acquirer |
//! | EVENT_WAITERS | a waiter or a claim, while the page is taken | an acquirer |
//! | MIGRATING, POISONED, user | the owner | the owner |
//! | CLOSED | a locker that has lost too often; a fair release | the last sleeper |
//! | CROWD | a locker outside | the last sleeper |
//! | sleepers | each locker for itself | each locker for itself |
//!
//! The combinations that matter:
//!
//! | LOCKED | CLOSED | LOCK_WAITERS | meaning |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free |
//! | 0 | 0 | 1 | free; the release that left the bit is waking a locker |
//! | 0 | 1 | any | kept: only a registered sleeper may take it, all others find it *taken* |
//! | 1 | any | 0 | held; of the sleepers, if any, at least one is awake |
//! | 1 | any | 1 | held; the release must wake a locker |
//!
//! In the second row a newcomer that takes the page drops the bit. In the fourth the sleeper that
//! is awake sets LOCK_WAITERS before it sleeps again.
//!
//! CROWD implies CLOSED, and CLOSED implies a sleeper: the last sleeper opens the gate.
//!
//! EVENT_WAITERS has a meaning only while the page is taken. A release serves it and leaves it
//! behind, because a release is one add and may not touch the page again. The next acquirer clears
//! it.
//!
//! The masks and shifts are public for debuggers, crash dumps and other languages:
//!
//! ```
//! use pagelock::word::state::{LOCKED, MIGRATING, SLEEPERS, SLEEPERS_SHIFT};
//!
//! let word: u32 = 0x2a00_200b; // as found in a crash dump
//! assert_ne!(word & LOCKED, 0);
//! assert_ne!(word & MIGRATING, 0);
//! assert_eq!((word & SLEEPERS) >> SLEEPERS_SHIFT, 2);
//! ```

use super::UserBits;
use core::fmt;

/// The page has an owner.
pub const LOCKED: u32 = 1 << 0;
/// The next release must wake a locker.
pub const LOCK_WAITERS: u32 = 1 << 1;
/// The next release must tell the page's event slot.
pub const EVENT_WAITERS: u32 = 1 << 2;
/// The owner is migrating the page.
pub const MIGRATING: u32 = 1 << 3;
/// The contents are lost for good.
pub const POISONED: u32 = 1 << 4;
/// The gate: only registered sleepers may take the page.
pub const CLOSED: u32 = 1 << 5;
/// Lockers wait outside for the gate to open.
pub const CROWD: u32 = 1 << 6;
/// Position of the caller's lowest bit.
pub const USER_SHIFT: u32 = 7;
/// Mask of the caller's five bits.
pub const USER: u32 = 0x1f << USER_SHIFT;
/// Position of the lowest bit of the number of sleepers.
pub const SLEEPERS_SHIFT: u32 = 12;
/// Mask of the number of sleepers.
pub const SLEEPERS: u32 = 0xfff << SLEEPERS_SHIFT;
/// Position of the generation's lowest bit.
pub const GENERATION_SHIFT: u32 = 24;
/// Mask of the generation.
pub const GENERATION: u32 = 0xff << GENERATION_SHIFT;

/// A newcomer may not take the page while any of these is set.
const TAKEN: u32 = LOCKED | CLOSED;
/// With any of these set, acquiring is more than setting LOCKED.
const NOT_PLAIN: u32 = TAKEN | LOCK_WAITERS | EVENT_WAITERS;

/// The most lockers that can be registered on one page: 4095. Any more wait outside until each of
/// these has owned the page. (Under the model checkers 2, so that a model can have a crowd.)
pub const MAX_SLEEPERS: u32 =
    if cfg!(any(pagelock_loom, pagelock_shuttle)) { 2 } else { SLEEPERS >> SLEEPERS_SHIFT };

/// One value of the state word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(pub(crate) u32);

impl State {
    /// The number that a release adds to the word: it clears LOCKED, and MIGRATING if set, sets
    /// POISONED if asked to, and counts the generation up, whose carry falls off the end. One add
    /// does all that because only the owner changes these bits.
    pub(crate) const fn release_delta(migrating: bool, poison: bool) -> u32 {
        let mut delta = (1u32 << GENERATION_SHIFT).wrapping_sub(LOCKED);
        if migrating {
            delta = delta.wrapping_sub(MIGRATING);
        }
        if poison {
            delta = delta.wrapping_add(POISONED);
        }
        delta
    }

    /// Locked, or kept for registered lockers: a newcomer must wait.
    pub(crate) const fn is_taken(self) -> bool {
        self.0 & TAKEN != 0
    }

    /// A newcomer can take the page by setting LOCKED and nothing else.
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

    /// A release that replaced this value must wake.
    pub(crate) const fn has_waiters(self) -> bool {
        self.0 & (LOCK_WAITERS | EVENT_WAITERS) != 0
    }

    pub(crate) const fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(crate) const fn has_crowd(self) -> bool {
        self.0 & CROWD != 0
    }

    pub(crate) const fn is_migrating(self) -> bool {
        self.0 & MIGRATING != 0
    }

    pub(crate) const fn is_poisoned(self) -> bool {
        self.0 & POISONED != 0
    }

    pub(crate) const fn user(self) -> UserBits {
        UserBits::new(((self.0 & USER) >> USER_SHIFT) as u8)
    }

    pub(crate) const fn sleepers(self) -> u32 {
        (self.0 & SLEEPERS) >> SLEEPERS_SHIFT
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

    pub(crate) const fn with_user(self, user: UserBits) -> Self {
        Self(self.0 & !USER | (user.get() as u32) << USER_SHIFT)
    }

    /// A newcomer takes a free page. It clears LOCK_WAITERS: the release that left the bit wakes a
    /// locker, which sets it again before it sleeps. It clears EVENT_WAITERS: that release tells
    /// the slot.
    pub(crate) const fn taken_by_newcomer(self) -> Self {
        Self(self.0 & !(LOCK_WAITERS | EVENT_WAITERS) | LOCKED)
    }

    /// A registered sleeper takes the page: LOCK_WAITERS is set exactly if other sleepers remain,
    /// and the last one opens the gate. EVENT_WAITERS stays if the gate was closed, because waiters
    /// may have set it since the release.
    ///
    /// If this clears CROWD, the caller must tell the crowd.
    pub(crate) const fn taken_by_sleeper(self) -> Self {
        let served = if self.is_closed() { 0 } else { EVENT_WAITERS };
        Self(self.0 & !served | LOCKED).without_one()
    }

    /// Whether a locker may register: the gate is open or the locker has `starved` (rule 3), and
    /// the count has room.
    pub(crate) const fn admits(self, starved: bool) -> bool {
        (!self.is_closed() || starved) && self.sleepers() < MAX_SLEEPERS
    }

    /// A locker is about to sleep for the page: it registers unless it is registered, makes the
    /// next release wake, and closes the gate if `close`.
    pub(crate) const fn with_sleeper(self, registered: bool, close: bool) -> Self {
        let one = if registered { 0 } else { 1 << SLEEPERS_SHIFT };
        let closed = if close { CLOSED } else { 0 };
        Self((self.0 | LOCK_WAITERS | closed) + one)
    }

    /// A locker is about to sleep outside. If the count had no room for it, this closes the gate,
    /// which then opens once all sleepers have had the page, not at each of them.
    pub(crate) const fn with_crowd(self) -> Self {
        Self(self.0 | CROWD | CLOSED)
    }

    /// A registered sleeper gives up. It may have used up a wake, so while the page is locked
    /// LOCK_WAITERS makes the owner wake another sleeper.
    ///
    /// Without an owner the leaving sleeper passes its wake on itself. A locker that has registered
    /// but is not asleep yet misses that wake and must not fall asleep: the generation keeps the
    /// word different, even if another locker registers in the leaving one's place.
    pub(crate) const fn without_sleeper(self) -> Self {
        let next = self.without_one();
        if next.is_locked() { next } else { Self(next.0.wrapping_add(1 << GENERATION_SHIFT)) }
    }

    /// One sleeper fewer: LOCK_WAITERS is set if others remain; otherwise the gate is open.
    const fn without_one(self) -> Self {
        let next = self.0 - (1 << SLEEPERS_SHIFT);
        if next & SLEEPERS == 0 {
            Self(next & !(LOCK_WAITERS | CLOSED | CROWD))
        } else {
            Self(next | LOCK_WAITERS)
        }
    }

    /// No sleepers, and an open gate. The generation counts as when a sleeper leaves.
    pub(crate) const fn without_sleepers(self) -> Self {
        let next = Self(self.0 & !(SLEEPERS | LOCK_WAITERS | CLOSED | CROWD));
        if next.is_locked() { next } else { Self(next.0.wrapping_add(1 << GENERATION_SHIFT)) }
    }

    /// The word after a release.
    #[cfg(test)]
    pub(crate) const fn released(self) -> Self {
        Self(self.0.wrapping_add(Self::release_delta(self.is_migrating(), false)))
    }

    /// The word after a fair release of a page with sleepers: kept for one of them.
    pub(crate) const fn released_fairly(self) -> Self {
        Self((self.0 | CLOSED).wrapping_add(Self::release_delta(self.is_migrating(), false)))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.is_locked(), self.is_closed()) {
            (true, _) => "locked",
            (false, false) => "free",
            (false, true) => "kept for a sleeper",
        })?;
        if self.is_migrating() {
            f.write_str(", migrating")?;
        }
        if self.is_poisoned() {
            f.write_str(", poisoned")?;
        }
        if self.sleepers() > 0 {
            write!(f, ", {} sleepers", self.sleepers())?;
        }
        if self.is_closed() {
            f.write_str(", gate closed")?;
        }
        if self.has_crowd() {
            f.write_str(", crowd outside")?;
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
mod tests;
