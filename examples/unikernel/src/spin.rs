//! A spin lock for short sections, which counts its holders: no processor halts with one.
//!
//! Interrupts stay as they are. So a lock of this kind is taken either with interrupts off or never
//! in an interrupt; here it is the latter. A processor that spins has its interrupts on and takes
//! part in shootdowns, because the holder may wait for one.

use crate::cpu;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
};

/// Whether this processor may take such a lock now. Asserted before each, and asked by the tests.
pub fn may_lock() -> bool {
    !cpu::this().in_interrupt()
}

/// A value behind a spin lock.
pub struct Spin<T> {
    is_held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through the only guard.
unsafe impl<T: Send> Sync for Spin<T> {}

impl<T> Spin<T> {
    /// Unlocked.
    pub const fn new(value: T) -> Self {
        Self { is_held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Spins until it has the lock.
    pub fn lock(&self) -> Held<'_, T> {
        let cpu = cpu::this();
        assert!(may_lock(), "a spin lock in an interrupt");
        // First counted and then taken, so that no instant is missed in between.
        cpu.spins_held.fetch_add(1, Relaxed);
        // Acquire: pairs with the Release of the drop.
        while self.is_held.swap(true, Acquire) {
            while self.is_held.load(Relaxed) {
                core::hint::spin_loop();
            }
        }
        Held { lock: self }
    }
}

/// Dropping it unlocks.
pub struct Held<'l, T> {
    lock: &'l Spin<T>,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard is the only one.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        // Release: the next holder sees what this one did.
        self.lock.is_held.store(false, Release);
        cpu::this().spins_held.fetch_sub(1, Relaxed);
    }
}
