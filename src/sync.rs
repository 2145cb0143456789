//! The one place that knows which atomics the crate is built on.
//!
//! Everywhere else says `crate::sync::AtomicU32`. A normal build gets `core`'s. A build with `--cfg pagelock_loom` gets loom's, which
//! explores every interleaving of a small model and every value that the memory model lets a load see; one with
//! `--cfg pagelock_shuttle` gets shuttle's, which draws random schedules of large ones. So the very code that ships is what is explored.

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

/// What a test makes of the steps of the protocol: every access to a word of the crate is one, before it and after it. In a build with
/// `--cfg pagelock_delay` only.
#[cfg(pagelock_delay)]
pub mod steps {
    use super::Ordering::{self, Acquire, Release};
    use core::panic::Location;
    use core::ptr::null_mut;
    use core::sync::atomic::AtomicPtr;

    /// Before (`false`) or after an access, and where it stands.
    pub type Step = fn(&'static Location<'static>, bool);

    static HOOK: AtomicPtr<()> = AtomicPtr::new(null_mut());

    /// From now on `hook` is called at every step, by whichever thread is there.
    pub fn call(hook: Step) {
        // Release: pairs with the Acquire of `at`.
        HOOK.store(hook as *mut (), Release);
    }

    #[track_caller]
    fn at<R>(access: impl FnOnce() -> R) -> R {
        let hook = HOOK.load(Acquire);
        // SAFETY: null, or a function of this type: only `call` stores there.
        let hook = (!hook.is_null()).then(|| unsafe { core::mem::transmute::<*mut (), Step>(hook) });
        let site = Location::caller();
        if let Some(hook) = hook {
            hook(site, false)
        }
        let answer = access();
        if let Some(hook) = hook {
            hook(site, true)
        }
        answer
    }

    /// `core`'s, with a step around each access.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub struct AtomicU32(core::sync::atomic::AtomicU32);

    macro_rules! accesses {
        ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
            impl AtomicU32 {
                #[allow(missing_docs)]
                pub const fn new(value: u32) -> Self {
                    Self(core::sync::atomic::AtomicU32::new(value))
                }
                $(
                    #[allow(missing_docs)]
                    #[track_caller]
                    pub fn $name(&self $(, $arg: $type)*) -> $answer {
                        at(|| self.0.$name($($arg),*))
                    }
                )*
            }
        };
    }

    accesses! {
        load(o: Ordering) -> u32;
        store(value: u32, o: Ordering) -> ();
        swap(value: u32, o: Ordering) -> u32;
        fetch_add(value: u32, o: Ordering) -> u32;
        fetch_sub(value: u32, o: Ordering) -> u32;
        fetch_or(value: u32, o: Ordering) -> u32;
        fetch_and(value: u32, o: Ordering) -> u32;
        compare_exchange(old: u32, new: u32, o: Ordering, f: Ordering) -> Result<u32, u32>;
        compare_exchange_weak(old: u32, new: u32, o: Ordering, f: Ordering) -> Result<u32, u32>;
    }
}
