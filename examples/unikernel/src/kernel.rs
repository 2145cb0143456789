//! The memory manager, as the crate sees it: what `pagelock::mm` asks of a kernel, over [`paging`]
//! and [`frames`].

use crate::counters::BROUGHT;
use crate::frames::Tier;
use crate::paging::{self, At, PAGE, Pte};
use crate::platform::Halt;
use crate::{batches, cow, frames, layout, shootdown};
use core::convert::Infallible;
use pagelock::PageLock;
use pagelock::leaf::Rights;
use pagelock::mm::ledger::{Change, Owner};
use pagelock::mm::migrate::{Outcome, bring_back};
use pagelock::mm::{
    Access, Areas, Brought, CopyError, Entry, Fault, Memory, ReverseMap, Span, Tables, Tiers, ToRam,
};

/// It has no state of its own.
pub struct Kernel;

/// The one.
pub static KERNEL: Kernel = Kernel;

impl Tables for Kernel {
    type Address = At;
    type Entry<'t> = Pte<'t>;

    fn lock(&self, at: At) -> Option<Pte<'_>> {
        Some(paging::lock(at))
    }

    /// One interrupt for a batch.
    fn flush(&self) {
        shootdown::flush();
    }
}

impl ReverseMap for Kernel {
    /// A page is at its number in each window of each space, or nowhere there.
    fn each_mapping(&self, span: Span, mut visit: impl FnMut(At)) {
        let page = frames::page_in(span.head) as usize;
        for space in 0..paging::SPACES {
            layout::windows(page).for_each(|window| visit(At::new(space, window, page)));
        }
    }
}

impl Memory for Kernel {
    type Futex = Halt;
    type Error = Outcome<Infallible>;

    fn header(&self, pfn: u64) -> Option<&PageLock<Halt>> {
        frames::header(pfn)
    }

    fn migrate_to_ram(&self, request: ToRam<'_, At, Halt>) -> Result<Brought, Outcome<Infallible>> {
        let to = if frames::how_many_free(Tier::Fast) > 0 { Tier::Fast } else { Tier::Slow };
        let brought = bring_back(self, request, to, &batches::Drains)?;
        if brought == Brought::Back {
            BROUGHT.one();
        }
        Ok(brought)
    }

    /// There are frames for all pages, and those of moves that are under way.
    fn make_room(&self, _at: At) -> bool {
        true
    }

    fn busy(&self) {
        batches::ask_all();
    }

    fn account(&self, pfn: u64, owner: Owner, change: Change) {
        frames::owners(pfn).note(owner, change);
    }
}

impl Tiers for Kernel {
    type Tier = Tier;
    type Refusal = Infallible;

    fn tier(&self, pfn: u64) -> Tier {
        frames::tier(pfn)
    }

    fn is_accessible(&self, tier: Tier) -> bool {
        tier != Tier::Device
    }

    fn allocate(&self, tier: Tier, order: u32) -> Option<u64> {
        if order == 0 { frames::allocate(tier) } else { None }
    }

    fn free(&self, pfn: u64) {
        frames::free(pfn);
    }

    fn copy(&self, from: u64, to: u64) -> Result<(), CopyError> {
        // SAFETY: two frames; no processor writes to the first, and none knows the second.
        unsafe { core::ptr::copy_nonoverlapping(frames::bytes(from), frames::bytes(to), PAGE) }
        Ok(())
    }

    fn zero(&self, pfn: u64) {
        // SAFETY: a frame that no processor knows.
        unsafe { core::ptr::write_bytes(frames::bytes(pfn), 0, PAGE) }
    }

    fn moved(&self, from: u64, to: u64) {
        frames::set_page_in(to, frames::page_in(from));
    }
}

impl Areas for Kernel {
    type Failure = Infallible;

    fn allowed(&self, at: At, _entry: Option<&Pte<'_>>) -> Option<Rights> {
        layout::is_mapped(at).then_some(Rights::Write)
    }

    fn settle(&self, at: At, _access: Access, left: Fault) -> Result<(), Infallible> {
        match left {
            Fault::Missing if layout::PRIVATE.contains(&at.page()) => cow::fill(at),
            Fault::Protected { .. } => cow::copy(at),
            left => panic!("{left:?} at {:#x}", at.address()),
        }
        Ok(())
    }

    fn is_copied_on_write(&self, entry: &Pte<'_>) -> bool {
        entry.get().ok().and_then(|leaf| leaf.rights()) == Some(Rights::Read)
    }

    fn unshare(&self, at: At) -> Result<(), Infallible> {
        cow::copy(at);
        Ok(())
    }
}
