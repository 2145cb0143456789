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

use super::ledger::{Change, Owner};
use super::{Brought, Entry, Memory};
use crate::futex::{Futex, FutexTimed, OsFutex};
use crate::leaf::{Leaf, Marker, Rights, UnknownLeaf};
use crate::lock::PageGuard;
use crate::page::PageLock;
use crate::refs::PageRef;
use crate::sync::spin_loop;
use crate::wait::{Cancel, Limits, Wait, Wake};
use core::fmt;
use core::mem::discriminant;

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

/// What the access was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

impl Access {
    fn is_within(self, rights: Rights) -> bool {
        self != Self::Write || rights == Rights::Write
    }
}

/// What has become of the fault.
#[must_use = "the access has to be repeated, or is the caller's to handle"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// This thread has brought the page back, or ended a device's exclusivity. Access it again.
    Resolved,
    /// The entry allows the access: somebody else has resolved the fault. Access it again.
    Present,
    /// Not yet. Access it again; it may fault again.
    Retry(Why),
    /// The page is there and the access is not allowed: copy-on-write, dirty tracking or an error,
    /// which the caller knows.
    Protected {
        /// What is allowed.
        rights: Rights,
    },
    /// The page is there and may not be [executed](super::Entry::may_execute).
    NotExecutable,
    /// Nothing was ever there: the caller's to fill.
    Missing,
    /// The page is in swap: the caller's to bring in.
    Swapped {
        /// Where.
        slot: u64,
    },
    /// The entry is a marker: the caller's to act on.
    Marker(Marker),
}

/// Why an access has to be repeated although the fault was not resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Why {
    /// The page is locked, and the strategy is not to wait.
    Locked,
    /// The wait for the page has ended like this.
    Waited(Wake),
    /// The page was locked and released by this thread in turn, and the entry has changed
    /// meanwhile.
    Changed,
    /// This thread owned the page and could not bring it back this time. It has let go of it,
    /// [asked](Memory::busy) that batches be emptied, and paused. A caller that has an
    /// [`Unlocked`](super::drain::Unlocked) may also wait for that: it can drain before it tries
    /// again.
    Busy,
    /// This thread owned the page, and there was no frame to bring it to. It has let go of it,
    /// [asked](Memory::make_room) for room, and paused.
    Full,
}

/// A fault that ends in an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FaultError<E> {
    /// The entry is none that this crate knows.
    Unknown(UnknownLeaf),
    /// The entry names a frame that has no header.
    NoFrame {
        /// Its number.
        pfn: u64,
    },
    /// The page's contents are lost for good.
    Poisoned {
        /// The number of the frame that had them.
        pfn: u64,
    },
    /// The faulter was [cancelled](Faulter::cancellable).
    Cancelled,
    /// The time of [`fault_within`] was up.
    TimedOut,
    /// The page could not be brought back for as long as the faulter had
    /// [patience](Faulter::patience).
    Busy {
        /// How often it was tried.
        rounds: u32,
    },
    /// There is no frame to bring the page back to, and [none to be had](Memory::make_room).
    NoMemory,
    /// The memory could not bring the page back.
    ToRam(E),
}

impl<E> From<UnknownLeaf> for FaultError<E> {
    fn from(e: UnknownLeaf) -> Self {
        Self::Unknown(e)
    }
}

impl<E: fmt::Display> fmt::Display for FaultError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(e) => e.fmt(f),
            Self::NoFrame { pfn } => {
                write!(f, "the entry names frame {pfn:#x}, which does not exist")
            }
            Self::Poisoned { pfn } => write!(f, "the contents of frame {pfn:#x} are lost"),
            Self::Cancelled => f.write_str("the fault was cancelled"),
            Self::TimedOut => f.write_str("the time was up"),
            Self::Busy { rounds } => write!(f, "the page was busy {rounds} times"),
            Self::NoMemory => f.write_str("there is no frame to bring the page back to"),
            Self::ToRam(e) => write!(f, "the page could not be brought back: {e}"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for FaultError<E> {}

/// One thread's attempts at one access: how it waits, and how often it has waited in vain.
#[derive(Debug)]
pub struct Faulter<'c, F: Futex = OsFutex> {
    strategy: Strategy,
    cancel: Option<&'c Cancel<F>>,
    waits: u32,
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
    fn was_busy<E>(
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
    fn wait<G, E>(
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
    fn refer_and_sleep<G>(
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
trait Waiting<F: Futex> {
    fn wait<G>(&self, page: &PageLock<F>, entry: G, cancel: Option<&Cancel<F>>) -> Wake;

    /// Whether it has been long enough.
    fn over(&self, futex: F) -> Option<Wake>;
}

/// As long as it takes.
struct ForEver;

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

#[allow(clippy::too_many_arguments)] // One fault, in its parts.
fn device_private<'m, M: Memory>(
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
pub(super) fn leads_still<M: Memory>(
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
fn device_exclusive<M: Memory>(
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
    super::exclusive::revoke(mm, at, entry, &guard);
    drop(guard);
    Ok(Fault::Resolved)
}
