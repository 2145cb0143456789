//! A locker that waits: registered, outside, or giving up. See the rules in [`lock`](super).

use super::{LockError, PageGuard, release::wake_one, retry, spin};
use crate::defer::defer;
use crate::futex::{EVERY_CLASS, Futex, Sleep, tell_in_any_case};
use crate::page::PageLock;
use crate::slow;
use crate::stats::{self, Counter};
use crate::wait::{Limits, Registered, Wake};
use crate::word::State;

/// A locker that waits. Dropping it gives up: it takes off its registration and passes on a wake
/// that it may have used up, whatever ended the attempt.
pub(super) struct Locker<'a, 'l, F: Futex> {
    page: &'a PageLock<F>,
    limits: Limits<'l, F>,
    /// Closes the gate as it registers.
    closes: bool,
    /// It is counted in the word's sleepers.
    registered: bool,
    /// Since it last looked it was woken, or the page was released: a round may be lost.
    round: bool,
    /// The number of rounds that it has lost.
    lost: u32,
}

/// The word to sleep under. With the second field the locker sleeps in the event table instead:
/// outside, or registered under a switch, which wakes there.
type Asleep<F> = (State, Option<Registered<F>>);

impl<'a, 'l, F: Futex> Locker<'a, 'l, F> {
    /// A locker that closes the gate as it registers, if `closes`.
    pub(super) fn new(page: &'a PageLock<F>, limits: Limits<'l, F>, closes: bool) -> Self {
        Self { page, limits, closes, registered: false, round: false, lost: 0 }
    }

    pub(super) fn lock(&mut self) -> Result<PageGuard<'a, F>, LockError> {
        let (page, mut over) = (self.page, None);
        let _waiting = slow::wait(page.key());
        loop {
            over = over.or_else(|| self.limits.over(page.futex));
            if let Some(over) = over {
                // A last look: the page may be free, and the wake for it on its way to another
                // sleeper, or lost with a process that died.
                return self.try_take().map_err(|_| match over {
                    Wake::Cancelled => LockError::Cancelled,
                    _ => LockError::TimedOut,
                });
            }
            // A locker that was told outside registers at once, so that a fair release sees it.
            let was_outside = self.round && !self.registered;
            if let Some(guard) = if was_outside { None } else { self.spin() } {
                return Ok(guard);
            }
            match self.look() {
                Ok(guard) => return Ok(guard),
                Err((word, None)) => {
                    let sleep = self.limits.sleep(page.futex, &page.state, word.0, EVERY_CLASS);
                    // If the platform cannot tell, the release shows that there was a wake.
                    self.round = sleep == Sleep::Woken || page.generation() != word.generation();
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
    /// A compare-exchange lost to a faster thread is no reason to sleep: that hold will be short as
    /// well. A closed gate is one.
    fn spin(&mut self) -> Option<PageGuard<'a, F>> {
        let registered = self.registered;
        spin::looks(self.page, self.limits)
            .take_while(|seen| registered || !seen.is_closed())
            .find_map(|seen| if self.may_take(seen) { self.take(seen).ok() } else { None })
    }

    /// Takes the page if it may; otherwise returns the word that says that it may not.
    fn try_take(&mut self) -> Result<PageGuard<'a, F>, State> {
        retry(self.page.state(), |seen| match self.may_take(seen) {
            true => self.take(seen).map(Ok),
            false => Ok(Err(seen)),
        })
    }

    /// Takes the page if it may; otherwise makes sure that it is woken when it may look again.
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
                // As for any waiter: the sequence before the flag, and a look after the sequence.
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
            // Otherwise the page is kept for registered lockers, and this one is registered now.
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
                // The guard exists: if telling panics, the page is released.
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
            // Tells also if `wake_one` panics.
            let _tell = tells.then(|| defer(|| tell_in_any_case(page.futex, page.key())));
            // While the page is locked, LOCK_WAITERS is set if sleepers remain, so the owner's
            // release passes on the wake that this locker may have used up.
            if !left.is_locked() && left.sleepers() > 0 {
                wake_one(page.futex, &raw const page.state);
            }
        }
    }
}

impl<F: Futex> PageLock<F> {
    /// Takes one sleeper, or all, off the word. Returns what is left, and whether the caller must
    /// tell the event slot: of the open gate, if there is a crowd; and that the page is free, if it
    /// was kept until now. The last owner told the waiters of its time, but others may have come
    /// since, and if this was the last sleeper, no release will tell them.
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
