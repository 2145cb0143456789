//! The entries whose page a device has: private memory, which comes back, and exclusive access,
//! which ends.

use super::faulter::Waiting;
use super::{Access, Fault, FaultError, Faulter, Strategy, Why, header};
use crate::futex::Futex;
use crate::leaf::Leaf;
use crate::lock::PageGuard;
use crate::mm::ledger::{Change, Owner};
use crate::mm::{Brought, Entry, Memory};
use crate::page::PageLock;
use crate::refs::PageRef;
use core::mem::discriminant;

/// A page to bring back: what [`Memory::migrate_to_ram`] is given.
#[derive(Debug)]
pub struct ToRam<'p, A, F: Futex> {
    /// Where the access was.
    pub at: A,
    /// What it was.
    pub access: Access,
    /// The entry as it was when the page was locked.
    ///
    /// Under [`Strategy::EntryInFault`] a migration entry has taken its place, for as long as
    /// nobody unmaps it, and *the reference that the entry owned has been put* in the same step.
    /// What is counted is what would be if the implementation had taken the entry down itself: the
    /// other entries' references and the faulter's. Whatever becomes of the page, also if it is not
    /// even begun with, the implementation makes that migration entry an entry again, with a new
    /// reference, before it lets go of the lock. Under the other strategies the entry is untouched.
    pub leaf: Leaf,
    /// The frame's number.
    pub pfn: u64,
    /// A reference of the faulter's own, which the freeze has to expect. `None` if the page has no
    /// references at all, because the caller counts them elsewhere; then
    /// [`migrate`](super::migrate), which goes by these counts, is not for the caller, and
    /// [`bring_back`](super::migrate::bring_back) is an error. It is an [`Owner::Get`] of the
    /// [ledger](super::ledger).
    ///
    /// Put it before the page's lock is released, while the counts are frozen or the lock still
    /// held. Put afterwards (as the kernel does), it is an unexpected reference for whoever locks
    /// the page next, and makes that one's freeze fail.
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
                // The lock is ours, and the entry may be another by now.
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
    // The entry owns a reference to the frame, and is about to be let go of. This one is the
    // faulter's own.
    let reference = page.try_get().ok();
    if reference.is_some() {
        mm.account(pfn, Owner::Get, Change::Taken);
    }
    if faulter.strategy == Strategy::EntryInFault && reference.is_some() {
        if let Some(migration) = leaf.to_migration() {
            entry.set(migration);
            mm.account(pfn, Owner::Entry, Change::Put);
            // SAFETY: the reference of the entry, which went with it: a migration entry owns none,
            // so whoever unmaps it from here on puts none. It is not the last: the faulter has one.
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

/// What an entry says that was `leaf`, and is `now` after a sleep for the lock of `page`, if it
/// still leads to that page.
///
/// The leaf alone does not tell: a large page that was split and put back meanwhile has the very
/// same entries, and its frames have headers of their own. Nor does it have to be the same leaf:
/// hardware may have noted an access, and fork may have taken a right away.
pub(in crate::mm) fn leads_still<M: Memory>(
    mm: &M,
    now: Option<Leaf>,
    leaf: Leaf,
    page: &PageLock<M::Futex>,
) -> Option<Leaf> {
    let (pfn, now) = (leaf.pfn()?, now?);
    let is_same = now.pfn() == Some(pfn) && discriminant(&now) == discriminant(&leaf);
    let is_there = || mm.header(pfn).is_some_and(|of| core::ptr::eq(of, page));
    (is_same && is_there()).then_some(now)
}

/// The kernel's faulters take a reference here and sleep for the lock with it; these do not.
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
