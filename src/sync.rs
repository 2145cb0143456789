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

/// Names a step of the protocol, between two of its atomic operations. Nothing, except in a build with `--cfg pagelock_delay`, where
/// a test can make something of every step: lose time there, let another thread run, note where a thread stands. See `steps`.
macro_rules! step {
    ($name:literal) => {
        #[cfg(pagelock_delay)]
        crate::sync::steps::at(&crate::sync::steps::Step($name));
    };
}
pub(crate) use step;

/// What a test makes of the steps of the protocol.
#[cfg(pagelock_delay)]
pub mod steps {
    use core::ptr::null_mut;
    use core::sync::atomic::{
        AtomicPtr,
        Ordering::{Acquire, Release},
    };

    /// A step of the protocol, by its name. Each is a static, so that its address is enough to remember it by.
    #[derive(Debug)]
    pub struct Step(pub &'static str);

    /// A `fn(&'static Step)`, or null.
    static HOOK: AtomicPtr<()> = AtomicPtr::new(null_mut());

    /// From now on `hook` is called at every step by whichever thread is there: also in signal handlers, and with locks held. It may do
    /// anything but use the page.
    pub fn call(hook: fn(&'static Step)) {
        // Release: pairs with the Acquire of `at`.
        HOOK.store(hook as *mut (), Release);
    }

    pub(crate) fn at(step: &'static Step) {
        let hook = HOOK.load(Acquire);
        if !hook.is_null() {
            // SAFETY: only `call` stores there, and what it stores was a function of this type.
            let hook = unsafe { core::mem::transmute::<*mut (), fn(&'static Step)>(hook) };
            hook(step);
        }
    }
}
