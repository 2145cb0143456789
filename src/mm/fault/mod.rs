//! The fault path.
//!
//! A thread accessed memory that its page table does not let it access. It locks the entry and does
//! what the entry says. The interesting entries are those whose page is elsewhere or on its way,
//! and the interesting case is that somebody else is at work on it: the page is locked.
//!
//! Linux's `do_swap_page` got that case wrong for device-private entries in four different ways
//! over the years, each of them one of the [strategies](Strategy) below, so that what they cost can
//! be measured. The right one: *while the entry is locked*, register as a waiter of the page;
//! unlock the entry; sleep until the owner is done; take no reference; fault again.

mod answer;
mod device;
mod faulter;

pub use answer::{Access, Fault, FaultError, Why};
pub use device::ToRam;
pub(super) use device::leads_still;
pub use faulter::{Faulter, Strategy};

use super::ledger::Owner;
use super::{Entry, Memory};
use crate::futex::FutexTimed;
use crate::leaf::Leaf;
use crate::page::PageLock;
use crate::sync::spin_loop;
use crate::wait::Limits;
use device::{device_exclusive, device_private};
use faulter::{ForEver, Waiting};

/// Makes one attempt to resolve a fault.
///
/// Locks the entry for `at` and does what it says. Holds no PTL across a sleep, none when it
/// returns, and no page either. It waits for one page's owner at most, as its [`Strategy`] says,
/// and never for other processors: whoever accesses memory may own a page (another one), and so a
/// fault has no [`Unlocked`](super::drain::Unlocked).
///
/// # Errors
///
/// [`FaultError`]: the entry is unknown or names no frame, the contents are lost, the faulter was cancelled, or the memory failed.
///
/// # Example
///
/// A fault handler is a call of this in a loop, or [`resolve`]; see the example on the [front
/// page](crate).
pub fn fault<M: Memory>(
    mm: &M,
    at: M::Address,
    access: Access,
    faulter: &mut Faulter<'_, M::Futex>,
) -> Result<Fault, FaultError<M::Error>> {
    attempt(mm, at, access, faulter, &ForEver)
}

/// [`fault`](fn@fault) of which no wait is longer than `limits` say. A cancellable faulter's own
/// switch is for those that have none.
///
/// For [`Strategy::Wait`] and [`Strategy::TryAndRetry`]; where the others sleep for a lock, they do
/// so for as long as it takes.
///
/// # Errors
///
/// As [`fault`](fn@fault), and [`FaultError::TimedOut`].
pub fn fault_within<M>(
    mm: &M,
    at: M::Address,
    access: Access,
    faulter: &mut Faulter<'_, M::Futex>,
    limits: Limits<'_, M::Futex>,
) -> Result<Fault, FaultError<M::Error>>
where
    M: Memory<Futex: FutexTimed>,
{
    attempt(mm, at, access, faulter, &limits)
}

fn attempt<M: Memory>(
    mm: &M,
    at: M::Address,
    access: Access,
    faulter: &mut Faulter<'_, M::Futex>,
    waiting: &impl Waiting<M::Futex>,
) -> Result<Fault, FaultError<M::Error>> {
    let Some(entry) = mm.lock(at) else { return Ok(Fault::Missing) };
    match entry.get()? {
        Leaf::None => Ok(Fault::Missing),
        Leaf::Present { .. } if access == Access::Execute && !entry.may_execute() => {
            Ok(Fault::NotExecutable)
        }
        Leaf::Present { rights, .. } if access.is_within(rights) => Ok(Fault::Present),
        Leaf::Present { rights, .. } => Ok(Fault::Protected { rights }),
        Leaf::Swap { slot, .. } => Ok(Fault::Swapped { slot }),
        Leaf::Marker(marker) => Ok(Fault::Marker(marker)),
        Leaf::Poison { pfn } => Err(FaultError::Poisoned { pfn }),
        Leaf::Migration { pfn, .. } => {
            let page = header(mm, pfn)?;
            if faulter.strategy == Strategy::ReferenceAndSleep {
                return Ok(faulter
                    .refer_and_sleep(page, entry, |change| mm.account(pfn, Owner::Get, change)));
            }
            faulter.wait(page, pfn, entry, waiting)
        }
        leaf @ Leaf::DevicePrivate { pfn, .. } => {
            device_private(mm, at, access, leaf, pfn, entry, faulter, waiting)
        }
        Leaf::DeviceExclusive { pfn, .. } => device_exclusive(mm, at, pfn, entry, faulter, waiting),
    }
}

/// Attempts until the fault is more than a [`Fault::Retry`].
///
/// # Errors
///
/// As [`fault`](fn@fault).
pub fn resolve<M: Memory>(
    mm: &M,
    at: M::Address,
    access: Access,
    faulter: &mut Faulter<'_, M::Futex>,
) -> Result<Fault, FaultError<M::Error>> {
    loop {
        match fault(mm, at, access, faulter)? {
            Fault::Retry(Why::Locked) => spin_loop(),
            Fault::Retry(_) => {}
            done => return Ok(done),
        }
    }
}

fn header<M: Memory>(mm: &M, pfn: u64) -> Result<&PageLock<M::Futex>, FaultError<M::Error>> {
    mm.header(pfn).ok_or(FaultError::NoFrame { pfn })
}
