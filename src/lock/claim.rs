//! Owning a page or being told: the lock of a server that never sleeps for a page.

use super::{PageGuard, retry};
use crate::futex::Futex;
use crate::owner;
use crate::page::PageLock;
use crate::word::State;
use core::fmt;

impl<F: Futex> PageLock<F> {
    /// Takes the page, or asks its owner to tell of the release; never sleeps.
    ///
    /// For fault servers, whose faulters sleep elsewhere. After [`Claim::InFlight`] the owner's
    /// release calls [`Futex::tell`], and says so in its [`Released`](crate::Released). Rely on the
    /// call: it also comes when a guard is dropped, and when the last sleeper of a page without an
    /// owner gives up. It comes once: claim again before every further wait.
    ///
    /// The owner's own faulter asks for nothing by this. If the release must tell in any case, use
    /// [`claim_told`](Self::claim_told).
    ///
    /// Acquire, when it takes the page.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{Claim, PageLock};
    ///
    /// let page = PageLock::new();
    /// let Claim::Owner(guard) = page.claim() else { unreachable!("it is free") };
    /// // The next fault on the page, while the first is being served:
    /// assert!(matches!(page.claim(), Claim::InFlight));
    /// assert!(guard.unlock().event_waiters); // wake that faulter now
    /// ```
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
    /// // ... the fetch fails, and `?` drops the guard. The faulter is told all the same:
    /// assert!(guard.unlock().event_waiters);
    /// ```
    #[cfg_attr(feature = "owner", track_caller)]
    pub fn claim_told(&self) -> Claim<'_, F> {
        self.claim_as(|seen| seen.taken_by_newcomer().with_event_waiters())
    }

    #[cfg_attr(feature = "owner", track_caller)]
    fn claim_as(&self, taken: impl Fn(State) -> State) -> Claim<'_, F> {
        let claimed = retry(self.state(), |seen| match seen.is_taken() {
            _ if seen.is_poisoned() => Ok(Claim::Poisoned),
            true => self.set_event_waiters(seen).map(|()| Claim::InFlight),
            false => self.take(seen, taken(seen)).map(Claim::Owner),
        });
        if let Claim::Owner(guard) = &claimed {
            owner::note(guard.page);
        }
        claimed
    }
}

/// The outcome of [`PageLock::claim`].
#[must_use]
#[non_exhaustive]
pub enum Claim<'a, F: Futex = crate::OsFutex> {
    /// The caller owns the page.
    Owner(PageGuard<'a, F>),
    /// The page has another owner, whose release will tell.
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
