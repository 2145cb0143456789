//! If this links, the core needs neither std nor an allocator; if it also exits with 0, it works
//! without them. See `ci/no_std.sh`.

#![no_std]
#![no_main]

use pagelock::{FreezeRule, PageLock, Wake};
use spin::Halt;

#[path = "../../spin.rs"]
mod spin;

static PAGES: [PageLock<Halt>; 2] = [const { PageLock::with_futex(Halt) }; 2];

/// Which check failed first, or 0.
fn work() -> u8 {
    let [here, there] = &PAGES;
    let steps = [
        || PAGES[0].activate(1).is_ok(),
        || PAGES[0].try_lock().is_some(),
        || PAGES[0].wait_unlocked(()) == Wake::NotLocked,
        || PAGES[0].try_get().is_ok() && PAGES[0].refs() == 1,
        || {
            let pin = PAGES[0].try_pin();
            let refused = PAGES[0].lock().begin_migration().freeze(FreezeRule::Unpinned).is_err();
            pin.is_ok() && refused
        },
    ];
    for (i, step) in steps.iter().enumerate() {
        if !step() {
            return i as u8 + 1;
        }
    }
    let frozen = here.lock().begin_migration().freeze(FreezeRule::ExactRefs(1));
    // SAFETY: the reference that the page was made with.
    if !frozen.is_ok_and(|frozen| unsafe { frozen.commit_to_moving(there.lock(), 1) }.is_ok()) {
        return 100;
    }
    if here.refs() != 0 || there.refs() != 1 || here.is_locked() || there.is_locked() {
        101
    } else {
        0
    }
}

/// Where the kernel jumps to. It pushes no return address, so the stack is aligned differently than
/// a function expects.
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn _start() -> ! {
    core::arch::naked_asm!("and rsp, -16", "call {}", "ud2", sym start)
}

extern "C" fn start() -> ! {
    exit(work())
}

/// The one system call of this program, so that it can say how it went.
fn exit(status: u8) -> ! {
    // SAFETY: exit_group(2) does not return and touches no memory.
    unsafe {
        core::arch::asm!("syscall", in("rax") 231, in("rdi") u64::from(status), options(noreturn))
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(255)
}
