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
/// Memory of all zeroes is a valid header of a page that is unlocked and free, for every platform
/// of size zero. It has no destructor.
///
/// `#[repr(C)]`: a `u32` with the state at offset 0, a `u32` with the counts at offset 4, then the
/// platform, which takes no space if it has no size. The bits are documented in
/// [`word`](crate::word).
///
/// | to | call |
/// |---|---|
/// | own the page | [`lock`](Self::lock), [`try_lock`](Self::try_lock), [`lock_within`](Self::lock_within), [`lock_releasing`](Self::lock_releasing) |
/// | own it, or leave word and not sleep | [`claim`](Self::claim), [`claim_told`](Self::claim_told) |
/// | wait without owning it or referring to it | [`wait_unlocked`](Self::wait_unlocked), [`wait_migration`](Self::wait_migration), [`wait_with`](Self::wait_with) |
/// | keep what it is | [`try_get`](Self::try_get) |
/// | keep where it is | [`try_pin`](Self::try_pin) |
/// | move it | [`PageGuard::begin_migration`](crate::PageGuard::begin_migration), [`PageGuard::migrate`](crate::PageGuard::migrate) |
/// | have a dead owner's page back | [`take_over`](Self::take_over), [`retell`](Self::retell), [`reset_sleepers`](Self::reset_sleepers) |
///
/// After `fork` the child calls [`reset_sleepers`](Self::reset_sleepers) for each page that it
/// uses. The page [`limits`](crate::limits) has that, and what to know of signal handlers, stopped
/// threads, system call filters, and processes that die.
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
        /// An unlocked, free page: no references, no pins.
        #[must_use]
        pub fn new() -> Self {
            Self::with_futex(OsFutex)
        }
    }
}

impl<F: Futex> PageLock<F> {
    const_unless_loom! {
        /// An unlocked, free page on the platform `futex`.
        ///
        /// The header is eight bytes for a platform of size zero and grows by the platform's size
        /// otherwise.
        #[must_use]
        pub fn with_futex(futex: F) -> Self {
            Self { state: AtomicU32::new(0), count: AtomicU32::new(0), futex }
        }
    }

    /// Whether somebody owns the page, or it is kept for sleeping lockers behind a closed gate:
    /// whether [`try_lock`](Self::try_lock) would fail.
    ///
    /// Relaxed: the answer is old at once, and orders nothing.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.state().is_taken()
    }

    /// Whether the page's owner is migrating it. Relaxed, as for [`is_locked`](Self::is_locked).
    #[must_use]
    pub fn is_migrating(&self) -> bool {
        self.state().is_migrating()
    }

    /// Whether the page's contents are lost for good. Relaxed; once true, it stays true for this
    /// life of the memory: only [`PageGuard::unpoison`](crate::PageGuard::unpoison) begins another.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.state().is_poisoned()
    }

    /// Whether new references and pins are refused because a migration has frozen the counts.
    /// Relaxed.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        // The counts of a poisoned page are frozen for good, without a migration.
        self.counts().is_frozen() && !self.is_poisoned()
    }

    /// The number of references. Relaxed; exact only for whoever keeps them from changing.
    #[must_use]
    pub fn refs(&self) -> u32 {
        self.counts().refs()
    }

    /// The number of pins. Relaxed; exact only for whoever keeps them from changing.
    #[must_use]
    pub fn pins(&self) -> u32 {
        self.counts().pins()
    }

    /// The number of lockers that sleep for the page, up to [`MAX_SLEEPERS`](crate::MAX_SLEEPERS).
    /// Relaxed; for watchdogs and tests.
    #[must_use]
    pub fn sleepers(&self) -> u32 {
        self.state().sleepers()
    }

    /// The five bits that are the caller's; the owner writes them.
    ///
    /// Acquire: whoever sees what [`set_user`](crate::PageGuard::set_user) wrote sees what its
    /// caller did before it, also without owning the page. So the bits can say, for instance, that
    /// the page's bytes are there.
    #[must_use]
    pub fn user(&self) -> UserBits {
        // Acquire: pairs with the Release of `set_user`.
        State(self.state.load(Acquire)).user()
    }

    /// How often the page was released, or given up by a sleeper while nobody owned it, modulo 256.
    /// Relaxed.
    ///
    /// For a watchdog: two equal readings some time apart, with [`is_locked`](Self::is_locked) true
    /// at both, show that one owner has had the page all the while, unless 256 owners had it.
    #[must_use]
    pub fn generation(&self) -> u8 {
        self.state().generation()
    }

    /// The address that stands for this page in the event table. A key, never read from.
    pub(crate) fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    pub(crate) fn state(&self) -> State {
        // Relaxed: a look; every decision is confirmed by a read-modify-write.
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

/// The page in words:
/// `PageLock { locked, migrating, 2 sleepers, generation 7; 3 references, 0 pins }`.
impl<F: Futex> fmt::Debug for PageLock<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, mut counts) = (self.state(), self.counts());
        if state.is_poisoned() {
            counts = counts.thawed(); // Frozen for good, and "poisoned" says so.
        }
        write!(f, "PageLock {{ {state:?}; {counts:?} }}")
    }
}

// What the documentation promises and a compiler can hold.
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
    assert_not_impl_any!(PageLock: Copy, Clone, Drop);
    const_assert!(!core::mem::needs_drop::<PageLock>());

    /// Zero is idle: a header made by `new` is eight zero bytes, so eight zero bytes are a header.
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
