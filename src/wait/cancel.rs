//! Cutting waits short.

use crate::defer::or_else_on_panic;
use crate::futex::{Futex, OsFutex};
use crate::sync::Ordering::{Acquire, Release};
use crate::sync::{AtomicU32, const_unless_loom};

const CANCELLED: u32 = 1 << 31;
/// Event slots form this many groups, with one bit each.
const GROUPS: usize = 31;

/// A switch that ends waits, because a thread must be killed or a virtual machine torn down.
///
/// Any number of threads may wait under one switch, on any pages. A wait that begins after
/// [`cancel`](Self::cancel) returns at once; one that sleeps is woken, by telling the event slots
/// that waiters under this switch may have used (for each slot that was used, one slot in 31).
/// Other waiters on those slots see a spurious return, which the contract of the wait allows.
///
/// # Example
///
/// ```
/// use pagelock::{Cancel, Limits, PageLock, Wait, Wake};
///
/// static PAGE: PageLock = PageLock::new();
/// static KILL: Cancel = Cancel::new();
///
/// let stuck_migrator = PAGE.lock();
/// let limits = Limits::none().unless(&KILL);
/// let faulter = std::thread::spawn(move || PAGE.wait_with((), Wait::unlocked().within(limits)));
/// KILL.cancel();
/// assert_eq!(faulter.join().unwrap(), Wake::Cancelled);
/// # drop(stuck_migrator);
/// ```
#[derive(Debug, Default)]
#[repr(C)]
pub struct Cancel<F: Futex = OsFutex> {
    /// CANCELLED, and the groups of slots that waiters used.
    word: AtomicU32,
    futex: F,
}

impl Cancel<OsFutex> {
    const_unless_loom! {
        /// Makes a switch that is not thrown.
        ///
        /// ```
        /// use pagelock::Cancel;
        ///
        /// static SHUTDOWN: Cancel = Cancel::new();
        /// assert!(!SHUTDOWN.is_cancelled());
        /// ```
        #[must_use]
        pub fn new() -> Self {
            Self::with_futex(OsFutex)
        }
    }
}

impl<F: Futex> Cancel<F> {
    const_unless_loom! {
        /// Makes a switch for pages on the platform `futex`, whose event table must be that of the
        /// pages.
        ///
        /// ```
        /// use pagelock::{Cancel, Limits, LockError, PageLock, futex::SpinFutex};
        ///
        /// static SHUTDOWN: Cancel<SpinFutex> = Cancel::with_futex(SpinFutex);
        /// let page = PageLock::with_futex(SpinFutex);
        /// let owner = page.lock();
        /// SHUTDOWN.cancel();
        /// let refused = page.lock_within(Limits::none().unless(&SHUTDOWN));
        /// assert_eq!(refused.unwrap_err(), LockError::Cancelled);
        /// # drop(owner);
        /// ```
        #[must_use]
        pub fn with_futex(futex: F) -> Self {
            Self { word: AtomicU32::new(0), futex }
        }
    }

    /// Ends every wait under this switch, present and future. When the call returns, all waiters
    /// have been told, also if another thread throws the switch at the same time.
    ///
    /// Release: a waiter that returns with [`Wake::Cancelled`](crate::Wake::Cancelled) sees what
    /// the caller did before.
    ///
    /// ```
    /// use pagelock::{Cancel, Limits, PageLock, Wait, Wake};
    ///
    /// let (page, kill) = (PageLock::new(), Cancel::new());
    /// let owner = page.lock();
    /// kill.cancel();
    /// let wait = Wait::unlocked().within(Limits::none().unless(&kill));
    /// assert_eq!(page.wait_with((), wait), Wake::Cancelled);
    /// # drop(owner);
    /// ```
    pub fn cancel(&self) {
        // Release: pairs with `join` and `is_cancelled`. A waiter whose bit is not seen here comes
        // later in this word's order and sees CANCELLED. A waiter whose bit is seen has read its
        // sequence before the bump below: had it read the bump, which is a Release that its load
        // acquires, then this `fetch_or` would come before its `join`, and could not see the bit.
        //
        // Tells also if the switch was thrown before: that call may be under way, or have died.
        let groups = self.word.fetch_or(CANCELLED, Release);
        self.tell_from(0, groups);
    }

    /// Tells the slots of `groups` from `index` on, even if the platform panics at one of them.
    fn tell_from(&self, index: usize, groups: u32) {
        for index in (index..self.futex.events()).filter(|&index| groups & group(index) != 0) {
            let slot = self.futex.event(index);
            or_else_on_panic(|| slot.tell(self.futex), || self.tell_from(index + 1, groups));
        }
    }

    /// Returns whether [`cancel`](Self::cancel) was called. Acquire: pairs with it.
    ///
    /// ```
    /// let kill = pagelock::Cancel::new();
    /// kill.cancel();
    /// assert!(kill.is_cancelled());
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.word.load(Acquire) & CANCELLED != 0
    }

    /// Makes the switch usable again. The exclusive borrow proves that no thread waits under it.
    ///
    /// ```
    /// let mut kill = pagelock::Cancel::new();
    /// kill.cancel();
    /// kill.reset();
    /// assert!(!kill.is_cancelled());
    /// ```
    pub fn reset(&mut self) {
        self.word = AtomicU32::new(0);
    }

    /// Notes that a waiter will sleep on slot `index`, whose sequence it has read already. `false`
    /// if the switch is thrown.
    pub(crate) fn join(&self, index: usize) -> bool {
        // Acquire: pairs with `cancel`, so that a cancelled caller sees what the canceller did;
        // see there for the order.
        self.word.fetch_or(group(index), Acquire) & CANCELLED == 0
    }
}

const fn group(index: usize) -> u32 {
    1 << (index % GROUPS)
}
