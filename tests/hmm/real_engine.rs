//! [`crate::real_memory`] as the crate's engine and a mirroring device see it.

use crate::region::PAGE;
use crate::{
    common::{
        dmirror::{Denied, Host, Mirrors},
        machine::RAM,
        own::Own,
    },
    real_memory::{FRAMES, Real, Table},
};
use core::ops::Range;
use core::sync::atomic::Ordering::SeqCst;
use pagelock::PageLock;
use pagelock::leaf::{Leaf, Rights, UnknownLeaf};
use pagelock::mm::drain::{Drain, Unlocked};
use pagelock::mm::ledger::{Change, Owner};
use pagelock::mm::migrate::{Mode, Outcome, bring_back};
use pagelock::mm::range::Notifier;
use pagelock::mm::{
    Access, Areas, Brought, CopyError, Entry, Fault, Memory, Notice, ReverseMap, Span, Tables,
    Tiers, ToRam,
};
use pagelock_soft::{At, SpaceId, TierId};
use std::sync::{Arc, MutexGuard};

pub(crate) struct RealEntry<'t> {
    pub(crate) real: &'t Real,
    pub(crate) page: usize,
    pub(crate) table: MutexGuard<'t, Table>,
    pub(crate) index: usize,
}

impl RealEntry<'_> {
    pub(crate) fn leaf(&self) -> Leaf {
        self.table.leaves[self.index]
    }

    /// Takes the page away from the address, if it is there.
    pub(crate) fn withdraw(&mut self) {
        if let (true, Leaf::Present { pfn, .. }) = (self.table.mapped[self.index], self.leaf()) {
            self.real.shift(self.real.home(pfn), self.real.address(self.page)).unwrap();
            self.table.mapped[self.index] = false;
        }
    }
}

impl Entry for RealEntry<'_> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        Ok(self.table.leaves[self.index])
    }

    fn set(&mut self, new: Leaf) {
        let old = self.leaf();
        let is_same = old.pfn() == new.pfn()
            && matches!((old, new), (Leaf::Present { .. }, Leaf::Present { .. }));
        if !is_same {
            self.withdraw();
        }
        self.table.leaves[self.index] = new;
        if old.pfn() != new.pfn() {
            if let Some(pfn) = old.pfn() {
                self.real.reverse[pfn as usize].store(0, SeqCst);
            }
            if let Some(pfn) = new.pfn() {
                self.real.reverse[pfn as usize].store(self.page + 1, SeqCst);
            }
        }
        if let (false, Leaf::Present { pfn, .. }) = (self.table.mapped[self.index], new) {
            self.real.shift(self.real.address(self.page), self.real.home(pfn)).unwrap();
            self.table.mapped[self.index] = true;
        }
    }

    fn take(&mut self) -> Result<Leaf, UnknownLeaf> {
        self.withdraw();
        self.get()
    }
}

impl Tables for Real {
    type Address = At;
    type Entry<'t> = RealEntry<'t>;

    fn lock(&self, at: At) -> Option<RealEntry<'_>> {
        Some(self.entry(at))
    }

    fn invalidate(&self, at: At, _notice: Notice) {
        self.notifier.begin_raw();
        self.mirrors.forget(at, 1);
    }

    fn invalidated(&self, _at: At) {
        self.notifier.end_raw();
    }
}

impl Areas for Real {
    type Failure = ();

    fn allowed(&self, _at: At, entry: Option<&RealEntry<'_>>) -> Option<Rights> {
        entry.is_some_and(|entry| entry.table.areas[entry.index]).then_some(Rights::Write)
    }

    fn settle(&self, at: At, _access: Access, left: Fault) -> Result<(), ()> {
        if left == Fault::Missing && self.fill(at) { Ok(()) } else { Err(()) }
    }
}

impl ReverseMap for Real {
    fn each_mapping(&self, span: Span, mut visit: impl FnMut(At)) {
        // Once, so that a visit which puts the same entry up again is not repeated for ever.
        if let Some(page) = self.reverse[span.head as usize].load(SeqCst).checked_sub(1) {
            visit(self.at(page));
        }
    }
}

impl Memory for Real {
    type Futex = Own;
    type Error = Outcome<()>;

    fn header(&self, pfn: u64) -> Option<&PageLock<Own>> {
        self.headers.get(usize::try_from(pfn).ok()?)
    }

    fn migrate_to_ram(&self, request: ToRam<'_, At, Own>) -> Result<Brought, Outcome<()>> {
        bring_back(self, request, RAM, self)
    }

    fn revoke_exclusive(&self, _pfn: u64) {
        self.revoked.fetch_add(1, SeqCst);
    }

    fn account(&self, pfn: u64, owner: Owner, change: Change) {
        self.owners[pfn as usize].note(owner, change);
    }
}

impl Tiers for Real {
    type Tier = TierId;
    type Refusal = ();

    fn tier(&self, pfn: u64) -> TierId {
        TierId(pfn as usize / FRAMES)
    }

    fn is_accessible(&self, tier: TierId) -> bool {
        tier == RAM
    }

    fn allocate(&self, tier: TierId, order: u32) -> Option<u64> {
        if order > 0 { None } else { self.free[tier.0].lock().unwrap().pop() }
    }

    fn free(&self, pfn: u64) {
        // Never more than there were, so this allocates nothing in the handler.
        self.free[self.tier(pfn).0].lock().unwrap().push(pfn);
    }

    fn copy(&self, from: u64, to: u64) -> Result<(), CopyError> {
        self.page_at(self.home(to)).copy_from(self.page_at(self.home(from)));
        Ok(())
    }

    fn zero(&self, pfn: u64) {
        self.page_at(self.home(pfn)).fill_with(0);
    }

    fn prepare(&self, pfn: u64, _mode: Mode) -> Result<(), ()> {
        if self.registered.load(SeqCst) == pfn as usize {
            return Err(());
        }
        self.moves.fetch_add(1, SeqCst);
        match self.audience.swap(0, SeqCst) {
            0 => {}
            audience => self.own.until_asleep(audience),
        }
        Ok(())
    }
}

impl Drain for Real {
    fn local(&self) {}
    fn all(&self, _unlocked: &mut Unlocked) {}
}

impl Host for Real {
    fn page_size(&self) -> usize {
        PAGE
    }

    fn notifier(&self, _space: SpaceId) -> &Notifier<Own> {
        &self.notifier
    }

    fn mirrors(&self) -> Arc<Mirrors> {
        Arc::clone(&self.mirrors)
    }

    fn load(&self, at: At, pfn: u64, out: &mut [u8]) {
        let mut bytes = [0; PAGE];
        self.page_at(self.where_is(at, pfn)).read(&mut bytes);
        out.copy_from_slice(&bytes);
    }

    fn store(&self, at: At, pfn: u64, bytes: &[u8]) {
        self.page_at(self.where_is(at, pfn)).write(bytes.try_into().unwrap());
    }

    fn cpu_read(&self, at: At, out: &mut [u8]) -> Result<(), Denied> {
        self.may(at)?;
        let mut bytes = [0; PAGE];
        // Loads that fault where the page is not there.
        self.page_at(self.address(at.page)).read(&mut bytes);
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn cpu_write(&self, at: At, bytes: &[u8]) -> Result<(), Denied> {
        self.may(at)?;
        self.page_at(self.address(at.page)).write(bytes.try_into().unwrap());
        Ok(())
    }

    fn frames(&self, tier: TierId) -> Range<u64> {
        (tier.0 * FRAMES) as u64..((tier.0 + 1) * FRAMES) as u64
    }
}

impl Real {
    /// Where a frame is that a device knows to be at `at`: there, if the processor can access it.
    pub(crate) fn where_is(&self, at: At, pfn: u64) -> *mut u8 {
        if self.is_accessible(self.tier(pfn)) { self.address(at.page) } else { self.home(pfn) }
    }

    /// A program that touches what is not mapped dies of it; the tests ask first.
    pub(crate) fn may(&self, at: At) -> Result<(), Denied> {
        let entry = self.entry(at);
        if entry.table.areas[entry.index] { Ok(()) } else { Err(Denied::Fault) }
    }
}
