//! The page fault handler: the processor says where and how, and `resolve` does the rest.

use crate::apic;
use crate::counters::FAULTS;
use crate::kernel::KERNEL;
use crate::paging::At;
use crate::strategies;
use pagelock::mm::{Access, Areas, Fault, Faulter, Strategy, resolve};

/// What the access was, by the processor's error code.
pub fn access(error: u64) -> Access {
    match (error & 1 << 4, error & 1 << 1) {
        (0, 0) => Access::Read,
        (0, _) => Access::Write,
        _ => Access::Execute,
    }
}

/// Resolves it. Returns when the access is to be made again. May sleep, and holds nothing while it
/// does.
pub fn handle(at: At, access: Access) {
    FAULTS.one();
    if strategies::handle(at, access) {
        return;
    }
    let resolved = resolve(&KERNEL, at, access, &mut Faulter::new(Strategy::Wait));
    settle(at, access, resolved.unwrap_or_else(|e| panic!("{e} at {:#x}", at.address())));
}

/// Does what the crate leaves to the kernel.
pub fn settle(at: At, access: Access, fault: Fault) {
    match fault {
        Fault::Resolved => {}
        // Somebody else has resolved it, or this processor remembers that less was allowed.
        Fault::Present => apic::forget(at.address()),
        left => {
            let Ok(()) = KERNEL.settle(at, access, left);
        }
    }
}
