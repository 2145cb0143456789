//! A lock beside an event that has no hold of its own.

use super::{Event, Queue};
use crate::support::Padded;
use crate::support::locks::{Lock, RawFutex};

/// An event that has no hold of its own: the event for waiters, with a lock beside it for lockers.
pub struct Beside<E, H> {
    event: E,
    hold: Padded<H>,
}

/// A lock whose release may be on another thread than its acquisition, and that no guard is kept
/// for.
pub trait Hold: Send + Sync + 'static {
    fn new() -> Self;
    fn lock(&self);
    /// The caller has it.
    fn unlock(&self);
}

impl Hold for RawFutex {
    fn new() -> Self {
        Lock::new()
    }

    fn lock(&self) {
        Self::lock(self);
    }

    fn unlock(&self) {
        Self::unlock(self);
    }
}

/// What is inside `parking_lot::Mutex`.
impl Hold for parking_lot::RawMutex {
    fn new() -> Self {
        parking_lot::lock_api::RawMutex::INIT
    }

    fn lock(&self) {
        parking_lot::lock_api::RawMutex::lock(self);
    }

    fn unlock(&self) {
        // SAFETY: the caller has it.
        unsafe { parking_lot::lock_api::RawMutex::unlock(self) };
    }
}

/// The queued form of an event: its name, which says whose lock is beside it.
pub trait WithLock<H>: Event {
    const QUEUED: &'static str;
}

impl<E: WithLock<H>, H: Hold> Event for Beside<E, H> {
    const NAME: &'static str = E::QUEUED;

    fn new() -> Self {
        Self { event: E::new(), hold: Padded(H::new()) }
    }

    fn begin(&self) {
        self.hold.0.lock();
        self.event.begin();
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        self.event.wait(ready)
    }

    fn end(&self) {
        // The event first, in the sleepers' favour: the next holder could begin the event again. A
        // page's release ends both at once, and wakes a locker first.
        self.event.end();
        self.hold.0.unlock();
    }
}

impl<E: WithLock<H>, H: Hold> Queue for Beside<E, H> {
    /// As a page's locker does. No waiter has come since, so the event does not begin.
    fn pass_through(&self) {
        self.hold.0.lock();
        self.hold.0.unlock();
    }
}
