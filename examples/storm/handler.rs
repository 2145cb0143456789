//! The fault handler of memory that traps.

use crate::engine::Engine;
use crate::machine::at;
use crate::real::Real;
use crate::worker::count_fault;
use pagelock::mm::Access;
use std::io::Write;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Where the signal handler finds the engine; null between runs.
static ENGINE: AtomicPtr<Engine<Real>> = AtomicPtr::new(ptr::null_mut());

/// Lets this engine resolve faults from now on; none of them with `None`.
pub fn resolve_with(engine: Option<&Engine<Real>>) {
    let engine = engine.map_or(ptr::null(), ptr::from_ref);
    // Release: pairs with the handler's Acquire.
    ENGINE.store(engine.cast_mut(), Ordering::Release);
}

/// Called in the signal handler of the thread that faulted: it may take page-table locks and sleep
/// for pages, but not allocate.
pub fn on_fault(addr: usize, write: bool) -> bool {
    // Acquire: pairs with the Release of the store.
    let engine = ENGINE.load(Ordering::Acquire);
    // SAFETY: not null only while a run lasts, and faults come only from threads that the run joins
    // before it ends.
    let Some(engine) = (unsafe { engine.as_ref() }) else { return false };
    let Some((mapping, page)) = engine.mm.region.locate(addr) else { return false };
    count_fault();
    let access = if write { Access::Write } else { Access::Read };
    if let Err(e) = engine.fault(at(mapping, page), access) {
        // No allocation here: format into a buffer of our own. The instruction would trap for ever,
        // so this is the end.
        let mut text = [0u8; 256];
        let mut rest = &mut text[..];
        let _ = writeln!(rest, "storm: page {page}, mapping {mapping}: {e}");
        let length = 256 - rest.len();
        let _ = std::io::stderr().write_all(&text[..length]);
        std::process::abort();
    }
    true
}
