//! What a C program holds: a page, and the stages of owning it.

use crate::platform::Here;
use core::mem::{align_of, forget, size_of};
use pagelock::{Frozen, Migration, PageGuard, PageLock};

/// A page's header. All zeroes is a page that is unlocked and free. Put it wherever you keep a
/// page's metadata; read and write it through the functions below alone. A debugger finds the
/// masks of the two words below.
#[repr(C)]
pub struct pagelock_page {
    /// Lock, sleepers, migration: PAGELOCK_STATE_*.
    pub state: u32,
    /// References and pins: PAGELOCK_COUNT_*.
    pub count: u32,
}

/// A page that is locked, and whose lock is yours. It may go to another thread.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pagelock_guard {
    /// The page.
    pub page: *mut pagelock_page,
}

/// A page that is locked and migrating: waits for its migration wait, and pins are refused.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pagelock_migration {
    /// The page.
    pub page: *mut pagelock_page,
}

/// A page that is locked and migrating, and whose counts stand still: no pins, no new references.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pagelock_frozen {
    /// The page.
    pub page: *mut pagelock_page,
}

/// What the core calls a page here.
pub(crate) type Page = PageLock<Here>;

const _: () = assert!(size_of::<Page>() == size_of::<pagelock_page>());
const _: () = assert!(align_of::<Page>() == align_of::<pagelock_page>());

/// The page at `page`.
///
/// # Safety
///
/// It is one, as the top of the crate says.
pub(crate) unsafe fn at<'a>(page: *const pagelock_page) -> &'a Page {
    // SAFETY: two words, whose every value the core bears; behind it they are atomics, and C reads
    // and writes them through this library alone.
    unsafe { &*page.cast::<Page>() }
}

fn address(page: &Page) -> *mut pagelock_page {
    core::ptr::from_ref(page).cast_mut().cast()
}

/// A stage of C's, and the core's guard of it.
macro_rules! stage {
    ($c:ident, $guard:ident) => {
        impl $c {
            /// Leaves the guard to C.
            pub(crate) fn of(guard: $guard<'_, Here>) -> Self {
                let page = address(guard.page());
                forget(guard);
                Self { page }
            }

            /// The guard again.
            ///
            /// # Safety
            ///
            /// This stage was given to C and is not used again.
            pub(crate) unsafe fn back<'a>(self) -> $guard<'a, Here> {
                // SAFETY: the caller's promise, and the page's.
                unsafe { $guard::from_raw(at(self.page)) }
            }
        }
    };
}

stage!(pagelock_guard, PageGuard);
stage!(pagelock_migration, Migration);
stage!(pagelock_frozen, Frozen);
