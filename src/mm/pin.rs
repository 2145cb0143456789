//! Pins over page tables: a page that somebody is going to access past the tables stays where it
//! is.
//!
//! | [term](Term) | for | the page |
//! |---|---|---|
//! | short | one transfer, soon over | is pinned where the processor can access it; migrations wait a little or give up |
//! | long | as long as somebody likes: a device's buffer | first moves to where pages may stay for good, so that nobody needs to move it later |
//!
//! What makes a pin reliable, apart from its being counted:
//!
//! * It is taken *under the page-table lock* of an entry that allows the access. Whoever wants the
//!   page for something else (unmap, fork, copy, take down) needs that lock as well, and so comes
//!   before, and there is no such entry, or after, and sees the pin (I19).
//! * A page that the next write would copy is [not pinned](Areas::is_copied_on_write): the writer
//!   would go on with the copy and the pinner with the original. The address gets a page of its own
//!   first, also for reading. (The kernel's `FAULT_FLAG_UNSHARE`.)
//! * A page that is being migrated is waited for, without a reference. A pin that is tried then
//!   fails, so whoever waits does not disturb; and a pin that came just before is seen by the
//!   freeze.
//!
//! Whether an address may be pinned at all is for a [policy](PinPolicy). The kernel refuses
//! long-term pins for writing of shared mappings of files whose file system keeps track of what is
//! dirty, because nobody would notice such writes: [`long_term`] is that table.

use super::drain::{Drain, Unlocked};
use super::ledger::Change;
use super::migrate::{self, Outcome, Slot};
use super::range::is_allowed;
use super::{
    Access, Areas, Entry, Fault, FaultError, Faulter, Memory, Mm, Strategy, Tables, Tiers, Why,
    fault_within,
};
use crate::futex::{Futex, FutexTimed};
use crate::leaf::{Leaf, Rights};
use crate::page::PageLock;
use crate::refs::{PagePin, PinError, Put};
use crate::wait::{Limits, Wait, Wake};
use core::fmt;

/// How long a pin is going to last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Term {
    /// Until a transfer that is about to begin is over.
    Short,
    /// For as long as somebody likes.
    Long,
}

/// What may be pinned, and where it has to be for that.
///
/// Both are asked with the entry's PTL held, and neither sleep nor take another: [the table]
/// (crate::mm#what-is-held-when-the-embedder-is-called).
pub trait PinPolicy<M: Mm> {
    /// Why not.
    type Refused;

    /// Whether the page at `at` may be pinned so. Asked with the entry's lock held, for an entry
    /// that allows the access.
    ///
    /// # Errors
    ///
    /// The reason.
    fn permit(
        &self,
        mm: &M,
        at: M::Address,
        entry: &M::Entry<'_>,
        access: Access,
        term: Term,
    ) -> Result<(), Self::Refused>;

    /// Where a page in `tier` goes before it is pinned for long; `None` if it may stay. `tier`
    /// itself is taken as `None`.
    fn home(&self, mm: &M, tier: M::Tier) -> Option<M::Tier>;
}

/// What a mapping is a mapping of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Backing {
    /// Nothing but memory.
    Anonymous,
    /// A file in memory, of a file system that does not care which pages are dirty: a memfd, a file
    /// of large pages.
    MemoryFile,
    /// A file of a file system that writes back what is dirty, and has to be told before a page
    /// becomes so.
    TrackedFile,
    /// A file whose pages are storage: what the file system does with a block it does with the
    /// page.
    Storage,
    /// A device's registers, or memory that has no frames.
    Device,
}

/// A mapping whose pages may not be pinned as asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotPinnable {
    /// What it is of.
    pub backing: Backing,
}

impl fmt::Display for NotPinnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a mapping of this kind is not pinned so: {:?}", self.backing)
    }
}

impl core::error::Error for NotPinnable {}

/// The kernel's table: which mappings may be pinned, by what they are of and whether writes are
/// shared.
///
/// | backing | short | long, private | long, shared, to read | long, shared, to write |
/// |---|---|---|---|---|
/// | anonymous, file in memory | yes | yes | yes | yes |
/// | file with write-back | yes | yes: the copy is pinned | yes | no |
/// | file that is storage | yes | yes: the copy is pinned | no | no |
/// | device | no | no | no | no |
///
/// # Errors
///
/// [`NotPinnable`].
pub fn long_term(
    backing: Backing,
    is_shared: bool,
    access: Access,
    term: Term,
) -> Result<(), NotPinnable> {
    let yes = match (backing, term) {
        (Backing::Device, _) => false,
        (_, Term::Short) | (Backing::Anonymous | Backing::MemoryFile, Term::Long) => true,
        (Backing::TrackedFile, Term::Long) => !is_shared || access == Access::Read,
        (Backing::Storage, Term::Long) => !is_shared,
    };
    if yes { Ok(()) } else { Err(NotPinnable { backing }) }
}

/// A page that is pinned. Dropping it unpins, and frees the page if nobody else has it any more.
#[must_use = "the page is unpinned when this is dropped"]
pub struct Pinned<'m, M: Mm> {
    mm: &'m M,
    pfn: u64,
    pin: Option<PagePin<'m, M::Futex>>,
}

impl<'m, M: Mm> Pinned<'m, M> {
    /// The frame, which it stays in.
    #[must_use]
    pub fn pfn(&self) -> u64 {
        self.pfn
    }

    /// Forgets the guard and keeps the pin, for [`from_raw`](Self::from_raw). Says which frame it
    /// is.
    pub fn into_raw(mut self) -> u64 {
        if let Some(pin) = self.pin.take() {
            pin.into_raw();
        }
        self.pfn
    }

    /// The guard of a pin that has none. `None` if there is no such frame.
    ///
    /// # Safety
    ///
    /// The pin is the caller's, from one [`into_raw`](Self::into_raw).
    pub unsafe fn from_raw(mm: &'m M, pfn: u64) -> Option<Self> {
        let page = mm.header(pfn)?;
        // SAFETY: the caller's promise.
        Some(Self { mm, pfn, pin: Some(unsafe { PagePin::from_raw(page) }) })
    }
}

impl<M: Mm> Drop for Pinned<'_, M> {
    fn drop(&mut self) {
        let Some(pin) = self.pin.take() else { return };
        // A page that has a pin is not split: it cannot be frozen.
        let head = self.mm.span(self.pfn).head;
        let is_poisoned = pin.page().is_poisoned();
        self.mm.account_pin(head, Change::Put);
        if pin.unpin() == Put::Last && !is_poisoned {
            self.mm.free(head);
        }
    }
}

impl<M: Mm> fmt::Debug for Pinned<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("pfn", &self.pfn).finish_non_exhaustive()
    }
}

/// How pages are to be pinned.
pub struct PinOrder<'c, F: FutexTimed> {
    /// What it is for.
    pub access: Access,
    /// How long it will last.
    pub term: Term,
    /// How long it may take: how long to wait for pages and their owners. [Batches](super::drain)
    /// that are drained, before a page is moved or brought in once more, are waited for as long as
    /// that takes.
    pub limits: Limits<'c, F>,
    /// How often to fault, to move, to wait before it is too often.
    pub patience: u32,
}

impl<'c, F: FutexTimed> PinOrder<'c, F> {
    /// Within `limits`, with patience for 1024 rounds.
    #[must_use]
    pub fn new(access: Access, term: Term, limits: Limits<'c, F>) -> Self {
        Self { access, term, limits, patience: 1024 }
    }

    /// The same, with so much patience; 0 is taken as 1.
    #[must_use]
    pub fn patience(mut self, rounds: u32) -> Self {
        self.patience = rounds;
        self
    }
}

impl<F: FutexTimed> Clone for PinOrder<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: FutexTimed> Copy for PinOrder<'_, F> {}

impl<F: FutexTimed> fmt::Debug for PinOrder<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinOrder")
            .field("access", &self.access)
            .field("term", &self.term)
            .finish_non_exhaustive()
    }
}

/// Why a page was not pinned. `E`, `S`, `O` and `R` are the memory's errors, what is left
/// unsettled, why it was not moved, and what the policy says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NotPinned<E, S, O, R> {
    /// The address is not mapped, or not for this.
    NotAllowed,
    /// The policy has refused it.
    Refused(R),
    /// The page could not be brought in, or its contents are lost.
    Fault(FaultError<E>),
    /// What the fault path leaves to the caller has failed.
    Unsettled(S),
    /// The page could not be moved to where it may stay.
    NotMoved(Outcome<O>),
    /// The page has as many [pins](crate::MAX_PINS) as can be counted.
    Overflow,
    /// The time was up.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// There was always something in the way, for so many rounds.
    Busy {
        /// How many.
        rounds: u32,
    },
}

impl<E, S, O, R> fmt::Display for NotPinned<E, S, O, R>
where
    E: fmt::Display,
    S: fmt::Display,
    O: fmt::Display,
    R: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("the access is not allowed"),
            Self::Refused(why) => write!(f, "pinning was refused: {why}"),
            Self::Fault(e) => e.fmt(f),
            Self::Unsettled(e) => e.fmt(f),
            Self::NotMoved(outcome) => {
                write!(f, "the page could not be moved to where it may stay: {outcome}")
            }
            Self::Overflow => f.write_str("the page has as many pins as can be counted"),
            Self::TimedOut => f.write_str("the time was up"),
            Self::Cancelled => f.write_str("it was cancelled"),
            Self::Busy { rounds } => write!(f, "there was something in the way, {rounds} times"),
        }
    }
}

impl<E, S, O, R> core::error::Error for NotPinned<E, S, O, R>
where
    E: core::error::Error,
    S: core::error::Error,
    O: fmt::Debug + fmt::Display,
    R: core::error::Error,
{
}

/// [`NotPinned`] over memory `M` with policy `P`.
pub type NotPinnedOf<M, P> = NotPinned<
    <M as Memory>::Error,
    <M as Areas>::Failure,
    <M as Tiers>::Refusal,
    <P as PinPolicy<M>>::Refused,
>;

/// Pins the page at `at`, having brought it in if need be: see the [module](self).
///
/// The caller holds no lock, which `unlocked` is its word for.
///
/// # Errors
///
/// [`NotPinned`]. Pages that were brought in or moved stay where they are.
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
            // Of no other page is there a pin here.
            Look::Within(_) => None,
            Look::Fault => {
                match fault_within(mm, at, access, &mut faulter, limits) {
                    // The fault has asked for it. This may wait for it, too.
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
        // What was in the way needs the processor, perhaps.
        if let Some(futex) = futex {
            match limits.over(futex) {
                Some(Wake::Cancelled) => return Err(NotPinned::Cancelled),
                Some(_) => return Err(NotPinned::TimedOut),
                None => (0..1_u32 << round.min(PAUSE)).for_each(|_| futex.relax()),
            }
        }
    }
    Err(last.map_or(NotPinned::Busy { rounds: order.patience.max(1) }, NotPinned::NotMoved))
}

/// The longest pause between two rounds, as a power of two of [relaxations](Futex::relax).
const PAUSE: u32 = 6;

/// What to do about an address.
enum Look<'m, M: Mm> {
    Pinned(Pinned<'m, M>),
    /// It is a frame of the large page that was pinned last, and needs no pin of its own.
    Within(u64),
    /// The entry does not allow the access.
    Fault,
    /// It does, and a write would copy the page.
    Unshare,
    /// The page is on its way, or about to be.
    Migrating(&'m PageLock<M::Futex>, u64, M::Entry<'m>),
    /// It is where it may not stay.
    Move {
        page: &'m PageLock<M::Futex>,
        to: M::Tier,
    },
}

fn look<'m, M, P>(
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
        // An error, a wait, or the caller's business: the fault path says which.
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

/// One try to move a page, which never sleeps for a lock; batches are drained when it has let go of
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

/// The page is not there any more, or another way: the next look says what to do.
fn is_for_a_look<R>(outcome: Outcome<R>) -> bool {
    use migrate::Skip;
    matches!(
        outcome,
        Outcome::Skipped(
            Skip::Hole | Skip::Swapped | Skip::Marker(_) | Skip::Poisoned | Skip::Exclusive
        ) | Outcome::Poisoned
    )
}

/// A page to pin, and the pin once there is one.
pub struct PinSlot<'m, M: Mm> {
    /// Where it is.
    pub at: M::Address,
    /// The pin. Pages in a row that are frames of one large page have one for all of them, with the
    /// first: a pin of a large page is one of the whole.
    pub pinned: Option<Pinned<'m, M>>,
    /// The frame, while it is pinned.
    pub pfn: Option<u64>,
}

impl<M: Mm> PinSlot<'_, M> {
    /// A page that is not pinned yet.
    #[must_use]
    pub fn new(at: M::Address) -> Self {
        Self { at, pinned: None, pfn: None }
    }
}

impl<M: Mm> fmt::Debug for PinSlot<'_, M>
where
    <M as Tables>::Address: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinSlot")
            .field("at", &self.at)
            .field("pfn", &self.pfn)
            .field("pinned", &self.pinned)
            .finish()
    }
}

/// A range of which not all is pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PinRangeError<E> {
    /// How many pages are pinned, from the first: they stay so until their slots are emptied.
    pub pinned: usize,
    /// Why the next one is not.
    pub why: E,
}

impl<E: fmt::Display> fmt::Display for PinRangeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {} pages are pinned", self.why, self.pinned)
    }
}

impl<E: core::error::Error> core::error::Error for PinRangeError<E> {}

/// Pins the pages of `slots`, passing over those that are pinned already: a call that ended early
/// can be made again.
///
/// Nothing is waited for with a pin in hand: a page may not move as long as it is pinned, and what
/// would be waited for may be somebody who waits for that ([`evict`](super::migrate::evict)). So
/// before a page is brought in, moved or waited for, *every* pin in `slots` is dropped, also those
/// from an earlier call; then all pages are brought in, and then all are pinned anew, as often as
/// it takes. What is in use already is not for this: take it out of `slots`, and do not wait for
/// ever.
///
/// # Errors
///
/// [`PinRangeError`]: for the first page that cannot be pinned. Those before it are pinned, as far as that was possible without waiting.
pub fn pin_range<'m, M, P>(
    mm: &'m M,
    slots: &mut [PinSlot<'m, M>],
    order: &PinOrder<'_, M::Futex>,
    policy: &P,
    drain: &impl Drain,
    unlocked: &mut Unlocked,
) -> Result<(), PinRangeError<NotPinnedOf<M, P>>>
where
    M: Areas + Mm + Memory<Futex: FutexTimed>,
    P: PinPolicy<M>,
{
    let rounds = order.patience.max(1);
    for _ in 0..rounds {
        match pin_ready(mm, slots, order, policy) {
            Ok(pinned) if pinned == slots.len() => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        for slot in &mut *slots {
            (slot.pinned, slot.pfn) = (None, None);
        }
        // One after the other, and none is kept.
        for index in 0..slots.len() {
            if let Err(why) = pin_page(mm, slots[index].at, order, policy, drain, unlocked) {
                let ready = pin_ready(mm, &mut slots[..index], order, policy);
                let pinned = ready.unwrap_or_else(|error| error.pinned);
                return Err(PinRangeError { pinned, why });
            }
        }
    }
    let pinned = slots.iter().take_while(|slot| slot.pfn.is_some()).count();
    Err(PinRangeError { pinned, why: NotPinned::Busy { rounds } })
}

/// Pins what can be pinned without waiting, up to the first page that cannot. How many are pinned
/// then, from the first.
fn pin_ready<'m, M, P>(
    mm: &'m M,
    slots: &mut [PinSlot<'m, M>],
    order: &PinOrder<'_, M::Futex>,
    policy: &P,
) -> Result<usize, PinRangeError<NotPinnedOf<M, P>>>
where
    M: Areas + Mm + Memory<Futex: FutexTimed>,
    P: PinPolicy<M>,
{
    let mut last = None;
    for (pinned, slot) in slots.iter_mut().enumerate() {
        if slot.pfn.is_none() {
            let looked = look(mm, slot.at, order.access, order.term, policy, last);
            match looked.map_err(|why| PinRangeError { pinned, why })? {
                Look::Pinned(pin) => (slot.pfn, slot.pinned) = (Some(pin.pfn()), Some(pin)),
                Look::Within(pfn) => slot.pfn = Some(pfn),
                _ => return Ok(pinned),
            }
        }
        if let Some(pin) = &slot.pinned {
            last = mm.header(pin.pfn());
        }
    }
    Ok(slots.len())
}
