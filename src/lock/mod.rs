//! Owning a page.
//!
//! # Rules
//!
//! Acquiring takes one compare-exchange, releasing one add. A locker that finds the page taken
//! looks for a moment (`spin.rs`) and then sleeps on the page's own state word. The rules are:
//!
//! 1. A newcomer takes the page if nobody owns it and the *gate* is open.
//! 2. A *registered* locker takes the page if nobody owns it.
//! 3. A newcomer that cannot take the page registers, if the gate is open or if it has lost
//!    [`BYPASS_BOUND`](Futex::BYPASS_BOUND) rounds: it is one more in `sleepers`, sets
//!    LOCK_WAITERS, and sleeps while the word has that value. Otherwise it sets CROWD and waits
//!    outside, in the event table, like a thread that [waits](crate::wait) without wanting the
//!    page.
//! 4. A locker that has lost that many rounds closes the gate as it goes to sleep.
//! 5. The last registered locker that takes the page or gives up opens the gate, and tells the
//!    crowd.
//! 6. A release that finds LOCK_WAITERS wakes one sleeper. A locker that gives up passes its wake
//!    on.
//!
//! A locker loses a *round* if it was woken, or slept when the page was released, and then finds
//! that it may not take the page. Every lost round counts, however the sleep ended.
//!
//! While the gate is open, newcomers take the page before a sleeper that was woken for it. That
//! makes contended locks fast, and rule 4 bounds it. While the gate is closed, the page is *taken*
//! for everybody outside, also between two owners. It passes from sleeper to sleeper, first come,
//! first served, until none is left. That costs a switch of threads for each hold. As wakes are
//! first in, first out, those inside lose about equally many rounds, so the gate is closed for
//! about one in `BYPASS_BOUND + 1` of the holds that wake a sleeper.
//!
//! Three others close the gate: [`PageGuard::unlock_fair`], if somebody is registered;
//! [`PageLock::lock_releasing`], as it registers, if it still is open; and a newcomer for whom the
//! word has no room ([`MAX_SLEEPERS`](crate::MAX_SLEEPERS)), which waits outside.
//!
//! A registered thread that is stopped while the gate is closed, by a debugger or a frozen control
//! group, keeps the others out until it runs. A platform that would rather starve lockers says
//! `BYPASS_BOUND = u32::MAX`, and rule 4 is off.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | acquire: compare-exchange that sets LOCKED | Acquire | the release's add, so that the new owner sees what the old one wrote |
//! | release: add (compare-exchange, if fair) | Release | the above |
//! | registering, leaving, CROWD: compare-exchange | Relaxed | nothing: they decide by the word's own modification order, which the release's read-modify-write is part of |
//! | the caller's bits: compare-exchange | Release | `user` (Acquire), so that who sees them sees what was done before |
//! | looks | Relaxed | nothing: each is confirmed by a read-modify-write |

mod claim;
mod error;
mod guard;
mod queue;
mod release;
mod spin;

pub use claim::Claim;
pub use error::LockError;
pub use guard::{Hold, PageGuard};
pub use release::Released;
pub(crate) use spin::SPINS;

use crate::futex::{Futex, FutexTimed, tell_in_any_case};
use crate::page::PageLock;
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::wait::Limits;
use crate::word::State;
use core::time::Duration;
use queue::Locker;

impl<F: Futex> PageLock<F> {
    /// Takes the page if it is free, in one step.
    ///
    /// `None` if somebody owns it, or if it is kept for a sleeper. A failure is one load and no
    /// store.
    ///
    /// Acquire on success: the caller sees what earlier owners did.
    #[inline]
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn try_lock(&self) -> Option<PageGuard<'_, F>> {
        let seen = self.state();
        if seen.is_taken() {
            return None;
        }
        match self.take(seen, seen.taken_by_newcomer()) {
            Ok(guard) => Some(guard.noted()),
            Err(now) => self.try_lock_again(now),
        }
    }

    /// The word has changed under an attempt, which need not mean that the page is taken.
    #[cold]
    #[cfg_attr(feature = "owner", track_caller)]
    fn try_lock_again(&self, mut seen: State) -> Option<PageGuard<'_, F>> {
        while !seen.is_taken() {
            match self.take(seen, seen.taken_by_newcomer()) {
                Ok(guard) => return Some(guard.noted()),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Takes the page, sleeping until it can.
    ///
    /// Newcomers may take the page before a sleeper that was woken for it, at most
    /// [`BYPASS_BOUND`](Futex::BYPASS_BOUND) times. A poisoned page can be locked too (somebody has
    /// to take down its entries): ask [`PageGuard::is_poisoned`].
    ///
    /// The header must stay where it is for the whole call; the borrow says so. Waiting for a page
    /// without anything that keeps it is what [`wait_unlocked`](Self::wait_unlocked) is for.
    ///
    /// Acquire: the caller sees what earlier owners did.
    #[inline]
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn lock(&self) -> PageGuard<'_, F> {
        let seen = self.state();
        if seen.is_plain() {
            if let Ok(guard) = self.take(seen, seen.with_locked()) {
                return guard.noted();
            }
        }
        self.lock_cold();
        PageGuard { page: self }.noted()
    }

    /// Takes the page, for the caller to make a guard of it. It returns nothing on purpose: a
    /// compiler that sees that the guard is the argument keeps it in the register of the result,
    /// and then sets up a stack frame on the fast path too.
    #[cold]
    fn lock_cold(&self) {
        // A platform may say that a time is up that was not set.
        while Locker::new(self, Limits::none(), false).lock_within().map(PageGuard::forget).is_err()
        {
        }
    }

    /// Takes the page, sleeping for at most `d`. A `d` that the clock cannot hold is no limit.
    ///
    /// `None` when the time was up. [`lock_within`](Self::lock_within) takes a deadline.
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn try_lock_for(&self, d: Duration) -> Option<PageGuard<'_, F>>
    where
        F: FutexTimed,
    {
        // No clock is asked for a page that is free.
        if let Some(guard) = self.try_lock() {
            return Some(guard);
        }
        self.lock_within(Limits::none().until(self.futex.now() + d)).ok()
    }

    /// Takes the page, sleeping no longer than `limits` allow: until a deadline, unless cancelled.
    ///
    /// # Errors
    ///
    /// [`LockError`], when the page was still taken at a last look after the limit was reached. A
    /// limit that was over before the call is reached at once. Nothing is left behind: a wake that
    /// had been given to this locker is passed on.
    ///
    /// # Example
    ///
    /// A thread that has to be kicked out of the lock:
    ///
    /// ```
    /// use pagelock::{Cancel, Limits, LockError, PageLock};
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// static KICK: Cancel = Cancel::new();
    ///
    /// let owner = PAGE.lock();
    /// let vcpu = std::thread::spawn(|| PAGE.lock_within(Limits::none().unless(&KICK)).err());
    /// KICK.cancel();
    /// assert_eq!(vcpu.join().unwrap(), Some(LockError::Cancelled));
    /// # drop(owner);
    /// ```
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn lock_within(&self, limits: Limits<'_, F>) -> Result<PageGuard<'_, F>, LockError> {
        if let Some(guard) = self.try_lock() {
            return Ok(guard);
        }
        Ok(Locker::new(self, limits, false).lock_within()?.noted())
    }

    /// Lets go of `ptl`, then takes the page, and cannot be overtaken by newcomers while it waits.
    ///
    /// For a faulter that has lost the race for the page too often: it registers and closes the
    /// gate *before* it drops `ptl`. Once it owns the page it must look at its page table again:
    /// the entry may have changed.
    ///
    /// If the gate is closed already, it waits outside with the others, and is told when it opens.
    /// It may then find that somebody was faster, at most [`BYPASS_BOUND`](Futex::BYPASS_BOUND)
    /// times, after which nothing keeps it from registering.
    ///
    /// `ptl` is any value whose drop releases whatever guards the entry. It is dropped before any
    /// sleep. The header must stay where it is for the whole call, unlike for
    /// [`wait_unlocked`](Self::wait_unlocked): this sleeps on the header itself. The page is not
    /// referenced, and whether it still is the page that the entry meant is for the caller to find
    /// out.
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn lock_releasing<G>(&self, ptl: G) -> PageGuard<'_, F> {
        self.lock_releasing_within(ptl, Limits::none()).unwrap_or_else(|_| self.lock()).noted()
    }

    /// [`lock_releasing`](Self::lock_releasing) within `limits`. `ptl` is dropped in any case.
    ///
    /// # Errors
    ///
    /// As [`lock_within`](Self::lock_within), and nothing is left behind.
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn lock_releasing_within<G>(
        &self,
        ptl: G,
        limits: Limits<'_, F>,
    ) -> Result<PageGuard<'_, F>, LockError> {
        let mut locker = Locker::new(self, limits, true);
        // Late already, it does not register, so that the gate is not closed for nothing.
        let looked = limits.over(self.futex).is_none().then(|| locker.look());
        drop(ptl);
        let guard = match looked {
            Some(Ok(guard)) => guard,
            _ => locker.lock_within()?,
        };
        Ok(guard.noted())
    }

    /// Strikes all sleepers and opens the gate, after a process that was one of them has died.
    ///
    /// For two situations in which a header counts lockers that do not exist:
    ///
    /// * **After `fork`**, in the child: it inherits the count of the parent's sleepers with the
    ///   header, and none of them. Call this for each page that the child uses, before it does.
    /// * **In shared memory**, after a process was killed while it slept for the page.
    ///
    /// Whether anybody else is counted the word cannot say, so call this when nobody is, and wait
    /// for the end of the calls that are under way before. A page that an owner has locked stays
    /// locked; [`take_over`](Self::take_over) is for an owner that has died.
    ///
    /// # Safety
    ///
    /// Nobody alive is in a call that sleeps for the page's ownership: [`lock`](Self::lock),
    /// [`lock_within`](Self::lock_within), [`try_lock_for`](Self::try_lock_for),
    /// [`lock_releasing`](Self::lock_releasing) and its form with limits. Otherwise that one is
    /// subtracted from a count that it is not in any more, and what stands next to the count
    /// changes: who owns the page included. Other calls may be under way.
    pub unsafe fn reset_sleepers(&self) {
        if self.leave(State::without_sleepers).1 {
            tell_in_any_case(self.futex, self.key());
        }
    }

    /// Sets EVENT_WAITERS on a word last seen as `seen`, which says *taken*. If it was set already,
    /// nothing is written: a look is enough, because the flag can only go away together with the
    /// hold that was seen.
    pub(crate) fn set_event_waiters(&self, seen: State) -> Result<(), State> {
        debug_assert!(seen.is_taken());
        // Relaxed: the release reads the flag with a read-modify-write of the same word; see `wait`
        // for the sequence.
        if seen.has_event_waiters() {
            Ok(())
        } else {
            self.replace(seen, seen.with_event_waiters())
        }
    }

    /// One compare-exchange from `seen` to `next`, without ordering.
    pub(crate) fn replace(&self, seen: State, next: State) -> Result<(), State> {
        // Relaxed: as the table at the top says of registering and leaving.
        self.state.compare_exchange_weak(seen.0, next.0, Relaxed, Relaxed).map(drop).map_err(State)
    }

    #[inline]
    fn take(&self, seen: State, next: State) -> Result<PageGuard<'_, F>, State> {
        // Acquire: pairs with the Release of `release`, so that the owner sees what earlier owners
        // wrote.
        match self.state.compare_exchange(seen.0, next.0, Acquire, Relaxed) {
            Ok(_) => Ok(PageGuard { page: self }),
            Err(now) => Err(State(now)),
        }
    }
}
