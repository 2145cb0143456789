//! Frames and their headers: what the fault path needs to know.

use super::ledger::{Change, Owner};
use super::{Tables, ToRam};
use crate::futex::Futex;
use crate::page::PageLock;

/// Whether `page` is the header of frame `pfn`.
pub(super) fn is_header_of<M: Memory>(mm: &M, pfn: u64, page: &PageLock<M::Futex>) -> bool {
    mm.header(pfn).is_some_and(|of| core::ptr::eq(of, page))
}

/// What has come of bringing a page back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "a page that is not back is to be tried again"]
pub enum Brought {
    /// It is back, or the entry says what has become of it: the access is to be made again.
    Back,
    /// Not this time: somebody had a reference or a pin.
    Busy,
    /// Not this time: there is no frame to bring it to. [`Memory::make_room`] is asked for one.
    Full,
}

/// Frames, and how to bring a page back to where the processor can access it.
///
/// [`header`](Self::header) and the two `account`s may be called with a PTL held; they neither
/// sleep nor take one. The others are called without: [the
/// table](crate::mm#what-is-held-when-the-embedder-is-called) says with which page locks, and what
/// each must not do.
pub trait Memory: Tables {
    /// The platform of the frames' headers.
    type Futex: Futex;

    /// Why a page could not be brought back.
    type Error;

    /// The header of frame `pfn`, if there is such a frame.
    ///
    /// Headers must be *type-stable*: at this place there is a header as long as `self` exists,
    /// whatever becomes of the frame. All frames of a large page have the header of its first.
    fn header(&self, pfn: u64) -> Option<&PageLock<Self::Futex>>;

    /// Brings the page of a device-private entry back. Called by the faulter that owns the frame's
    /// lock, without any PTL.
    ///
    /// The implementation does what the kernel's `migrate_to_ram` does: takes down every mapping,
    /// freezes, copies, puts up the new entries, commits. It must look at the entry again, which
    /// may have changed since the PTL was dropped. On failure it puts back what it took down; the
    /// page's lock is released either way, because `request` owns it.
    /// [`migrate::bring_back`](super::migrate::bring_back) is such an implementation, for whoever
    /// has [`Tiers`](super::Tiers).
    ///
    /// It owns a page's lock, so it is given no [`Unlocked`](super::drain::Unlocked), and can
    /// neither drain batches, which would wait for other processors, nor
    /// [`migrate`](super::migrate::migrate) pages, which drains. Nor does the memory have one to
    /// use, since it is shared. A thread of the driver's has:
    ///
    /// ```
    /// # use pagelock::mm::{Mm, ToRam, drain::*, migrate::*};
    /// struct Driver<'u, D> { drain: D, unlocked: &'u mut Unlocked }
    /// impl<D: Drain> Driver<'_, D> {
    ///     fn evict<M: Mm>(&mut self, mm: &M, pfn: u64, order: &Order<M>) -> bool {
    ///         self.drain.all(self.unlocked);
    ///         migrate(mm, &mut [Slot::frame(pfn)], order, &self.drain, self.unlocked).done == 1
    ///     }
    ///     fn migrate_to_ram<M: Mm>(&self, mm: &M, request: ToRam<'_, M::Address, M::Futex>, to: M::Tier) -> bool {
    ///         self.drain.local();
    ///         bring_back(mm, request, to, &self.drain).is_ok()
    ///     }
    /// }
    /// ```
    ///
    /// To drain in the middle of a fault does not compile,
    ///
    /// ```compile_fail,E0596
    /// # use pagelock::mm::{Mm, ToRam, drain::*, migrate::*};
    /// struct Driver<'u, D> { drain: D, unlocked: &'u mut Unlocked }
    /// impl<D: Drain> Driver<'_, D> {
    ///     fn migrate_to_ram<M: Mm>(&self, mm: &M, request: ToRam<'_, M::Address, M::Futex>, to: M::Tier) -> bool {
    ///         self.drain.all(self.unlocked); // not through `&self`
    ///         bring_back(mm, request, to, &self.drain).is_ok()
    ///     }
    /// }
    /// ```
    ///
    /// nor to move other pages out of the way:
    ///
    /// ```compile_fail,E0596
    /// # use pagelock::mm::{Mm, ToRam, drain::*, migrate::*};
    /// struct Driver<'u, D> { drain: D, unlocked: &'u mut Unlocked }
    /// impl<D: Drain> Driver<'_, D> {
    ///     fn migrate_to_ram<M: Mm>(&self, mm: &M, request: ToRam<'_, M::Address, M::Futex>, out: &Order<M>, to: M::Tier) -> bool {
    ///         let _ = migrate(mm, &mut [Slot::frame(request.pfn + 1)], out, &self.drain, self.unlocked); // nor this
    ///         bring_back(mm, request, to, &self.drain).is_ok()
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Brought`] says that it did not work this time and is to be tried again, if that is so. An
    /// error ends the fault.
    fn migrate_to_ram(
        &self,
        request: ToRam<'_, Self::Address, Self::Futex>,
    ) -> Result<Brought, Self::Error>;

    /// Ends a device's exclusive access to frame `pfn`, whose lock is held: tells the device to
    /// stop, and returns when it has. No PTL is held, so this may wait for the device; it must not
    /// wait for a page's lock. The entry is made present again afterwards, unless somebody has
    /// changed it meanwhile. If that one has told the device as well, this finds that nothing is
    /// left to end.
    fn revoke_exclusive(&self, pfn: u64) {
        let _ = pfn;
    }

    /// There was no frame for a page that was to be brought back. Called by the faulter, who has
    /// let go of all that it had: the place to reclaim one, for instance by
    /// [evicting](super::migrate::evict) another page, if the access cannot have come in the middle
    /// of anything that this waits for; or to wake whoever does. `true`: it may be worth while to
    /// try again, which the faulter does after a pause, for as long as it has patience. `false`:
    /// the fault ends, with [`FaultError::NoMemory`](super::FaultError::NoMemory).
    fn make_room(&self, at: Self::Address) -> bool {
        let _ = at;
        false
    }

    /// A page that was to be brought back was [busy](super::Why::Busy): the place to have
    /// [batches](super::drain) emptied, for a page that is in one is busy for as long. The faulter
    /// has let go of all that it had, and tries again after a pause.
    ///
    /// Must wait for nobody. An access may fault in the middle of anything, also with another
    /// page's lock held by whoever made it, so a fault [has no right](super::drain::Unlocked) to
    /// wait for other processors. [`Batches::ask_all`](super::drain::Batches::ask_all) asks them,
    /// and does not.
    fn busy(&self) {}

    /// A reference of the page at `pfn` has gained or lost an owner. Called with every change that
    /// the crate makes; for a [ledger](super::ledger).
    #[inline]
    fn account(&self, pfn: u64, owner: Owner, change: Change) {
        let _ = (pfn, owner, change);
    }

    /// A page has gained or lost a pin. Called with every pin that [`pin`](super::pin) takes and
    /// drops.
    fn account_pin(&self, pfn: u64, change: Change) {
        let _ = (pfn, change);
    }
}
