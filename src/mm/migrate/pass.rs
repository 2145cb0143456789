//! One pass of a batch through the stages. Dropping it puts everything back.

use super::dst::{Dst, put_raw};
use super::slot::{Slot, Src, Work};
use super::{Abort, FaultPage, Mode, Order, Outcome, Summary};
use crate::migration::Migration;
use crate::mm::drain::Unlocked;
use crate::mm::{Cause, Mm, Notice};
use crate::refs::Put;
use core::marker::PhantomData;

pub(super) struct Pass<'s, 'm, M: Mm> {
    pub(super) mm: &'m M,
    pub(super) slots: &'s mut [Slot<'m, M>],
    pub(super) order: Order<M>,
    pub(super) fault: Option<&'s mut FaultPage<'m, M::Futex>>,
    /// The frame that the faulter wants, in the pass of a fault.
    pub(super) wanted: Option<u64>,
    /// Whether it may wait for locks: with one page, and with nothing else in hand.
    pub(super) may_sleep: bool,
    /// Whether entries were taken that are not flushed yet.
    pub(super) is_unflushed: bool,
    /// The thread's right to wait, which the pass has for as long as it has pages. A fault handler
    /// has none.
    unlocked: PhantomData<&'s mut Unlocked>,
}

impl<'s, 'm, M: Mm> Pass<'s, 'm, M> {
    pub(super) fn new(
        mm: &'m M,
        slots: &'s mut [Slot<'m, M>],
        order: &Order<M>,
        unlocked: &'s mut Unlocked,
    ) -> Self {
        let _ = unlocked;
        Self::begin(mm, slots, order, None)
    }

    pub(super) fn for_fault(
        mm: &'m M,
        slots: &'s mut [Slot<'m, M>],
        order: &Order<M>,
        fault: &'s mut FaultPage<'m, M::Futex>,
    ) -> Self {
        Self::begin(mm, slots, order, Some(fault))
    }

    fn begin(
        mm: &'m M,
        slots: &'s mut [Slot<'m, M>],
        order: &Order<M>,
        fault: Option<&'s mut FaultPage<'m, M::Futex>>,
    ) -> Self {
        let order = *order;
        Self {
            mm,
            slots,
            order,
            fault,
            wanted: None,
            may_sleep: false,
            is_unflushed: false,
            unlocked: PhantomData,
        }
    }
}

impl<'m, M: Mm> Pass<'_, 'm, M> {
    pub(super) fn in_work(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.work.is_idle()).count()
    }

    /// How much it may wait now. A thread with several pages' locks in hand, or a faulter's, waits
    /// for nothing (I23).
    pub(super) fn mode(&self) -> Mode {
        if self.slots.len() == 1 && self.fault.is_none() { self.order.mode } else { Mode::Async }
    }

    pub(super) fn notice(&self, cause: Cause) -> Notice {
        Notice { cause, owner: self.order.owner }
    }

    /// Takes the work of slot `index`, which is idle then.
    pub(super) fn take(&mut self, index: usize) -> Work<'m, M> {
        core::mem::replace(&mut self.slots[index].work, Work::PENDING)
    }

    pub(super) fn is_to_do(&self, index: usize) -> bool {
        matches!(self.slots[index].work, Work::Idle { outcome: Outcome::Pending, .. })
    }

    pub(super) fn set(&mut self, index: usize, outcome: Outcome<M::Refusal>, lost: u32) {
        self.slots[index].work = Work::Idle { outcome, lost };
    }

    /// Once this returns, nobody accesses the pages whose entries were taken down.
    pub(super) fn flush(&mut self) {
        if core::mem::take(&mut self.is_unflushed) {
            self.mm.flush();
        }
    }

    /// Ends a page's migration with the page as it was: entries, then the lock, then what is left
    /// of the references.
    pub(super) fn put_back(&mut self, index: usize, why: Abort) {
        // A thread that unmaps the page meanwhile has nothing to flush, and this may free the page.
        self.flush();
        let lost = match self.take(index) {
            work @ Work::Idle { .. } => {
                self.slots[index].work = work;
                return;
            }
            Work::Hole { order, dst, .. } => {
                // SAFETY: taken out of its slot just now.
                drop(unsafe { Dst::from_raw(self.mm, dst, u32::from(order), 0) });
                0
            }
            Work::Locked(src) => self.restore(src, src.into_migration()),
            Work::Frozen { src, dst } => {
                // Thawed first: entries may want references.
                let page = src.into_frozen().thaw();
                // SAFETY: taken out of its slot just now.
                drop(unsafe { Dst::from_raw(self.mm, dst, u32::from(src.order), src.counted()) });
                self.restore(src, page)
            }
        };
        self.set(index, Outcome::Aborted(why), lost);
    }

    /// Puts the entries back, then ends the migration. Returns how many entries were lost.
    pub(super) fn restore(&mut self, mut src: Src<'m, M>, page: Migration<'m, M::Futex>) -> u32 {
        let (span, header) = (src.span(), src.page);
        let mut lost = 0;
        // The frames of a page that was split do not count their entries.
        if src.hand.taken > 0 || src.is_followed || src.is_part {
            lost = super::finalize::put_up(self.mm, span, span, header, &mut src.hand.taken);
        }
        self.let_go(src, |fault| match fault {
            Some(fault) => fault.guard = Some(page.cancel()),
            None => drop(page.abort()),
        });
        lost
    }

    /// Puts the migrator's references, has `release` give the lock back, and frees the page if
    /// those references were the last.
    ///
    /// In this order: afterwards they would be unexpected references for the thread that locks the
    /// page next, and a free page must not be locked.
    pub(super) fn let_go(
        &mut self,
        src: Src<'m, M>,
        release: impl FnOnce(Option<&mut FaultPage<'m, M::Futex>>),
    ) {
        let span = src.span();
        let put = put_raw(self.mm, src.page, span, src.hand.taken + 1);
        release(if src.is_fault { self.fault.as_deref_mut() } else { None });
        if put == Put::Last {
            self.mm.free(span.head);
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary { tries: 1, ..Summary::default() };
        for slot in &*self.slots {
            summary.count(slot);
        }
        summary
    }
}

impl Summary {
    pub(super) fn count<M: Mm>(&mut self, slot: &Slot<'_, M>) {
        self.poisoned += slot.lost();
        match slot.outcome() {
            Outcome::Poisoned => {}
            outcome if outcome.is_done() => self.done += 1,
            outcome => {
                self.left += 1;
                self.transient += u32::from(outcome.is_transient());
            }
        }
    }
}

impl<M: Mm> Drop for Pass<'_, '_, M> {
    fn drop(&mut self) {
        for index in 0..self.slots.len() {
            if !self.slots[index].work.is_idle() {
                self.put_back(index, Abort::Abandoned);
            }
        }
    }
}
