//! What a static library needs in place of std's panic handler.
//!
//! Nothing in the optimised library can panic, so none of this is in it; the one with assertions
//! ends the program when a contract is broken.

#[cfg(feature = "os")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn abort() -> !;
    }
    abort()
}

/// There is no system to ask: a trap, which a kernel sees as an invalid instruction.
#[cfg(not(feature = "os"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    // SAFETY: it does not return, and touches nothing.
    unsafe {
        core::arch::asm!("ud2", options(noreturn, nomem, nostack))
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("brk #1", options(noreturn, nomem, nostack))
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    loop {
        core::hint::spin_loop();
    }
}
