//! Releasing a page.

use crate::defer::{defer, or_else_on_panic};
use crate::futex::{Futex, tell_in_any_case};
use crate::owner;
use crate::page::PageLock;
use crate::stats::{self, Counter};
use crate::sync::AtomicU32;
use crate::sync::Ordering::{Relaxed, Release};
use crate::word::State;

/// What a release found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Released {
    /// A wait or a [`claim`](PageLock::claim) had asked to be told of this release, and was told
    /// through [`Futex::tell`]. A fault server that routes wakes itself acts on this.
    pub event_waiters: bool,
}

impl<F: Futex> PageLock<F> {
    /// Releases the page: one add, then wakes by address. The caller owns the page; `migrating`
    /// says whether MIGRATING is set, `poison` asks for POISONED.
    ///
    /// After the add the page may have another owner or be gone, so nothing below it reads the
    /// header.
    #[inline]
    pub(crate) fn release(&self, migrating: bool, poison: bool) -> Released {
        debug_assert!(self.state().is_locked(), "released a page that is not locked: {self:?}");
        debug_assert_eq!(self.state().is_migrating(), migrating, "{self:?}");
        let (futex, word, key) = (self.futex, core::ptr::from_ref(&self.state), self.key());
        let _ended = owner::end(key);
        let poison = poison && !self.state().is_poisoned();
        // Release: pairs with the Acquire of `take`. The next owner sees what this one wrote.
        let held = State(self.state.fetch_add(State::release_delta(migrating, poison), Release));
        if held.has_waiters() {
            wake_after_release(futex, word, key, held);
        }
        Released { event_waiters: held.has_event_waiters() }
    }

    /// Releases the page and closes the gate, if a locker is registered. Otherwise as `release`,
    /// and then lets others run: lockers that look for the page awake leave no trace, and an owner
    /// that takes it again at once would keep them out for as long as it runs.
    pub(super) fn release_fair(&self) -> Released {
        debug_assert!(self.state().is_locked(), "released a page that is not locked: {self:?}");
        let (futex, word, key) = (self.futex, core::ptr::from_ref(&self.state), self.key());
        let _ended = owner::end(key);
        let mut seen = self.state();
        while seen.sleepers() > 0 {
            let next = seen.released_fairly();
            // Release: as in `release`.
            match self.state.compare_exchange_weak(seen.0, next.0, Release, Relaxed) {
                Ok(_) => {
                    wake_after_release(futex, word, key, seen);
                    return Released { event_waiters: seen.has_event_waiters() };
                }
                Err(now) => seen = State(now),
            }
        }
        let released = self.release(false, false);
        if F::SPINS > 0 {
            futex.relax();
        }
        released
    }
}

/// The second half of a release: wakes the threads that the released word `held` names. `word` and
/// `key` are addresses; the caller does not own the page any more.
///
/// Without LOCK_WAITERS no locker is woken even if some are registered: one of them is awake then,
/// and will look again.
#[cold]
fn wake_after_release<F: Futex>(futex: F, word: *const AtomicU32, key: usize, held: State) {
    // Tells when dropped: a platform that panics in `wake_one` does not strand the waiters.
    let _tell = held.has_event_waiters().then(|| defer(move || tell_in_any_case(futex, key)));
    if held.has_lock_waiters() {
        stats::count(Counter::LockWakes);
        wake_one(futex, word);
    }
}

/// Wakes one locker, or all of them if the platform panics.
pub(super) fn wake_one<F: Futex>(futex: F, word: *const AtomicU32) {
    or_else_on_panic(|| futex.wake_one(word), || futex.wake_all(word));
}
