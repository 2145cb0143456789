//! Event slots: where the waiters for a release sleep.
//!
//! A waiter may not sleep on the page, because it holds nothing that keeps the page its own. It sleeps on a *sequence word*
//! of a small table instead, chosen by the page's address. A release that finds waiters bumps the sequence and wakes.
//!
//! # Fan-out
//!
//! Waking N sleepers costs the waker a few microseconds each, and the waker is the migrator that everybody waits for. So it
//! wakes only [`FIRST`] of them, and each of those wakes [`NEXT`] more before it returns. For that to strand nobody:
//!
//! * *A wake is passed on exactly when one was used up.* A sleeper that timed out, was interrupted, or never slept has taken
//!   nothing from the chain and adds nothing to it.
//! * *A woken sleeper returns*; it never goes back to sleep. One that was woken by mistake (see below) reports a release that
//!   was not its own, which the contract of the wait allows, and passes the wake on like any other.
//! * *A chain reaches only those who slept under the same sequence value*, so a release's chain cannot be used up by people
//!   who came later. Sleepers are told apart by a class: bit `sequence mod 32`. Sequence values 32 apart share a class; the
//!   later one's sleepers are then woken by mistake, as above.
//!
//! The last to be woken find nobody left to wake, and they are the most. So that they need not ask the platform, whoever wakes fewer than
//! it asked for leaves word in the slot that the class is *drained*: nobody can begin to sleep under a value that is over, so nobody is
//! left for good. Without that word there is a needless call, nothing more.
//!
//! A slot counts its sleepers besides. A release that finds no more than [`FIRST`] of them wakes them all, and leaves that word *before* it
//! does, so that each goes its way at once; and one that finds none, because they have not got so far yet, calls nobody. The count is never
//! too low: a sleeper counts itself, fences, and has the platform look at the sequence; a release bumps the sequence, fences, and looks at
//! the count. One of the fences is first, so either the release sees the sleeper counted or the platform sees the bump. It may be too high,
//! by the sleepers of other pages or by those of a process that was killed, and then there is a chain, which is always right.
//!
//! The first to be woken may push the releaser off its processor, in the middle of its call, and keep it off until the whole chain has
//! run: a millisecond, with hundreds of sleepers. So a sleeper that is to pass a wake on and finds that the release is still at waking
//! lets others run for a moment first. Also a hint.
//!
//! Where a platform cannot tell classes apart, a release wakes everybody.
//!
//! # When not to
//!
//! A chain depends on its first links: who sleeps behind the [`FIRST`] is woken when one of these runs. If they do not get to run, because
//! they are `SCHED_IDLE`, or in a group that is throttled or stopped, then the others wait for them whatever their own priority: a
//! priority inversion that nothing here bounds. Where waiters are so unlike, take a platform that does not tell classes apart
//! ([`Futex::CLASSES`] is `false`, the default), for instance one that forwards to another and says no more than it must:
//!
//! ```
//! use pagelock::futex::{EventSlot, Futex, OsFutex, Sleep};
//! use pagelock::{PageLock, sync::AtomicU32};
//!
//! const OS: &OsFutex = &OsFutex;
//!
//! #[derive(Clone, Copy)]
//! struct WakesAll;
//!
//! impl Futex for WakesAll {
//!     fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep { OS.wait(word, expected) }
//!     fn wake_one(&self, word: *const AtomicU32) { OS.wake_one(word) }
//!     fn wake_all(&self, word: *const AtomicU32) { OS.wake_all(word) }
//!     fn relax(&self) { OS.relax() }
//!     fn event(&self, index: usize) -> &EventSlot { OS.event(index) }
//!     fn events(&self) -> usize { OS.events() }
//! }
//!
//! static PAGE: PageLock<WakesAll> = PageLock::with_futex(WakesAll);
//! # drop(PAGE.lock());
//! ```

use super::{Futex, Sleep};
use crate::stats::{self, Counter};
use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    const_unless_loom, fence,
};
/// How many sleepers a release wakes itself.
pub const FIRST: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 16 };
/// How many each woken sleeper wakes in turn.
pub const NEXT: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 64 };

/// One entry of an event table: a sequence word, and a hint beside it. All-zero is valid and means that nothing was released yet.
#[repr(C)]
#[derive(Debug)]
pub struct EventSlot {
    sequence: AtomicU32,
    /// The complement of the sequence value under which nobody sleeps any more, as far as known.
    drained: AtomicU32,
    /// The complement of the sequence value that the latest release has ended, while that release is still at waking. Otherwise 0,
    /// or whatever releases that overlapped have left.
    telling: AtomicU32,
    /// How many are about to sleep on this slot, or asleep, or have not noted yet that they are awake.
    sleepers: AtomicU32,
}

impl EventSlot {
    const_unless_loom! {
        /// A slot that nobody waits on.
        #[must_use]
        pub fn new() -> Self {
            Self { sequence: AtomicU32::new(0), drained: AtomicU32::new(0), telling: AtomicU32::new(0), sleepers: AtomicU32::new(0) }
        }
    }

    /// The sequence to sleep under: how often, modulo 2^32, a release has told this slot.
    ///
    /// Acquire: pairs with the bump. A waiter that already sees a release's bump then also sees that
    /// the page was released, so it cannot go on to set the waiters' flag for a hold that is over and sleep for its end.
    #[must_use]
    #[inline]
    pub fn sequence(&self) -> u32 {
        self.sequence.load(Acquire)
    }

    /// Release: pairs with [`sequence`](Self::sequence), see there; and whoever returns because of the bump sees what the
    /// releaser did before it.
    pub(crate) fn bump(&self) -> u32 {
        self.sequence.fetch_add(1, Release)
    }

    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.sequence
    }

    /// Counts a sleeper, before the platform looks at the sequence for it.
    fn note_sleeper(&self) {
        // Relaxed: ordered by the fence.
        self.sleepers.fetch_add(1, Relaxed);
        // SeqCst: pairs with that in `sleepers`, see there.
        fence(SeqCst);
    }

    /// Takes a sleeper from the count that will not sleep any more.
    fn note_awake(&self) {
        // Relaxed: whoever reads an older count finds more than there are.
        self.sleepers.fetch_sub(1, Relaxed);
    }

    /// How many sleep under values that were over before this was called, or more.
    ///
    /// Of the two fences one is first. If it is the sleeper's, this sees it counted. If it is this one, the platform sees, on behalf of the
    /// sleeper, that the sequence has another value, and does not let it sleep.
    fn sleepers(&self) -> u32 {
        // SeqCst: pairs with that in `note_sleeper`; the bump is before it.
        fence(SeqCst);
        // Relaxed: ordered by the fence.
        self.sleepers.load(Relaxed)
    }

    /// Nobody is left who slept under `sequence`, a value that is over.
    fn set_drained(&self, sequence: u32) {
        // Relaxed: it is true from before the store until the value comes round again, and orders nothing.
        self.drained.store(!sequence, Relaxed);
    }

    fn is_drained(&self, sequence: u32) -> bool {
        // Relaxed: whoever reads an older hint makes a needless call.
        self.drained.load(Relaxed) == !sequence
    }

    fn set_telling(&self, sequence: u32) {
        // Relaxed: a hint, which orders nothing.
        self.telling.store(sequence, Relaxed);
    }

    fn is_telling(&self, sequence: u32) -> bool {
        // Relaxed: as above; a wrong answer costs a yield or saves one.
        self.telling.load(Relaxed) == !sequence
    }

    /// The hint that is left from when `sequence` was last used, 2^32 releases ago, must not be taken for one of today. Called
    /// before the first wake of those who sleep under it.
    fn forget_drained(&self, sequence: u32) {
        if self.is_drained(sequence) {
            self.set_drained(sequence.wrapping_add(1 << 31));
        }
    }
}

impl Default for EventSlot {
    fn default() -> Self {
        Self::new()
    }
}

/// The class of those who sleep under `sequence`. (Under the model checkers there are two classes, so that a model can have
/// two values that share one.)
pub(crate) const fn class(sequence: u32) -> u32 {
    1 << (sequence % if cfg!(any(pagelock_loom, pagelock_shuttle)) { 2 } else { 32 })
}

/// Spreads header addresses over slots. Headers are 8 bytes apart, so the low three bits say nothing; the multiplication
/// (by 2^32 over the golden ratio) moves every other bit into the upper half, which is what is kept.
pub(crate) fn hash(page: usize) -> usize {
    let mixed = ((page >> 3) as u32).wrapping_mul(0x9e37_79b9);
    (mixed >> 16) as usize
}

/// Tells everybody who sleeps on slot `index` that what they wait for has happened.
pub(crate) fn tell<F: Futex>(futex: F, index: usize) {
    stats::count(Counter::EventWakes);
    let slot = futex.event(index);
    let slept_under = slot.bump();
    let sleepers = slot.sleepers();
    if sleepers == 0 {
        return;
    }
    if !F::CLASSES {
        futex.wake_all(slot.word());
    } else if sleepers <= FIRST {
        // That is all of them: whoever comes from now on sees the bump. Said first, so that none of them asks for more.
        slot.set_drained(slept_under);
        futex.wake_class(slot.word(), FIRST, class(slept_under));
    } else {
        slot.forget_drained(slept_under);
        slot.set_telling(!slept_under);
        wake(futex, slot, slept_under, FIRST);
        slot.set_telling(0);
    }
}

/// Passes a wake on. Call it exactly when a sleep under `slept_under` ended with [`Sleep::Woken`].
fn pass_on<F: Futex>(futex: F, slot: &EventSlot, slept_under: u32, over: bool) {
    if !F::CLASSES {
        return;
    }
    if !over {
        // Woken by mistake. Others may still go to sleep under this value, so nothing can be said about it.
        futex.wake_class(slot.word(), NEXT, class(slept_under));
        return;
    }
    if slot.is_telling(slept_under) && !slot.is_drained(slept_under) {
        futex.relax();
    }
    if !slot.is_drained(slept_under) {
        wake(futex, slot, slept_under, NEXT);
    }
}

/// Wakes `n` of those who slept under a sequence value that is over: the slot has been seen to have another.
fn wake<F: Futex>(futex: F, slot: &EventSlot, slept_under: u32, n: u32) {
    if futex.wake_class(slot.word(), n, class(slept_under)) < n {
        slot.set_drained(slept_under);
    }
}

/// What a sleep under `slept_under` amounts to: whether to go on sleeping, and passing the wake on if one was used up.
pub(crate) fn after_sleep<F: Futex>(futex: F, slot: &EventSlot, slept_under: u32, sleep: Sleep) -> Slept {
    let changed = slot.sequence() != slept_under;
    match sleep {
        Sleep::Woken => {
            pass_on(futex, slot, slept_under, changed);
            if !changed {
                stats::count(Counter::SpuriousReturns);
            }
            Slept::Told
        }
        _ if changed => Slept::Told,
        Sleep::TimedOut => Slept::TimedOut,
        Sleep::Changed | Sleep::Interrupted | Sleep::Unknown => Slept::SleepOn,
    }
}

/// See [`after_sleep`].
pub(crate) enum Slept {
    Told,
    TimedOut,
    SleepOn,
}

/// Sleeps on `slot` by `sleep`, any number of times, and counts as a sleeper meanwhile.
pub(crate) fn asleep<R>(slot: &EventSlot, sleep: impl FnOnce() -> R) -> R {
    slot.note_sleeper();
    let slept = sleep();
    slot.note_awake();
    slept
}

#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_headers_spread_over_the_slots() {
        let mut hits = [0u32; 128];
        for page in 0..1280usize {
            hits[hash(0x7f00_0000_1000 + page * 8) & 127] += 1;
        }
        assert!(hits.iter().all(|&n| (3..=25).contains(&n)), "{hits:?}");
    }

    /// A platform on which every wake reaches so many sleepers.
    #[derive(Clone, Copy)]
    struct Reaches(u32);

    impl Futex for Reaches {
        const CLASSES: bool = true;

        fn wait(&self, _word: &AtomicU32, _expected: u32) -> Sleep {
            unreachable!("nobody sleeps here")
        }

        fn wake_one(&self, _word: *const AtomicU32) {}

        fn wake_all(&self, _word: *const AtomicU32) {}

        fn wake_class(&self, _word: *const AtomicU32, _n: u32, _class: u32) -> u32 {
            self.0
        }

        fn event(&self, _index: usize) -> &EventSlot {
            static SLOT: EventSlot = EventSlot::new();
            &SLOT
        }

        fn events(&self) -> usize {
            1
        }
    }

    fn slot_at(sequence: u32) -> EventSlot {
        EventSlot { sequence: AtomicU32::new(sequence), ..EventSlot::new() }
    }

    #[test]
    fn a_class_is_drained_when_a_wake_finds_too_few_after_the_release() {
        let slot = slot_at(8);
        let _ = after_sleep(Reaches(NEXT), &slot, 7, Sleep::Woken);
        assert!(!slot.is_drained(7));
        let _ = after_sleep(Reaches(NEXT - 1), &slot, 7, Sleep::Woken);
        assert!(slot.is_drained(7) && !slot.is_drained(8) && !slot.is_drained(7 + 32));
    }

    /// A sleeper of the sequence value that still holds was woken by the chain of one that shares its class. Others may join it until
    /// the release, whose chain must not find the class drained.
    #[test]
    fn a_sleeper_that_was_woken_by_mistake_says_nothing_of_its_class() {
        let slot = slot_at(7);
        let _ = after_sleep(Reaches(0), &slot, 7, Sleep::Woken);
        assert!(!slot.is_drained(7));
    }

    #[test]
    fn a_hint_from_the_last_time_round_is_forgotten() {
        let slot = EventSlot::new();
        assert!(slot.is_drained(u32::MAX), "what all zeroes say");
        slot.forget_drained(u32::MAX);
        assert!(!slot.is_drained(u32::MAX) && slot.is_drained((1 << 31) - 1), "half a round away");
        slot.forget_drained(3);
        assert!(slot.is_drained((1 << 31) - 1), "nothing to forget");
    }

    /// A platform that notes, when it is asked to wake, for how many, whether the release is at waking and whether the class is drained by then;
    /// and counts how often it lets others run.
    #[derive(Clone, Copy)]
    struct Watches(&'static Watched);

    struct Watched {
        slot: EventSlot,
        calls: AtomicU32,
        asked: AtomicU32,
        seen_telling: AtomicU32,
        drained: AtomicU32,
        relaxed: AtomicU32,
    }

    impl Watched {
        const fn new() -> Self {
            Self {
                slot: EventSlot::new(),
                calls: AtomicU32::new(0),
                asked: AtomicU32::new(0),
                seen_telling: AtomicU32::new(0),
                drained: AtomicU32::new(0),
                relaxed: AtomicU32::new(0),
            }
        }

        /// The value that the latest release has ended.
        fn over(&self) -> u32 {
            self.slot.sequence().wrapping_sub(1)
        }
    }

    impl Futex for Watches {
        const CLASSES: bool = true;

        fn wait(&self, _word: &AtomicU32, _expected: u32) -> Sleep {
            unreachable!("nobody sleeps here")
        }

        fn wake_one(&self, _word: *const AtomicU32) {}

        fn wake_all(&self, _word: *const AtomicU32) {}

        fn wake_class(&self, _word: *const AtomicU32, n: u32, _class: u32) -> u32 {
            let over = self.0.over();
            self.0.calls.fetch_add(1, Relaxed);
            self.0.asked.store(n, Relaxed);
            self.0.seen_telling.fetch_add(u32::from(self.0.slot.is_telling(over)), Relaxed);
            self.0.drained.store(u32::from(self.0.slot.is_drained(over)), Relaxed);
            n
        }

        fn relax(&self) {
            self.0.relaxed.fetch_add(1, Relaxed);
        }

        fn event(&self, _index: usize) -> &EventSlot {
            &self.0.slot
        }

        fn events(&self) -> usize {
            1
        }
    }

    #[test]
    fn whoever_passes_a_wake_on_lets_a_release_that_is_still_at_it_go_first() {
        static WATCHED: Watched = Watched::new();
        let (futex, slot) = (Watches(&WATCHED), &WATCHED.slot);
        let counts = || (WATCHED.seen_telling.load(Relaxed), WATCHED.relaxed.load(Relaxed));
        tell(futex, 0);
        assert_eq!((slot.sequence(), counts()), (1, (0, 0)), "nobody sleeps");
        slot.sequence.store(0, Relaxed);
        slot.sleepers.store(FIRST + 1, Relaxed);
        tell(futex, 0);
        assert_eq!((slot.sequence(), counts()), (1, (1, 0)), "it says so while it wakes");
        let woken = || {
            let _ = after_sleep(futex, slot, 0, Sleep::Woken);
        };
        woken();
        assert_eq!(counts(), (1, 0), "and not afterwards");
        slot.set_telling(!0);
        woken();
        assert_eq!(counts(), (2, 1));
        slot.set_telling(!1);
        woken();
        assert_eq!(counts(), (2, 1), "that is another release");
        slot.set_telling(!0);
        slot.set_drained(0);
        woken();
        assert_eq!(counts(), (2, 1), "with nobody left there is no haste");
    }

    #[test]
    fn a_few_are_woken_at_once_and_told_that_they_are_all() {
        static WATCHED: Watched = Watched::new();
        let futex = Watches(&WATCHED);
        let told = |sleepers: u32| {
            WATCHED.slot.sleepers.store(sleepers, Relaxed);
            WATCHED.calls.store(0, Relaxed);
            tell(futex, 0);
            (WATCHED.calls.load(Relaxed), WATCHED.asked.load(Relaxed), WATCHED.drained.load(Relaxed))
        };
        assert_eq!(told(0).0, 0, "nobody, and no call");
        assert_eq!(told(1), (1, FIRST, 1));
        assert_eq!(told(FIRST), (1, FIRST, 1));
        assert_eq!(told(FIRST + 1), (1, FIRST, 0), "a chain");
        assert!(!WATCHED.slot.is_drained(WATCHED.over()), "which goes on");
    }

    #[test]
    fn a_sleeper_counts_until_it_is_awake() {
        let slot = EventSlot::new();
        asleep(&slot, || assert_eq!(slot.sleepers(), 1));
        assert_eq!(slot.sleepers(), 0);
    }

    #[test]
    fn sequences_one_apart_have_different_classes() {
        for s in [0u32, 1, 30, 31, 32, u32::MAX] {
            assert_eq!(class(s).count_ones(), 1);
            assert_ne!(class(s), class(s.wrapping_add(1)));
        }
        assert_eq!(class(u32::MAX).count_ones(), 1);
    }
}
