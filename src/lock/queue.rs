//! A locker that waits: registered, outside, or giving up. See the rules in [`lock`](super).

use super::{LockError, PageGuard, spin};
use crate::futex::{EVERY_CLASS, Futex, Sleep};
use crate::page::PageLock;
use crate::stats::{self, Counter};
use crate::wait::{Limits, Registered, Wake};
use crate::word::State;

/// Dropping it is giving up: its registration and a wake that it may have been given are accounted
/// for, whatever ended the attempt.
pub(super) struct Locker<'a, F: Futex> {
    page: &'a PageLock<F>,
    /// Counted in the word's sleepers.
    registered: bool,
    /// Closes the gate as it registers.
    closes: bool,
    /// Sleeps in the event table, also when registered, because that is where a cancel wakes.
    by_event: bool,
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
    /// Outside, or registered and sleeping there: to sleep in the event table.
    Event(Registered<F>),
}

impl<'a, F: Futex> Locker<'a, F> {
    pub(super) fn new(page: &'a PageLock<F>) -> Self {
        Self { page, registered: false, closes: false, by_event: false, round: false, lost: 0 }
    }

    /// One that closes the gate as it registers.
    pub(super) fn closing(page: &'a PageLock<F>) -> Self {
        Self { closes: true, ..Self::new(page) }
    }

    pub(super) fn lock(mut self) -> PageGuard<'a, F> {
        loop {
            match self.spin_then_look() {
                Next::Owned(guard) => return guard,
                next => self.sleep(next),
            }
        }
    }

    /// One sleep, without limits.
    fn sleep(&mut self, next: Next<'a, F>) {
        match next {
            Next::Owned(_) => {}
            Next::Inside(word) => {
                let sleep = self.page.futex.wait(&self.page.state, word.0);
                self.slept_on_word(word, sleep);
            }
            Next::Event(ready) => self.round = ready.sleep(&Limits::none()) == Wake::Released,
        }
    }

    pub(super) fn lock_within(mut self, limits: Limits<'_, F>) -> Result<PageGuard<'a, F>, LockError> {
        self.by_event = limits.cancel.is_some();
        loop {
            if let Some(guard) = self.spin() {
                return Ok(guard);
            }
            if let Some(over) = limits.over(self.page.futex) {
                return self.give_up(over);
            }
            let ended = match self.look() {
                Next::Owned(guard) => return Ok(guard),
                next => self.sleep_within(next, &limits),
            };
            if let Some(over) = ended {
                return self.give_up(over);
            }
        }
    }

    /// One sleep within `limits`, and which of them it has reached.
    fn sleep_within(&mut self, next: Next<'a, F>, limits: &Limits<'_, F>) -> Option<Wake> {
        let wake = match next {
            Next::Owned(_) => return None,
            Next::Inside(word) => {
                let page = self.page;
                let sleep = limits.sleep(page.futex, &page.state, word.0, EVERY_CLASS);
                self.slept_on_word(word, sleep);
                return (sleep == Sleep::TimedOut).then_some(Wake::TimedOut);
            }
            Next::Event(ready) => ready.sleep_within(limits),
        };
        self.round = wake == Wake::Released;
        (wake != Wake::Released).then_some(wake)
    }

    /// A limit is reached. The page may have become free with the wake for it on its way to another,
    /// or lost with a process that died: it is looked at once more.
    fn give_up(mut self, over: Wake) -> Result<PageGuard<'a, F>, LockError> {
        let mut seen = self.page.state();
        while self.may_take(seen) {
            match self.take(seen) {
                Ok(guard) => return Ok(guard),
                Err(now) => seen = now,
            }
        }
        Err(LockError::from_limit(over))
    }

    /// Takes the page, or registers; then lets go of `ptl`.
    fn begin_releasing<G>(&mut self, ptl: G) -> Next<'a, F> {
        let next = self.look();
        drop(ptl);
        next
    }

    pub(super) fn lock_releasing<G>(mut self, ptl: G) -> PageGuard<'a, F> {
        match self.begin_releasing(ptl) {
            Next::Owned(guard) => guard,
            _ => self.lock(),
        }
    }

    pub(super) fn lock_releasing_within<G>(mut self, ptl: G, limits: Limits<'_, F>) -> Result<PageGuard<'a, F>, LockError> {
        // Late already: not registered, so that the gate is not closed for nothing.
        if let Some(over) = limits.over(self.page.futex) {
            drop(ptl);
            return self.give_up(over);
        }
        self.by_event = limits.cancel.is_some();
        match self.begin_releasing(ptl) {
            Next::Owned(guard) => Ok(guard),
            _ => self.lock_within(limits),
        }
    }

    fn spin_then_look(&mut self) -> Next<'a, F> {
        match self.spin() {
            Some(guard) => Next::Owned(guard),
            None => self.look(),
        }
    }

    /// Looks for a moment whether the page can be taken.
    ///
    /// Losing the compare-exchange to somebody faster is no reason to sleep: that hold will be short
    /// as well. A closed gate is one.
    fn spin(&mut self) -> Option<PageGuard<'a, F>> {
        spin::until(self.page, |seen| {
            if self.may_take(seen) {
                return self.take(seen).map_or(spin::Look::Again, spin::Look::Done);
            }
            let outside = seen.is_closed() && !self.registered;
            if outside { spin::Look::Sleep } else { spin::Look::Again }
        })
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
            let by_event = self.by_event || !enters;
            if by_event && ready.is_none() {
                // The sequence before the flag, as for any waiter, and a look after the sequence.
                ready = Some(self.page.read_sequence());
                seen = self.page.state();
                continue;
            }
            if self.by_event && enters {
                next = next.with_event_waiters();
            }
            match if next == seen { Ok(()) } else { self.page.replace(seen, next) } {
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

    /// A sleep on the word under `word` has ended. It was a round if it was woken, or if the page was
    /// released meanwhile.
    fn slept_on_word(&mut self, word: State, sleep: Sleep) {
        self.round = matches!(sleep, Sleep::Woken | Sleep::Unknown) || self.page.state().generation() != word.generation();
    }
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
        // Told also if `wake_one` panics.
        let _tell = page.told_by_leaver(seen, left);
        // While the page is locked, LOCK_WAITERS is set if anybody is left, so the owner's release
        // passes on the wake that we may have had.
        if !left.is_locked() && left.sleepers() > 0 {
            page.futex.wake_one(&raw const page.state);
        }
    }
}
