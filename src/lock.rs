//! Owning a page.
//!
//! # Protocol
//!
//! The fast path is one compare-exchange to acquire and one add to release. Everybody else goes through a `Locker`, which
//! sleeps on the page's own state word:
//!
//! 1. It hangs back, looks for a moment whether the page is released, lets others run, and looks again (`src/linger.rs`).
//! 2. It registers: one more in `sleepers`, LOCK_WAITERS set, in one compare-exchange on a word that says *taken*.
//! 3. It sleeps while the word still has that value. Any change since makes the sleep end at once.
//! 4. Awake, it takes the page if it is released (a promise, if there is one, is to sleepers, and it is one), or sleeps again.
//!
//! A release that finds LOCK_WAITERS wakes one sleeper. Until that one runs, newcomers may take the page and drop the bit:
//! barging is what makes contended locks fast. It is bounded: a locker that was woken [`BYPASS_BOUND`] times and found the page
//! taken each time *promises* the page to all who sleep at that moment, itself being the last of them. Newcomers then have to
//! queue, and as wakes are first in, first out, the promise runs until its own turn and no longer.
//!
//! A locker that leaves makes sure that there are no more promises than sleepers, and passes on the wake that it may have been given.
//!
//! While promises are out, nobody else may register: a sleeper is always one whom every promise covers, so that it does not matter
//! in which order they find the page released, and a sleep that ends for another reason than a wake cannot let anybody jump the queue.
//! Those who come meanwhile are the *crowd*. They wait in the event table, by the protocol of [`wait`](crate::wait), and the
//! sleeper who keeps the last promise tells them. To be told and to find the page taken is to lose like any other; a locker that is
//! starved does not stand in the crowd, but registers and has the promises renewed so that they cover it too.
//!
//! Renewing must not go on for ever, or those who were promised the page first would lose it to those who came last, and the crowd would
//! never be told. So only who has lost so often may renew in any case. Who is starved from the start ([`PageLock::lock_releasing`]) may
//! while the page is locked and nobody stands in the crowd: a page that is released is on its way to a sleeper, who must not be
//! overtaken now. And a sleeper who finds that more had the page than were before it *closes* the queue: it sets CROWD itself. From then
//! on promises are only kept, not made, but for those who have lost in the crowd; and to lose there takes promises that have run out.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | acquire: compare-exchange that sets LOCKED | Acquire | the release's add, so that the new owner sees what the old one wrote |
//! | release: add (compare-exchange, if fair) | Release | the above |
//! | registering, leaving: compare-exchange | Relaxed | nothing: they decide by the word's own modification order, which the release's read-modify-write is part of |
//! | the caller's bits: compare-exchange | Release | `user` (Acquire), so that who sees them sees what was done before |
//! | looks | Relaxed | nothing: each is confirmed by a read-modify-write |

use crate::futex::{EVERY_CLASS, Futex, FutexTimed, Sleep, wait_until};
use crate::linger;
use crate::page::PageLock;
use crate::stats::{self, Counter};
use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
pub use crate::tune::BYPASS_BOUND;
use crate::wait::{Registered, Wake};
use crate::word::{State, UserBits};
use core::fmt;
use core::time::Duration;

impl<F: Futex> PageLock<F> {
    /// Takes the page if it is free, in one step.
    ///
    /// `None` if somebody owns it, or if it is promised to a sleeper. A failure is one load and no store.
    ///
    /// Acquire on success: the caller sees what earlier owners did.
    #[inline]
    pub fn try_lock(&self) -> Option<PageGuard<'_, F>> {
        let seen = self.state();
        if seen.is_taken() {
            return None;
        }
        match self.take(seen, seen.taken_by_newcomer()) {
            Ok(guard) => Some(guard),
            Err(now) => self.try_lock_again(now),
        }
    }

    /// The word has changed under an attempt, which need not mean that the page is taken.
    #[cold]
    fn try_lock_again(&self, mut seen: State) -> Option<PageGuard<'_, F>> {
        while !seen.is_taken() {
            match self.take(seen, seen.taken_by_newcomer()) {
                Ok(guard) => return Some(guard),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Takes the page, sleeping until it can.
    ///
    /// Newcomers may take the page before a sleeper that was woken for it, at most [`BYPASS_BOUND`] times. A poisoned page can be locked too (somebody has to take
    /// down its entries): ask [`PageGuard::is_poisoned`].
    ///
    /// The header must stay where it is for the whole call; the borrow says so. Waiting for a page without anything that keeps
    /// it is what [`wait_unlocked`](Self::wait_unlocked) is for.
    ///
    /// Acquire: the caller sees what earlier owners did.
    #[inline]
    pub fn lock(&self) -> PageGuard<'_, F> {
        let seen = self.state();
        if seen.is_plain() {
            if let Ok(guard) = self.take(seen, seen.with_locked()) {
                return guard;
            }
        }
        self.lock_cold();
        PageGuard { page: self }
    }

    /// Takes the page, for the caller to make a guard of it. It returns nothing on purpose: a compiler that sees that the guard is
    /// the argument keeps it in the register of the result, and then sets up a stack frame on the fast path too.
    #[cold]
    fn lock_cold(&self) {
        Locker::arrived(self).lock().forget();
    }

    /// Takes the page, sleeping for at most `d`. A `d` that the clock cannot hold is no limit.
    ///
    /// `None` when the time was up. See [`try_lock_until`](Self::try_lock_until) for a deadline, and errors that say more.
    pub fn try_lock_for(&self, d: Duration) -> Option<PageGuard<'_, F>>
    where
        F: FutexTimed,
    {
        if let Some(guard) = self.try_lock() {
            return Some(guard);
        }
        match self.futex.after(d) {
            Ok(deadline) => Locker::arrived(self).lock_until(deadline).ok(),
            Err(_) => Some(self.lock()),
        }
    }

    /// Takes the page, sleeping until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`] when the deadline passed while it slept, [`LockError::Late`] when the page was taken and the
    /// deadline already over. Nothing is left behind: a wake that had been given to this locker is passed on, its promise undone.
    pub fn try_lock_until(&self, deadline: F::Instant) -> Result<PageGuard<'_, F>, LockError>
    where
        F: FutexTimed,
    {
        if let Some(guard) = self.try_lock() {
            return Ok(guard);
        }
        match self.futex.late_by(deadline) {
            Some(late_by) => Err(LockError::Late { late_by }),
            None => Locker::arrived(self).lock_until(deadline),
        }
    }

    /// Lets go of `ptl`, then takes the page, and cannot be overtaken by newcomers while it waits.
    ///
    /// For a faulter that has lost the race for the page too often: it registers as a starved locker *before* it drops `ptl`, so
    /// the page is promised to it and to those who slept before it from that moment on. Once it owns the page it must look at
    /// its page table again: the entry may have changed.
    ///
    /// If the page is promised to others already, and on its way to one of them or awaited by lockers that may not register, then this
    /// one may not either until those promises are kept. Like them it is told then, and may find that somebody was faster: at most
    /// [`BYPASS_BOUND`] times, after which nothing keeps it from registering.
    ///
    /// `ptl` is any value whose drop releases whatever guards the entry. It is dropped before any sleep. The header must stay
    /// where it is for the whole call, unlike for [`wait_unlocked`](Self::wait_unlocked): this sleeps on the header itself.
    /// The page is not referenced, and whether it still is the page that the entry meant is for the caller to find out.
    pub fn lock_releasing<G>(&self, ptl: G) -> PageGuard<'_, F> {
        match self.begin_releasing(ptl) {
            Ok(guard) => guard,
            Err(locker) => locker.lock(),
        }
    }

    /// [`lock_releasing`](Self::lock_releasing), sleeping until `deadline` at most. `ptl` is dropped in any case.
    ///
    /// # Errors
    ///
    /// As [`try_lock_until`](Self::try_lock_until), and nothing is left behind.
    pub fn lock_releasing_until<G>(&self, ptl: G, deadline: F::Instant) -> Result<PageGuard<'_, F>, LockError>
    where
        F: FutexTimed,
    {
        match self.begin_releasing(ptl) {
            Ok(guard) => Ok(guard),
            Err(locker) => match self.futex.late_by(deadline) {
                Some(late_by) => Err(LockError::Late { late_by }),
                None => locker.lock_until(deadline),
            },
        }
    }

    /// Takes the page, or registers as starved; then lets go of `ptl`.
    fn begin_releasing<G>(&self, ptl: G) -> Result<PageGuard<'_, F>, Locker<'_, F>> {
        let mut locker = Locker::new(self);
        locker.starved = true;
        let next = locker.take_or_register();
        drop(ptl);
        match next {
            Step::Owned(guard) => Ok(guard),
            Step::Sleep(_) | Step::Crowded(_) => Err(locker),
        }
    }

    /// Owns the page, or leaves word that somebody waits for it; never sleeps.
    ///
    /// For fault servers, whose faulters already sleep elsewhere. [`Claim::InFlight`] has set the page's waiters' flag, so the
    /// owner's release calls [`Futex::tell`], and says so in its [`Released`]. Of the two the call is the one to rely on: it comes also
    /// when a guard is dropped, and when a page that was promised turns out to be free. The flag is for one release: claim again
    /// before every further wait.
    pub fn claim(&self) -> Claim<'_, F> {
        let mut seen = self.state();
        loop {
            if seen.is_poisoned() {
                return Claim::Poisoned;
            }
            if !seen.is_taken() {
                match self.take(seen, seen.taken_by_newcomer()) {
                    Ok(guard) => return Claim::Owner(guard),
                    Err(now) => seen = now,
                }
            } else {
                match self.set_event_waiters(seen) {
                    Ok(()) => return Claim::InFlight,
                    Err(now) => seen = now,
                }
            }
        }
    }

    /// Sets EVENT_WAITERS on a word last seen as `seen`, which says *taken*. If it was set already, nothing is written: a look
    /// is enough, because the flag can only go away together with the hold that was seen.
    pub(crate) fn set_event_waiters(&self, seen: State) -> Result<(), State> {
        debug_assert!(seen.is_taken());
        if seen.has_event_waiters() {
            return Ok(());
        }
        // Relaxed: the release reads the flag with a read-modify-write of the same word; see `wait` for the sequence.
        self.replace(seen, seen.with_event_waiters())
    }

    /// Strikes all sleepers, and what was promised to them, after a process that was one of them has died.
    ///
    /// A locker that is killed while it sleeps stays counted, and a page that is promised to it stays taken for ever. Whether anybody
    /// else is counted the word cannot say, so call this when nobody is, and wait for the end of the calls that are under way before.
    /// A page that an owner has locked stays locked; [`PageGuard::from_raw`] is for an owner that has died.
    ///
    /// # Safety
    ///
    /// Nobody alive is in a call that sleeps for the page's ownership: [`lock`](Self::lock), [`try_lock_for`](Self::try_lock_for),
    /// [`try_lock_until`](Self::try_lock_until), [`lock_releasing`](Self::lock_releasing),
    /// [`lock_releasing_until`](Self::lock_releasing_until). Otherwise that one is subtracted from a count that it is not in any more, and
    /// what stands next to the count changes: who owns the page included. Other calls may be under way.
    pub unsafe fn reset_sleepers(&self) {
        let mut seen = self.state();
        let left = loop {
            let next = seen.without_sleepers();
            match self.replace(seen, next) {
                Ok(()) => break next,
                Err(now) => seen = now,
            }
        };
        self.promise_ceased(seen, left);
    }

    /// Tells the waiters who counted on a promise, if taking it back has freed the page: there will be no release to tell them.
    fn promise_ceased(&self, before: State, after: State) {
        let is_undone = before.is_taken() && !after.is_taken();
        if is_undone && before.has_event_waiters() {
            self.futex.tell(self.key());
        }
    }

    /// One compare-exchange from `seen` to `next`, without ordering.
    pub(crate) fn replace(&self, seen: State, next: State) -> Result<(), State> {
        // Relaxed: as the table at the top says of registering and leaving.
        self.state.compare_exchange_weak(seen.0, next.0, Relaxed, Relaxed).map(drop).map_err(State)
    }

    #[inline]
    fn take(&self, seen: State, next: State) -> Result<PageGuard<'_, F>, State> {
        // Acquire: pairs with the Release of `release`, so that the owner sees what earlier owners wrote.
        match self.state.compare_exchange(seen.0, next.0, Acquire, Relaxed) {
            Ok(_) => Ok(PageGuard { page: self }),
            Err(now) => Err(State(now)),
        }
    }

    /// Gives the page up: one add, then wakes by address. The caller owns the page; `migrating` says whether MIGRATING is set,
    /// `poison` asks for POISONED.
    ///
    /// After the add the page may belong to somebody else or be gone, so nothing below it reads the header.
    #[inline]
    pub(crate) fn release(&self, migrating: bool, poison: bool) -> Released {
        debug_assert!(self.state().is_locked(), "released a page that is not locked: {self:?}");
        debug_assert_eq!(self.state().is_migrating(), migrating, "{self:?}");
        let (futex, word, key) = (self.futex, core::ptr::from_ref(&self.state), self.key());
        let poison = poison && !self.state().is_poisoned();
        // Release: pairs with the Acquire of `take`. What this owner wrote is seen by the next.
        let held = State(self.state.fetch_add(State::release_delta(migrating, poison), Release));
        if held.has_waiters() {
            wake_after_release(futex, word, key, held);
        }
        Released { event_waiters: held.has_event_waiters() }
    }

    /// Gives the page up, to a sleeper if there is one; otherwise as `release`.
    fn release_fair(&self) -> Released {
        debug_assert!(self.state().is_locked(), "released a page that is not locked: {self:?}");
        let (futex, word, key) = (self.futex, core::ptr::from_ref(&self.state), self.key());
        let mut seen = self.state();
        while seen.sleepers() > 0 {
            // Release: as in `release`.
            match self.state.compare_exchange_weak(seen.0, seen.released_to_sleeper().0, Release, Relaxed) {
                Ok(_) => {
                    wake_after_release(futex, word, key, seen);
                    return Released { event_waiters: seen.has_event_waiters() };
                }
                Err(now) => seen = State(now),
            }
        }
        self.release(false, false)
    }
}

/// The second half of a release: wakes whom the word that was released names. `word` and `key` are addresses; the page is not
/// ours any more.
///
/// Without LOCK_WAITERS no locker is woken even if some are registered: then they are awake, and will look again.
#[cold]
fn wake_after_release<F: Futex>(futex: F, word: *const AtomicU32, key: usize, held: State) {
    if held.has_lock_waiters() {
        stats::count(Counter::LockWakes);
        futex.wake_one(word);
    }
    if held.has_event_waiters() {
        futex.tell(key);
    }
}

/// A locker that may have to sleep. Dropping it is leaving: its registration, its promise and a wake it may have been given are
/// all accounted for, whatever ended the attempt.
struct Locker<'a, F: Futex> {
    page: &'a PageLock<F>,
    /// Counted in the word's sleepers.
    registered: bool,
    /// Entitled to a promise from now on.
    starved: bool,
    /// It was woken, and has not looked at the page since.
    woken: bool,
    /// How often it was woken for nothing.
    lost: u32,
    /// What the word was when the page was first promised to it: who sleeps there goes before it, and nobody else should.
    promised: Option<State>,
}

/// What a locker does next.
enum Step<'a, F: Futex> {
    Owned(PageGuard<'a, F>),
    /// Sleep while the state word has this value.
    Sleep(u32),
    /// Wait in the event table until the word can count another sleeper.
    Crowded(Registered<F>),
}

impl<'a, F: Futex> Locker<'a, F> {
    fn new(page: &'a PageLock<F>) -> Self {
        Self { page, registered: false, starved: false, woken: false, lost: 0, promised: None }
    }

    /// A locker that has come upon a page that is taken. It may have to wait, but does not look at once.
    fn arrived(page: &'a PageLock<F>) -> Self {
        // To a model it would be one more look, for nothing.
        if !cfg!(pagelock_loom) {
            linger::hang_back(page);
        }
        Self::new(page)
    }

    fn lock(mut self) -> PageGuard<'a, F> {
        loop {
            if let Some(guard) = self.spin() {
                return guard;
            }
            match self.take_or_register() {
                Step::Owned(guard) => return guard,
                Step::Sleep(expected) => {
                    let sleep = self.page.futex.wait(&self.page.state, expected);
                    self.woken = is_wake(sleep);
                }
                Step::Crowded(registered) => self.woken = registered.sleep() == Wake::Released,
            }
        }
    }

    fn lock_until(mut self, deadline: F::Instant) -> Result<PageGuard<'a, F>, LockError>
    where
        F: FutexTimed,
    {
        loop {
            if let Some(guard) = self.spin() {
                return Ok(guard);
            }
            let timed_out = match self.take_or_register() {
                Step::Owned(guard) => return Ok(guard),
                Step::Sleep(expected) => {
                    let sleep = wait_until(self.page.futex, &self.page.state, expected, EVERY_CLASS, deadline);
                    self.woken = is_wake(sleep);
                    sleep == Sleep::TimedOut
                }
                Step::Crowded(registered) => {
                    let wake = registered.sleep_until(deadline);
                    self.woken = wake == Wake::Released;
                    wake == Wake::TimedOut
                }
            };
            if timed_out {
                return Err(LockError::TimedOut);
            }
        }
    }

    /// Waits a moment for the page to be released, before the first sleep and after each, and takes it if it can.
    ///
    /// Losing the compare-exchange to somebody faster is no reason to sleep: that hold will be short as well. A promise to others
    /// is one.
    fn spin(&mut self) -> Option<PageGuard<'a, F>> {
        for turn in linger::turns() {
            if turn > 0 {
                self.page.futex.relax();
            }
            for _ in linger::looks() {
                let seen = self.page.state();
                match self.attempt(seen) {
                    Some(Ok(guard)) => return Some(guard),
                    None if seen.handoffs() > 0 && !self.registered => return None,
                    Some(Err(_)) | None => linger::between_looks(),
                }
            }
        }
        None
    }

    /// Tries to take the page, last seen as `seen`; `None` if it is not this locker's to take.
    fn attempt(&mut self, seen: State) -> Option<Result<PageGuard<'a, F>, State>> {
        let next = if self.registered && !seen.is_locked() {
            seen.taken_by_sleeper()
        } else if !seen.is_taken() {
            seen.taken_by_newcomer()
        } else {
            if self.woken {
                self.lost_a_wake();
            }
            return None;
        };
        let taken = self.page.take(seen, next);
        if taken.is_ok() && self.registered {
            self.registered = false;
            self.ceased_to_sleep(seen, next);
        }
        Some(taken)
    }

    /// Takes the page if it may, or else makes sure that the next release wakes it.
    fn take_or_register(&mut self) -> Step<'a, F> {
        let mut seen = self.page.state();
        loop {
            match self.attempt(seen) {
                Some(Ok(guard)) => return Step::Owned(guard),
                Some(Err(now)) => {
                    seen = now;
                    continue;
                }
                None => {}
            }
            let Some(mut next) = seen.with_sleeper(self.registered, self.may_promise(seen)) else {
                match self.page.register_in_crowd(|seen| self.may_promise(seen)) {
                    Some(registered) => return Step::Crowded(registered),
                    None => seen = self.page.state(),
                }
                continue;
            };
            if self.is_overtaken(seen) {
                next = next.with_crowd();
            }
            match if next == seen { Ok(()) } else { self.page.replace(seen, next) } {
                Ok(()) => {
                    self.registered = true;
                    if self.starved {
                        self.promised.get_or_insert(next);
                    }
                    stats::count(Counter::LockWaits);
                    return Step::Sleep(next.0);
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Whether the page, last seen as `seen`, is promised to all who sleep when this locker registers. See the top for why not always.
    fn may_promise(&self, seen: State) -> bool {
        let holds_nobody_up = seen.handoffs() == 0 || seen.is_locked() && !seen.has_crowd();
        self.starved && (self.registered || self.lost >= BYPASS_BOUND || holds_nobody_up)
    }

    /// Whether somebody has the page who was not before this locker when it was promised the page. The generation counts the releases
    /// since; should it have come round, the next look tells.
    fn is_overtaken(&self, seen: State) -> bool {
        self.promised.is_some_and(|promised| {
            let turns = u32::from(seen.generation().wrapping_sub(promised.generation()));
            turns >= promised.sleepers()
        })
    }

    /// This locker is not counted as a sleeper any more: what follows from that for others.
    fn ceased_to_sleep(&self, before: State, after: State) {
        if !before.is_locked() && after.is_locked() && before.handoffs() > 0 {
            stats::count(Counter::Handoffs);
        }
        if before.has_crowd() && !after.has_crowd() {
            self.page.futex.tell_event(self.page.key());
        }
    }

    /// Somebody who came later was faster.
    fn lost_a_wake(&mut self) {
        stats::count(Counter::LostWakes);
        self.woken = false;
        self.lost += 1;
        self.starved |= self.lost >= BYPASS_BOUND;
    }
}

/// Whether a sleep may have ended because of a wake.
fn is_wake(sleep: Sleep) -> bool {
    matches!(sleep, Sleep::Woken | Sleep::Unknown)
}

impl<F: Futex> Drop for Locker<'_, F> {
    fn drop(&mut self) {
        if !self.registered {
            return;
        }
        let page = self.page;
        let mut seen = page.state();
        let left = loop {
            let next = seen.without_sleeper();
            match page.replace(seen, next) {
                Ok(()) => break next,
                Err(now) => seen = now,
            }
        };
        self.ceased_to_sleep(seen, left);
        if left.is_locked() {
            return; // LOCK_WAITERS is set if anybody is left, so the owner's release passes on the wake that we may have had.
        }
        if left.sleepers() > 0 {
            page.futex.wake_one(&raw const page.state);
        }
        page.promise_ceased(seen, left);
    }
}

/// Ownership of a page. Dropping it releases the page.
///
/// It is [`Send`]: the thread that finishes an I/O need not be the one that started it. For an owner that cannot carry a guard
/// at all there are [`into_raw`](Self::into_raw) and [`from_raw`](Self::from_raw).
#[must_use = "the page is released when the guard is dropped"]
pub struct PageGuard<'a, F: Futex = crate::OsFutex> {
    pub(crate) page: &'a PageLock<F>,
}

impl<'a, F: Futex> PageGuard<'a, F> {
    /// The page that this owns.
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Whether the page's contents are lost. Exact while the guard lives: only the owner poisons.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.page.is_poisoned()
    }

    /// Releases the page, as dropping the guard does, and says whether somebody waited for it.
    ///
    /// Release: the next owner sees what this one did.
    #[inline]
    pub fn unlock(self) -> Released {
        self.forget().release(false, false)
    }

    /// Releases the page to a sleeping locker if there is one: no newcomer can take it before one of them does.
    ///
    /// Costs that sleeper's wake-up time in which nobody owns the page; the ordinary release does not.
    pub fn unlock_fair(self) -> Released {
        self.forget().release_fair()
    }

    /// Marks the contents lost for good and releases the page. From now on waits for it return
    /// [`Wake::Poisoned`] at once, and get, pin, freeze, claim and activate fail: the counts stay frozen.
    /// References and pins that exist can be dropped.
    pub fn poison(self) -> Released {
        self.forget().poison(false)
    }

    /// Writes the caller's two bits. Release: see [`PageLock::user`].
    pub fn set_user(&mut self, user: UserBits) {
        let state = &self.page.state;
        let mut seen = self.page.state();
        // Release: pairs with the Acquire of `user`.
        while let Err(now) = state.compare_exchange_weak(seen.0, seen.with_user(user).0, Release, Relaxed) {
            seen = State(now);
        }
    }

    /// Forgets the guard and leaves the page locked, for somebody else to release through [`from_raw`](Self::from_raw).
    ///
    /// The answer dates the hold: [`from_raw_of`](Self::from_raw_of) uses it to notice a stale release.
    pub fn into_raw(self) -> Hold {
        Hold { generation: self.forget().generation() }
    }

    /// The guard of a page that is locked and has no guard.
    ///
    /// # Safety
    ///
    /// The page is locked, and the right to release it is the caller's: it comes from one [`into_raw`](Self::into_raw) that was
    /// not used yet. Otherwise the release frees a page under somebody else's hands; memory that the lock protects is then
    /// accessed by two owners. A debug build panics, with nothing changed, if the page is not locked at all.
    pub unsafe fn from_raw(page: &'a PageLock<F>) -> Self {
        debug_assert!(page.state().is_locked(), "from_raw of a page that is not locked: {page:?}");
        Self { page }
    }

    /// [`from_raw`](Self::from_raw), for a hold that is known.
    ///
    /// # Safety
    ///
    /// As for `from_raw`. A debug build panics also if `hold` is over and the page was locked again since (up to a multiple of
    /// 256 releases).
    pub unsafe fn from_raw_of(page: &'a PageLock<F>, hold: Hold) -> Self {
        debug_assert_eq!(page.generation(), hold.generation, "stale release of {page:?}");
        // SAFETY: the caller's promise is the same.
        unsafe { Self::from_raw(page) }
    }

    /// Takes the guard apart without releasing.
    pub(crate) fn forget(self) -> &'a PageLock<F> {
        let page = self.page;
        core::mem::forget(self);
        page
    }
}

impl<F: Futex> Drop for PageGuard<'_, F> {
    #[inline]
    fn drop(&mut self) {
        self.page.release(false, false);
    }
}

impl<F: Futex> fmt::Debug for PageGuard<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PageGuard").field(self.page).finish()
    }
}

/// One hold of a page, from acquisition to release: what [`PageGuard::into_raw`] leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    generation: u8,
}

/// What a release found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Released {
    /// Somebody had registered for this release, by a wait or a [`claim`](PageLock::claim), and was told through
    /// [`Futex::tell`]. A fault server that routes wakes itself acts on this.
    pub event_waiters: bool,
}

/// What [`PageLock::claim`] came to.
#[must_use]
#[non_exhaustive]
pub enum Claim<'a, F: Futex = crate::OsFutex> {
    /// The page is yours.
    Owner(PageGuard<'a, F>),
    /// Somebody else has it, and will tell when it is released.
    InFlight,
    /// The contents are lost; there is nothing to wait for.
    Poisoned,
}

impl<F: Futex> fmt::Debug for Claim<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(guard) => f.debug_tuple("Owner").field(guard).finish(),
            Self::InFlight => f.write_str("InFlight"),
            Self::Poisoned => f.write_str("Poisoned"),
        }
    }
}

/// Why a page could not be locked in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LockError {
    /// The deadline passed while the page was taken.
    TimedOut,
    /// The page was taken, and the deadline had passed before the call.
    Late {
        /// By this much.
        late_by: Duration,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the page was not released before the deadline"),
            Self::Late { late_by } => write!(f, "the page is taken and the deadline passed {late_by:?} before the call"),
        }
    }
}

impl core::error::Error for LockError {}

#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests {
    use super::*;
    use crate::word::state::LOCKED;

    /// Released, promised to one sleeper, and others stand in the crowd: nobody may be held up now, but for who has lost often enough.
    #[test]
    fn promises_are_renewed_in_any_case_for_who_has_lost_so_often_and_for_who_has_one() {
        let slept_for = State(LOCKED).with_sleeper(false, false).expect("there is room");
        let crowded = slept_for.released_to_sleeper().with_crowd();
        let page: PageLock = PageLock::new();
        let may = |registered, starved, lost| {
            let locker = Locker { registered, starved, woken: false, lost, page: &page, promised: None };
            // Not dropped: the page does not count it.
            core::mem::ManuallyDrop::new(locker).may_promise(crowded)
        };
        assert!(!may(false, true, BYPASS_BOUND - 1));
        assert!(may(false, true, BYPASS_BOUND));
        assert!(may(true, true, 0));
        assert!(!may(true, false, 0));
    }
}
