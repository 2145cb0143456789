//! The page fault handler: the processor says where and how, and `resolve` does the rest.

use crate::counters::FAULTS;
use crate::kernel::KERNEL;
use crate::paging::At;
use crate::{apic, cpu, strategies};
use pagelock::mm::{Access, Areas, Fault, Faulter, Strategy, resolve};

/// What the access was, by the processor's error code.
pub fn access(error: u64) -> Access {
    match (error & 1 << 4, error & 1 << 1) {
        (0, 0) => Access::Read,
        (0, _) => Access::Write,
        _ => Access::Execute,
    }
}

/// Resolves it. Returns when the access is to be made again, or `false` if it may never be made.
/// May sleep, and holds nothing while it does.
pub fn handle(at: At, access: Access) -> bool {
    FAULTS.one();
    if strategies::handle(at, access) {
        return true;
    }
    // These two strategies may be mixed freely.
    let strategy = match cpu::this().index() % 2 {
        0 => Strategy::WaitThenLock { after: 3 },
        _ => Strategy::Wait,
    };
    match resolve(&KERNEL, at, access, &mut Faulter::new(strategy)) {
        Ok(Fault::NotExecutable) => return false,
        Ok(done) => settle(at, access, done),
        Err(e) => panic!("{e} at {:#x}", at.address()),
    }
    true
}

/// Does what the crate leaves to the kernel.
pub fn settle(at: At, access: Access, fault: Fault) {
    match fault {
        Fault::Resolved => {}
        // Another processor has resolved it, or this one has cached an entry that allowed less.
        Fault::Present => apic::forget(at.address()),
        left => {
            let Ok(()) = KERNEL.settle(at, access, left);
        }
    }
}
