//! Event slots: where those who wait for a release sleep.
//!
//! A waiter may not sleep on the page, because it holds nothing that keeps the page its own. It
//! sleeps on a *sequence word* of a small table instead, chosen by the page's address. A release
//! that finds waiters bumps the sequence and wakes: everybody who slept under an older value, for
//! whatever page of the slot, and nobody who slept under the newest.
//!
//! # Who is left to wake
//!
//! Beside the sequence a slot counts its sleepers, each for itself, from before it sleeps until it
//! is awake. A release that finds the count at 0 calls nobody. For that one fence faces another:
//!
//! ```text
//!  sleeper                                 release
//!  add 1 to the count                      add 1 to the sequence
//!  fence (SeqCst)                          fence (SeqCst)
//!  the platform compares the sequence      load the count
//! ```
//!
//! Of the two fences one is first. If it is the sleeper's, the release sees it counted. If it is
//! the release's, the platform sees the new sequence, on behalf of the sleeper, and does not let it
//! sleep. So the count is never too low. It may be too high, by those who are waking up and by the
//! sleepers of a process that was killed; that costs a needless call and nothing else.
//!
//! # Fan-out
//!
//! Each sleeper that is woken costs the waker a few microseconds, and the waker is the migrator
//! that everybody waits for. So it wakes only 16 of them, and each of those wakes 64 more before it
//! returns. Nobody is stranded:
//!
//! * *A wake is passed on exactly when one was used up.* A sleeper that timed out, was interrupted,
//!   or never slept has taken nothing from the chain and adds nothing to it.
//! * *A woken sleeper returns*; it never goes back to sleep. One that was woken by mistake reports
//!   a release that was not its own, which the contract of the wait allows, and passes the wake on.
//! * *A link reaches all whom the release before it reaches*: it was woken because of that release,
//!   so it reads its sequence or a later one.
//!
//! Two hints save time; to miss one costs a call or a yield. A waker that woke fewer than it asked
//! for, and a release that wakes all there are, note the sequence under which nobody older is left:
//! most links then have nothing to do. And while the release is still waking others, a link lets it
//! go first.
//!
//! Sleepers are told apart by a *class*: 16 of 32 bits, picked by the low half of the sequence, so
//! that no class contains another. Only values 65,536 releases apart share one.
//!
//! # What holds a chain up
//!
//! The sleepers behind the first 16 are woken when one of these runs. A woken sleeper may not run:
//! a debugger has stopped it, its control group is frozen or throttled, it is `SCHED_IDLE` on a
//! busy machine, or a signal handler has interrupted it. If none of the 16 runs, the others wait,
//! whatever their own priority. The next release of any page of the slot starts another chain,
//! which reaches them; nothing else bounds the wait. Where waiters are so unlike, use a platform of
//! your own, with a table of its own, that does not tell classes apart: there each release wakes
//! everybody.

use super::{Futex, OsFutex, Sleep};
use crate::defer::{defer, or_else_on_panic};
use crate::stats::{self, Counter};
use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    const_unless_loom, fence,
};
use core::fmt;
use core::marker::PhantomData;

/// How many sleepers a release wakes itself.
const FIRST: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 16 };
/// How many each woken sleeper wakes in turn.
const NEXT: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 64 };

/// One entry of the event table of platform `F`. All-zero is valid: nothing was released, nobody
/// sleeps.
///
/// A slot has a platform as its type, because all its sleepers must be woken in one way. A platform
/// whose sleepers pass nothing on would use up the wakes of sleepers that do. So a platform cannot
/// sleep on the table of another, unless it [adapts](super::Adapt) that:
///
/// ```compile_fail,E0308
/// use pagelock::futex::{EventSlot, Futex, OsFutex, Sleep};
/// use pagelock::sync::AtomicU32;
///
/// #[derive(Clone, Copy)]
/// struct WakesAll;
///
/// unsafe impl Futex for WakesAll {
///     fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep { OsFutex.wait(word, expected) }
///     fn wake_one(&self, word: *const AtomicU32) { OsFutex.wake_one(word) }
///     fn wake_all(&self, word: *const AtomicU32) { OsFutex.wake_all(word) }
///     fn event(&self, index: usize) -> &EventSlot<Self> { const { &OsFutex }.event(index) }
///     fn events(&self) -> usize { OsFutex.events() }
/// }
/// ```
#[repr(C)]
pub struct EventSlot<F = OsFutex> {
    sequence: AtomicU32,
    sleepers: AtomicU32,
    /// The sequence of the latest release while that is still at waking, or 0.
    telling: AtomicU32,
    /// A sequence under which nobody is left who slept under an older one.
    drained: AtomicU32,
    platform: PhantomData<fn() -> F>,
}

impl<F> EventSlot<F> {
    const_unless_loom! {
        /// A slot that nobody waits on.
        #[must_use]
        pub fn new() -> Self {
            let [sequence, sleepers] = [AtomicU32::new(0), AtomicU32::new(0)];
            let [telling, drained] = [AtomicU32::new(0), AtomicU32::new(0)];
            Self { sequence, sleepers, telling, drained, platform: PhantomData }
        }
    }

    /// The same slot, as that of another platform, which must wake as `F` does.
    pub(super) fn adapted<A>(&self) -> &EventSlot<A> {
        // SAFETY: `repr(C)`, and the type parameter is that of a field without size or values.
        unsafe { &*core::ptr::from_ref(self).cast::<EventSlot<A>>() }
    }

    /// The sequence to sleep under: how often, modulo 2^32, a release has told this slot.
    ///
    /// Acquire: pairs with the bump. A waiter that already sees a release's bump then also sees
    /// that the page was released, so it cannot go on to set the waiters' flag for a hold that is
    /// over and sleep for its end.
    #[must_use]
    #[inline]
    pub fn sequence(&self) -> u32 {
        self.sequence.load(Acquire)
    }

    /// How many sleep on this slot or are about to, or more. For watchdogs and tests.
    #[must_use]
    pub fn sleepers(&self) -> u32 {
        // Relaxed: whoever decides by it has a fence, or was woken by somebody who had.
        self.sleepers.load(Relaxed)
    }
}

impl<F: Futex> EventSlot<F> {
    /// Tells everybody who sleeps here that what they wait for has happened.
    pub(crate) fn tell(&self, futex: F) {
        // Release: pairs with `sequence`, see there; and whoever returns because of the bump sees
        // what the releaser did before it.
        let now = self.sequence.fetch_add(1, Release).wrapping_add(1);
        // SeqCst: pairs with that in `sleep`, as above.
        fence(SeqCst);
        // Relaxed, here and below: hints, which order nothing.
        match self.sleepers() {
            0 => {}
            // Said first, so that none of them looks for more: whoever comes sees the bump.
            1..=FIRST => {
                self.drained.store(now, Relaxed);
                self.wake(futex, FIRST, now);
            }
            _ => {
                // What is left from 2^32 releases ago says nothing.
                if self.drained.load(Relaxed) == now {
                    self.drained.store(!now, Relaxed);
                }
                self.telling.store(now, Relaxed);
                self.wake(futex, FIRST, now);
                self.telling.store(0, Relaxed);
            }
        }
    }

    /// Wakes `n` of those who slept under another value than `now`.
    fn wake(&self, futex: F, n: u32, now: u32) {
        let word = &raw const self.sequence;
        let wake = || {
            if !F::CLASSES {
                futex.wake_all(word);
            } else if futex.wake_class(word, n, !class(now)) < n {
                self.drained.store(now, Relaxed);
            }
        };
        or_else_on_panic(wake, || futex.wake_all(word));
    }

    /// Wakes more, if any are left. The first to be woken may have pushed the releaser off its
    /// processor, in the middle of its call, and would keep it off until the whole chain has run:
    /// it goes first.
    fn pass_on(&self, futex: F, now: u32) {
        let is_drained = || self.drained.load(Relaxed) == now;
        if !is_drained() && self.telling.load(Relaxed) == now {
            or_else_on_panic(|| futex.relax(), || futex.wake_all(&raw const self.sequence));
        }
        if !is_drained() {
            self.wake(futex, NEXT, now);
        }
    }

    /// Sleeps while the sequence is `under`, by `sleep`, which is given the word and its class, any
    /// number of times. [`Sleep::Woken`] if it was told, or [`Sleep::TimedOut`].
    pub(crate) fn sleep(
        &self,
        futex: F,
        under: u32,
        sleep: impl Fn(&AtomicU32, u32) -> Sleep,
    ) -> Sleep {
        // Relaxed: ordered by the fence.
        self.sleepers.fetch_add(1, Relaxed);
        // SeqCst: pairs with that in `tell`, see the top.
        fence(SeqCst);
        // Relaxed: whoever reads an older count finds more than there are.
        let counted = defer(|| _ = self.sleepers.fetch_sub(1, Relaxed));
        loop {
            let ended = sleep(&self.sequence, class(under));
            let now = self.sequence();
            match ended {
                Sleep::Woken => {
                    if now == under {
                        stats::count(Counter::SpuriousReturns);
                    }
                    drop(counted);
                    if F::CLASSES {
                        self.pass_on(futex, now);
                    }
                    return Sleep::Woken;
                }
                _ if now != under => return Sleep::Woken,
                Sleep::TimedOut => return Sleep::TimedOut,
                _ => {}
            }
        }
    }
}

impl<F> Default for EventSlot<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> fmt::Debug for EventSlot<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventSlot {{ sequence {}, {} sleepers }}", self.sequence(), self.sleepers())
    }
}

/// The class of those who sleep under `sequence`: for each of 16 bits one of two.
fn class(sequence: u32) -> u32 {
    (sequence & 0xffff) | (!sequence & 0xffff) << 16
}

/// Which of `slots` is that of the page whose header is `address` from wherever headers begin.
///
/// Headers are 8 bytes apart, so the low three bits say nothing. A product alone (by 2^64 over the
/// golden ratio) would put headers at some regular distances into few slots; folded and multiplied
/// once more, they fall as chance has it, at whatever distance.
pub(crate) fn index(address: usize, slots: usize) -> usize {
    let product = (address as u64 >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (product ^ product >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    // The upper half, as a fraction of 2^32, of the number of slots.
    (((mixed >> 32) * slots as u64) >> 32) as usize
}

#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests;
