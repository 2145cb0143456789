//! The operating system's futex, or the nearest thing to it.

use super::{EventSlot, Futex, Sleep};
use crate::sync::AtomicU32;
use core::marker::PhantomData;
#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
use crossbeam_utils::CachePadded;

/// The default platform: the operating system's own futex, and one static event table for the whole
/// program.
///
/// * Linux and Android: the futex system call, with classes and deadlines.
/// * FreeBSD, macOS, iOS, watchOS, Windows: the calls that the `atomic-wait` crate makes; no
///   deadlines.
/// * No operating system (`target_os = "none"`): it spins, as [`SpinFutex`](super::SpinFutex) does.
///   A kernel brings a [`Futex`] of its own.
/// * Any other: it does not compile without feature `spin`, with which it spins.
///
/// It works within one process; [`SharedFutex`](super::SharedFutex) is for several.
///
/// # Example
///
/// ```
/// use pagelock::{OsFutex, PageLock};
///
/// // `PageLock` is `PageLock<OsFutex>`.
/// static PAGE: PageLock<OsFutex> = PageLock::new();
/// assert!(PAGE.try_lock().is_some());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct OsFutex {
    /// C knows no struct without a member, and the compiler warns of one.
    c: PhantomData<()>,
}

#[allow(non_upper_case_globals)] // The value of a type that has one.
#[doc(hidden)]
pub const OsFutex: OsFutex = OsFutex { c: PhantomData };

/// The table's limit: "at most 16 KiB" is part of the contract.
#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
const TABLE_BYTES: usize = 16 << 10;
/// 128 slots where a padded word takes 128 bytes.
#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
const SLOTS: usize = TABLE_BYTES / size_of::<CachePadded<EventSlot<OsFutex>>>();

/// The only global state of the crate. Padded, because releases of unrelated pages bump
/// neighbouring slots.
#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
static EVENTS: [CachePadded<EventSlot<OsFutex>>; SLOTS] =
    [const { CachePadded::new(EventSlot::new()) }; SLOTS];

#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
static_assertions::const_assert!(size_of_val(&EVENTS) <= TABLE_BYTES);

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(pagelock_loom, pagelock_shuttle))
))]
mod sys {
    pub(super) use crate::futex::linux::{
        CLASSES, relax, wait, wait_class, wake_all, wake_class, wake_one,
    };
}

#[cfg(all(
    any(
        target_os = "freebsd",
        target_os = "macos",
        target_os = "ios",
        target_os = "watchos",
        windows
    ),
    not(any(pagelock_loom, pagelock_shuttle))
))]
mod sys {
    use crate::futex::Sleep;
    use crate::sync::AtomicU32;

    pub(super) const CLASSES: bool = false;
    pub(super) use atomic_wait::{wake_all, wake_one};

    pub(super) fn relax() {
        #[cfg(feature = "std")]
        std::thread::yield_now();
        #[cfg(not(feature = "std"))]
        crate::sync::spin_loop();
    }

    pub(super) fn wait(word: &AtomicU32, expected: u32) -> Sleep {
        atomic_wait::wait(word, expected);
        Sleep::Unknown
    }

    pub(super) fn wait_class(word: &AtomicU32, expected: u32, _class: u32) -> Sleep {
        wait(word, expected)
    }

    pub(super) fn wake_class(word: *const AtomicU32, _n: u32, _class: u32) -> u32 {
        wake_all(word);
        0
    }
}

// Without an operating system nothing puts a thread to sleep, and waiting is spinning.
#[cfg(not(any(
    target_os = "none",
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "macos",
    target_os = "ios",
    target_os = "watchos",
    windows,
    pagelock_loom,
    pagelock_shuttle,
    feature = "spin",
)))]
compile_error!(
    "pagelock does not know how to sleep on this operating system. With feature `spin`, waits for \
     pages of the default platform `OsFutex` spin, and a platform of your own (`Futex`) sleeps."
);

#[cfg(all(
    not(any(pagelock_loom, pagelock_shuttle)),
    not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "macos",
        target_os = "ios",
        target_os = "watchos",
        windows,
    ))
))]
mod sys {
    use crate::futex::Sleep;
    use crate::sync::AtomicU32;

    pub(super) const CLASSES: bool = false;
    pub(super) use crate::futex::spin::wait;
    pub(super) use crate::sync::spin_loop as relax;

    pub(super) fn wake_one(_word: *const AtomicU32) {}

    pub(super) fn wake_all(_word: *const AtomicU32) {}

    pub(super) fn wait_class(word: &AtomicU32, expected: u32, _class: u32) -> Sleep {
        wait(word, expected)
    }

    pub(super) fn wake_class(_word: *const AtomicU32, _n: u32, _class: u32) -> u32 {
        0
    }
}

#[cfg(any(pagelock_loom, pagelock_shuttle))]
use super::model as sys;

// SAFETY: the system compares the words that it receives, and stores to none.
unsafe impl Futex for OsFutex {
    const CLASSES: bool = sys::CLASSES;

    #[inline]
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        sys::wait(word, expected)
    }

    #[inline]
    fn wake_one(&self, word: *const AtomicU32) {
        sys::wake_one(word);
    }

    #[inline]
    fn wake_all(&self, word: *const AtomicU32) {
        sys::wake_all(word);
    }

    #[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
    #[inline]
    fn relax(&self) {
        sys::relax();
    }

    #[inline]
    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        sys::wait_class(word, expected, class)
    }

    #[inline]
    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        sys::wake_class(word, n, class)
    }

    #[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
    #[inline]
    fn event(&self, index: usize) -> &EventSlot<Self> {
        &EVENTS[index]
    }

    #[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
    #[inline]
    fn events(&self) -> usize {
        SLOTS
    }

    #[cfg(any(pagelock_loom, pagelock_shuttle))]
    fn event(&self, index: usize) -> &EventSlot<Self> {
        sys::event(index)
    }

    #[cfg(any(pagelock_loom, pagelock_shuttle))]
    fn events(&self) -> usize {
        sys::EVENTS
    }
}
