//! A page that is owned, without a lifetime: what each of the region's guards has inside.

use crate::headers::{Header, Route};
use crate::place::{Place, is_protected};
use crate::region::Region;
use crate::seats::{Taken, What};
use crate::trace;
use pagelock::{FreezeRule, Frozen, PageGuard};
use std::borrow::Cow;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{
    Ordering::{Relaxed, SeqCst},
    fence,
};

/// Dropping it releases the page and tells its waiters, whatever has happened.
pub(crate) struct Owned {
    region: Arc<Region>,
    page: usize,
    seat: Taken,
    /// A faulter sleeps for this very owner and has left no flag in the header.
    has_faulter: bool,
    is_frozen: bool,
    is_lost: bool,
}

impl Owned {
    /// Takes over from the guard of `page`.
    pub(crate) fn new(
        region: &Arc<Region>,
        page: usize,
        guard: PageGuard<'_, Route>,
        what: What,
    ) -> Self {
        // What the generation is for is `Owned`'s business now.
        let _ = guard.into_raw();
        let seat = region.seats.take(page, what);
        Self {
            region: Arc::clone(region),
            page,
            seat,
            has_faulter: false,
            is_frozen: false,
            is_lost: false,
        }
    }

    /// Its own faulter sleeps as well, and is woken by the release even if nobody else is.
    pub(crate) fn with_faulter(mut self) -> Self {
        self.has_faulter = true;
        self
    }

    /// Its own faulter was woken by what put the page up.
    pub(crate) fn faulter_woken(&mut self) {
        self.has_faulter = false;
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(crate) fn page(&self) -> usize {
        self.page
    }

    pub(crate) fn at(&self) -> usize {
        self.region.at(self.page)
    }

    pub(crate) fn header(&self) -> &Header {
        self.region.headers.get(self.page).expect("a page that was owned is in the region")
    }

    pub(crate) fn place(&self) -> Place {
        Place::of(self.header().user())
    }

    pub(crate) fn is_protected(&self) -> bool {
        is_protected(self.header().user())
    }

    pub(crate) fn note(&self, note: Cow<'static, str>) {
        self.region.seats.note(&self.seat, note);
    }

    pub(crate) fn set(&mut self, place: Place, protected: bool) {
        // Relaxed: a count, which orders nothing.
        match (self.place() == Place::In, place == Place::In) {
            (false, true) => _ = self.region.resident.0.fetch_add(1, Relaxed),
            (true, false) => _ = self.region.resident.0.fetch_sub(1, Relaxed),
            _ => {}
        }
        // SAFETY: the page is locked and the right to release it is ours. `ManuallyDrop`: it stays.
        let mut guard = ManuallyDrop::new(unsafe { PageGuard::from_raw(self.header()) });
        guard.set_user(place.bits(protected));
    }

    /// The page is in: it can be pinned from now on. The reference that says so is the region's.
    pub(crate) fn put_in(&mut self, protected: bool) {
        if !self.is_frozen && self.header().refs() == 0 {
            // It fails only on a page that is in, or lost.
            let _ = self.header().activate(1);
        }
        self.set(Place::In, protected);
    }

    /// Refuses pins from now on; the number of pins if there are any.
    pub(crate) fn freeze(&mut self) -> Result<(), u32> {
        debug_assert!(!self.is_frozen);
        // SAFETY: the page is locked and the right to release it is ours; every path below keeps
        // it.
        let guard = unsafe { PageGuard::from_raw(self.header()) };
        let refused = match guard.begin_migration().freeze(FreezeRule::Unpinned) {
            Ok(frozen) => {
                frozen.into_raw();
                None
            }
            Err(busy) => {
                let pins = busy.pins();
                let _ = busy.into_migration().cancel().into_raw();
                Some(pins)
            }
        };
        self.is_frozen = refused.is_none();
        refused.map_or(Ok(()), Err)
    }

    /// The page is not in any more. It is frozen, so no pin comes between.
    pub(crate) fn take_out(&mut self, to: Place) {
        debug_assert!(self.is_frozen);
        if self.header().refs() > 0 {
            // SAFETY: the reference that `put_in` made. Only an owner gives it back.
            let _ = unsafe { self.header().put_raw() };
        }
        let protected = to == Place::Out && self.is_protected();
        self.set(to, protected);
    }

    /// The release marks the contents lost. They are in no memory.
    pub(crate) fn poison(mut self) {
        if self.place() == Place::In {
            self.set(Place::Out, false);
        }
        self.is_lost = true;
    }

    fn after_release(&mut self, told: bool) {
        trace::released(&self.region, &self.seat);
        self.region.seats.leave(&self.seat);
        if self.has_faulter && !told {
            self.region.wake(self.page);
        }
        if told {
            // SeqCst: faces the one in `ask`. A thread that asked something of this page, and then
            // found it owned, has set the flag that `told` is; so what was asked is seen here.
            fence(SeqCst);
            self.region.settle_released(self.page);
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the page is locked since `new`, and frozen if `is_frozen` says so; this is the
        // one place that releases it.
        let released = unsafe {
            match (self.is_frozen, self.is_lost) {
                (true, true) => Frozen::from_raw(self.header()).poison(),
                (true, false) => Frozen::from_raw(self.header()).commit_in_place(),
                (false, true) => PageGuard::from_raw(self.header()).poison(),
                (false, false) => PageGuard::from_raw(self.header()).unlock(),
            }
        };
        self.after_release(released.event_waiters);
    }
}

impl std::fmt::Debug for Owned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "page {} ({:?})", self.page, self.header())
    }
}

impl Region {
    /// Wakes the threads that sleep for `page` in the kernel.
    pub(crate) fn wake(&self, page: usize) {
        self.layer.wake(self.at(page));
    }
}
