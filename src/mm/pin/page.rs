//! One page: look, bring in, move, wait, and pin under the page-table lock.

use super::{NotPinned, NotPinnedOf, PinOrder, PinPolicy, Pinned, Term};
use crate::futex::FutexTimed;
use crate::leaf::{Leaf, Rights};
use crate::mm::drain::{Drain, Unlocked};
use crate::mm::ledger::Change;
use crate::mm::migrate::{self, Outcome, Slot};
use crate::mm::pause::pause;
use crate::mm::range::is_allowed;
use crate::mm::{
    Access, Areas, Entry, Fault, FaultError, Faulter, Memory, Mm, Strategy, Why, fault_within,
};
use crate::page::PageLock;
use crate::refs::PinError;
use crate::wait::{Wait, Wake};

/// Pins the page at `at`, having faulted it in if necessary: see the [module](super).
///
/// The caller holds no lock, as `unlocked` says.
///
/// ```
/// use pagelock::mm::pin::{Backing, PinOrder, Term, pin_page};
/// use pagelock::mm::{Access, Tiers, drain::Unlocked};
/// use pagelock::{Limits, OsFutex};
/// use pagelock_soft::{Backed, TierId};
/// # let (mm, at) = pagelock_soft::example();
/// let hole = at.space.page(7);
/// let order = PinOrder::new(Access::Write, Term::Long, Limits::<OsFutex>::none());
/// let policy = Backed(|_| Backing::Anonymous);
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let pinned = pin_page(&mm, hole, &order, &policy, &mm, &mut unlocked).unwrap();
/// assert_eq!(mm.tier(pinned.pfn()), TierId(0));
/// ```
///
/// # Errors
///
/// [`NotPinned`]. Pages that were faulted in or moved stay where they are.
pub fn pin_page<'m, M, P>(
    mm: &'m M,
    at: M::Address,
    order: &PinOrder<'_, M::Futex>,
    policy: &P,
    drain: &impl Drain,
    unlocked: &mut Unlocked,
) -> Result<Pinned<'m, M>, NotPinnedOf<M, P>>
where
    M: Areas + Mm + Memory<Futex: FutexTimed>,
    P: PinPolicy<M>,
{
    let PinOrder { access, term, limits, .. } = *order;
    let mut faulter = Faulter::new(Strategy::Wait);
    let mut last = None;
    for round in 0..order.patience.max(1) {
        let futex = match look(mm, at, access, term, policy, None)? {
            Look::Pinned(pinned) => return Ok(pinned),
            // No other page has been pinned here.
            Look::Within(_) => None,
            Look::Fault => {
                match fault_within(mm, at, access, &mut faulter, limits) {
                    // The fault has asked for this drain; here it may be waited for, too.
                    Ok(Fault::Retry(Why::Busy)) => drain.all(unlocked),
                    Ok(Fault::Resolved | Fault::Present | Fault::Retry(_)) => {}
                    Ok(left) => mm.settle(at, access, left).map_err(NotPinned::Unsettled)?,
                    Err(FaultError::TimedOut) => return Err(NotPinned::TimedOut),
                    Err(FaultError::Cancelled) => return Err(NotPinned::Cancelled),
                    Err(e) => return Err(NotPinned::Fault(e)),
                }
                None
            }
            Look::Unshare => {
                mm.unshare(at).map_err(NotPinned::Unsettled)?;
                None
            }
            Look::Migrating(page, pfn, entry) => {
                match page.wait_with(entry, Wait::migration().within(limits)) {
                    Wake::Released | Wake::NotLocked => Some(page.futex),
                    Wake::Poisoned => return Err(NotPinned::Fault(FaultError::Poisoned { pfn })),
                    Wake::Cancelled => return Err(NotPinned::Cancelled),
                    Wake::TimedOut => return Err(NotPinned::TimedOut),
                }
            }
            Look::Move { page, to } => {
                let outcome = move_home(mm, at, to, drain, unlocked);
                if !outcome.is_done() && !outcome.is_transient() && !is_for_a_look(outcome) {
                    return Err(NotPinned::NotMoved(outcome));
                }
                last = (!outcome.is_done()).then_some(outcome);
                Some(page.futex)
            }
        };
        // The thread that was in the way may need this processor.
        if let Some(futex) = futex {
            match limits.over(futex) {
                Some(Wake::Cancelled) => return Err(NotPinned::Cancelled),
                Some(_) => return Err(NotPinned::TimedOut),
                None => pause(futex, round),
            }
        }
    }
    Err(last.map_or(NotPinned::Busy { rounds: order.patience.max(1) }, NotPinned::NotMoved))
}

/// What to do about an address.
pub(super) enum Look<'m, M: Mm> {
    Pinned(Pinned<'m, M>),
    /// It is a frame of the large page that was pinned last, and needs no pin of its own.
    Within(u64),
    /// The entry does not allow the access.
    Fault,
    /// The entry allows the access, and a write would copy the page.
    Unshare,
    /// The page is being migrated, or about to be.
    Migrating(&'m PageLock<M::Futex>, u64, M::Entry<'m>),
    /// It is where it may not stay.
    Move {
        page: &'m PageLock<M::Futex>,
        to: M::Tier,
    },
}

pub(super) fn look<'m, M, P>(
    mm: &'m M,
    at: M::Address,
    access: Access,
    term: Term,
    policy: &P,
    last: Option<&PageLock<M::Futex>>,
) -> Result<Look<'m, M>, NotPinnedOf<M, P>>
where
    M: Areas + Mm,
    P: PinPolicy<M>,
{
    let entry = mm.lock(at);
    if !is_allowed(mm, at, entry.as_ref(), access) {
        return Err(NotPinned::NotAllowed);
    }
    let Some(entry) = entry else { return Ok(Look::Fault) };
    policy.permit(mm, at, &entry, access, term).map_err(NotPinned::Refused)?;
    let (pfn, rights) = match entry.get() {
        Ok(Leaf::Present { pfn, rights, .. }) => (pfn, rights),
        // An error, a wait, or the caller's part: the fault path says which.
        _ => return Ok(Look::Fault),
    };
    if access == Access::Write && rights != Rights::Write {
        return Ok(Look::Fault);
    }
    if mm.is_copied_on_write(&entry) {
        return Ok(Look::Unshare);
    }
    let page = mm.header(pfn).ok_or(NotPinned::Fault(FaultError::NoFrame { pfn }))?;
    if term == Term::Long {
        let tier = mm.tier(pfn);
        if let Some(to) = policy.home(mm, tier).filter(|&to| to != tier) {
            return Ok(Look::Move { page, to });
        }
    }
    if last.is_some_and(|last| core::ptr::eq(last, page)) {
        return Ok(Look::Within(pfn));
    }
    match page.try_pin() {
        Ok(pin) => {
            mm.account_pin(mm.span(pfn).head, Change::Taken);
            Ok(Look::Pinned(Pinned { mm, pfn, pin: Some(pin) }))
        }
        Err(PinError::Poisoned) => Err(NotPinned::Fault(FaultError::Poisoned { pfn })),
        Err(PinError::Overflow) => Err(NotPinned::Overflow),
        // A free page has no entries.
        Err(PinError::Free) => Err(NotPinned::Fault(FaultError::NoFrame { pfn })),
        Err(PinError::Migrating | PinError::Frozen) => Ok(Look::Migrating(page, pfn, entry)),
    }
}

/// Tries once to move a page, which never sleeps for a lock. Drains batches when it has released
/// everything.
fn move_home<M: Mm>(
    mm: &M,
    at: M::Address,
    to: M::Tier,
    drain: &impl Drain,
    unlocked: &mut Unlocked,
) -> Outcome<M::Refusal> {
    let mut slots = [Slot::at(at)];
    let _ = migrate::migrate(mm, &mut slots, &migrate::Order::to(to).tries(1), drain, unlocked);
    let outcome = slots[0].outcome();
    if outcome.is_transient() {
        drain.all(unlocked);
    }
    outcome
}

/// The page is gone or has changed: the next look says what to do.
fn is_for_a_look<R>(outcome: Outcome<R>) -> bool {
    use migrate::Skip;
    matches!(
        outcome,
        Outcome::Skipped(
            Skip::Hole | Skip::Swapped | Skip::Marker(_) | Skip::Poisoned | Skip::Exclusive
        ) | Outcome::Poisoned
    )
}
