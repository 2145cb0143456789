//! Frames and their headers: what the fault path needs to know.

use super::ledger::{Change, Owner};
use super::{Tables, ToRam};
use crate::futex::Futex;
use crate::page::PageLock;

/// Whether `page` is the header of frame `pfn`.
pub(super) fn is_header_of<M: Memory>(mm: &M, pfn: u64, page: &PageLock<M::Futex>) -> bool {
    mm.header(pfn).is_some_and(|of| core::ptr::eq(of, page))
}

/// What has become of a page that was to be brought back.
///
/// ```
/// use pagelock::mm::Brought;
/// let is_over = |brought| brought == Brought::Back;
/// assert!(is_over(Brought::Back) && !is_over(Brought::Busy));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "a page that is not back has to be tried again"]
#[non_exhaustive]
pub enum Brought {
    /// It is back, or the entry says what has become of it: the access is made again.
    Back,
    /// Not this time: another thread had a reference or a pin.
    Busy,
    /// Not this time: there is no frame for it. [`Memory::make_room`] is called next.
    Full,
}

/// Frames, and how to bring a page back to where the processor can access it.
///
/// [`header`](Self::header) and the two `account`s may be called with a PTL held; they neither
/// sleep nor take one. The others are called without: the
/// [table](crate::mm#what-is-held-when-the-embedder-is-called) says with which page locks, and what
/// each must not do.
pub trait Memory: Tables {
    /// The platform of the frames' headers.
    type Futex: Futex;

    /// Why a page could not be brought back.
    type Error;

    /// The header of frame `pfn`, if there is such a frame.
    ///
    /// Headers must be *type-stable*: at this place there is a header for as long as `self` exists,
    /// whatever becomes of the frame. All frames of a large page have the header of its first.
    ///
    /// ```
    /// use pagelock::mm::Memory;
    /// # let (mm, at) = pagelock_soft::example();
    /// let page = mm.header(mm.frame_at(at).unwrap()).unwrap();
    /// assert_eq!((page.refs(), page.pins()), (1, 0)); // the entry's
    /// assert!(mm.header(1 << 30).is_none());
    /// ```
    fn header(&self, pfn: u64) -> Option<&PageLock<Self::Futex>>;

    /// Brings the page of a device-private entry back. Called by the faulter that owns the frame's
    /// lock, without any PTL.
    ///
    /// The implementation does what the kernel's `migrate_to_ram` does: it takes down every
    /// mapping, freezes, copies, puts up the new entries, commits. It must look at the entry again,
    /// which may have changed since the PTL was dropped. On failure it puts back what it took down.
    /// The page's lock is released either way, because `request` owns it.
    /// [`migrate::bring_back`](super::migrate::bring_back) is such an implementation, for embedders
    /// with [`Tiers`](super::Tiers).
    ///
    /// It owns a page's lock, so it has no [`Unlocked`](super::drain::Unlocked). Without one it can
    /// neither drain batches, which would wait for other processors, nor
    /// [`migrate`](super::migrate::migrate) pages, which drains. The memory has none to lend
    /// either, because it is shared. A thread of the driver's has one:
    ///
    /// ```
    /// # use pagelock::mm::{Mm, ToRam, drain::*, migrate::*};
    /// struct Driver<'u, D> { drain: D, unlocked: &'u mut Unlocked }
    /// impl<D: Drain> Driver<'_, D> {
    ///     fn evict<M: Mm>(&mut self, mm: &M, pfn: u64, order: &Order<M>) -> bool {
    ///         self.drain.all(self.unlocked);
    ///         migrate(mm, &mut [Slot::frame(pfn)], order, &self.drain, self.unlocked).done == 1
    ///     }
    ///     fn migrate_to_ram<M: Mm>(
    ///         &self, mm: &M, request: ToRam<'_, M::Address, M::Futex>, to: M::Tier,
    ///     ) -> bool {
    ///         self.drain.local();
    ///         bring_back(mm, request, to, &self.drain).is_ok()
    ///     }
    /// }
    /// ```
    ///
    /// A drain in the middle of a fault does not compile,
    ///
    /// ```compile_fail,E0596
    /// # use pagelock::mm::{Mm, ToRam, drain::*, migrate::*};
    /// struct Driver<'u, D> { drain: D, unlocked: &'u mut Unlocked }
    /// impl<D: Drain> Driver<'_, D> {
    ///     fn migrate_to_ram<M: Mm>(
    ///         &self, mm: &M, request: ToRam<'_, M::Address, M::Futex>, to: M::Tier,
    ///     ) -> bool {
    ///         self.drain.all(self.unlocked); // not through `&self`
    ///         bring_back(mm, request, to, &self.drain).is_ok()
    ///     }
    /// }
    /// ```
    ///
    /// nor does moving other pages out of the way:
    ///
    /// ```compile_fail,E0596
    /// # use pagelock::mm::{Mm, ToRam, drain::*, migrate::*};
    /// struct Driver<'u, D> { drain: D, unlocked: &'u mut Unlocked }
    /// impl<D: Drain> Driver<'_, D> {
    ///     fn migrate_to_ram<M: Mm>(
    ///         &self, mm: &M, request: ToRam<'_, M::Address, M::Futex>,
    ///         out: &Order<M>, to: M::Tier,
    ///     ) -> bool {
    ///         let mut other = [Slot::frame(request.pfn + 1)];
    ///         let _ = migrate(mm, &mut other, out, &self.drain, self.unlocked); // nor this
    ///         bring_back(mm, request, to, &self.drain).is_ok()
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// An error ends the fault. A page that cannot be brought back only for the moment is no error:
    /// [`Brought`] says so.
    fn migrate_to_ram(
        &self,
        request: ToRam<'_, Self::Address, Self::Futex>,
    ) -> Result<Brought, Self::Error>;

    /// Ends a device's exclusive access to frame `pfn`, whose lock is held: tells the device to
    /// stop, and returns when it has. No PTL is held, so this may wait for the device; it must not
    /// wait for a page's lock. Afterwards the crate makes the entry present again, unless another
    /// thread has changed it meanwhile. If that thread has told the device as well, this call finds
    /// nothing left to end. The default does nothing.
    ///
    /// ```
    /// use pagelock::mm::exclusive::make_exclusive;
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}};
    /// # let (mm, at) = pagelock_soft::example();
    /// let revoked = Arc::new(AtomicU64::new(0));
    /// let told = revoked.clone();
    /// mm.on_revoke(move |pfn| told.store(pfn, Relaxed)); // what `revoke_exclusive` calls here
    /// let pfn = make_exclusive(&mm, at).unwrap().pfn();
    /// mm.read(at, 0, &mut [0]).unwrap();
    /// assert_eq!(revoked.load(Relaxed), pfn);
    /// ```
    fn revoke_exclusive(&self, pfn: u64) {
        let _ = pfn;
    }

    /// There was no frame for a page that had to be brought back. Called by the faulter, which
    /// holds nothing. It can reclaim a frame, for instance by [evicting](super::migrate::evict)
    /// another page, if the access cannot have come in the middle of anything that this waits for;
    /// or it can wake a thread that does. `true`: the faulter pauses and tries again, for as long
    /// as it has patience. `false`, the default: the fault ends with
    /// [`FaultError::NoMemory`](super::FaultError::NoMemory).
    ///
    /// ```
    /// use pagelock::mm::Memory;
    /// # let (mm, at) = pagelock_soft::example();
    /// assert!(!mm.make_room(at));
    /// mm.on_full(|_| true); // frames will be found
    /// assert!(mm.make_room(at));
    /// ```
    fn make_room(&self, at: Self::Address) -> bool {
        let _ = at;
        false
    }

    /// A page that had to be brought back was [busy](super::Why::Busy). The place to have
    /// [batches](super::drain) emptied: a page in a batch stays busy for as long as it is there.
    /// The faulter holds nothing, and tries again after a pause. The default does nothing.
    ///
    /// Must wait for nobody. An access may fault in the middle of anything, also with another
    /// page's lock held by the thread that made it, so a fault [has no
    /// right](super::drain::Unlocked) to wait for other processors.
    /// [`Batches::ask_all`](super::drain::Batches::ask_all) asks them and does not wait.
    ///
    /// ```
    /// use pagelock::mm::Memory;
    /// use pagelock_soft::{Config, Soft};
    /// let mm = Soft::new(Config { batches: 2, ..Config::ram_and_device(8, 8) });
    /// let at = mm.spawn().unwrap().page(0);
    /// mm.map(at, 1).unwrap();
    /// mm.write(at, 0, b"new").unwrap(); // a new page is in a batch
    /// let pfn = mm.frame_at(at).unwrap();
    /// assert!(mm.is_batched(pfn));
    /// mm.busy();
    /// assert!(!mm.is_batched(pfn));
    /// ```
    fn busy(&self) {}

    /// A reference of the page at `pfn` has gained or lost an owner. Called with every change that
    /// the crate makes; for a [ledger](super::ledger). The default does nothing.
    ///
    /// ```
    /// use pagelock::mm::ledger::{Change, Owner};
    /// use pagelock::mm::Memory;
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.account(pfn, Owner::Cache, Change::Taken);
    /// assert_eq!(mm.owned(pfn, Owner::Cache), 1);
    /// # mm.account(pfn, Owner::Cache, Change::Put);
    /// ```
    #[inline]
    fn account(&self, pfn: u64, owner: Owner, change: Change) {
        let _ = (pfn, owner, change);
    }

    /// A page has gained or lost a pin. Called with every pin that [`pin`](super::pin) takes and
    /// drops. The default does nothing.
    ///
    /// ```
    /// use pagelock::mm::{Access, drain::Unlocked, pin::Term};
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let pinned = mm.pin(at, Access::Read, Term::Short, &mut unlocked).unwrap();
    /// assert_eq!(mm.pin_balance().taken, 1); // as `account_pin` was told
    /// drop(pinned);
    /// assert!(mm.pin_balance().is_even());
    /// ```
    fn account_pin(&self, pfn: u64, change: Change) {
        let _ = (pfn, change);
    }
}
