//! The one place that chooses the crate's atomics.
//!
//! All other files use `crate::sync::AtomicU32`. An ordinary build gets `core`'s, so a platform
//! ([`Futex`](crate::Futex)) that is written outside may name either. The checks build the same
//! code with others:
//!
//! * `--cfg pagelock_loom`: loom's, which explore every interleaving of a small model, and every
//!   value that the memory model lets a load see.
//! * `--cfg pagelock_shuttle`: shuttle's, which draw random schedules of large models.
//! * `--cfg pagelock_delay`: `core`'s, with a hook before and after each access that is given the
//!   access's place in the sources. A test delays, watches, or dies there.

pub use core::sync::atomic::Ordering;

#[cfg(not(any(pagelock_loom, pagelock_shuttle, pagelock_delay)))]
pub use core::sync::atomic::AtomicU32;
#[cfg(not(pagelock_loom))]
pub(crate) use core::sync::atomic::fence;
#[cfg(pagelock_loom)]
pub use loom::sync::atomic::AtomicU32;
#[cfg(pagelock_loom)]
pub(crate) use loom::sync::atomic::fence;
#[cfg(pagelock_shuttle)]
pub use shuttle::sync::atomic::AtomicU32;
#[cfg(pagelock_delay)]
pub use steps::AtomicU32;

#[cfg(not(any(pagelock_loom, pagelock_shuttle)))]
pub(crate) use core::hint::spin_loop;
#[cfg(pagelock_loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(pagelock_shuttle)]
pub(crate) use shuttle::hint::spin_loop;

#[cfg(all(pagelock_loom, pagelock_shuttle))]
compile_error!("one model checker at a time");

#[cfg(not(target_has_atomic = "32"))]
compile_error!("pagelock needs compare-and-swap of 32 bits, which this processor does not have");

/// Defines a function that is `const`, except under loom, whose atomics are made at run time.
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

/// The steps of the protocol, for a test: every access of this crate to a word is one. Only in a
/// build with `--cfg pagelock_delay`.
#[cfg(pagelock_delay)]
pub mod steps {
    use super::Ordering::{self, Acquire, Release};
    use core::panic::Location;
    use core::ptr::null_mut;
    use core::sync::atomic::AtomicPtr;

    /// An access's place in the sources. Each is a static, so its address identifies it.
    pub type Step = &'static Location<'static>;

    /// A function that is called before an access (`false`) and after it (`true`).
    pub type Hook = fn(Step, bool);

    /// A `Hook`, or null.
    static HOOK: AtomicPtr<()> = AtomicPtr::new(null_mut());

    /// Makes each thread call `hook` at every step that it takes from now on: also in signal
    /// handlers, and with locks held. The hook may do anything but use the page.
    pub fn call(hook: Hook) {
        // Release: pairs with the Acquire of `at`.
        HOOK.store(hook as *mut (), Release);
    }

    /// Whether the step is in this crate's sources: a test's own platform accesses the words too.
    fn is_ours(step: Step) -> bool {
        file!().strip_suffix("sync.rs").is_some_and(|src| step.file().starts_with(src))
    }

    fn at(step: Step, done: bool) {
        let hook = HOOK.load(Acquire);
        if !hook.is_null() && is_ours(step) {
            // SAFETY: only `call` stores there, and it stores functions of this type.
            let hook = unsafe { core::mem::transmute::<*mut (), Hook>(hook) };
            hook(step, done);
        }
    }

    /// `core`'s `AtomicU32`, with a call before and after each access.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub struct AtomicU32(core::sync::atomic::AtomicU32);

    impl AtomicU32 {
        /// As `core`'s.
        pub const fn new(value: u32) -> Self {
            Self(core::sync::atomic::AtomicU32::new(value))
        }

        /// As `core`'s.
        pub const fn as_ptr(&self) -> *mut u32 {
            self.0.as_ptr()
        }
    }

    macro_rules! accesses {
        ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
            impl AtomicU32 {
                $(
                    /// As `core`'s.
                    #[track_caller]
                    pub fn $name(&self $(, $arg: $type)*) -> $answer {
                        at(Location::caller(), false);
                        let answer = self.0.$name($($arg),*);
                        at(Location::caller(), true);
                        answer
                    }
                )*
            }
        };
    }

    accesses! {
        load(order: Ordering) -> u32;
        store(value: u32, order: Ordering) -> ();
        swap(value: u32, order: Ordering) -> u32;
        fetch_add(value: u32, order: Ordering) -> u32;
        fetch_sub(value: u32, order: Ordering) -> u32;
        fetch_or(value: u32, order: Ordering) -> u32;
        fetch_and(value: u32, order: Ordering) -> u32;
        compare_exchange(old: u32, new: u32, yes: Ordering, no: Ordering) -> Result<u32, u32>;
        compare_exchange_weak(old: u32, new: u32, yes: Ordering, no: Ordering) -> Result<u32, u32>;
    }
}
