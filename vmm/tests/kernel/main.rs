//! The promises on real memory, by userfaultfd. Where that is refused, one line says so, and the
//! other tests have the stand-in in software.

#[path = "../common/mod.rs"]
mod common;
mod outside;
mod regions;
mod removal;
mod storms;
mod writes;

use common::storm::{self, PLAN, Plan};
use common::{PATIENCE, filled, until, watchdog};
use linux_raw_sys::general as sys;
use pagelock_vmm::uffd::{HUGE, Ram, SMALL, Uffd, Wish};
use pagelock_vmm::{
    Events, Fault, Fetch, Inbox, Layer, NotEvicted, Place, Region, RegionError, Server, Settings,
    Unprotect,
};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
use std::fs;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// An inbox, or the one line.
fn inbox(wish: Wish) -> Option<Arc<Inbox>> {
    watchdog();
    match Uffd::open(wish) {
        Ok(uffd) => Some(Inbox::new(uffd).unwrap()),
        Err(error) => {
            println!("SKIPPED: userfaultfd is refused ({error}); software stands in for it");
            None
        }
    }
}

/// Memory of small pages: a memfd, which is shared, or anonymous.
fn ram(inbox: &Arc<Inbox>, len: usize, shared: bool) -> Ram {
    match shared {
        false => Ram::anonymous(inbox, len, SMALL).unwrap(),
        true => Ram::memfd(inbox, memfd(len, MemfdFlags::empty()).unwrap(), 0, len, SMALL).unwrap(),
    }
}

fn memfd(len: usize, flags: MemfdFlags) -> io::Result<std::os::fd::OwnedFd> {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC | flags)?;
    ftruncate(&file, len as u64)?;
    Ok(file)
}

fn read(region: &Region, page: usize) -> u8 {
    // SAFETY: in the region.
    unsafe { ptr::read_volatile(region.host_address(page).unwrap() as *const u8) }
}

fn write(region: &Region, page: usize, value: u8) {
    // SAFETY: in the region.
    unsafe { ptr::write_volatile(region.host_address(page).unwrap() as *mut u8, value) }
}
