//! The fourteen ways in which published fault servers have failed, each as a promise of this one.
//!
//! Where a check could be blind, a *control* follows it: a server that is wrong in just that way,
//! and the same check, which must see it.

#[path = "../common/mod.rs"]
mod common;
mod everything;
mod evictor;
mod order;
mod owners;
mod pins;
mod progress;
mod refused;
mod waiting;
mod wakes;

use common::{CONTROL, Over, PAGE, PATIENCE, Rig, filled, until};
use pagelock::{Claim, PageLock};
use pagelock_vmm::soft::{Failed, SoftRam};
use pagelock_vmm::{
    Event, Events, Evicted, Fault, Fetch, Filled, Inbox, Layer, NotEvicted, NotPinned, Place,
    Region, Server, Settings, TakenOver, Wants,
};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < end);
        thread::sleep(Duration::from_micros(100));
    }
}
