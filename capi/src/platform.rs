//! The platform of a C program: the operating system, or a table of functions.
//!
//! A header has no room to say whose it is, so there is one platform for all pages of a program.
//! It is chosen before the first page is used, and for good: sleepers of one platform are not woken
//! by another.

mod futex;

use crate::error::pagelock_error;
use crate::sleep::{
    pagelock_now_fn, pagelock_page_fn, pagelock_relax_fn, pagelock_wait_fn, pagelock_wait_until_fn,
    pagelock_wake_fn,
};
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire},
};

pub(crate) use futex::Here;

/// A platform. Every function is given `context`, and may be called by several threads at once.
///
/// `wait`, `wake_one` and `wake_all` come together. Where an operating system is built in they may
/// all be null, which means its own; then `now` and `wait_until` are its own too. The rest may be
/// null in any case.
///
/// A table that is set is neither changed nor freed.
#[repr(C)]
pub struct pagelock_platform {
    /// sizeof(pagelock_platform): a program compiled with another header is refused.
    pub size: usize,
    /// For the functions.
    pub context: *mut c_void,
    /// Sleeps while `*word` is `expected`, until woken; a PAGELOCK_SLEPT. May return at any time.
    /// The comparison, an atomic load, and going to sleep are one step with respect to wakes: a
    /// wake that comes after the word was changed is not missed by a thread that saw the old value.
    /// The word is never stored to.
    pub wait: pagelock_wait_fn,
    /// Wakes one sleeper on `word`, the longest asleep if it can. `word` is an address and is not
    /// read: what it pointed to may be gone.
    pub wake_one: pagelock_wake_fn,
    /// Wakes every sleeper on `word`, an address.
    pub wake_all: pagelock_wake_fn,
    /// Lets something else run for a moment. Some pauses of the processor if null.
    pub relax: pagelock_relax_fn,
    /// The time in nanoseconds, on a clock that only goes forward. Without it and `wait_until`
    /// there are no deadlines.
    pub now: pagelock_now_fn,
    /// `wait` that also ends when the clock reaches `at`.
    pub wait_until: pagelock_wait_until_fn,
    /// Called by a release of a page that a thread has waited for or claimed, after the library's
    /// own sleepers were told. `page` is an address: the page is unlocked and may be gone.
    pub tell: pagelock_page_fn,
    /// For the headers that several processes share, by the operating system's futex: the event
    /// slots, in shared memory and zeroed at first. Null otherwise. All processes have the same
    /// number of them.
    pub events: *mut pagelock_event,
    /// How many there are.
    pub n_events: usize,
    /// Where this process has mapped the first header of the shared memory.
    pub first_page: *mut crate::types::pagelock_page,
}

/// A slot of the event table. All zeroes at first; the words are the library's.
#[repr(C)]
pub struct pagelock_event {
    pub words: [u32; 4],
}

// SAFETY: the table is only read, and what its pointers lead to is for the functions, which may be
// called by any thread.
unsafe impl Sync for pagelock_platform {}

/// The table that was set, or null: the operating system.
static CHOSEN: AtomicPtr<pagelock_platform> = AtomicPtr::new(null_mut());

/// The table that was set.
fn chosen() -> Option<&'static pagelock_platform> {
    // Acquire: pairs with `pagelock_set_platform`.
    // SAFETY: null, or a table that was checked there, and is neither changed nor freed.
    unsafe { CHOSEN.load(Acquire).as_ref() }
}

impl pagelock_platform {
    fn has_wait(&self) -> bool {
        self.wait.is_some()
    }

    fn is_whole(&self) -> bool {
        let sleeps = self.wait.is_some();
        let all = self.wake_one.is_some() == sleeps && self.wake_all.is_some() == sleeps;
        let clock =
            self.now.is_some() == self.wait_until.is_some() && (sleeps || self.now.is_none());
        // The operating system, in one process or between several.
        let system = cfg!(feature = "os") && (self.events.is_null() || cfg!(futex_of_linux));
        let events =
            self.events.is_null() == (self.n_events == 0) && (self.events.is_null() || !sleeps);
        all && clock && events && (sleeps || system)
    }
}

/// Sets the platform of all pages, before the first of them is used, and once: BAD_PLATFORM,
/// PLATFORM_SET. The table is not copied.
///
/// Where no operating system is built in, a platform has to be set: until then, a thread that has
/// to wait spins.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_set_platform(
    platform: *const pagelock_platform,
) -> pagelock_error {
    // SAFETY: `size` is the first member in every version.
    if unsafe { platform.cast::<usize>().read() } != size_of::<pagelock_platform>() {
        return pagelock_error::BadPlatform;
    }
    // SAFETY: the caller's promise; it is a whole table.
    if !unsafe { &*platform }.is_whole() {
        return pagelock_error::BadPlatform;
    }
    // Release: pairs with `chosen`.
    match CHOSEN.compare_exchange(null_mut(), platform.cast_mut(), AcqRel, Acquire) {
        Ok(_) => pagelock_error::Ok,
        Err(_) => pagelock_error::PlatformSet,
    }
}
