//! A process that owns pages of a shared region is killed; another puts back or finishes them.
//!
//! The process that dies is this program again, with the descriptors of the region.
#![cfg(feature = "shared")]

use pagelock_vmm::shared::{Came, NotDropped, Recovery, SharedRegion};
use pagelock_vmm::uffd::{Features, Uffd, Wish};
use pagelock_vmm::{Events, Place};
use rustix::fs::{MemfdFlags, Mode, OFlags, ftruncate, memfd_create, open};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Signal, getpid, kill_process};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

const PAGES: u32 = 4;
const PAGE: usize = 4096;

fn die() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    unreachable!("killed")
}

/// A region; `None`, said so, where there is no userfaultfd.
fn region() -> Option<(SharedRegion, Uffd)> {
    let uffd = Uffd::open(Wish::default())
        .inspect_err(|error| eprintln!("SKIPPED: no userfaultfd: {error}"))
        .ok()?;
    let memory = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, (PAGES as usize * PAGE) as u64).unwrap();
    Some((SharedRegion::create(uffd.clone(), memory, PAGES, 8, 0).unwrap(), uffd))
}

/// Has another process do `what` with page 1, until it is killed.
fn killed_at(region: &SharedRegion, uffd: &Uffd, what: &str) {
    let segment = format!("/proc/self/fd/{}", region.segment().as_raw_fd());
    let segment = open(segment, OFlags::RDWR, Mode::empty()).unwrap();
    let fds: [OwnedFd; 3] = [
        segment,
        uffd.fd().try_clone_to_owned().unwrap(),
        region.file().as_fd().try_clone_to_owned().unwrap(),
    ];
    fds.iter().for_each(|fd| fcntl_setfd(fd, FdFlags::empty()).unwrap());
    let [segment, descriptor, memory] = fds.each_ref().map(|fd| fd.as_raw_fd().to_string());
    let (features, base) = (uffd.features().0.to_string(), region.base().to_string());
    let words = [what, &segment, &descriptor, &memory, &features, &base].join(" ");
    let mut other = Command::new(std::env::current_exe().unwrap());
    let other = other
        .args(["the_process_that_dies", "--exact", "--ignored", "--test-threads=1"])
        .env("WHAT", words);
    let output = other.output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
}

#[test]
#[ignore = "is started by the other tests"]
fn the_process_that_dies() {
    let words = std::env::var("WHAT").expect("started by another test");
    let words: Vec<&str> = words.split(' ').collect();
    // SAFETY: left open for this process.
    let take = |n: usize| unsafe { OwnedFd::from_raw_fd(words[n].parse().unwrap()) };
    let uffd = Uffd::from_fd(take(2), Features(words[4].parse().unwrap()));
    let region =
        SharedRegion::attach(take(1), uffd, take(3), words[5].parse().unwrap(), PAGES).unwrap();
    let desk = region.desk().unwrap();
    match words[0] {
        "fetch" => _ = desk.fault(1, |_| die()).unwrap(),
        "evict" => desk.evict(1, |_| die()).unwrap(),
        "pin" => {
            let _pin = desk.pin(1, || {}).unwrap();
            die();
        }
        "present" => {
            let _presence = desk.be_present().unwrap();
            die();
        }
        "absent" => die(),
        other => panic!("{other}"),
    }
}

fn fetched(desk: &pagelock_vmm::shared::Desk<'_>, byte: u8) -> io::Result<Came> {
    desk.fault(1, |into| {
        into.fill(byte);
        Ok(())
    })
}

fn byte(region: &SharedRegion) -> u8 {
    let mut bytes = [0; PAGE];
    region.read(1, &mut bytes).unwrap();
    bytes[PAGE - 1]
}

fn recovered(region: &SharedRegion) -> Recovery {
    let recovered = region.recover().unwrap();
    assert_eq!(recovered.refused, 0, "{recovered:?}");
    assert_eq!(region.recover().unwrap(), Recovery::default(), "once");
    recovered
}

#[test]
fn a_fetch_that_dies_is_put_back_and_another_fetches() {
    let Some((region, uffd)) = region() else { return };
    let desk = region.desk().unwrap();
    killed_at(&region, &uffd, "fetch");
    // The control: without recovery the page is taken.
    assert!(matches!(fetched(&desk, 7), Ok(Came::InFlight)) && !desk.can_be_had(1));
    let recovered = recovered(&region);
    assert_eq!((recovered.pages(), recovered.locked, recovered.fetches_put_back), (1, 1, 1));
    assert_eq!(region.place(1), Some(Place::Out));
    assert_eq!(fetched(&desk, 7).unwrap(), Came::Fetched);
    assert_eq!((region.place(1), byte(&region)), (Some(Place::In), 7));
}

#[test]
fn an_eviction_that_dies_before_the_store_has_the_page_is_put_back() {
    let Some((region, uffd)) = region() else { return };
    let desk = region.desk().unwrap();
    fetched(&desk, 7).unwrap();
    killed_at(&region, &uffd, "evict");
    assert!(matches!(desk.evict(1, |_| Ok(())), Err(NotDropped::Owned)));
    let recovered = recovered(&region);
    assert_eq!((recovered.frozen, recovered.evictions_put_back), (1, 1));
    assert_eq!((region.place(1), byte(&region)), (Some(Place::In), 7));
    // Writers go on: nothing is protected any more, or this would sleep.
    let at = std::ptr::with_exposed_provenance_mut(region.base() + PAGE);
    // SAFETY: the second page, which is mapped as long as the region is there.
    unsafe { std::sync::atomic::AtomicU8::from_ptr(at) }
        .store(8, std::sync::atomic::Ordering::SeqCst);
    let mut saved = 0;
    desk.evict(1, |bytes| {
        saved = bytes[0];
        Ok(())
    })
    .unwrap();
    assert_eq!((saved, region.place(1), byte(&region)), (8, Some(Place::Out), 0));
}

#[test]
fn a_pin_of_the_dead_keeps_no_page_in() {
    let Some((region, uffd)) = region() else { return };
    let desk = region.desk().unwrap();
    fetched(&desk, 7).unwrap();
    killed_at(&region, &uffd, "pin");
    assert!(matches!(desk.evict(1, |_| Ok(())), Err(NotDropped::Pinned)));
    assert!(matches!(desk.discard(1), Err(NotDropped::Pinned)));
    assert_eq!(recovered(&region).pins, 1);
    desk.discard(1).unwrap();
    assert_eq!((region.place(1), byte(&region)), (Some(Place::Discarded), 0));
    assert_eq!(fetched(&desk, 7).unwrap(), Came::Zeroes);
}

#[test]
fn the_desk_of_who_was_present_is_nobody_elses_until_it_is_recovered() {
    let Some((region, uffd)) = region() else { return };
    let desk = region.desk().unwrap();
    assert_eq!(desk.number(), 0);
    killed_at(&region, &uffd, "present");
    assert!(region.segment().wait_for_end_of(1).unwrap(), "something is left there");
    assert_eq!(region.desk().unwrap().number(), 2);
    assert_eq!((recovered(&region).pins, region.desk().unwrap().number()), (1, 1));
    // The control: nothing is noted, and the next one sits there.
    killed_at(&region, &uffd, "absent");
    assert!(!region.segment().wait_for_end_of(1).unwrap());
    assert_eq!(region.desk().unwrap().number(), 1);
}

#[test]
fn an_eviction_whose_store_fails_leaves_the_page_as_it_was() {
    let Some((region, _uffd)) = region() else { return };
    let desk = region.desk().unwrap();
    fetched(&desk, 7).unwrap();
    let full = |_: &[u8]| Err(io::ErrorKind::StorageFull.into());
    let Err(NotDropped::Io(error)) = desk.evict(1, full) else { panic!("the store is full") };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!((region.place(1), byte(&region)), (Some(Place::In), 7));
    assert!(desk.can_be_had(1));
    assert_eq!(fetched(&desk, 9).unwrap(), Came::There);
    assert_eq!(byte(&region), 7);
}

#[test]
fn a_store_that_panics_strands_nobody() {
    let Some((region, _uffd)) = region() else { return };
    let desk = region.desk().unwrap();
    let at = region.base() + PAGE;
    // SAFETY: the second page, which is mapped as long as the region is there.
    let guest = std::thread::spawn(move || unsafe { std::ptr::read_volatile(at as *const u8) });
    let fault = || {
        let end = Instant::now() + Duration::from_secs(20);
        while region.events().next().unwrap().is_none() {
            assert!(Instant::now() < end, "its faulter was not told, and does not come again");
            std::thread::yield_now();
        }
    };
    fault();
    let panics = || desk.fault(1, |_| panic!("as this test wants it"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).unwrap_err();
    fault();
    assert_eq!(fetched(&desk, 7).unwrap(), Came::Fetched);
    assert_eq!(guest.join().unwrap(), 7);
    // And one that panics when it saves: writers go on.
    let panics = || desk.evict(1, |_| panic!("as this test wants it"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).unwrap_err();
    // SAFETY: as above.
    let guest = std::thread::spawn(move || unsafe { std::ptr::write_volatile(at as *mut u8, 8) });
    fault();
    assert_eq!(fetched(&desk, 9).unwrap(), Came::There);
    guest.join().unwrap();
    assert_eq!(byte(&region), 7, "the rest is as it was");
    assert!(desk.can_be_had(1));
}

#[test]
fn a_faulter_whose_page_is_on_its_way_sleeps_and_does_not_come_again() {
    let Some((region, _uffd)) = region() else { return };
    let (desk, other) = (region.desk().unwrap(), region.desk().unwrap());
    let at = region.base() + PAGE;
    // SAFETY: the second page, which is mapped as long as the region is there.
    let guest = std::thread::spawn(move || unsafe { std::ptr::read_volatile(at as *const u8) });
    let came = desk.fault(1, |into| {
        let next = || region.events().next().unwrap();
        while next().is_none() {
            std::thread::yield_now();
        }
        // Another handler has read the fault, another evictor tries, and a balloon would wait.
        assert!(matches!(fetched(&other, 9), Ok(Came::InFlight)));
        assert!(matches!(other.evict(1, |_| Ok(())), Err(NotDropped::NotIn)));
        assert!(!other.can_be_had(1));
        for _ in 0..20 {
            assert!(next().is_none(), "woken for nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        into.fill(7);
        Ok(())
    });
    assert_eq!((came.unwrap(), guest.join().unwrap()), (Came::Fetched, 7));
}
