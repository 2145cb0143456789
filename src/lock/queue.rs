//! A locker that waits: registered, outside, or giving up. See the rules in [`lock`](super).

use super::release::wake_one;
use super::{LockError, PageGuard, spin};
use crate::futex::{EVERY_CLASS, Futex, Sleep};
use crate::page::PageLock;
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

/// What comes of a look at the page.
enum Next<'a, F: Futex> {
    Owned(PageGuard<'a, F>),
    /// Registered: to sleep on the word while it has this value.
    Inside(State),
    /// Outside, or registered under a switch, which wakes there: to sleep in the event table.
    Event(Registered<F>),
}

impl<'a, 'l, F: Futex> Locker<'a, 'l, F> {
    pub(super) fn new(page: &'a PageLock<F>, limits: Limits<'l, F>) -> Self {
        Self { page, limits, closes: false, registered: false, round: false, lost: 0 }
    }

    /// One that closes the gate as it registers.
    pub(super) fn closing(page: &'a PageLock<F>, limits: Limits<'l, F>) -> Self {
        Self { closes: true, ..Self::new(page, limits) }
    }

    /// Without limits.
    pub(super) fn lock(&mut self) -> PageGuard<'a, F> {
        loop {
            if let Ok(guard) = self.lock_within() {
                return guard;
            }
        }
    }

    pub(super) fn lock_within(&mut self) -> Result<PageGuard<'a, F>, LockError> {
        let (page, mut over) = (self.page, None);
        loop {
            over = over.or_else(|| self.limits.over(page.futex));
            if let Some(over) = over {
                // The page may be free with the wake for it on its way to another, or lost with a
                // process that died: a last look.
                return self.try_take().ok_or(LockError::from_limit(over));
            }
            // One that was told outside registers at once, so that a fair release sees it.
            let was_outside = self.round && !self.registered;
            if let Some(guard) = if was_outside { None } else { self.spin() } {
                return Ok(guard);
            }
            match self.look() {
                Next::Owned(guard) => return Ok(guard),
                Next::Inside(word) => {
                    let sleep = self.limits.sleep(page.futex, &page.state, word.0, EVERY_CLASS);
                    // Of a platform that cannot tell, a wake is known by the release.
                    self.round = sleep == Sleep::Woken || page.state().generation() != word.generation();
                    over = (sleep == Sleep::TimedOut).then_some(Wake::TimedOut);
                }
                Next::Event(ready) => {
                    let wake = ready.sleep_within(&self.limits);
                    self.round = wake == Wake::Released;
                    over = (!self.round).then_some(wake);
                }
            }
        }
    }

    /// Takes the page, or registers; then lets go of `ptl`, and goes on. Late already, it does not
    /// register, so that the gate is not closed for nothing.
    pub(super) fn lock_releasing<G>(&mut self, ptl: G) -> Result<PageGuard<'a, F>, LockError> {
        let is_over = self.limits.over(self.page.futex).is_some();
        let next = (!is_over).then(|| self.look());
        drop(ptl);
        match next {
            Some(Next::Owned(guard)) => Ok(guard),
            _ => self.lock_within(),
        }
    }

    /// Looks for a moment whether the page can be taken.
    ///
    /// Losing the compare-exchange to somebody faster is no reason to sleep: that hold will be
    /// short as well. A closed gate is one.
    fn spin(&mut self) -> Option<PageGuard<'a, F>> {
        for seen in spin::looks(self.page, self.limits) {
            if self.may_take(seen) {
                if let Ok(guard) = self.take(seen) {
                    return Some(guard);
                }
            } else if seen.is_closed() && !self.registered {
                return None;
            }
        }
        None
    }

    fn try_take(&mut self) -> Option<PageGuard<'a, F>> {
        let mut seen = self.page.state();
        while self.may_take(seen) {
            match self.take(seen) {
                Ok(guard) => return Some(guard),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Takes the page if it may, or else makes sure that it is woken when it may look again.
    fn look(&mut self) -> Next<'a, F> {
        let mut seen = self.page.state();
        let mut ready = None;
        loop {
            if self.may_take(seen) {
                match self.take(seen) {
                    Ok(guard) => return Next::Owned(guard),
                    Err(now) => seen = now,
                }
                continue;
            }
            if core::mem::take(&mut self.round) {
                stats::count(Counter::LostWakes);
                self.lost = self.lost.saturating_add(1);
            }
            let starved = self.lost >= F::BYPASS_BOUND;
            let enters = self.registered || seen.admits(starved);
            let mut next = if enters {
                let closes = starved || self.closes && !self.registered;
                seen.with_sleeper(self.registered, closes)
            } else {
                seen.with_crowd()
            };
            let by_event = self.limits.cancel.is_some() || !enters;
            if by_event && ready.is_none() {
                // The sequence before the flag, as for any waiter, and a look after the sequence.
                ready = Some(self.page.read_sequence());
                seen = self.page.state();
                continue;
            }
            if by_event && enters {
                next = next.with_event_waiters();
            }
            match if next == seen { Ok(()) } else { self.page.replace(seen, next) } {
                Ok(()) if enters && !next.is_locked() => {
                    // Kept for those who are registered, and this one is now.
                    self.registered = true;
                    seen = next;
                }
                Ok(()) => {
                    self.registered = enters;
                    stats::count(Counter::LockWaits);
                    return match ready {
                        Some(ready) if by_event => Next::Event(ready),
                        _ => Next::Inside(next),
                    };
                }
                Err(now) => seen = now,
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
        if core::mem::take(&mut self.registered) {
            if seen.is_closed() {
                stats::count(Counter::Handoffs);
            }
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
        if !self.registered {
            return;
        }
        let page = self.page;
        let (seen, left) = page.update(State::without_sleeper);
        // Told also if `wake_one` panics.
        let _tell = page.told_by_leaver(seen, left);
        // While the page is locked, LOCK_WAITERS is set if anybody is left, so the owner's release
        // passes on the wake that we may have had.
        if !left.is_locked() && left.sleepers() > 0 {
            wake_one(page.futex, &raw const page.state);
        }
    }
}
