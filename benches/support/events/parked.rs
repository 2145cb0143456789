//! `parking_lot_core`.

use super::{Beside, Event, WithLock};
use crate::support::Padded;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

/// `parking_lot_core`: a global table of queues by address; `before_sleep` drops the page-table
/// lock. The one peer that releases a caller's guard and sleeps, as this crate does.
pub struct Parked {
    on: Padded<AtomicU32>,
    ptl: Padded<parking_lot::Mutex<()>>,
}

impl Parked {
    fn key(&self) -> usize {
        core::ptr::from_ref(&self.on.0).addr()
    }
}

impl Event for Parked {
    const NAME: &'static str = "parking_lot_core-park";

    fn new() -> Self {
        Self { on: Padded::default(), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.on.0.store(1, Relaxed);
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        use parking_lot_core::{DEFAULT_PARK_TOKEN, park};
        let mut slept = 0;
        loop {
            let mut ptl = Some(self.ptl.0.lock());
            ready();
            // SAFETY: the key is an address of our own, which nobody else parks on. The closures
            // neither panic nor park; dropping the guard may unpark, which `before_sleep` allows.
            unsafe {
                park(
                    self.key(),
                    || self.on.0.load(Acquire) == 1,
                    || drop(ptl.take()),
                    |_, _| {},
                    DEFAULT_PARK_TOKEN,
                    None,
                )
            };
            slept += 1;
            if self.on.0.load(Acquire) != 1 {
                return slept;
            }
        }
    }

    fn end(&self) {
        self.on.0.store(0, Release);
        // SAFETY: as for `park`.
        unsafe { parking_lot_core::unpark_all(self.key(), parking_lot_core::DEFAULT_UNPARK_TOKEN) };
    }
}

/// `parking_lot_core::park` for waiters, parking_lot's mutex for lockers.
pub type ParkedQueue = Beside<Parked, parking_lot::RawMutex>;

impl WithLock<parking_lot::RawMutex> for Parked {
    const QUEUED: &'static str = "parking_lot_core-park + parking_lot's mutex";
}
