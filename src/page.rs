//! The page header: two words and a platform.

use crate::futex::{Futex, OsFutex};
use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed},
    const_unless_loom,
};
use crate::word::{Count, State, UserBits};
use core::fmt;

/// A page's header: lock, sleepers' flags, migration state, reference count and pin count, in eight
/// bytes.
///
/// Put it wherever you keep a page's metadata: a static, a `Vec`, a memfd, a kernel's frame array.
/// Zeroed memory is a valid header of an unlocked, free page, for every platform of size zero. The
/// header has no destructor.
///
/// `#[repr(C)]`: a `u32` with the state at offset 0, a `u32` with the counts at offset 4, then the
/// platform, which takes no space if it has no size. The bits are documented in
/// [`word`](crate::word).
///
/// | to | call |
/// |---|---|
/// | own the page | [`lock`], [`try_lock`], [`lock_within`], [`lock_releasing`] |
/// | own it, or ask to be told, without sleeping | [`claim`], [`claim_told`] |
/// | wait without owning or referencing it | [`wait_unlocked`], [`wait_migration`], [`wait_with`] |
/// | keep its identity | [`try_get`] |
/// | keep its place | [`try_pin`] |
/// | move it | [`PageGuard::begin_migration`], [`PageGuard::migrate`] |
/// | recover it from a dead owner | [`take_over`], [`retell`], [`reset_sleepers`] |
///
/// After `fork` the child calls [`reset_sleepers`] for each page that it uses. The page
/// [`limits`](crate::limits) covers `fork`, signal handlers, stopped threads, system call filters,
/// and processes that die.
///
/// [`lock`]: Self::lock
/// [`try_lock`]: Self::try_lock
/// [`lock_within`]: Self::lock_within
/// [`lock_releasing`]: Self::lock_releasing
/// [`claim`]: Self::claim
/// [`claim_told`]: Self::claim_told
/// [`wait_unlocked`]: Self::wait_unlocked
/// [`wait_migration`]: Self::wait_migration
/// [`wait_with`]: Self::wait_with
/// [`try_get`]: Self::try_get
/// [`try_pin`]: Self::try_pin
/// [`take_over`]: Self::take_over
/// [`retell`]: Self::retell
/// [`reset_sleepers`]: Self::reset_sleepers
/// [`PageGuard::begin_migration`]: crate::PageGuard::begin_migration
/// [`PageGuard::migrate`]: crate::PageGuard::migrate
///
/// # Example
///
/// ```
/// use pagelock::PageLock;
///
/// static PAGES: [PageLock; 1024] = [const { PageLock::new() }; 1024];
/// assert_eq!(size_of_val(&PAGES), 8 * 1024);
///
/// let guard = PAGES[7].lock();
/// assert!(PAGES[7].try_lock().is_none());
/// drop(guard);
/// assert!(!PAGES[7].is_locked());
/// ```
#[repr(C)]
pub struct PageLock<F: Futex = OsFutex> {
    pub(crate) state: AtomicU32,
    pub(crate) count: AtomicU32,
    pub(crate) futex: F,
}

impl PageLock<OsFutex> {
    const_unless_loom! {
        /// Makes the header of an unlocked, free page: no references, no pins.
        ///
        /// ```
        /// use pagelock::PageLock;
        ///
        /// static PAGES: [PageLock; 64] = [const { PageLock::new() }; 64];
        /// assert_eq!(PAGES[0].refs(), 0);
        /// ```
        #[must_use]
        pub fn new() -> Self {
            Self::with_futex(OsFutex)
        }
    }
}

impl<F: Futex> PageLock<F> {
    const_unless_loom! {
        /// Makes the header of an unlocked, free page on the platform `futex`.
        ///
        /// The header has eight bytes, and the platform's size on top.
        ///
        /// ```
        /// use pagelock::{PageLock, futex::SpinFutex};
        ///
        /// static PAGE: PageLock<SpinFutex> = PageLock::with_futex(SpinFutex);
        /// assert!(PAGE.try_lock().is_some());
        /// ```
        #[must_use]
        pub fn with_futex(futex: F) -> Self {
            Self { state: AtomicU32::new(0), count: AtomicU32::new(0), futex }
        }
    }

    /// Returns whether [`try_lock`](Self::try_lock) would fail: the page has an owner, or is kept
    /// for sleeping lockers behind a closed [gate](crate::lock).
    ///
    /// Relaxed: the answer may be out of date at once, and orders nothing.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let guard = page.lock();
    /// assert!(page.is_locked());
    /// drop(guard);
    /// assert!(!page.is_locked());
    /// ```
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.state().is_taken()
    }

    /// Returns whether the page's owner is migrating it. Relaxed.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let migration = page.lock().begin_migration();
    /// assert!(page.is_migrating());
    /// migration.abort();
    /// assert!(!page.is_migrating());
    /// ```
    #[must_use]
    pub fn is_migrating(&self) -> bool {
        self.state().is_migrating()
    }

    /// Returns whether the page's contents are lost for good.
    ///
    /// Relaxed. Once true, the answer stays true until
    /// [`PageGuard::unpoison`](crate::PageGuard::unpoison) begins a new life of the memory.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// page.lock().poison();
    /// assert!(page.is_poisoned());
    /// ```
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.state().is_poisoned()
    }

    /// Returns whether new references and pins are refused because a migration has frozen the
    /// counts. Relaxed.
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let frozen = page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap();
    /// assert!(page.is_frozen() && page.try_get().is_err());
    /// frozen.commit_in_place();
    /// assert!(!page.is_frozen() && page.try_get().is_ok());
    /// ```
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        // A poisoned page's counts stay frozen without a migration.
        self.counts().is_frozen() && !self.is_poisoned()
    }

    /// Returns the number of references. Relaxed; exact only for a caller that keeps it from
    /// changing.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// page.activate(2).unwrap();
    /// let third = page.try_get().unwrap();
    /// assert_eq!(page.refs(), 3);
    /// drop(third);
    /// assert_eq!(page.refs(), 2);
    /// ```
    #[must_use]
    pub fn refs(&self) -> u32 {
        self.counts().refs()
    }

    /// Returns the number of pins. Relaxed; exact only for a caller that keeps it from changing.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let pin = page.try_pin().unwrap();
    /// assert_eq!((page.refs(), page.pins()), (1, 1));
    /// drop(pin);
    /// assert_eq!(page.pins(), 0);
    /// ```
    #[must_use]
    pub fn pins(&self) -> u32 {
        self.counts().pins()
    }

    /// Returns the number of lockers that are registered to sleep for the page, at most
    /// [`MAX_SLEEPERS`](crate::MAX_SLEEPERS). Relaxed; for watchdogs and tests.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// let guard = PAGE.lock();
    /// let locker = std::thread::spawn(|| drop(PAGE.lock()));
    /// while PAGE.sleepers() == 0 {
    ///     std::thread::yield_now();
    /// }
    /// drop(guard);
    /// locker.join().unwrap();
    /// assert_eq!(PAGE.sleepers(), 0);
    /// ```
    #[must_use]
    pub fn sleepers(&self) -> u32 {
        self.state().sleepers()
    }

    /// Returns the caller's five bits, which the owner writes.
    ///
    /// Acquire: a thread that sees what [`set_user`](crate::PageGuard::set_user) wrote also sees
    /// what the owner did before, even without owning the page. So a bit can say, for instance,
    /// that the page's bytes have arrived.
    ///
    /// ```
    /// use pagelock::{PageLock, UserBits};
    ///
    /// const UPTODATE: UserBits = UserBits::new(1);
    ///
    /// let page = PageLock::new();
    /// // ... read the page's bytes from the disk ...
    /// page.lock().set_user(UPTODATE);
    /// assert_eq!(page.user(), UPTODATE);
    /// ```
    #[must_use]
    pub fn user(&self) -> UserBits {
        // Acquire: pairs with the Release of `set_user`.
        State(self.state.load(Acquire)).user()
    }

    /// Returns how often the page was released, modulo 256. A sleeper that gives up on a page
    /// without an owner counts as a release. Relaxed.
    ///
    /// For a watchdog: if two readings some time apart are equal and [`is_locked`](Self::is_locked)
    /// is true at both, one owner held the page all the while (or a multiple of 256 did).
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let before = page.generation();
    /// drop(page.lock());
    /// assert_eq!(page.generation(), before.wrapping_add(1));
    /// ```
    #[must_use]
    pub fn generation(&self) -> u8 {
        self.state().generation()
    }

    /// The address by which the event table knows this page. A key, never read through.
    pub(crate) fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    pub(crate) fn state(&self) -> State {
        // Relaxed: a look; a read-modify-write confirms every decision.
        State(self.state.load(Relaxed))
    }

    pub(crate) fn counts(&self) -> Count {
        // Relaxed: a look, as above.
        Count(self.count.load(Relaxed))
    }
}

impl<F: Futex + Default> Default for PageLock<F> {
    fn default() -> Self {
        Self::with_futex(F::default())
    }
}

/// `Debug` of guards and stages: the name, and the page in words.
macro_rules! debug_with_page {
    ($($of_page:ident),*) => { $(
        impl<F: Futex> fmt::Debug for crate::$of_page<'_, F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($of_page)).field(self.page()).finish()
            }
        }
    )* };
}
debug_with_page!(PageGuard, PageRef, PagePin, Migration, Frozen, Poisoning);

/// The page in words:
/// `PageLock { locked, migrating, 2 sleepers, generation 7; 3 references, 0 pins }`.
impl<F: Futex> fmt::Debug for PageLock<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, mut counts) = (self.state(), self.counts());
        if state.is_poisoned() {
            counts = counts.thawed(); // "poisoned" implies frozen.
        }
        write!(f, "PageLock {{ {state:?}; {counts:?} }}")
    }
}

// The promises of the documentation that a compiler can check.
#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
mod promises {
    use super::*;
    use crate::futex::SpinFutex;
    use core::mem::{align_of, offset_of, size_of};
    use static_assertions::{
        assert_eq_align, assert_eq_size, assert_impl_all, assert_not_impl_any, const_assert,
    };

    assert_eq_size!(PageLock, u64);
    assert_eq_size!(PageLock<SpinFutex>, u64);
    assert_eq_align!(PageLock, u32);
    const_assert!(size_of::<PageLock>() == 8 && align_of::<PageLock>() == 4);
    const_assert!(offset_of!(PageLock, state) == 0 && offset_of!(PageLock, count) == 4);
    assert_impl_all!(PageLock: Send, Sync);
    assert_impl_all!(crate::PageGuard<'static>: Send, Sync);
    assert_impl_all!(crate::PageRef<'static>: Send, Sync);
    assert_impl_all!(crate::PagePin<'static>: Send, Sync);
    assert_impl_all!(crate::Migration<'static>: Send, Sync);
    assert_impl_all!(crate::Frozen<'static>: Send, Sync);
    assert_impl_all!(crate::TakenOver<'static>: Send, Sync);
    assert_impl_all!(crate::Cancel: Send, Sync);
    assert_impl_all!(crate::Wait<'static>: Send, Sync, Copy);
    assert_impl_all!(crate::futex::EventSlot: Send, Sync);
    // Errors that are passed on go into any box.
    assert_impl_all!(crate::LockError: core::error::Error, Send, Sync, Copy);
    assert_impl_all!(crate::CountError: core::error::Error, Send, Sync, Copy);
    assert_impl_all!(crate::GetError: core::error::Error, Send, Sync, Copy);
    assert_impl_all!(crate::PinError: core::error::Error, Send, Sync, Copy);
    assert_impl_all!(crate::StillPinned: core::error::Error, Send, Sync, Copy);
    assert_impl_all!(crate::FreezeRefused: core::error::Error, Send, Sync, Copy);
    assert_impl_all!(crate::CommitRefused: core::error::Error, Send, Sync, Copy);
    assert_not_impl_any!(PageLock: Copy, Clone, Drop);
    const_assert!(!core::mem::needs_drop::<PageLock>());

    /// Zero is idle: `new` makes eight zero bytes, so eight zero bytes are a header.
    const _: () = {
        // SAFETY: both sides are eight bytes of plain integers behind `repr(C)` and `UnsafeCell`,
        // without padding.
        let bytes: [u8; 8] = unsafe { core::mem::transmute(PageLock::new()) };
        let mut i = 0;
        while i < bytes.len() {
            assert!(bytes[i] == 0);
            i += 1;
        }
    };
}
