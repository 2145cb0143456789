//! Cutting waits short.

use crate::defer::or_else_on_panic;
use crate::futex::{Futex, OsFutex};
use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Release},
    const_unless_loom,
};

const CANCELLED: u32 = 1 << 31;
/// Event slots fall into this many groups, one bit each.
const GROUPS: usize = 31;

/// A switch that ends waits: a thread is to be killed, a virtual machine torn down.
///
/// Any number of threads may wait under one switch, on any pages. A wait that begins after
/// [`cancel`](Self::cancel) returns at once; one that sleeps is woken, by telling the event slots
/// that waiters under this switch may have used (one in 31 for each that was). Other waiters on
/// those slots see a spurious return, which the contract of the wait allows.
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
    /// CANCELLED, and the groups of slots that waiters have used.
    word: AtomicU32,
    futex: F,
}

impl Cancel<OsFutex> {
    const_unless_loom! {
        /// A switch that is not thrown.
        #[must_use]
        pub fn new() -> Self {
            Self::with_futex(OsFutex)
        }
    }
}

impl<F: Futex> Cancel<F> {
    const_unless_loom! {
        /// A switch for pages on the platform `futex`, which must have the pages' own event table.
        #[must_use]
        pub fn with_futex(futex: F) -> Self {
            Self { word: AtomicU32::new(0), futex }
        }
    }

    /// Ends every wait under this switch, present and future. Once it has returned, all are told,
    /// also if another thread throws the switch at the same time.
    ///
    /// Release: whoever returns with [`Wake::Cancelled`](crate::Wake::Cancelled) sees what the
    /// caller did before.
    pub fn cancel(&self) {
        // Release: pairs with `join` and `is_cancelled`. A waiter whose bit is not seen here comes
        // later in this word's order and sees CANCELLED. One whose bit is seen has read its
        // sequence before the bump below: had it read the bump, which is a Release that its load
        // acquires, then this would come before its `join`, and could not have seen the bit.
        //
        // Also if it was thrown before: whoever did so may be in the middle of this, or have died.
        let groups = self.word.fetch_or(CANCELLED, Release);
        self.tell_from(0, groups);
    }

    /// Tells the slots of `groups` from `index` on; all of them, whatever the platform does at one.
    fn tell_from(&self, index: usize, groups: u32) {
        for index in (index..self.futex.events()).filter(|&index| groups & group(index) != 0) {
            let slot = self.futex.event(index);
            or_else_on_panic(|| slot.tell(self.futex), || self.tell_from(index + 1, groups));
        }
    }

    /// Whether [`cancel`](Self::cancel) was called. Acquire: pairs with it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.word.load(Acquire) & CANCELLED != 0
    }

    /// Makes the switch usable again. The exclusive borrow says that nobody waits under it.
    pub fn reset(&mut self) {
        self.word = AtomicU32::new(0);
    }

    /// A waiter will sleep on slot `index`, whose sequence it has already read. `false` if
    /// cancelled.
    pub(crate) fn join(&self, index: usize) -> bool {
        // Acquire: pairs with `cancel`, so that a cancelled caller sees what the canceller did. See
        // there for the order.
        self.word.fetch_or(group(index), Acquire) & CANCELLED == 0
    }
}

const fn group(index: usize) -> u32 {
    1 << (index % GROUPS)
}
