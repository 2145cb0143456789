//! Waiting for a page without owning it, referring to it, or keeping anything of it: release, then sleep.
//!
//! This is the kernel's `migration_entry_wait_on_locked` (since commit ffa65753c431) as a library. A thread that faults on a page
//! which is being moved holds the page-table lock (PTL) of the entry it faulted on, and that entry is the only thing that keeps
//! the page's identity. It must sleep until the page's owner is done; it may not sleep with the PTL; and it may not take a
//! reference, because the reference would make the very migration fail that it waits for.
//!
//! # Protocol
//!
//! ```text
//!  waiter, PTL held                        owner
//!  ──────────────────────────────────      ────────────────────────────────────────
//!  (1) s = load sequence of the slot       (A) add: clear LOCKED  → what it held
//!  (2) set EVENT_WAITERS, if taken         (B) if that had EVENT_WAITERS:
//!  (3) drop the PTL                              bump the slot's sequence
//!      ── the page is not touched again    (C)   wake the slot
//!  (4) sleep while the sequence is s
//! ```
//!
//! (1) comes before (2). (2) and (A) are read-modify-writes of one word, so one is first:
//!
//! * (A) first: (2) finds the page not taken, and the waiter does not sleep. If another owner has taken it since, the waiter
//!   waits for that one's release, which is as good.
//! * (2) first: (A) returns EVENT_WAITERS, so (B) happens, after (2) and so after (1). The waiter's `s` is from before the bump,
//!   and its sleep (4) either sees the bump or is woken by (C).
//!
//! With (1) after (2), the bump could come between them; the waiter would sleep under the new value, with its flag already used up.
//! That order is safe only if the owner cannot release without taking this very PTL first: true for a migration entry, false for a
//! device-private entry, whose page may be unlocked by an owner who never looks at this page table.
//!
//! What a return means: *look again*. The wait reports no fact about the page, for the page may be gone. A release of another page of
//! the same slot, a failed migration and a finished one look alike. The caller faults again and reads its page table.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | (1) load of the sequence | Acquire | (B): whoever sees a bump sees the release before it, and cannot set the flag for a hold that is over |
//! | (2) compare-exchange | Relaxed | nothing: the order of (2) and (A) is the word's modification order |
//! | (B) add to the sequence | Release | (1), and the load after the sleep |

use crate::cancel::Cancel;
use crate::futex::event::{Slept, after_sleep, asleep, class};
use crate::futex::{DeadlineError, Futex, FutexTimed, Sleep, wait_until};
use crate::page::PageLock;
use crate::stats::{self, Counter};
use crate::sync::AtomicU32;
use crate::word::State;
use core::time::Duration;

/// How a wait ended. In every case the caller's guard has been dropped, and what to do is to look again.
#[must_use = "the page table has to be read again, and a wait that was cut short may have to be reported"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Wake {
    /// The page was released after the wait began, or another page of its event slot was.
    Released,
    /// There was nothing to wait for: the page was not locked, or, for a wait for migration, not migrating.
    NotLocked,
    /// The time was up first.
    TimedOut,
    /// The wait was [cancelled](Cancel).
    Cancelled,
    /// The contents are lost for good. There was no sleep.
    Poisoned,
}

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// The end of any hold.
    Unlocked,
    /// The end of a migration. A page that is locked for anything else is not waited for.
    Migration,
}

impl What {
    fn is_on(self, seen: State) -> bool {
        match self {
            Self::Unlocked => seen.is_taken(),
            Self::Migration => seen.is_migrating(),
        }
    }
}

/// A wait with limits, for [`PageLock::wait_with`].
///
/// ```
/// use pagelock::{Cancel, PageLock, Wait, Wake};
///
/// let (page, shutdown) = (PageLock::new(), Cancel::new());
/// let guard = page.lock();
/// shutdown.cancel();
/// let wake = page.wait_with((), Wait::unlocked().unless(&shutdown)).unwrap();
/// assert_eq!(wake, Wake::Cancelled);
/// # drop(guard);
/// ```
#[derive(Debug)]
pub struct Wait<'c, F: FutexTimed> {
    what: What,
    deadline: Option<F::Instant>,
    cancel: Option<&'c Cancel<F>>,
}

impl<'c, F: FutexTimed> Wait<'c, F> {
    /// A wait for the end of whatever hold there is.
    #[must_use]
    pub fn unlocked() -> Self {
        Self { what: What::Unlocked, deadline: None, cancel: None }
    }

    /// A wait for the end of a migration.
    #[must_use]
    pub fn migration() -> Self {
        Self { what: What::Migration, deadline: None, cancel: None }
    }

    /// Not beyond `deadline`.
    #[must_use]
    pub fn until(mut self, deadline: F::Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Not once `cancel` is cancelled.
    #[must_use]
    pub fn unless(mut self, cancel: &'c Cancel<F>) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// As long as `limits` say, in place of what was said before.
    #[must_use]
    pub fn within(mut self, limits: Limits<'c, F>) -> Self {
        let Limits { deadline, cancel } = limits;
        (self.deadline, self.cancel) = (deadline, cancel);
        self
    }
}

/// How long something may take: until a deadline, unless cancelled, or as long as it takes.
#[derive(Debug)]
pub struct Limits<'c, F: FutexTimed> {
    pub(crate) deadline: Option<F::Instant>,
    pub(crate) cancel: Option<&'c Cancel<F>>,
}

impl<'c, F: FutexTimed> Limits<'c, F> {
    /// As long as it takes.
    #[must_use]
    pub fn none() -> Self {
        Self { deadline: None, cancel: None }
    }

    /// Not beyond `deadline`.
    #[must_use]
    pub fn until(mut self, deadline: F::Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Not once `cancel` is cancelled.
    #[must_use]
    pub fn unless(mut self, cancel: &'c Cancel<F>) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Whether it is over: [`Wake::TimedOut`] or [`Wake::Cancelled`]. `futex` is the platform whose clock counts.
    #[must_use]
    pub fn over(&self, futex: F) -> Option<Wake> {
        if self.cancel.is_some_and(Cancel::is_cancelled) {
            return Some(Wake::Cancelled);
        }
        self.deadline.and_then(|deadline| futex.late_by(deadline)).map(|_| Wake::TimedOut)
    }
}

impl<F: FutexTimed> Clone for Limits<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: FutexTimed> Copy for Limits<'_, F> {}

impl<F: FutexTimed> Default for Limits<'_, F> {
    fn default() -> Self {
        Self::none()
    }
}

/// Waits that end with a release. `ptl` is any value whose drop lets go of whatever guards the entry that led here: a mutex
/// guard, a tuple of guards in the order in which they are to be dropped, or `()`. It is dropped on every path, exactly once, and
/// before any sleep, so it cannot be released twice or kept. The page is not touched after that: the header may be freed.
///
/// If dropping `ptl` panics, the panic goes on; nothing is left behind but a flag that costs one needless wake.
impl<F: Futex> PageLock<F> {
    /// Waits until the page is released, holding neither `ptl` nor a reference.
    ///
    /// Call it while holding `ptl`, having found the page locked. Returns [`Wake::NotLocked`] at once if it is not any more. The
    /// release of another page may end the wait too ([`Wake::Released`]); the caller reads its page table again in any case.
    ///
    /// A page that is promised to a sleeping locker counts as locked, as it does for [`try_lock`](Self::try_lock).
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{PageLock, Wake};
    /// use std::sync::Mutex;
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// static PTL: Mutex<u64> = Mutex::new(0xdead_beef); // a page table of one entry
    ///
    /// let migrator = PAGE.lock();
    /// let faulter = std::thread::spawn(|| {
    ///     let entry = PTL.lock().unwrap();
    ///     // ... the entry says that its page is elsewhere, and the page is locked:
    ///     PAGE.wait_unlocked(entry)
    ///     // ... now fault again.
    /// });
    /// drop(migrator);
    /// assert!(matches!(faulter.join().unwrap(), Wake::Released | Wake::NotLocked));
    /// ```
    pub fn wait_unlocked<G>(&self, ptl: G) -> Wake {
        self.wait(ptl, What::Unlocked, None)
    }

    /// Waits until the migration of the page ends, well or not. As [`wait_unlocked`](Self::wait_unlocked), but a page that is locked
    /// for anything other than migration is not waited for ([`Wake::NotLocked`]).
    ///
    /// This is the channel of its own that the kernel's developers asked for: a faulter that needs to know where the page is has no
    /// reason to wait for somebody who only writes it back.
    pub fn wait_migration<G>(&self, ptl: G) -> Wake {
        self.wait(ptl, What::Migration, None)
    }

    /// [`wait_unlocked`](Self::wait_unlocked) that also ends when `cancel` is cancelled.
    pub fn wait_unlocked_cancellable<G>(&self, ptl: G, cancel: &Cancel<F>) -> Wake {
        self.wait(ptl, What::Unlocked, Some(cancel))
    }

    /// [`wait_migration`](Self::wait_migration) that also ends when `cancel` is cancelled.
    pub fn wait_migration_cancellable<G>(&self, ptl: G, cancel: &Cancel<F>) -> Wake {
        self.wait(ptl, What::Migration, Some(cancel))
    }

    /// [`wait_unlocked`](Self::wait_unlocked) for at most `d`. A `d` that the clock cannot hold is no limit.
    pub fn wait_unlocked_for<G>(&self, ptl: G, d: Duration) -> Wake
    where
        F: FutexTimed,
    {
        self.wait_for(ptl, Wait::unlocked(), d)
    }

    /// [`wait_migration`](Self::wait_migration) for at most `d`. A `d` that the clock cannot hold is no limit.
    pub fn wait_migration_for<G>(&self, ptl: G, d: Duration) -> Wake
    where
        F: FutexTimed,
    {
        self.wait_for(ptl, Wait::migration(), d)
    }

    /// Waits as `wait` says: for a release or a migration, until a deadline, unless cancelled.
    ///
    /// # Errors
    ///
    /// [`DeadlineError::Past`] when there was something to wait for and the deadline had passed before the call. `ptl` was dropped;
    /// nothing else changed.
    pub fn wait_with<G>(&self, ptl: G, wait: Wait<'_, F>) -> Result<Wake, DeadlineError>
    where
        F: FutexTimed,
    {
        let Some(deadline) = wait.deadline else {
            return Ok(self.wait(ptl, wait.what, wait.cancel));
        };
        let seen = self.state();
        if wait.what.is_on(seen) && !seen.is_poisoned() {
            if let Some(late_by) = self.futex.late_by(deadline) {
                drop(ptl);
                return Err(DeadlineError::Past { late_by });
            }
        }
        let registered = self.register(wait.what, wait.cancel);
        drop(ptl);
        Ok(match registered {
            Ok(registered) => cancelled_or(registered.sleep_until(deadline), wait.cancel),
            Err(wake) => wake,
        })
    }

    fn wait_for<G>(&self, ptl: G, wait: Wait<'_, F>, d: Duration) -> Wake
    where
        F: FutexTimed,
    {
        let wait = match self.futex.after(d) {
            Ok(deadline) => wait.until(deadline),
            Err(_) => wait,
        };
        self.wait_with(ptl, wait).unwrap_or(Wake::TimedOut)
    }

    fn wait<G>(&self, ptl: G, what: What, cancel: Option<&Cancel<F>>) -> Wake {
        let registered = self.register(what, cancel);
        drop(ptl);
        match registered {
            Ok(registered) => cancelled_or(registered.sleep(), cancel),
            Err(wake) => wake,
        }
    }

    /// Step (1). What comes back is registered once step (2) has set a flag.
    pub(crate) fn read_sequence(&self) -> Registered<F> {
        Registered::read(self.futex, self.key())
    }

    /// Steps (1) and (2), or the reason why there is nothing to sleep for.
    fn register(&self, what: What, cancel: Option<&Cancel<F>>) -> Result<Registered<F>, Wake> {
        let ready = self.read_sequence();
        if cancel.is_some_and(|c| !c.join(ready.index)) {
            return Err(Wake::Cancelled);
        }
        let mut seen = self.state();
        loop {
            if seen.is_poisoned() {
                return Err(Wake::Poisoned);
            }
            if !what.is_on(seen) {
                return Err(Wake::NotLocked);
            }
            match self.set_event_waiters(seen) {
                Ok(()) => return Ok(ready),
                Err(now) => seen = now,
            }
        }
    }
}

fn cancelled_or<F: Futex>(wake: Wake, cancel: Option<&Cancel<F>>) -> Wake {
    if cancel.is_some_and(Cancel::is_cancelled) { Wake::Cancelled } else { wake }
}

/// A waiter after steps (1) and (2). It knows the slot and the sequence and nothing of the page.
pub(crate) struct Registered<F: Futex> {
    futex: F,
    index: usize,
    sequence: u32,
}

impl<F: Futex> Registered<F> {
    /// Step (1), for whatever is at address `key` and tells its event slot.
    pub(crate) fn read(futex: F, key: usize) -> Self {
        let index = futex.event_index(key);
        Self { futex, index, sequence: futex.event(index).sequence() }
    }

    /// Step (4) within `limits`. Once it has returned for whatever reason, what was waited for decides.
    pub(crate) fn sleep_within(self, limits: &Limits<'_, F>) -> Wake
    where
        F: FutexTimed,
    {
        if limits.cancel.is_some_and(|c| !c.join(self.index)) {
            return Wake::Cancelled;
        }
        let wake = match limits.deadline {
            Some(deadline) if self.futex.late_by(deadline).is_some() => Wake::TimedOut,
            Some(deadline) => self.sleep_until(deadline),
            None => self.sleep(),
        };
        cancelled_or(wake, limits.cancel)
    }

    /// Step (4).
    pub(crate) fn sleep(self) -> Wake {
        self.sleep_by(|word, expected, class| self.futex.wait_class(word, expected, class))
    }

    /// Step (4), until `deadline` at most.
    pub(crate) fn sleep_until(self, deadline: F::Instant) -> Wake
    where
        F: FutexTimed,
    {
        self.sleep_by(|word, expected, class| wait_until(self.futex, word, expected, class, deadline))
    }

    fn sleep_by(&self, sleep: impl Fn(&AtomicU32, u32, u32) -> Sleep) -> Wake {
        stats::count(Counter::EventWaits);
        let slot = self.futex.event(self.index);
        asleep(slot, || {
            loop {
                let ended = sleep(slot.word(), self.sequence, class(self.sequence));
                match after_sleep(self.futex, slot, self.sequence, ended) {
                    Slept::Told => return Wake::Released,
                    Slept::TimedOut => return Wake::TimedOut,
                    Slept::SleepOn => {}
                }
            }
        })
    }
}
