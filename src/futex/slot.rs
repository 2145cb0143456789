//! Event slots: where threads that wait for a release sleep.
//!
//! A waiter may not sleep on the page, because it holds nothing that keeps the page in place. It
//! sleeps on a *sequence word* of a small table instead, chosen by the page's address. A release
//! that finds waiters bumps the sequence and wakes: all that slept under an older value, for any
//! page of the slot, and none that slept under the newest.
//!
//! # Whether a sleeper is left
//!
//! Beside the sequence a slot counts its sleepers. Each counts itself, from before it sleeps until
//! it is awake. A release that finds the count at 0 makes no call. For that, one fence faces
//! another:
//!
//! ```text
//!  sleeper                                 release
//!  add 1 to the count                      add 1 to the sequence
//!  fence (SeqCst)                          fence (SeqCst)
//!  the platform compares the sequence      load the count
//! ```
//!
//! One of the two fences is first. If it is the sleeper's, the release sees it counted. If it is
//! the release's, the platform sees the new sequence, on behalf of the sleeper, and does not let it
//! sleep. So the count is never too low. It may be too high, by sleepers that are waking up and by
//! those of a process that was killed; that costs a needless call and nothing else.
//!
//! # Fan-out
//!
//! Each woken sleeper costs the waker a few microseconds, and the waker is the migrator, which
//! holds up every faulter. So a release wakes only 16 of them, and each of those wakes 64 more
//! before it returns. None is stranded:
//!
//! * *A wake is passed on exactly when one was used up.* A sleeper that timed out, was interrupted,
//!   or never slept has taken nothing from the chain and adds nothing to it.
//! * *A woken sleeper returns*; it never goes back to sleep. One that was woken by mistake reports
//!   another page's release, which the contract of the wait allows, and passes the wake on.
//! * *A link reaches every sleeper that the release before it reaches*: that release caused its
//!   wake, so it reads that release's sequence or a later one.
//!
//! Two hints save time; to miss one costs a call or a yield. A waker that woke fewer than it asked
//! for, and a release that wakes all sleepers there are, note the sequence under which no older
//! sleeper is left: most links then have nothing to do. And while the release is still waking
//! others, a link lets it go first.
//!
//! A *class* tells sleepers apart: 16 of 32 bits, picked by the low half of the sequence, so that
//! no class contains another. Only values 65,536 releases apart share one.
//!
//! # What holds a chain up
//!
//! The sleepers behind the first 16 are woken when one of these 16 runs. A woken sleeper may not
//! run: a debugger has stopped it, its control group is frozen or throttled, it is `SCHED_IDLE` on
//! a busy machine, or a signal handler has interrupted it. If none of the 16 runs, the others wait,
//! whatever their own priority. The next release of any page of the slot starts another chain,
//! which reaches them; nothing else bounds the wait. Where waiters differ that much, use a platform
//! of your own, with a table of its own, that does not tell classes apart: there each release wakes
//! all sleepers.

use super::{Futex, OsFutex, Sleep};
use crate::defer::{defer, or_else_on_panic};
use crate::stats::{self, Counter};
use crate::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::{AtomicU32, const_unless_loom, fence};
use core::{fmt, marker::PhantomData};

/// How many sleepers a release wakes itself.
const FIRST: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 16 };
/// How many each woken sleeper wakes in turn.
const NEXT: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 1 } else { 64 };

/// One entry of the event table of platform `F`. Zeroed memory is a valid slot without sleepers.
///
/// A slot has a platform in its type, because all its sleepers must be woken in one way. A platform
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
    /// The sequence of the latest release while it is still waking sleepers, or 0.
    telling: AtomicU32,
    /// A sequence: no sleeper under an older one is left.
    drained: AtomicU32,
    platform: PhantomData<fn() -> F>,
}

impl<F> EventSlot<F> {
    const_unless_loom! {
        /// Makes a slot without sleepers.
        ///
        /// ```
        /// use pagelock::futex::{EventSlot, OsFutex};
        ///
        /// static SLOT: EventSlot<OsFutex> = EventSlot::new();
        /// assert_eq!(SLOT.sleepers(), 0);
        /// ```
        #[must_use]
        pub fn new() -> Self {
            let [sequence, sleepers] = [AtomicU32::new(0), AtomicU32::new(0)];
            let [telling, drained] = [AtomicU32::new(0), AtomicU32::new(0)];
            Self { sequence, sleepers, telling, drained, platform: PhantomData }
        }
    }

    /// The same slot as one of another platform, which must wake as `F` does.
    pub(super) fn adapted<A>(&self) -> &EventSlot<A> {
        // SAFETY: `repr(C)`, and only a field without size or values depends on the type parameter.
        unsafe { &*core::ptr::from_ref(self).cast::<EventSlot<A>>() }
    }

    /// Returns the sequence to sleep under: how often, modulo 2^32, a release has told this slot.
    ///
    /// Acquire: pairs with the bump. A waiter that sees a release's bump also sees that the page
    /// was released, so it cannot set the waiters' flag for a hold that is over, and then sleep for
    /// the end of that hold.
    ///
    /// ```
    /// use pagelock::futex::{EventSlot, OsFutex};
    ///
    /// let slot = EventSlot::<OsFutex>::new();
    /// assert_eq!(slot.sequence(), 0);
    /// ```
    #[must_use]
    #[inline]
    pub fn sequence(&self) -> u32 {
        self.sequence.load(Acquire)
    }

    /// Returns how many threads sleep on this slot or are about to; never too few. For watchdogs
    /// and tests.
    ///
    /// ```
    /// use pagelock::{PageLock, futex::{Futex, OsFutex}};
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// let slot = OsFutex.event(OsFutex.event_index(&raw const PAGE as usize));
    /// let owner = PAGE.lock();
    /// let waiter = std::thread::spawn(|| PAGE.wait_unlocked(()));
    /// while slot.sleepers() == 0 {
    ///     std::thread::yield_now();
    /// }
    /// drop(owner);
    /// waiter.join().unwrap();
    /// ```
    #[must_use]
    pub fn sleepers(&self) -> u32 {
        // Relaxed: a caller that decides by it has a fence, or was woken by one that had.
        self.sleepers.load(Relaxed)
    }
}

impl<F: Futex> EventSlot<F> {
    /// Tells every sleeper of this slot that a release has happened.
    pub(crate) fn tell(&self, futex: F) {
        // Release: pairs with `sequence`, see there; and a waiter that returns because of the bump
        // sees what the releaser did before it.
        let now = self.sequence.fetch_add(1, Release).wrapping_add(1);
        // SeqCst: pairs with the fence in `sleep`, as above.
        fence(SeqCst);
        // Relaxed, here and below: hints, which order nothing.
        match self.sleepers() {
            0 => {}
            // Noted first, so that no link looks for more sleepers: later ones see the bump.
            1..=FIRST => {
                self.drained.store(now, Relaxed);
                self.wake(futex, FIRST, now);
            }
            _ => {
                // A value from 2^32 releases ago says nothing.
                if self.drained.load(Relaxed) == now {
                    self.drained.store(!now, Relaxed);
                }
                self.telling.store(now, Relaxed);
                self.wake(futex, FIRST, now);
                self.telling.store(0, Relaxed);
            }
        }
    }

    /// Wakes `n` of the sleepers under another value than `now`.
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

    /// Wakes more, if any are left. Lets the releaser go first: the first sleeper to be woken may
    /// have pushed it off its processor in the middle of its call, and would keep it off until the
    /// whole chain has run.
    fn pass_on(&self, futex: F, now: u32) {
        let is_drained = || self.drained.load(Relaxed) == now;
        if !is_drained() && self.telling.load(Relaxed) == now {
            or_else_on_panic(|| futex.relax(), || futex.wake_all(&raw const self.sequence));
        }
        if !is_drained() {
            self.wake(futex, NEXT, now);
        }
    }

    /// Sleeps while the sequence is `under`, by calling `by` with the word and its class, any
    /// number of times. Returns [`Sleep::Woken`] if it was told, or [`Sleep::TimedOut`].
    pub(crate) fn sleep<B>(&self, futex: F, under: u32, by: B) -> Sleep
    where
        B: Fn(&AtomicU32, u32) -> Sleep,
    {
        // Relaxed: ordered by the fence.
        self.sleepers.fetch_add(1, Relaxed);
        // SeqCst: pairs with the fence in `tell`, see the top.
        fence(SeqCst);
        // Relaxed: a release that reads an older count finds more than there are.
        let counted = defer(|| _ = self.sleepers.fetch_sub(1, Relaxed));
        loop {
            let ended = by(&self.sequence, class(under));
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

/// The class of the sleepers under `sequence`: for each of 16 bits one of two.
fn class(sequence: u32) -> u32 {
    (sequence & 0xffff) | (!sequence & 0xffff) << 16
}

/// Which of `slots` slots belongs to the page whose header has `address` (or that offset from the
/// first header).
///
/// Headers are 8 bytes apart, so the low three bits say nothing. A product alone (by 2^64 over the
/// golden ratio) would put headers at some regular distances into few slots; folded and multiplied
/// once more, headers at any distance spread as chance would.
pub(crate) fn index(address: usize, slots: usize) -> usize {
    let product = (address as u64 >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (product ^ product >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    // The upper half, as a fraction of 2^32, of the number of slots.
    (((mixed >> 32) * slots as u64) >> 32) as usize
}

#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests;
