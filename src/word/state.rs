//! The state word: lock, sleepers, gate, migration, poison.
//!
//! ```text
//!   31        24 23                 12 11      7   6    5    4    3    2    1    0
//!  ┌────────────┬─────────────────────┬─────────┬────┬────┬────┬────┬────┬────┬────┐
//!  │ generation │      sleepers       │  user   │CRWD│CLSD│POIS│MIGR│EVNT│LCKW│LOCK│
//!  └────────────┴─────────────────────┴─────────┴────┴────┴────┴────┴────┴────┴────┘
//! ```
//!
//! | field | meaning | who changes it |
//! |---|---|---|
//! | LOCKED | somebody owns the page | set by the acquirer, cleared by the owner's release |
//! | LOCK_WAITERS | the next release must wake one locker | set by a locker before it sleeps; set or cleared by whoever acquires |
//! | EVENT_WAITERS | the next release must tell the page's event slot | set by a waiter or a claim while the page is taken; cleared by whoever acquires |
//! | MIGRATING | the owner is migrating the page | the owner |
//! | POISONED | the contents are lost, for good | the owner |
//! | CLOSED | the gate: only registered sleepers may take the page | set by a locker that has lost too often, and by a fair release; cleared by the last sleeper |
//! | CROWD | lockers wait outside for the gate to open | set by such a locker; cleared with CLOSED |
//! | user | five bits for the caller | the owner |
//! | sleepers | lockers that are registered: asleep on this word, on their way to it or from it; exact | each locker for itself |
//! | generation | bumped by every release, and by a sleeper that leaves a page nobody owns; wraps | the owner's release; a sleeper that leaves |
//!
//! The combinations that matter:
//!
//! | LOCKED | CLOSED | LOCK_WAITERS | meaning |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free |
//! | 0 | 0 | 1 | free; the release that left the bit wakes a locker, so a newcomer that takes the page drops the bit |
//! | 0 | 1 | any | released, but only a registered sleeper may take it. To everybody else it is still *taken* |
//! | 1 | any | 0 | held; if there are sleepers, at least one has been woken and sets LOCK_WAITERS before it sleeps again |
//! | 1 | any | 1 | held; the release must wake a locker |
//!
//! CROWD implies CLOSED, and CLOSED implies a sleeper: the last one opens the gate.
//!
//! EVENT_WAITERS means something only while the page is taken. A release leaves it behind, already
//! served, and the next acquirer clears it: the release is one add and may not touch the page
//! again.
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
/// The gate: only registered sleepers may take the page.
pub const CLOSED: u32 = 1 << 5;
/// Lockers wait outside for the gate to open.
pub const CROWD: u32 = 1 << 6;
/// Where the caller's five bits begin.
pub const USER_SHIFT: u32 = 7;
/// The caller's five bits.
pub const USER: u32 = 0x1f << USER_SHIFT;
/// Where the number of sleepers begins.
pub const SLEEPERS_SHIFT: u32 = 12;
/// The number of sleepers.
pub const SLEEPERS: u32 = 0xfff << SLEEPERS_SHIFT;
/// Where the generation begins.
pub const GENERATION_SHIFT: u32 = 24;
/// The generation.
pub const GENERATION: u32 = 0xff << GENERATION_SHIFT;

/// A newcomer may not take the page while any of these is set.
const TAKEN: u32 = LOCKED | CLOSED;
/// With any of these set, acquiring is more than setting LOCKED.
const NOT_PLAIN: u32 = TAKEN | LOCK_WAITERS | EVENT_WAITERS;

/// The most lockers that can be registered on one page, 4095. Any more wait outside until all of
/// these had the page. (Under the model checkers it is 2, so that a model can have a crowd.)
pub const MAX_SLEEPERS: u32 =
    if cfg!(any(pagelock_loom, pagelock_shuttle)) { 2 } else { SLEEPERS >> SLEEPERS_SHIFT };

/// The five bits of the state word that belong to the caller, as a number from 0 to 31.
///
/// They are read by anybody ([`PageLock::user`](crate::PageLock::user)) and written by the owner
/// ([`PageGuard::set_user`](crate::PageGuard::set_user)); the crate never looks at them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct UserBits(u8);

impl UserBits {
    /// Keeps the lowest five bits of `bits`.
    #[must_use]
    pub const fn new(bits: u8) -> Self {
        Self(bits & 0x1f)
    }

    /// The bits, 0 to 31.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// One value of the state word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(pub(crate) u32);

impl State {
    /// What a release adds to the word of a page held as `self` is: LOCKED and MIGRATING go,
    /// POISONED comes if asked for, the generation goes up by one and its carry falls off the end.
    /// Because only the owner changes these bits, one add does it.
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

    /// Locked, or kept for those who are registered: a newcomer has to wait.
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
        UserBits(((self.0 & USER) >> USER_SHIFT) as u8)
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
        Self(self.0 & !USER | (user.0 as u32) << USER_SHIFT)
    }

    /// A newcomer takes a free page. LOCK_WAITERS goes: the release that left it wakes a locker,
    /// and that one sets it again before it sleeps. EVENT_WAITERS goes: that release tells the
    /// slot.
    pub(crate) const fn taken_by_newcomer(self) -> Self {
        Self(self.0 & !(LOCK_WAITERS | EVENT_WAITERS) | LOCKED)
    }

    /// A registered sleeper takes the page: LOCK_WAITERS stays exactly if others are left, and the
    /// last one opens the gate. EVENT_WAITERS stays if the gate was closed, because then waiters
    /// may have set it since the release.
    ///
    /// If CROWD goes, it is the caller's to tell them.
    pub(crate) const fn taken_by_sleeper(self) -> Self {
        let served = if self.is_closed() { 0 } else { EVENT_WAITERS };
        Self(self.0 & !served | LOCKED).without_one()
    }

    /// Whether a locker that is not registered may register: the gate is open or it has `starved`
    /// (rule 3), and there is room.
    pub(crate) const fn admits(self, starved: bool) -> bool {
        (!self.is_closed() || starved) && self.sleepers() < MAX_SLEEPERS
    }

    /// A locker is about to sleep for the page: registered from now on if it was not, and the next
    /// release wakes. It closes the gate if `close` says so.
    pub(crate) const fn with_sleeper(self, registered: bool, close: bool) -> Self {
        let one = if registered { 0 } else { 1 << SLEEPERS_SHIFT };
        let closed = if close { CLOSED } else { 0 };
        Self((self.0 | LOCK_WAITERS | closed) + one)
    }

    /// A locker is about to sleep outside. If it is kept out because the word can count no more
    /// sleepers, this closes the gate: it opens when all of them had the page, not at each of them.
    pub(crate) const fn with_crowd(self) -> Self {
        Self(self.0 | CROWD | CLOSED)
    }

    /// A registered sleeper gives up. It may have used up a wake, so while the page is locked
    /// LOCK_WAITERS makes the owner wake another.
    ///
    /// Without an owner the leaver passes its wake on itself. One that has registered and is not
    /// asleep yet misses that wake, and must not sleep: the generation makes sure that the word
    /// stays another, also if somebody registers in the leaver's place.
    pub(crate) const fn without_sleeper(self) -> Self {
        let next = self.without_one();
        if next.is_locked() { next } else { Self(next.0.wrapping_add(1 << GENERATION_SHIFT)) }
    }

    /// One sleeper fewer: LOCK_WAITERS exactly if others are left, and the gate open if not.
    const fn without_one(self) -> Self {
        let next = self.0 - (1 << SLEEPERS_SHIFT);
        if next & SLEEPERS == 0 {
            Self(next & !(LOCK_WAITERS | CLOSED | CROWD))
        } else {
            Self(next | LOCK_WAITERS)
        }
    }

    /// Nobody is registered, the gate is open. The generation as when a sleeper leaves.
    pub(crate) const fn without_sleepers(self) -> Self {
        let next = Self(self.0 & !(SLEEPERS | LOCK_WAITERS | CLOSED | CROWD));
        if next.is_locked() { next } else { Self(next.0.wrapping_add(1 << GENERATION_SHIFT)) }
    }

    /// What a release leaves behind.
    #[cfg(test)]
    pub(crate) const fn released(self) -> Self {
        Self(self.0.wrapping_add(Self::release_delta(self.is_migrating(), false)))
    }

    /// What a fair release leaves behind, of a page that has sleepers: free, for one of them.
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
