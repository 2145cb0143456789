//! The entries whose page a device has: private memory, whose page comes back, and exclusive
//! access, which ends.

use super::faulter::Waiting;
use super::{Access, Fault, FaultError, Faulter, Strategy, Why, header};
use crate::futex::Futex;
use crate::leaf::Leaf;
use crate::lock::PageGuard;
use crate::mm::ledger::{Change, Owner};
use crate::mm::{Brought, Entry, Memory, is_header_of};
use crate::page::PageLock;
use crate::refs::PageRef;
use core::mem::discriminant;

/// A page to bring back: the argument of [`Memory::migrate_to_ram`].
///
/// ```
/// use pagelock::OsFutex;
/// use pagelock::mm::{Mm, ToRam, drain::Drain, migrate::bring_back};
/// /// An implementation of `Memory::migrate_to_ram`:
/// fn to_ram<M: Mm<Futex = OsFutex> + Drain>(
///     mm: &M, request: ToRam<'_, M::Address, OsFutex>, to: M::Tier,
/// ) -> bool {
///     assert!(request.page.page().is_locked());
///     bring_back(mm, request, to, mm).is_ok()
/// }
/// ```
#[derive(Debug)]
pub struct ToRam<'p, A, F: Futex> {
    /// Where the access was.
    pub at: A,
    /// What it was.
    pub access: Access,
    /// The entry as it was when the page was locked.
    ///
    /// Under [`Strategy::EntryInFault`] a migration entry has taken its place, until some thread
    /// unmaps it, and *the reference that the entry owned has been put* in the same step. The page
    /// counts the references that it would count if the implementation had taken the entry down
    /// itself: the other entries' and the faulter's. Whatever becomes of the page, also if nothing
    /// is done with it, the implementation makes that migration entry an entry again, with a new
    /// reference, before it releases the lock. Under the other strategies the entry is untouched.
    pub leaf: Leaf,
    /// The frame's number.
    pub pfn: u64,
    /// The faulter's own reference, which the freeze has to expect. `None` if the page has no
    /// references at all, because the caller counts them elsewhere. Then
    /// [`migrate`](crate::mm::migrate), which goes by these counts, is not for the caller, and
    /// [`bring_back`](crate::mm::migrate::bring_back) is an error. It is an [`Owner::Get`] of the
    /// [ledger](crate::mm::ledger).
    ///
    /// Put it before the page's lock is released, while the counts are frozen or the lock still
    /// held. Put afterwards (as the kernel does), it is an unexpected reference for the thread that
    /// locks the page next, and makes its freeze fail.
    pub reference: Option<PageRef<'p, F>>,
    /// The frame's lock.
    pub page: PageGuard<'p, F>,
}

#[allow(clippy::too_many_arguments)] // One fault, in its parts.
pub(super) fn device_private<'m, M: Memory>(
    mm: &'m M,
    at: M::Address,
    access: Access,
    mut leaf: Leaf,
    pfn: u64,
    mut entry: M::Entry<'m>,
    faulter: &mut Faulter<'_, M::Futex>,
    waiting: &impl Waiting<M::Futex>,
) -> Result<Fault, FaultError<M::Error>> {
    let page = header(mm, pfn)?;
    let guard = match page.try_lock() {
        Some(guard) => guard,
        None => match faulter.strategy {
            Strategy::TryAndRetry | Strategy::EntryInFault => return Ok(Fault::Retry(Why::Locked)),
            Strategy::ReferenceAndSleep => {
                return Ok(faulter
                    .refer_and_sleep(page, entry, |change| mm.account(pfn, Owner::Get, change)));
            }
            Strategy::WaitThenLock { after } if faulter.waits >= after => {
                let guard = page.lock_releasing(entry);
                // The page is this thread's, and the entry may have changed.
                let Some(again) = mm.lock(at) else { return Ok(Fault::Retry(Why::Changed)) };
                entry = again;
                match leads_still(mm, entry.get().ok(), leaf, page) {
                    Some(now) => leaf = now,
                    None => return Ok(Fault::Retry(Why::Changed)),
                }
                guard
            }
            Strategy::Wait | Strategy::WaitThenLock { .. } => {
                return faulter.wait(page, pfn, entry, waiting);
            }
        },
    };
    if guard.is_poisoned() {
        return Err(FaultError::Poisoned { pfn });
    }
    // The entry owns a reference to the frame, and the faulter is about to release the entry. This
    // one is the faulter's own.
    let reference = page.try_get().ok();
    if reference.is_some() {
        mm.account(pfn, Owner::Get, Change::Taken);
    }
    if faulter.strategy == Strategy::EntryInFault && reference.is_some() {
        if let Some(migration) = leaf.to_migration() {
            entry.set(migration);
            mm.account(pfn, Owner::Entry, Change::Put);
            // SAFETY: the reference of the entry, which went with it: a migration entry owns none,
            // so a thread that unmaps it from here on puts none. It is not the last: the faulter
            // has one.
            let _ = unsafe { page.put_raw() };
        }
    }
    drop(entry);
    let futex = page.futex;
    match mm.migrate_to_ram(ToRam { at, access, leaf, pfn, reference, page: guard }) {
        Ok(Brought::Back) => Ok(Fault::Resolved),
        Ok(Brought::Busy) => {
            mm.busy();
            faulter.was_busy(futex, waiting, Why::Busy)
        }
        Ok(Brought::Full) if mm.make_room(at) => faulter.was_busy(futex, waiting, Why::Full),
        Ok(Brought::Full) => Err(FaultError::NoMemory),
        Err(e) => Err(FaultError::ToRam(e)),
    }
}

/// What an entry that was `leaf` says `now`, after a sleep for the lock of `page`, if it still
/// leads to that page.
///
/// The leaf alone does not decide it: a large page that was split and put back meanwhile has the
/// very same entries, and its frames have headers of their own. Nor must the leaf be the same:
/// hardware may have noted an access, and fork may have taken a right away.
pub(in crate::mm) fn leads_still<M: Memory>(
    mm: &M,
    now: Option<Leaf>,
    leaf: Leaf,
    page: &PageLock<M::Futex>,
) -> Option<Leaf> {
    let (pfn, now) = (leaf.pfn()?, now?);
    let is_same = now.pfn() == Some(pfn) && discriminant(&now) == discriminant(&leaf);
    let is_there = || is_header_of(mm, pfn, page);
    (is_same && is_there()).then_some(now)
}

/// Ends a device's exclusivity. The kernel's faulters take a reference here and sleep for the lock
/// with it; these do not.
pub(super) fn device_exclusive<M: Memory>(
    mm: &M,
    at: M::Address,
    pfn: u64,
    entry: M::Entry<'_>,
    faulter: &mut Faulter<'_, M::Futex>,
    waiting: &impl Waiting<M::Futex>,
) -> Result<Fault, FaultError<M::Error>> {
    let page = header(mm, pfn)?;
    let Some(guard) = page.try_lock() else {
        return match faulter.strategy {
            Strategy::TryAndRetry | Strategy::EntryInFault => Ok(Fault::Retry(Why::Locked)),
            Strategy::ReferenceAndSleep => {
                Ok(faulter
                    .refer_and_sleep(page, entry, |change| mm.account(pfn, Owner::Get, change)))
            }
            Strategy::Wait | Strategy::WaitThenLock { .. } => {
                faulter.wait(page, pfn, entry, waiting)
            }
        };
    };
    if guard.is_poisoned() {
        return Err(FaultError::Poisoned { pfn });
    }
    crate::mm::exclusive::revoke(mm, at, entry, &guard);
    drop(guard);
    Ok(Fault::Resolved)
}
