//! The fault path.
//!
//! A thread accessed memory that its page table does not let it access. It locks the entry and does
//! what the entry says. The interesting entries are those whose page is elsewhere or being
//! migrated. The interesting case is a page that another thread is at work on: it is locked.
//!
//! Linux's `do_swap_page` got that case wrong for device-private entries in four different ways
//! over the years. Each is one of the [strategies](Strategy), so that its cost can be measured. The
//! right one: *while the entry is locked*, register as a waiter of the page; unlock the entry;
//! sleep until the owner is done; take no reference; fault again.

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
/// returns, and no page either. It waits for at most one page's owner, as its [`Strategy`] says,
/// and never for other processors: a thread that accesses memory may own a page (another one), and
/// so a fault has no [`Unlocked`](super::drain::Unlocked).
///
/// A fault handler calls this in a loop, or calls [`resolve`]; the [front page](crate) has an
/// example.
///
/// ```
/// use pagelock::mm::{Access, Fault, Faulter, Strategy, fault};
/// # let (mm, at) = pagelock_soft::example();
/// let mut faulter = Faulter::new(Strategy::Wait);
/// assert_eq!(fault(&mm, at, Access::Read, &mut faulter), Ok(Fault::Present));
/// assert_eq!(fault(&mm, at.space.page(7), Access::Read, &mut faulter), Ok(Fault::Missing));
/// ```
///
/// # Errors
///
/// [`FaultError`]: the entry is unknown or names no frame, the contents are lost, the faulter was
/// cancelled, or the memory failed.
pub fn fault<M: Memory>(
    mm: &M,
    at: M::Address,
    access: Access,
    faulter: &mut Faulter<'_, M::Futex>,
) -> Result<Fault, FaultError<M::Error>> {
    attempt(mm, at, access, faulter, &ForEver)
}

/// [`fault`](fn@fault) whose waits end at `limits`. If `limits` have no cancel switch, a
/// cancellable faulter's own is used.
///
/// For [`Strategy::Wait`] and [`Strategy::TryAndRetry`]. The other strategies sleep for a lock, and
/// do so for as long as it takes.
///
/// ```
/// use pagelock::Limits;
/// use pagelock::futex::MonotonicTime;
/// use pagelock::mm::{Access, FaultError, Faulter, Strategy, fault_within};
/// # use pagelock::mm::{drain::Unlocked, migrate};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// # let mut unlocked = Unlocked::promise();
/// # let order = migrate::Order::to(TierId(1));
/// # let _ = migrate::migrate(&mm, &mut [migrate::Slot::at(at)], &order, &mm, &mut unlocked);
/// // A page in the device's memory, which another thread has locked:
/// let owner = mm.page(mm.frame_at(at).unwrap()).unwrap().lock();
/// let mut faulter = Faulter::new(Strategy::Wait);
/// let limits = Limits::none().until(MonotonicTime::now());
/// let fault = fault_within(&mm, at, Access::Read, &mut faulter, limits);
/// assert_eq!(fault, Err(FaultError::TimedOut));
/// # drop(owner);
/// ```
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
/// ```
/// use pagelock::mm::{Access, Fault, Faulter, Strategy, resolve};
/// use pagelock::mm::{drain::Unlocked, migrate};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let order = migrate::Order::to(TierId(1));
/// let _ = migrate::migrate(&mm, &mut [migrate::Slot::at(at)], &order, &mm, &mut unlocked);
/// let mut faulter = Faulter::new(Strategy::Wait);
/// assert_eq!(resolve(&mm, at, Access::Read, &mut faulter), Ok(Fault::Resolved)); // brought back
/// ```
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
