//! Pins, and the rest of a fault handler.

use super::traits::Refusal;
use super::{AccessError, Area, AreaKind, At, Kind, Soft, SoftEntry, TierId};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use pagelock::Limits;
use pagelock::futex::{Futex, FutexTimed};
use pagelock::leaf::Rights;
use pagelock::mm::drain::{Cpus, Unlocked};
use pagelock::mm::ledger::Change;
use pagelock::mm::migrate::Outcome;
use pagelock::mm::pin::{
    Backing, NotPinnable, NotPinned, PinOrder, PinPolicy, Pinned, Term, long_term, pin_page,
};
use pagelock::mm::{Access, Areas, Fault};

/// How many pins were taken and dropped.
#[derive(Debug, Default)]
pub(super) struct Balance {
    taken: AtomicU64,
    dropped: AtomicU64,
}

/// Pins that were taken, that were dropped, and that pages count.
///
/// ```
/// use pagelock::mm::{Access, drain::Unlocked, pin::Term};
/// # let (mm, at) = pagelock_soft::example();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let pinned = mm.pin(at, Access::Read, Term::Short, &mut unlocked).unwrap();
/// let balance = mm.pin_balance();
/// assert_eq!((balance.taken, balance.dropped, balance.counted), (1, 0, 1));
/// # drop(pinned);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Balanced {
    /// Taken since the beginning.
    pub taken: u64,
    /// Dropped since.
    pub dropped: u64,
    /// The sum of what the headers of all pages count.
    pub counted: u64,
}

impl Balanced {
    /// Whether no pin was lost. Pins of a header that were taken past [`pin`](pagelock::mm::pin)
    /// are not known here.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert!(mm.pin_balance().is_even());
    /// let _pin = mm.page(mm.frame_at(at).unwrap()).unwrap().try_pin().unwrap();
    /// assert!(!mm.pin_balance().is_even()); // past the pages' tables
    /// ```
    #[must_use]
    pub fn is_even(self) -> bool {
        self.taken.checked_sub(self.dropped) == Some(self.counted)
    }
}

impl Balance {
    pub(super) fn note(&self, change: Change) {
        // Relaxed: read when nobody is at work.
        match change {
            Change::Taken => self.taken.fetch_add(1, Relaxed),
            Change::Put => self.dropped.fetch_add(1, Relaxed),
        };
    }
}

/// A policy by what mappings are of, which the function says. Pages of a device's memory go to tier
/// 0 before they are pinned for long.
///
/// ```
/// use pagelock::mm::pin::{Backing, PinPolicy};
/// use pagelock_soft::{Backed, TierId};
/// # let (mm, at) = pagelock_soft::example();
/// let policy = Backed(|_| Backing::Anonymous);
/// assert_eq!(policy.home(&mm, TierId(1)), Some(TierId(0)));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Backed<B>(
    /// What the mapping at an address is of.
    pub B,
);

impl<F: Futex, C: Cpus, B: Fn(At) -> Backing> PinPolicy<Soft<F, C>> for Backed<B> {
    type Refused = NotPinnable;

    fn permit(
        &self,
        _mm: &Soft<F, C>,
        at: At,
        entry: &SoftEntry<'_, F, C>,
        access: Access,
        term: Term,
    ) -> Result<(), NotPinnable> {
        long_term((self.0)(at), entry.area().kind == AreaKind::Shared, access, term)
    }

    fn home(&self, mm: &Soft<F, C>, tier: TierId) -> Option<TierId> {
        match mm.kind(tier) {
            Some(Kind::System) | None => None,
            Some(Kind::Device { .. } | Kind::Coherent { .. }) => Some(TierId(0)),
        }
    }
}

/// Why a page was not pinned.
pub type PinFailure = NotPinned<Outcome<Refusal>, AccessError, Refusal, NotPinnable>;

impl<F: FutexTimed, C: Cpus> Soft<F, C> {
    /// Pins the page at `at`, in anonymous memory. [`pin_page`] has all the choices.
    ///
    /// ```
    /// use pagelock::mm::{Access, drain::Unlocked, pin::Term};
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let pinned = mm.pin(at, Access::Write, Term::Long, &mut unlocked).unwrap();
    /// assert_eq!(Some(pinned.pfn()), mm.frame_at(at));
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotPinned`].
    pub fn pin(
        &self,
        at: At,
        access: Access,
        term: Term,
        unlocked: &mut Unlocked,
    ) -> Result<Pinned<'_, Self>, PinFailure> {
        self.pin_as(at, &PinOrder::new(access, term, Limits::none()), unlocked)
    }

    /// [`pin`](Self::pin) with patience until the `limits`, which must have an end.
    ///
    /// ```
    /// use pagelock::mm::{Access, drain::Unlocked, pin::Term};
    /// use pagelock::{Limits, futex::MonotonicTime};
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let soon = Limits::none().until(MonotonicTime::now() + std::time::Duration::from_secs(60));
    /// assert!(mm.pin_within(at, Access::Read, Term::Short, soon, &mut unlocked).is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotPinned`].
    pub fn pin_within(
        &self,
        at: At,
        access: Access,
        term: Term,
        limits: Limits<'_, F>,
        unlocked: &mut Unlocked,
    ) -> Result<Pinned<'_, Self>, PinFailure> {
        self.pin_as(at, &PinOrder::new(access, term, limits).patience(u32::MAX), unlocked)
    }

    fn pin_as(
        &self,
        at: At,
        order: &PinOrder<'_, F>,
        unlocked: &mut Unlocked,
    ) -> Result<Pinned<'_, Self>, PinFailure> {
        pin_page(self, at, order, &Backed(|_| Backing::Anonymous), self, unlocked)
    }
}

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Pins taken, dropped, and counted. Ask when no thread is at work.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.pin_balance().taken, 0);
    /// ```
    #[must_use]
    pub fn pin_balance(&self) -> Balanced {
        Balanced {
            taken: self.pinned.taken.load(Relaxed),
            dropped: self.pinned.dropped.load(Relaxed),
            counted: self.frames.iter().map(|frame| u64::from(frame.header.pins())).sum(),
        }
    }
}

impl<F: Futex, C: Cpus> Areas for Soft<F, C> {
    type Failure = AccessError;

    fn allowed(&self, _at: At, entry: Option<&SoftEntry<'_, F, C>>) -> Option<Rights> {
        let Area { kind, rights } = entry.map_or_else(Area::default, SoftEntry::area);
        rights.filter(|_| kind != AreaKind::Unmapped)
    }

    fn settle(&self, at: At, access: Access, left: Fault) -> Result<(), AccessError> {
        self.settled(at, access, left).map(drop)
    }

    fn is_copied_on_write(&self, entry: &SoftEntry<'_, F, C>) -> bool {
        entry.area().kind == AreaKind::Private && entry.leaf().rights() == Some(Rights::Read)
    }

    /// As a write would, without the right to write.
    fn unshare(&self, at: At) -> Result<(), AccessError> {
        self.make_own(at).map(drop)
    }
}
