//! The same protocol on real memory: real page faults, real page table entries, real moves of pages
//! between them.
//!
//! There is one mapping of private anonymous memory. Its first pages are the *addresses* of a
//! process; after them every frame has a page of its own, its *home*, by which the memory manager
//! reaches it whatever maps it. To map a frame at an address is to move the page from its home to
//! there (`UFFDIO_MOVE`), in the kernel's page table and in one step; to unmap it is to move it
//! back. So no access to an address succeeds unless the entry for it says so, and an access that
//! does not succeed is a signal (userfaultfd's SIGBUS mode) to the very thread, which resolves the
//! fault in its handler and makes the access again.
//!
//! A device's frames are never mapped: its home is where a device reads and writes.

use crate::region::PAGE;
use crate::region::map::peek;
use crate::{
    common::{
        Lots,
        dmirror::{Buffer, Denied, Device, Done, Host, after},
        machine::RAM,
        rounds, with_threads,
    },
    real_memory::{DEVICE, FRAMES, Real},
};
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use pagelock::mm::Tiers;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::exclusive::make_exclusive;
use pagelock::mm::migrate::{Mode, Order, Slot, migrate as migrate_slots};
use pagelock_soft::{At, TierId};
use std::thread;

// ---- tests

const PAGES: usize = 64;
const TIMES: usize = 32;

/// Memory for a test, or a loud word why there is none.
pub(crate) fn real(provide: fn(u32) -> u32) -> Option<&'static Real> {
    Real::open(provide)
        .map_err(|e| {
            eprintln!("NOT TESTED on real memory: userfaultfd does not move pages here ({e})")
        })
        .ok()
}

pub(crate) fn written(
    real: &'static Real,
    pages: usize,
    value: impl Fn(u32) -> u32,
) -> Buffer<'static, Real> {
    real.map(real.at(0), pages);
    let buffer = Buffer::new(real, real.at(0), pages);
    buffer.set(value);
    buffer
}

pub(crate) fn tier_at(real: &Real, at: At) -> TierId {
    real.tier(real.entry(at).leaf().pfn().expect("a page"))
}

#[test]
fn anon_read() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    real.map(real.at(0), PAGES);
    let mut b = Buffer::new(real, real.at(0), PAGES);
    b.set_mirror(|i| i.wrapping_neg());
    b.expect_in(1..2, |_| 0);
    b.set_in(2..PAGES, |i| i);
    assert_eq!(real.faults.load(SeqCst), PAGES - 1, "each page was touched once where it was not");
    assert_eq!(b.device_read(&device), Ok(Done::new(PAGES, 1)));
    b.expect_mirror_in(0..2, |_| 0);
    b.expect_mirror_in(2..PAGES, |i| i);
    assert_eq!(b.device_read(&device), Ok(Done::new(PAGES, 0)));
    real.unmap(after(b.at, 1), 1);
    assert_eq!(b.device_read(&device), Err(Denied::Fault));
    real.close();
}

#[test]
fn anon_write() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    real.map(real.at(0), PAGES);
    let mut b = Buffer::new(real, real.at(0), PAGES);
    b.set_mirror(|i| i);
    assert_eq!(b.device_write(&device), Ok(Done::new(PAGES, 1)));
    b.expect(|i| i);
    assert_eq!(real.faults.load(SeqCst), 0, "the device has faulted all of it in");
    real.close();
}

#[test]
fn migrate() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let mut b = written(real, PAGES, |i| i);
    assert_eq!(b.migrate_to(&device), Ok(PAGES));
    b.expect_mirror(|i| i);
    for at in b.at.pages(PAGES) {
        assert!(
            peek(real.address(at.page), &mut [0; PAGE]).is_err(),
            "the processor can still access page {}",
            at.page
        );
    }
    real.close();
}

#[test]
fn migrate_fault() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let mut b = written(real, PAGES, |i| i);
    assert_eq!(b.migrate_to(&device), Ok(PAGES));
    let faults = real.faults.load(SeqCst);
    b.expect_in(0..PAGES / 2, |i| i);
    assert_eq!(
        real.faults.load(SeqCst) - faults,
        PAGES / 2,
        "one fault for each page that was not there"
    );
    assert_eq!(b.at.pages(PAGES).filter(|&at| tier_at(real, at) == RAM).count(), PAGES / 2);
    b.set_mirror(|_| 0);
    assert_eq!(b.migrate_to(&device), Ok(PAGES));
    b.expect_mirror(|i| i);
    b.expect(|i| i);
    real.close();
}

#[test]
fn migrate_release() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let mut b = written(real, PAGES, |i| i);
    assert_eq!(b.migrate_to(&device), Ok(PAGES));
    b.expect_in(0..PAGES / 2, |i| i);
    let summary = device.release();
    assert_eq!((summary.done as usize, summary.left), (PAGES / 2, 0));
    assert_eq!(real.free_frames(DEVICE), FRAMES);
    let faults = real.faults.load(SeqCst);
    b.expect(|i| i);
    assert_eq!(real.faults.load(SeqCst), faults, "all of it is mapped again");
    real.close();
}

#[test]
fn migrate_multiple() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let pages = 16;
    for turn in 0..rounds(TIMES) as u32 {
        let mut b = written(real, pages, |i| i ^ turn);
        assert_eq!(b.migrate_to(&device), Ok(pages));
        b.expect_mirror(|i| i ^ turn);
        assert_eq!(device.migrate_to_system(b.at, pages), pages);
        b.expect(|i| i ^ turn);
        real.unmap(b.at, pages);
    }
    real.close();
}

#[test]
fn exclusive() {
    let Some(real) = real(|_| 0) else { return };
    let b = written(real, PAGES, |i| i);
    for at in b.at.pages(PAGES) {
        drop(make_exclusive(real, at).unwrap());
    }
    real.audit();
    for page in 0..PAGES {
        b.expect_in(page..page + 1, |i| i);
        b.set_in(page..page + 1, |i| i + 1);
        assert_eq!(real.revoked.load(SeqCst), page + 1, "one access, one page");
    }
    b.expect(|i| i + 1);
    real.close();
}

#[test]
fn userfaultfd_read() {
    let Some(real) = real(|i| i * 5) else { return };
    let device = Device::new(real, DEVICE);
    real.map(real.at(0), PAGES);
    let mut b = Buffer::new(real, real.at(0), PAGES);
    // Half of them by the processor, then all by the device.
    b.expect_in(0..PAGES / 2, |i| i * 5);
    assert_eq!(b.device_read(&device), Ok(Done::new(PAGES, 1)));
    b.expect_mirror(|i| i * 5);
    assert_eq!(real.provided.load(SeqCst), PAGES, "each page once");
    real.close();
}

/// Threads touch one page that is in the device's memory: one of them moves it, at the first try;
/// the others sleep in their signal handlers until it has.
#[test]
fn many_threads_fault_on_one_device_page() {
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let threads = 8;
    for turn in 0..8 {
        let mut b = written(real, 1, |i| i + turn);
        assert_eq!(b.migrate_to(&device), Ok(1));
        real.moves.store(0, SeqCst);
        real.audience.store(threads - 1, SeqCst);
        let faults = real.faults.load(SeqCst);
        let pfn = real.entry(b.at).leaf().pfn().unwrap();
        with_threads(&[&real.headers[pfn as usize]], |s| {
            for _ in 0..threads {
                s.spawn(|| b.expect(|i| i + turn));
            }
        });
        assert_eq!(real.moves.load(SeqCst), 1, "a sleeper has made the move fail");
        // Each has run into it once, and perhaps once more if it was woken for something else on
        // the same slot.
        let faults = real.faults.load(SeqCst) - faults;
        assert!((threads..=2 * threads).contains(&faults), "{faults} signals");
        real.unmap(b.at, 1);
    }
    real.close();
}

/// Threads count in pages that go to the device and back all the time, and one of them is a device.
/// No count is lost, and every access that finds its page gone resolves the fault in its own signal
/// handler.
#[test]
fn no_addition_is_lost() {
    let Some(real) = real(|_| 0) else { return };
    let pages = 16;
    let b = written(real, pages, |_| 0);
    let (stop, working) = (AtomicBool::new(false), AtomicUsize::new(3));
    let (turns, faults) = (rounds(4000), pages + rounds(200));
    let counted = with_threads(&[], |s| {
        for tier in [DEVICE, RAM] {
            let stop = &stop;
            s.spawn(move || {
                let unlocked = &mut Unlocked::promise();
                while !stop.load(SeqCst) {
                    let mut slots: Vec<_> = real.at(0).pages(pages).map(Slot::at).collect();
                    let order = Order::to(tier).mode(Mode::SyncLight).tries(2);
                    let _ = migrate_slots(real, &mut slots, &order, real, unlocked);
                    thread::yield_now();
                }
            });
        }
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (stop, working) = (&stop, &working);
                s.spawn(move || {
                    let mut lots = Lots::of(worker);
                    let mut count = 0;
                    // A count takes a few nanoseconds where nothing moves; so until enough has
                    // been found gone.
                    while count < turns || real.faults.load(SeqCst) < faults {
                        let page = lots.draw(pages as u64) as usize;
                        let word = real.address(page).cast::<u32>();
                        // SAFETY: an aligned number in a page of the mapping, which is used by
                        // atomics and the kernel only.
                        let word = unsafe { AtomicU32::from_ptr(word.add(worker)) };
                        word.fetch_add(1, Relaxed);
                        count += 1;
                    }
                    if working.fetch_sub(1, SeqCst) == 1 {
                        stop.store(true, SeqCst);
                    }
                    count
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    real.audit();
    let mut sums = [0; 3];
    for at in b.at.pages(pages) {
        let mut bytes = vec![0; PAGE];
        real.cpu_read(at, &mut bytes).unwrap();
        for (sum, count) in sums.iter_mut().zip(bytes.chunks_exact(4)) {
            *sum += u32::from_ne_bytes(count.try_into().unwrap()) as usize;
        }
    }
    assert_eq!(sums.to_vec(), counted);
    real.close();
}
