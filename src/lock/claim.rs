//! Owning a page or leaving word: the lock of a server that never sleeps for a page.

use super::PageGuard;
use crate::futex::Futex;
use crate::page::PageLock;
use crate::word::State;
use core::fmt;

impl<F: Futex> PageLock<F> {
    /// Owns the page, or leaves word that somebody waits for it; never sleeps.
    ///
    /// For fault servers, whose faulters already sleep elsewhere. [`Claim::InFlight`] has set the
    /// page's waiters' flag, so the owner's release calls [`Futex::tell`], and says so in its
    /// [`Released`](crate::Released). Of the two the call is the one to rely on: it comes also when
    /// a guard is dropped, and when the last sleeper of a page that nobody owns gives up. The flag
    /// is for one release: claim again before every further wait.
    ///
    /// The owner's own faulter has left no flag. If it has to be told as well, however the owner
    /// ends, use [`claim_told`](Self::claim_told).
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn claim(&self) -> Claim<'_, F> {
        self.claim_as(State::taken_by_newcomer)
    }

    /// [`claim`](Self::claim) for a server whose own faulter sleeps as well: the release of the
    /// owner tells in any case, whether it is done, fails, panics, or is dropped with its task.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{Claim, PageLock};
    ///
    /// let page = PageLock::new();
    /// let Claim::Owner(guard) = page.claim_told() else { unreachable!("it is free") };
    /// // ... the fetch fails, and `?` drops the guard. Whoever faulted here is told all the same:
    /// assert!(guard.unlock().event_waiters);
    /// ```
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn claim_told(&self) -> Claim<'_, F> {
        self.claim_as(|seen| seen.taken_by_newcomer().with_event_waiters())
    }

    #[cfg_attr(feature = "owner", track_caller)]
    fn claim_as(&self, taken: impl Fn(State) -> State) -> Claim<'_, F> {
        let mut seen = self.state();
        loop {
            let claimed = match seen.is_taken() {
                _ if seen.is_poisoned() => Ok(Claim::Poisoned),
                true => self.set_event_waiters(seen).map(|()| Claim::InFlight),
                false => self.take(seen, taken(seen)).map(Claim::Owner),
            };
            match claimed {
                Ok(Claim::Owner(guard)) => return Claim::Owner(guard.noted()),
                Ok(claim) => return claim,
                Err(now) => seen = now,
            }
        }
    }
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
