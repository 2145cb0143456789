//! The one place that knows which atomics the crate is built on.
//!
//! Everywhere else says `crate::sync::AtomicU32`. A normal build gets `core`'s; a build with `--cfg pagelock_loom` gets the model
//! checker's, so that the very code that ships is the code that is explored.

pub use core::sync::atomic::Ordering;

#[cfg(not(pagelock_loom))]
pub use core::sync::atomic::AtomicU32;
#[cfg(not(pagelock_loom))]
pub(crate) use core::sync::atomic::fence;
#[cfg(pagelock_loom)]
pub use loom::sync::atomic::AtomicU32;
#[cfg(pagelock_loom)]
pub(crate) use loom::sync::atomic::fence;

#[cfg(not(pagelock_loom))]
pub(crate) use core::hint::spin_loop;
#[cfg(pagelock_loom)]
pub(crate) use loom::hint::spin_loop;

/// Writes a function that is `const`, except under the model checker, whose atomics can only be made at run time.
macro_rules! const_unless_loom {
    ($(#[$attr:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(pagelock_loom))]
        $(#[$attr])*
        $vis const fn $($rest)*
        #[cfg(pagelock_loom)]
        $(#[$attr])*
        $vis fn $($rest)*
    };
}
pub(crate) use const_unless_loom;
