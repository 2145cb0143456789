//! Linked and not run. See `ci/sizes.sh`.

#![no_std]
#![no_main]

use core::panic::PanicInfo;

#[cfg(feature = "drain")]
mod batches;
#[cfg(feature = "resolve")]
mod manager;
#[cfg(feature = "lock")]
mod pages;
#[cfg(feature = "lock")]
#[path = "../../spin.rs"]
mod spin;

/// The beginning and the end of the program.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    loop {
        #[cfg(feature = "lock")]
        pages::work();
        #[cfg(feature = "drain")]
        batches::work();
        #[cfg(feature = "resolve")]
        manager::work();
        #[cfg(feature = "panics")]
        assert!(core::hint::black_box(1) == 1);
    }
}

/// The only function of the C library that is needed.
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn memcpy() {
    core::arch::naked_asm!("mov rax, rdi", "mov rcx, rdx", "rep movsb", "ret")
}

#[cfg(not(feature = "no_panic"))]
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(feature = "no_panic")]
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn a_panic_can_be_reached() -> !;
    }
    a_panic_can_be_reached()
}
