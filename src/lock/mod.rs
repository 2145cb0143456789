//! Owning a page.
//!
//! # Rules
//!
//! Acquiring takes one compare-exchange, releasing one add. A locker that finds the page taken
//! looks for a moment (`spin.rs`) and then sleeps on the page's own state word. The rules are:
//!
//! 1. A newcomer takes the page if it has no owner and the *gate* is open.
//! 2. A *registered* locker takes the page if it has no owner.
//! 3. A newcomer that cannot take the page registers, if the gate is open or if it has lost
//!    [`BYPASS_BOUND`](Futex::BYPASS_BOUND) rounds: it counts itself in `sleepers`, sets
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
//! for every locker outside, also between two owners. It passes from sleeper to sleeper, first
//! come, first served, until none remains. That costs a switch of threads for each hold. Wakes are
//! first in, first out, so the sleepers lose about equally many rounds, and the gate is closed for
//! about one in `BYPASS_BOUND + 1` of the holds that wake a sleeper.
//!
//! Three others close the gate: [`PageGuard::unlock_fair`], if a locker is registered;
//! [`PageLock::lock_releasing`], as it registers, if the gate is still open; and a newcomer for
//! which the word has no room ([`MAX_SLEEPERS`](crate::MAX_SLEEPERS)), which waits outside.
//!
//! A registered thread that is stopped while the gate is closed, by a debugger or a frozen control
//! group, keeps the others out until it runs. A platform that would rather starve lockers sets
//! `BYPASS_BOUND = u32::MAX`, which turns rule 4 off.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | acquire: compare-exchange that sets LOCKED | Acquire | release |
//! | release: add (compare-exchange, if fair) | Release | acquire |
//! | registering, leaving, CROWD: compare-exchange | Relaxed | nothing |
//! | the caller's bits: compare-exchange | Release | `user` (Acquire) |
//! | looks | Relaxed | nothing |
//!
//! A new owner sees what the old one wrote; a thread that sees the caller's bits sees what was done
//! before they were written. Registering and leaving decide by the word's own modification order,
//! which the release's read-modify-write is part of. A read-modify-write confirms every look.

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
    /// Takes the page if it is free, in one step (Linux: `folio_trylock`).
    ///
    /// Returns `None` if the page has an owner or is kept for a sleeper. A failure costs one load
    /// and no store.
    ///
    /// Acquire on success: the caller sees what earlier owners did.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let guard = page.try_lock().expect("it is free");
    /// assert!(page.try_lock().is_none());
    /// # drop(guard);
    /// ```
    #[inline]
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn try_lock(&self) -> Option<PageGuard<'_, F>> {
        let seen = self.state();
        if seen.is_taken() {
            return None;
        }
        let taken = self.take(seen, seen.taken_by_newcomer());
        Some(taken.map_or_else(|now| self.try_lock_again(now), Some)?.noted())
    }

    /// The word has changed under an attempt, which need not mean that the page is taken.
    #[cold]
    fn try_lock_again(&self, seen: State) -> Option<PageGuard<'_, F>> {
        retry(seen, |seen| match seen.is_taken() {
            true => Ok(None),
            false => self.take(seen, seen.taken_by_newcomer()).map(Some),
        })
    }

    /// Takes the page, sleeping until it can (Linux: `folio_lock`).
    ///
    /// Newcomers may take the page before a sleeper that was woken for it, at most
    /// [`BYPASS_BOUND`](Futex::BYPASS_BOUND) times. A poisoned page can be locked too, because its
    /// entries must be taken down: ask [`PageGuard::is_poisoned`].
    ///
    /// The header must stay where it is for the whole call; the borrow says so. To wait for a page
    /// that nothing keeps there, use [`wait_unlocked`](Self::wait_unlocked).
    ///
    /// A thread that locks a page which it owns already waits for ever.
    ///
    /// Acquire: the caller sees what earlier owners did.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// let guard = PAGE.lock();
    /// let other = std::thread::spawn(|| drop(PAGE.lock())); // sleeps
    /// drop(guard);
    /// other.join().unwrap();
    /// ```
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

    /// Takes the page, for the caller to make a guard of it. It returns nothing on purpose: if the
    /// compiler sees that the returned guard is the argument, it keeps the argument in the register
    /// of the result, and then sets up a stack frame on the fast path too.
    #[cold]
    fn lock_cold(&self) {
        // A platform may report a time-out where no deadline was set.
        while Locker::new(self, Limits::none(), false).lock().map(PageGuard::forget).is_err() {}
    }

    /// Takes the page, sleeping for at most `d`. A `d` that the clock cannot hold is no limit.
    ///
    /// Returns `None` when the time is up. [`lock_within`](Self::lock_within) takes a deadline.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use pagelock::PageLock;
    /// use std::time::Duration;
    ///
    /// let page = PageLock::new();
    /// let guard = page.lock();
    /// assert!(page.try_lock_for(Duration::from_millis(1)).is_none());
    /// # drop(guard);
    /// # }
    /// ```
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn try_lock_for(&self, d: Duration) -> Option<PageGuard<'_, F>>
    where
        F: FutexTimed,
    {
        // A free page costs no look at the clock.
        if let Some(guard) = self.try_lock() {
            return Some(guard);
        }
        self.lock_within(Limits::none().until(self.futex.now() + d)).ok()
    }

    /// Takes the page, sleeping no longer than `limits` allow: until a deadline, unless cancelled
    /// (Linux: `folio_lock_killable`).
    ///
    /// # Errors
    ///
    /// [`LockError`], when the page was still taken at a last look after the limit was reached. A
    /// limit that was reached before the call counts. Nothing is left behind: a wake that this
    /// locker used up is passed on.
    ///
    /// # Example
    ///
    /// A thread that must be kicked out of the lock:
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
        Ok(Locker::new(self, limits, false).lock()?.noted())
    }

    /// Drops `ptl`, then takes the page. Newcomers cannot overtake the caller while it waits.
    ///
    /// For a faulter that has lost the race for the page too often: it registers and closes the
    /// [gate](crate::lock) *before* it drops `ptl`. Once it owns the page it must read its page
    /// table again, because the entry may have changed.
    ///
    /// If the gate is closed already, the caller waits outside with the others, and is told when
    /// the gate opens. It may then find that another thread was faster, at most
    /// [`BYPASS_BOUND`](Futex::BYPASS_BOUND) times; after that it registers even behind a closed
    /// gate.
    ///
    /// `ptl` is any value whose drop unlocks the page table. It is dropped before any sleep. The
    /// header must stay where it is for the whole call, unlike for
    /// [`wait_unlocked`](Self::wait_unlocked): this call sleeps on the header itself. It takes no
    /// reference; the caller must find out whether the page is still the one that the entry meant.
    ///
    /// ```
    /// use pagelock::PageLock;
    /// use std::sync::Mutex;
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// static PTL: Mutex<u64> = Mutex::new(0xdead_beef); // a page table of one entry
    ///
    /// let entry = PTL.lock().unwrap();
    /// let guard = PAGE.lock_releasing(entry);
    /// let _entry = PTL.lock().unwrap(); // ... read it again
    /// drop(guard);
    /// ```
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn lock_releasing<G>(&self, ptl: G) -> PageGuard<'_, F> {
        let Ok(guard) = self.lock_releasing_within(ptl, Limits::none()) else { return self.lock() };
        guard
    }

    /// [`lock_releasing`](Self::lock_releasing) within `limits`. `ptl` is dropped in any case.
    ///
    /// # Errors
    ///
    /// As [`lock_within`](Self::lock_within), and nothing is left behind.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{Cancel, Limits, LockError, PageLock};
    ///
    /// let (page, kill) = (PageLock::new(), Cancel::new());
    /// let owner = page.lock();
    /// kill.cancel();
    /// let refused = page.lock_releasing_within((), Limits::none().unless(&kill));
    /// assert_eq!(refused.unwrap_err(), LockError::Cancelled);
    /// # drop(owner);
    /// ```
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn lock_releasing_within<G>(
        &self,
        ptl: G,
        limits: Limits<'_, F>,
    ) -> Result<PageGuard<'_, F>, LockError> {
        let mut locker = Locker::new(self, limits, true);
        // A caller that is late already does not register: that would close the gate for nothing.
        let looked = limits.over(self.futex).is_none().then(|| locker.look());
        drop(ptl);
        let guard = match looked {
            Some(Ok(guard)) => guard,
            _ => locker.lock()?,
        };
        Ok(guard.noted())
    }

    /// Clears the count of sleepers and opens the gate, after a counted process has died.
    ///
    /// For two situations in which a header counts lockers that do not exist:
    ///
    /// * **After `fork`**, in the child: it inherits the count of the parent's sleepers with the
    ///   header, and none of them. Call this for each page that the child uses, before it does.
    /// * **In shared memory**, after a process was killed while it slept for the page.
    ///
    /// The word cannot tell dead sleepers from live ones. So call this when none is alive: first
    /// wait until the calls that are under way have ended. A page that an owner has locked stays
    /// locked; [`take_over`](Self::take_over) is for an owner that has died.
    ///
    /// # Safety
    ///
    /// No live thread is in a call that sleeps for the page's ownership: [`lock`](Self::lock),
    /// [`lock_within`](Self::lock_within), [`try_lock_for`](Self::try_lock_for),
    /// [`lock_releasing`](Self::lock_releasing) and its form with limits. Otherwise that thread
    /// subtracts itself from a count that it is not in any more, which changes the bits beside the
    /// count: even the page's owner. Other calls may be under way.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// // ... fork ...; in the child:
    /// // SAFETY: the child has one thread, and it is here.
    /// unsafe { page.reset_sleepers() };
    /// assert_eq!(page.sleepers(), 0);
    /// ```
    pub unsafe fn reset_sleepers(&self) {
        if self.leave(State::without_sleepers).1 {
            tell_in_any_case(self.futex, self.key());
        }
    }

    /// Sets EVENT_WAITERS on a word last seen as `seen`, which says *taken*. If the flag was set
    /// already, this writes nothing: the look is enough, because the flag goes away only together
    /// with the hold that was seen.
    pub(crate) fn set_event_waiters(&self, seen: State) -> Result<(), State> {
        debug_assert!(seen.is_taken());
        // Relaxed: the release reads the flag with a read-modify-write of the same word; see `wait`
        // for the sequence.
        match seen.has_event_waiters() {
            true => Ok(()),
            false => self.replace(seen, seen.with_event_waiters()),
        }
    }

    /// One compare-exchange from `seen` to `next`, without ordering.
    pub(crate) fn replace(&self, seen: State, next: State) -> Result<(), State> {
        // Relaxed: see registering and leaving in the table at the top.
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

/// Repeats `step` with the word as it is by then, until the word does not change under it.
pub(crate) fn retry<T>(mut seen: State, mut step: impl FnMut(State) -> Result<T, State>) -> T {
    loop {
        match step(seen) {
            Ok(done) => return done,
            Err(now) => seen = now,
        }
    }
}
