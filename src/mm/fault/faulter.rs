//! One thread's attempts at one access, and its ways to wait.

use super::{Fault, FaultError, Why};
use crate::futex::{Futex, OsFutex};
use crate::mm::ledger::Change;
use crate::mm::pause::pause;
use crate::page::PageLock;
use crate::wait::{Cancel, Limits, Wait, Wake};

/// What a faulter does when another thread has locked the page that it needs.
///
/// ```
/// use pagelock::mm::Strategy;
/// assert_eq!(Strategy::default(), Strategy::Wait);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// Returns, to fault again at once (Linux 6.15 to 6.19). A thread that does so in a loop spins.
    /// If the owner needs that thread's processor, neither makes progress: a livelock.
    TryAndRetry,
    /// Takes a reference and sleeps until it can lock the page (Linux before 6.15). The migration
    /// does not expect that reference: enough sleepers abort for ever the migration that they wait
    /// for.
    ReferenceAndSleep,
    /// As `TryAndRetry`, but the faulter that gets the lock replaces the entry by a migration entry
    /// at once, so that later faulters have something to wait for. They do, as long as they come
    /// through the same entry: a page with several mappings has others.
    ///
    /// The reference of that entry goes with it. If the faulter can have none of its own, because
    /// the page's header counts none, the entry stays as it is, and this is `TryAndRetry`.
    EntryInFault,
    /// Registers, releases the entry, sleeps until the owner is done, takes no reference (Linux
    /// since 7.0).
    #[default]
    Wait,
    /// As `Wait`, and after `after` waits that did not resolve the fault, queues for the lock
    /// itself with [`PageLock::lock_releasing`]. It then owns the page and can bring it back: no
    /// faulter starves, however often others lock the page.
    WaitThenLock {
        /// The number of waits before that.
        after: u32,
    },
}

/// One thread's attempts at one access: how it waits, and how often it has waited in vain.
///
/// ```
/// use pagelock::mm::{Access, Faulter, Strategy, resolve};
/// # let (mm, at) = pagelock_soft::example();
/// let mut faulter = Faulter::new(Strategy::WaitThenLock { after: 8 });
/// let _ = resolve(&mm, at, Access::Read, &mut faulter).unwrap();
/// assert_eq!(faulter.waits(), 0); // nobody had the page
/// ```
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

impl<'c, F: Futex> Faulter<'c, F> {
    /// A faulter that has not tried yet.
    ///
    /// ```
    /// use pagelock::OsFutex;
    /// use pagelock::mm::{Faulter, Strategy};
    /// let faulter: Faulter<'_, OsFutex> = Faulter::new(Strategy::Wait);
    /// assert_eq!(faulter.waits(), 0);
    /// ```
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, cancel: None, waits: 0, patience: PATIENCE, busy: 0 }
    }

    /// The same, with waits that end when `cancel` is cancelled; the fault is then
    /// [`FaultError::Cancelled`].
    ///
    /// Not for [`Strategy::ReferenceAndSleep`] and the last step of [`Strategy::WaitThenLock`],
    /// which sleep for the lock.
    ///
    /// ```
    /// use pagelock::Cancel;
    /// use pagelock::mm::{Access, FaultError, Faulter, Strategy, fault};
    /// # use pagelock::mm::{drain::Unlocked, migrate};
    /// # let (mm, at) = pagelock_soft::example();
    /// # let mut unlocked = Unlocked::promise();
    /// # let order = migrate::Order::to(pagelock_soft::TierId(1));
    /// # let _ = migrate::migrate(&mm, &mut [migrate::Slot::at(at)], &order, &mm, &mut unlocked);
    /// let owner = mm.page(mm.frame_at(at).unwrap()).unwrap().lock();
    /// let cancel = Cancel::new();
    /// cancel.cancel(); // by another thread, in earnest
    /// let mut faulter = Faulter::new(Strategy::Wait).cancellable(&cancel);
    /// assert_eq!(fault(&mm, at, Access::Read, &mut faulter), Err(FaultError::Cancelled));
    /// # drop(owner);
    /// ```
    #[must_use]
    pub fn cancellable(mut self, cancel: &'c Cancel<F>) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// The same, with limited patience: after `rounds` attempts in which it owned the page and
    /// could not bring it back, because of another thread's reference or pin, the fault is
    /// [`FaultError::Busy`]. The default is 65536.
    ///
    /// ```
    /// use pagelock::mm::{Access, FaultError, Faulter, Strategy, resolve};
    /// # use pagelock::mm::{drain::Unlocked, migrate};
    /// # let (mm, at) = pagelock_soft::example();
    /// # let mut unlocked = Unlocked::promise();
    /// # let order = migrate::Order::to(pagelock_soft::TierId(1));
    /// # let _ = migrate::migrate(&mm, &mut [migrate::Slot::at(at)], &order, &mm, &mut unlocked);
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.get(pfn).unwrap(); // a reference that stays
    /// let mut faulter = Faulter::new(Strategy::Wait).patience(3);
    /// let error = resolve(&mm, at, Access::Read, &mut faulter).unwrap_err();
    /// assert_eq!(error, FaultError::Busy { rounds: 3 });
    /// # unsafe { mm.put(pfn) };
    /// ```
    #[must_use]
    pub fn patience(mut self, rounds: u32) -> Self {
        self.patience = rounds;
        self
    }

    /// A page could not be brought back. Pauses, longer each time, or ends the fault when patience
    /// or time is up.
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
        pause(futex, self.busy);
        Ok(Fault::Retry(why))
    }

    /// How often this faulter has slept for the page since it began.
    ///
    /// ```
    /// use pagelock::OsFutex;
    /// use pagelock::mm::{Faulter, Strategy};
    /// assert_eq!(Faulter::<OsFutex>::new(Strategy::Wait).waits(), 0);
    /// ```
    #[must_use]
    pub fn waits(&self) -> u32 {
        self.waits
    }

    /// Releases `entry` and waits for `page`'s owner: register, release, sleep.
    pub(super) fn wait<G, E>(
        &mut self,
        page: &PageLock<F>,
        pfn: u64,
        entry: G,
        waiting: &impl Waiting<F>,
    ) -> Result<Fault, FaultError<E>> {
        let wake = waiting.wait(page, entry, self.cancel);
        // From here on `page` must not be looked at: the entry kept it the page of this address.
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

    /// Takes a reference, releases `entry`, and sleeps until it has had the lock: how not to wait.
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

    /// Whether the time is up, and how.
    fn over(&self, futex: F) -> Option<Wake>;
}

/// Without limits.
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
