//! A locker that waits: registered, outside, or giving up. See the rules in [`lock`](super).

use super::release::wake_one;
use super::{LockError, PageGuard, spin};
use crate::defer::defer;
use crate::futex::{EVERY_CLASS, Futex, Sleep, tell_in_any_case};
use crate::page::PageLock;
use crate::slow;
use crate::stats::{self, Counter};
use crate::wait::{Limits, Registered, Wake};
use crate::word::State;

/// Dropping it is giving up: its registration and a wake that it may have been given are accounted
/// for, whatever ended the attempt.
pub(super) struct Locker<'a, 'l, F: Futex> {
    page: &'a PageLock<F>,
    limits: Limits<'l, F>,
    /// Closes the gate as it registers.
    closes: bool,
    /// Counted in the word's sleepers.
    registered: bool,
    /// A round may be lost: it was woken, or the page was released, since it last looked.
    round: bool,
    /// How many rounds it has lost.
    lost: u32,
}

/// To sleep on the word while it has this value; or, with the second, in the event table: outside,
/// or registered under a switch, which wakes there.
type Asleep<F> = (State, Option<Registered<F>>);

impl<'a, 'l, F: Futex> Locker<'a, 'l, F> {
    /// One that `closes` the gate as it registers, or not.
    pub(super) fn new(page: &'a PageLock<F>, limits: Limits<'l, F>, closes: bool) -> Self {
        Self { page, limits, closes, registered: false, round: false, lost: 0 }
    }

    pub(super) fn lock_within(&mut self) -> Result<PageGuard<'a, F>, LockError> {
        let (page, mut over) = (self.page, None);
        let _waiting = slow::wait(page.key());
        loop {
            over = over.or_else(|| self.limits.over(page.futex));
            if let Some(over) = over {
                // The page may be free with the wake for it on its way to another, or lost with a
                // process that died: a last look.
                let error = if over == Wake::Cancelled {
                    LockError::Cancelled
                } else {
                    LockError::TimedOut
                };
                return self.try_take().map_err(|_| error);
            }
            // One that was told outside registers at once, so that a fair release sees it.
            let was_outside = self.round && !self.registered;
            if let Some(guard) = if was_outside { None } else { self.spin() } {
                return Ok(guard);
            }
            match self.look() {
                Ok(guard) => return Ok(guard),
                Err((word, None)) => {
                    let sleep = self.limits.sleep(page.futex, &page.state, word.0, EVERY_CLASS);
                    // Of a platform that cannot tell, a wake is known by the release.
                    self.round =
                        sleep == Sleep::Woken || page.state().generation() != word.generation();
                    over = (sleep == Sleep::TimedOut).then_some(Wake::TimedOut);
                }
                Err((_, Some(ready))) => {
                    let wake = ready.sleep(&self.limits);
                    self.round = wake == Wake::Released;
                    over = (!self.round).then_some(wake);
                }
            }
        }
    }

    /// Looks for a moment whether the page can be taken.
    ///
    /// Losing the compare-exchange to somebody faster is no reason to sleep: that hold will be
    /// short as well. A closed gate is one.
    fn spin(&mut self) -> Option<PageGuard<'a, F>> {
        let registered = self.registered;
        spin::looks(self.page, self.limits)
            .take_while(|seen| registered || !seen.is_closed())
            .find_map(|seen| if self.may_take(seen) { self.take(seen).ok() } else { None })
    }

    /// Takes the page if it may; otherwise the word that says that it may not.
    fn try_take(&mut self) -> Result<PageGuard<'a, F>, State> {
        let mut seen = self.page.state();
        while self.may_take(seen) {
            match self.take(seen) {
                Ok(guard) => return Ok(guard),
                Err(now) => seen = now,
            }
        }
        Err(seen)
    }

    /// Takes the page if it may, or else makes sure that it is woken when it may look again.
    pub(super) fn look(&mut self) -> Result<PageGuard<'a, F>, Asleep<F>> {
        let mut ready = None;
        loop {
            let seen = match self.try_take() {
                Ok(guard) => return Ok(guard),
                Err(seen) => seen,
            };
            if core::mem::take(&mut self.round) {
                stats::count(Counter::LostWakes);
                self.lost = self.lost.saturating_add(1);
            }
            let starved = self.lost >= F::BYPASS_BOUND;
            let enters = self.registered || seen.admits(starved);
            let by_event = self.limits.cancel.is_some() || !enters;
            if by_event && ready.is_none() {
                // The sequence before the flag, as for any waiter, and a look after the sequence.
                ready = Some(Registered::read(self.page.futex, self.page.key()));
                continue;
            }
            let closes = starved || self.closes && !self.registered;
            let next = match enters {
                true if by_event => seen.with_sleeper(self.registered, closes).with_event_waiters(),
                true => seen.with_sleeper(self.registered, closes),
                false => seen.with_crowd(),
            };
            if next != seen && self.page.replace(seen, next).is_err() {
                continue;
            }
            self.registered = enters;
            // Otherwise it is kept for those who are registered, and this one is now.
            if next.is_locked() || !enters {
                stats::count(Counter::LockWaits);
                return Err((next, ready.filter(|_| by_event)));
            }
        }
    }

    /// Rules 1 and 2.
    fn may_take(&self, seen: State) -> bool {
        if self.registered { !seen.is_locked() } else { !seen.is_taken() }
    }

    fn take(&mut self, seen: State) -> Result<PageGuard<'a, F>, State> {
        let next = if self.registered { seen.taken_by_sleeper() } else { seen.taken_by_newcomer() };
        let guard = self.page.take(seen, next)?;
        if core::mem::take(&mut self.registered) && seen.is_closed() {
            stats::count(Counter::GatedLocks);
            if seen.has_crowd() && !next.has_crowd() {
                // The guard exists: should telling panic, the page is released.
                self.page.futex.tell_event(self.page.key());
            }
        }
        Ok(guard)
    }
}

impl<F: Futex> Drop for Locker<'_, '_, F> {
    fn drop(&mut self) {
        if self.registered {
            let page = self.page;
            let (left, tells) = page.leave(State::without_sleeper);
            // Told also if `wake_one` panics.
            let _tell = tells.then(|| defer(|| tell_in_any_case(page.futex, page.key())));
            // While the page is locked, LOCK_WAITERS is set if anybody is left, so the owner's
            // release passes on the wake that we may have had.
            if !left.is_locked() && left.sleepers() > 0 {
                wake_one(page.futex, &raw const page.state);
            }
        }
    }
}

impl<F: Futex> PageLock<F> {
    /// Takes one sleeper, or all, off the word. What is left, and whether somebody has to be told:
    /// the crowd, if the gate has opened; and those who sleep for the page's release, if it was
    /// kept and is free by that. Its last owner has told them, but they may have come since; and no
    /// release will tell them, if this was the last sleeper.
    pub(super) fn leave(&self, without: impl Fn(State) -> State) -> (State, bool) {
        let mut seen = self.state();
        while let Err(now) = self.replace(seen, without(seen)) {
            seen = now;
        }
        let left = without(seen);
        let crowd = seen.has_crowd() && !left.has_crowd();
        let waiters = seen.has_event_waiters() && seen.is_taken() && !left.is_taken();
        (left, crowd || waiters)
    }
}
