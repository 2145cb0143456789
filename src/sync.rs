//! The one place that knows which atomics the crate is built on.
//!
//! Everywhere else says `crate::sync::AtomicU32`. A normal build gets `core`'s. A build with `--cfg pagelock_loom` gets loom's, which
//! explores every interleaving of a small model and every value that the memory model lets a load see; one with
//! `--cfg pagelock_shuttle` gets shuttle's, which draws random schedules of large ones. So the very code that ships is what is explored.

pub use core::sync::atomic::Ordering;

#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
pub use core::sync::atomic::AtomicU32;
#[cfg(pagelock_loom)]
pub use loom::sync::atomic::AtomicU32;
#[cfg(pagelock_shuttle)]
pub use shuttle::sync::atomic::AtomicU32;

#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
pub(crate) use core::hint::spin_loop;
#[cfg(pagelock_loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(pagelock_shuttle)]
pub(crate) use shuttle::hint::spin_loop;

#[cfg(all(pagelock_loom, pagelock_shuttle))]
compile_error!("one model checker at a time");

/// Writes a function that is `const`, except under loom, whose atomics can only be made at run time.
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
