//! A thread that keeps the pages in memory below the limit.

use crate::machine::Machine;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::Duration;

/// A door that the evictor and the device go through, each for a batch: a snapshot closes it while
/// it begins.
#[derive(Debug, Default)]
pub(crate) struct Door(RwLock<()>);

impl Door {
    pub(crate) fn pass(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn evict(machine: &Machine, door: &Door, end: &AtomicBool) {
    while !end.load(Relaxed) {
        let pass = door.pass();
        machine.counts.peak.fetch_max(machine.region.resident(), Relaxed);
        let done = machine.evict_to(machine.limit);
        drop(pass);
        if done == 0 || machine.brake.is_pulled() {
            thread::sleep(Duration::from_micros(300));
        }
    }
}
