//! The handler: where the thread that touched a missing page finds itself.
//!
//! The signal is synchronous. It interrupts this thread at a load or a store of the worker's code,
//! never inside a lock or an allocator, as long as nothing but the workers' own accesses touches a
//! region. So the function it calls may take a page's lock and sleep there. It must not wait for
//! anything that the interrupted code holds.

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::map::os_result;

/// Told the address and whether it was a store; says whether the instruction may run again.
pub type Resolve = fn(addr: usize, write: bool) -> bool;

/// A `Resolve`, or null.
static RESOLVE: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Installs the handler for the process, or replaces the function that it calls.
pub fn install(resolve: Resolve) -> io::Result<()> {
    RESOLVE.store(resolve as *mut (), Ordering::Release);
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
    // SAFETY: all zero is a valid `sigaction`: default handler, empty mask, no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as libc::sighandler_t;
    // NODEFER: a fault while one is being resolved is resolved as well, where a blocked one would
    // be the end. No ONSTACK: the thread's own stack is deeper than the small one that Rust gives
    // it for overflows.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    // SAFETY: the action is complete, and its handler has the signature that SA_SIGINFO asks for.
    os_result(unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) })
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the thread's own errno, which lives as long as the thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { *errno };

    // SAFETY: the kernel passes a valid siginfo.
    let code = unsafe { (*info).si_code };
    let resolved = code == libc::BUS_ADRERR && {
        // SAFETY: with this code the kernel has filled in the address.
        let addr = unsafe { (*info).si_addr() } as usize;
        let resolve = RESOLVE.load(Ordering::Acquire);
        // SAFETY: it was stored from a `Resolve`, and a null pointer is the `None` of an optional
        // function.
        let resolve = unsafe { std::mem::transmute::<*mut (), Option<Resolve>>(resolve) };
        // SAFETY: the kernel passes a valid context to a handler with SA_SIGINFO.
        resolve.is_some_and(|resolve| resolve(addr, unsafe { is_store(context) }))
    };
    if !resolved {
        // Not ours. With the default action the instruction runs into it once more and the program
        // dies of it, as it would have without us. A signal that a process sent does not come again
        // by itself, so it is sent on. SAFETY: both are safe in a handler, and touch no memory.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            if code <= 0 {
                libc::raise(signal);
            }
        }
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// Whether the access that faulted was a store; where that is not known, it may have been one.
///
/// # Safety
///
/// `context` is what the kernel passed to the handler.
#[cfg(target_arch = "x86_64")]
unsafe fn is_store(context: *mut c_void) -> bool {
    const WRITE: i64 = 1 << 1;
    // SAFETY: the kernel passes a valid `ucontext_t`; the error code in it is the processor's, of
    // this fault.
    let error =
        unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_ERR as usize] };
    error & WRITE != 0
}

/// Whether the access that faulted was a store; where that is not known, it may have been one.
///
/// # Safety
///
/// None is needed; as for the other.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn is_store(_context: *mut c_void) -> bool {
    true
}
