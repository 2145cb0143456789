//! Waiting for a page without owning it, referring to it, or keeping anything of it: release, then
//! sleep.
//!
//! This is the kernel's `migration_entry_wait_on_locked` (since commit ffa65753c431) as a library.
//! A thread that faults on a page that is being moved holds the page-table lock (PTL) of the entry
//! it faulted on. That entry is the only thing that keeps the page's identity. The thread must
//! sleep until the page's owner is done. It may not sleep with the PTL. And it may not take a
//! reference, because the reference would fail the very migration that it waits for.
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
//! * (A) first: (2) finds the page not taken, and the waiter does not sleep. If another owner has
//!   taken the page since, the waiter waits for that owner's release, which is as good.
//! * (2) first: (A) returns EVENT_WAITERS, so (B) happens after (2), and so after (1). The waiter's
//!   `s` is from before the bump, and its sleep (4) either sees the bump or is woken by (C).
//!
//! With (1) after (2) the bump could come between them. The waiter would then sleep under the new
//! value, with its flag already used up. That order is safe only if the owner cannot release
//! without first taking this very PTL. That is true for a migration entry. It is false for a
//! device-private entry, whose page may be unlocked by an owner that never looks at this page
//! table.
//!
//! After a return *the caller must re-check*. The wait reports no fact about the page, because the
//! page may be gone. A release of another page of the same slot, a failed migration and a finished
//! one look alike. The caller faults again and reads its page table.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | (1) load of the sequence | Acquire | (B) |
//! | (2) compare-exchange | Relaxed | nothing |
//! | (B) add to the sequence | Release | (1), and the load after the sleep |
//!
//! A waiter that sees a bump at (1) sees the release before it, and cannot set the flag for a hold
//! that is over. The order of (2) and (A) is the word's modification order.

mod cancel;
mod limits;

pub use cancel::Cancel;
pub use limits::{Limits, Wait, WaitFor, Wake};

use crate::futex::{Futex, FutexTimed, Sleep};
use crate::lock::retry;
use crate::page::PageLock;
use crate::slow;
use crate::stats::{self, Counter};
use core::time::Duration;

/// Waits that end with a release. `ptl` is any value whose drop unlocks the page table of the entry
/// that led here: a mutex guard, a tuple of guards in the order to drop them, or `()`. It is
/// dropped on every path, exactly once, and before any sleep, so it cannot be released twice or
/// kept. The page is not touched after that: the header may be freed.
///
/// If dropping `ptl` panics, the panic goes on; nothing is left behind but a flag that costs one
/// needless wake.
impl<F: Futex> PageLock<F> {
    /// Waits until the page is released, holding neither `ptl` nor a reference (Linux:
    /// `migration_entry_wait_on_locked`).
    ///
    /// Call it with `ptl` held, after finding the page locked. Returns [`Wake::NotLocked`] at once
    /// if the page is not locked any more. The release of another page may end the wait too
    /// ([`Wake::Released`]); the caller must read its page table again in any case.
    ///
    /// A page that is kept for sleeping lockers counts as locked, as it does for
    /// [`try_lock`](Self::try_lock).
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
    ///     // ... the entry says that its page is being moved, and the page is locked:
    ///     PAGE.wait_unlocked(entry)
    ///     // ... now fault again.
    /// });
    /// drop(migrator);
    /// assert!(matches!(faulter.join().unwrap(), Wake::Released | Wake::NotLocked));
    /// ```
    #[inline]
    pub fn wait_unlocked<G>(&self, ptl: G) -> Wake {
        self.wait_with(ptl, Wait::unlocked())
    }

    /// Waits until the migration of the page ends, committed or aborted. As
    /// [`wait_unlocked`](Self::wait_unlocked), but a page that is locked for anything other than
    /// migration is not waited for ([`Wake::NotLocked`]).
    ///
    /// The kernel has no such wait; its developers asked for one. A faulter that needs to know
    /// where the page is has no reason to wait for an owner that only writes the page back.
    ///
    /// ```
    /// use pagelock::{PageLock, Wake};
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// let writeback = PAGE.lock();
    /// assert_eq!(PAGE.wait_migration(()), Wake::NotLocked);
    ///
    /// let migration = writeback.begin_migration();
    /// let faulter = std::thread::spawn(|| PAGE.wait_migration(()));
    /// migration.abort();
    /// assert!(matches!(faulter.join().unwrap(), Wake::Released | Wake::NotLocked));
    /// ```
    #[inline]
    pub fn wait_migration<G>(&self, ptl: G) -> Wake {
        self.wait_with(ptl, Wait::migration())
    }

    /// [`wait_unlocked`](Self::wait_unlocked) for at most `d`. A `d` that the clock cannot hold is
    /// no limit.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use pagelock::{PageLock, Wake};
    /// use std::time::Duration;
    ///
    /// let page = PageLock::new();
    /// let owner = page.lock();
    /// assert_eq!(page.wait_unlocked_for((), Duration::from_millis(1)), Wake::TimedOut);
    /// # drop(owner);
    /// # }
    /// ```
    pub fn wait_unlocked_for<G>(&self, ptl: G, d: Duration) -> Wake
    where
        F: FutexTimed,
    {
        self.wait_with(ptl, Wait::unlocked().within(Limits::none().until(self.futex.now() + d)))
    }

    /// Waits as `wait` says: for a release or a migration, until a deadline, unless cancelled.
    ///
    /// If a limit was reached before the call, it returns at once ([`Wake::TimedOut`],
    /// [`Wake::Cancelled`]): it has dropped `ptl` then, and changed nothing else. A passed deadline
    /// is reported only if there is something to wait for; a thrown switch always.
    ///
    /// ```
    /// use pagelock::{Cancel, Limits, PageLock, Wait, Wake};
    ///
    /// let (page, kill) = (PageLock::new(), Cancel::new());
    /// let limits = Limits::none().unless(&kill);
    /// assert_eq!(page.wait_with((), Wait::migration().within(limits)), Wake::NotLocked);
    /// kill.cancel();
    /// assert_eq!(page.wait_with((), Wait::migration().within(limits)), Wake::Cancelled);
    /// ```
    #[inline]
    pub fn wait_with<G>(&self, ptl: G, wait: Wait<'_, F>) -> Wake {
        // A look first, because a free page needs none of the steps.
        let at_once = wait.may_begin(self.state(), wait.limits.over(self.futex)).err();
        at_once.unwrap_or_else(|| self.register_and_sleep(ptl, wait))
    }

    /// Steps (1) to (4).
    #[cold]
    fn register_and_sleep<G>(&self, ptl: G, wait: Wait<'_, F>) -> Wake {
        let _waiting = slow::wait(self.key());
        let registered = self.register(&wait);
        drop(ptl);
        registered.map_or_else(|wake| wake, |registered| registered.sleep(&wait.limits))
    }

    /// Steps (1) and (2), or why there is nothing to sleep for.
    fn register(&self, wait: &Wait<'_, F>) -> Result<Registered<F>, Wake> {
        let ready = Registered::read(self.futex, self.key());
        let over = wait.limits.over(self.futex);
        retry(self.state(), |seen| match wait.may_begin(seen, over) {
            Ok(()) => self.set_event_waiters(seen).map(Ok),
            Err(wake) => Ok(Err(wake)),
        })
        .map(|()| ready)
    }
}

/// A waiter after steps (1) and (2). It knows the slot and the sequence, and nothing of the page.
pub(crate) struct Registered<F: Futex> {
    futex: F,
    index: usize,
    sequence: u32,
}

impl<F: Futex> Registered<F> {
    /// Step (1), for a page or another object at address `key` that tells its event slot. The
    /// caller is registered once step (2) has set a flag.
    pub(crate) fn read(futex: F, key: usize) -> Self {
        let index = futex.event_index(key);
        Self { futex, index, sequence: futex.event(index).sequence() }
    }

    /// Step (4) within `limits`, which may have been reached. Whatever it returns, the caller
    /// decides by looking at what it waits for.
    pub(crate) fn sleep(self, limits: &Limits<'_, F>) -> Wake {
        let Self { futex, index, sequence } = self;
        if limits.cancel.is_some_and(|cancel| !cancel.join(index)) {
            return Wake::Cancelled;
        }
        stats::count(Counter::EventWaits);
        let slot = futex.event(index);
        let ended = slot.sleep(futex, sequence, |w, class| limits.sleep(futex, w, sequence, class));
        match ended {
            _ if limits.cancel.is_some_and(Cancel::is_cancelled) => Wake::Cancelled,
            Sleep::TimedOut => Wake::TimedOut,
            _ => Wake::Released,
        }
    }
}
