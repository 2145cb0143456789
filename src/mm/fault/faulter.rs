//! One thread's attempts at one access, and its ways to wait.

use super::{Fault, FaultError, Why};
use crate::futex::{Futex, OsFutex};
use crate::mm::ledger::Change;
use crate::page::PageLock;
use crate::wait::{Cancel, Limits, Wait, Wake};

/// What a faulter does when the page it needs is locked by somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// Returns, to fault again at once (Linux 6.15 to 6.19). A thread that does so in a loop spins,
    /// and if the owner needs its processor, nobody gets anywhere: a livelock.
    TryAndRetry,
    /// Takes a reference and sleeps until it can lock the page (Linux before 6.15). The reference
    /// is one that the migration does not expect: enough sleepers abort for ever what they wait
    /// for.
    ReferenceAndSleep,
    /// As `TryAndRetry`, but whoever wins the lock replaces the entry by a migration entry at once,
    /// so that later faulters find something to wait for. They do, as long as they come through the
    /// same entry: a page with several mappings has others.
    ///
    /// The reference of that entry goes with it. If the faulter can have none of its own, because
    /// the page's header counts none, the entry stays as it is, and this is `TryAndRetry`.
    EntryInFault,
    /// Registers, lets go of the entry, sleeps until the owner is done, takes no reference (Linux
    /// since 7.0).
    #[default]
    Wait,
    /// As `Wait`, and after `after` waits that did not resolve the fault, queues for the lock
    /// itself with [`PageLock::lock_releasing`]. It then owns the page and can bring it back: no
    /// faulter starves, whoever else keeps locking the page.
    WaitThenLock {
        /// How many waits may be in vain.
        after: u32,
    },
}

/// One thread's attempts at one access: how it waits, and how often it has waited in vain.
#[derive(Debug)]
pub struct Faulter<'c, F: Futex = OsFutex> {
    pub(super) strategy: Strategy,
    cancel: Option<&'c Cancel<F>>,
    pub(super) waits: u32,
    patience: u32,
    busy: u32,
}

/// How often a faulter tries to bring back a page that stays busy, unless told otherwise. With the
/// pauses between, that is seconds.
const PATIENCE: u32 = 1 << 16;
/// The most that a pause is, as a power of two of [relaxations](Futex::relax).
const PAUSE: u32 = 6;

impl<'c, F: Futex> Faulter<'c, F> {
    /// A faulter that has not tried yet.
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, cancel: None, waits: 0, patience: PATIENCE, busy: 0 }
    }

    /// The faulter, with waits that end when `cancel` is cancelled; the fault is then
    /// [`FaultError::Cancelled`].
    ///
    /// Not for [`Strategy::ReferenceAndSleep`] and the last step of [`Strategy::WaitThenLock`],
    /// which sleep for the lock.
    #[must_use]
    pub fn cancellable(mut self, cancel: &'c Cancel<F>) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// The faulter, with an end to its patience: after so many attempts in which it owned the page
    /// and could not bring it back, for somebody had a reference or a pin, the fault is
    /// [`FaultError::Busy`]. The default is 65536.
    #[must_use]
    pub fn patience(mut self, rounds: u32) -> Self {
        self.patience = rounds;
        self
    }

    /// A page could not be brought back. Pauses, longer and longer, or says that it is enough.
    pub(super) fn was_busy<E>(
        &mut self,
        futex: F,
        waiting: &impl Waiting<F>,
        why: Why,
    ) -> Result<Fault, FaultError<E>> {
        self.busy = self.busy.saturating_add(1);
        if self.busy >= self.patience {
            return Err(FaultError::Busy { rounds: self.busy });
        }
        if self.cancel.is_some_and(Cancel::is_cancelled) {
            return Err(FaultError::Cancelled);
        }
        match waiting.over(futex) {
            Some(Wake::Cancelled) => return Err(FaultError::Cancelled),
            Some(_) => return Err(FaultError::TimedOut),
            None => {}
        }
        for _ in 0..1 << self.busy.min(PAUSE) {
            futex.relax();
        }
        Ok(Fault::Retry(why))
    }

    /// How often this faulter has slept for the page since it began.
    #[must_use]
    pub fn waits(&self) -> u32 {
        self.waits
    }

    /// Lets go of `entry` and waits for `page`'s owner: register, release, sleep.
    pub(super) fn wait<G, E>(
        &mut self,
        page: &PageLock<F>,
        pfn: u64,
        entry: G,
        waiting: &impl Waiting<F>,
    ) -> Result<Fault, FaultError<E>> {
        let wake = waiting.wait(page, entry, self.cancel);
        // From here on `page` is not to be looked at: what kept it ours was the entry.
        match wake {
            Wake::Poisoned => Err(FaultError::Poisoned { pfn }),
            Wake::Cancelled => Err(FaultError::Cancelled),
            Wake::TimedOut => Err(FaultError::TimedOut),
            wake => {
                self.waits += u32::from(wake == Wake::Released);
                Ok(Fault::Retry(Why::Waited(wake)))
            }
        }
    }

    /// Takes a reference, lets go of `entry`, and sleeps until it has had the lock: what not to do.
    pub(super) fn refer_and_sleep<G>(
        &mut self,
        page: &PageLock<F>,
        entry: G,
        account: impl Fn(Change),
    ) -> Fault {
        let reference = page.try_get();
        if reference.is_ok() {
            account(Change::Taken);
        }
        drop(entry);
        if reference.is_ok() {
            self.waits += 1;
            drop(page.lock());
            account(Change::Put);
        }
        Fault::Retry(Why::Waited(Wake::Released))
    }
}

/// How long faulters wait for a page's owner.
pub(super) trait Waiting<F: Futex> {
    fn wait<G>(&self, page: &PageLock<F>, entry: G, cancel: Option<&Cancel<F>>) -> Wake;

    /// Whether it has been long enough.
    fn over(&self, futex: F) -> Option<Wake>;
}

/// As long as it takes.
pub(super) struct ForEver;

impl<F: Futex> Waiting<F> for ForEver {
    fn wait<G>(&self, page: &PageLock<F>, entry: G, cancel: Option<&Cancel<F>>) -> Wake {
        Waiting::wait(&Limits::none(), page, entry, cancel)
    }

    fn over(&self, _futex: F) -> Option<Wake> {
        None
    }
}

impl<F: Futex> Waiting<F> for Limits<'_, F> {
    fn wait<G>(&self, page: &PageLock<F>, entry: G, cancel: Option<&Cancel<F>>) -> Wake {
        let mut limits = *self;
        limits.cancel = limits.cancel.or(cancel);
        page.wait_with(entry, Wait::unlocked().within(limits))
    }

    fn over(&self, futex: F) -> Option<Wake> {
        Limits::over(self, futex)
    }
}
