//! The page of a fault, back to where the processor can access it.

use super::pass::Pass;
use super::{Abort, Collected, FaultPage, Order, Outcome, Skip, Slot};
use crate::leaf::Leaf;
use crate::mm::drain::Drain;
use crate::mm::ledger::{Change, Owner};
use crate::mm::{Brought, Entry, Memory, Mm, Span, Tiers, ToRam, is_header_of};

/// Brings the page of a fault to tier `to`: an implementation of [`Memory::migrate_to_ram`].
///
/// Tries once, without a drain of other processors: the page's lock is held, and no page-table
/// lock. [`Brought::Back`] if the entry shows the result. Otherwise the faulter releases everything
/// before it tries again: [`Brought::Full`] if `to` has no frame, and [`Brought::Busy`] if
/// something else was in the way.
///
/// A large page for which there is no such frame in `to` is split, if there is a frame for the one
/// that is wanted; the others stay where they are.
///
/// ```
/// use pagelock::mm::{Access, Faulter, Strategy, resolve};
/// use pagelock::mm::{drain::Unlocked, migrate::{Order, Slot, migrate}};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let _ = migrate(&mm, &mut [Slot::at(at)], &Order::to(TierId(1)), &mm, &mut unlocked);
/// // `Soft::migrate_to_ram` is `bring_back(self, request, TierId(0), self)`.
/// let _ = resolve(&mm, at, Access::Read, &mut Faulter::new(Strategy::Wait)).unwrap();
/// let mut bytes = [0; 5];
/// mm.read_frame(mm.frame_at(at).unwrap(), 0, &mut bytes);
/// assert_eq!(&bytes, b"hello");
/// ```
///
/// # Panics
///
/// In debug builds, if the lock in `request` is another page's.
///
/// # Errors
///
/// The outcome, if trying again is of no use. [`Skip::Uncounted`] if the page's header counts no
/// references: this goes by the counts. An embedder that keeps them elsewhere implements
/// `migrate_to_ram` by [`freeze_with`](crate::Migration::freeze_with) instead.
pub fn bring_back<'p, M: Mm>(
    mm: &'p M,
    request: ToRam<'p, <M as crate::mm::Tables>::Address, <M as Memory>::Futex>,
    to: M::Tier,
    drain: &impl Drain,
) -> Result<Brought, Outcome<<M as Tiers>::Refusal>> {
    let ToRam { at, pfn, reference, page, .. } = request;
    let (span, header) = (mm.span(pfn), page.page());
    debug_assert!(
        is_header_of(mm, pfn, header),
        "the lock is that of another page than frame {pfn:#x}'s"
    );
    let mut end = End { mm, span, fault: Some(FaultPage::new(page, reference)), is_put_up: false };
    let mut slots = [Slot::frame(pfn)];
    let order = Order::to(to);
    if let Some(fault) = &mut end.fault {
        let mut pass = Pass::for_fault(mm, &mut slots, &order, fault);
        pass.wanted = Some(pfn);
        super::collect::collect(&mut pass);
        let _ = Collected(pass).unmap().finish(drain);
    }
    let outcome = slots[0].outcome();
    end.is_put_up = matches!(
        outcome,
        Outcome::Moved { .. }
            | Outcome::Uncounted { .. }
            | Outcome::Split { .. }
            | Outcome::Aborted(_)
            | Outcome::Poisoned
    );
    drop(end);
    match outcome {
        // Nothing to do, it seemed. If the entry says otherwise, the next fault would find
        // everything as this one did.
        Outcome::Freed if leads_to(mm, at, pfn) => Err(Outcome::Skipped(Skip::Uncounted)),
        Outcome::AlreadyThere if leads_to(mm, at, pfn) => Err(Outcome::AlreadyThere),
        outcome if outcome.is_done() => Ok(Brought::Back),
        // The entry says what there is to know: poison says so itself.
        Outcome::Split { moved: 1.., .. } | Outcome::Poisoned | Outcome::Uncounted { .. } => {
            Ok(Brought::Back)
        }
        Outcome::Aborted(Abort::NoDestination) => Ok(Brought::Full),
        outcome if outcome.is_transient() => Ok(Brought::Busy),
        outcome => Err(outcome),
    }
}

/// How a faulter releases its page, also while a panic unwinds: entries, then the reference, then
/// the lock.
struct End<'p, M: Mm> {
    mm: &'p M,
    span: Span,
    fault: Option<FaultPage<'p, M::Futex>>,
    /// Whether the entries say what has become of the page. Otherwise nothing was begun, so nothing
    /// was put back; but the faulter may have taken down its entry, and the page is still locked.
    is_put_up: bool,
}

impl<M: Mm> Drop for End<'_, M> {
    fn drop(&mut self) {
        let Some(fault) = self.fault.take() else { return };
        let Self { mm, span, .. } = *self;
        if !self.is_put_up && fault.is_owned() {
            super::finalize::put_up(mm, span, span, fault.page, &mut 0);
        }
        if fault.reference.is_some() {
            mm.account(span.head, Owner::Get, Change::Put);
        }
        if fault.release() {
            mm.free(span.head);
        }
    }
}

/// Whether the entry still names the page in frame `pfn`, where the processor cannot access it.
fn leads_to<M: Mm>(mm: &M, at: M::Address, pfn: u64) -> bool {
    let leaf = mm.lock(at).and_then(|entry| entry.get().ok());
    matches!(leaf, Some(Leaf::DevicePrivate { pfn: of, .. }) if of == pfn)
}
