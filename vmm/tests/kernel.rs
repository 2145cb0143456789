//! The promises on real memory, by userfaultfd. Where that is refused, one line says so, and the
//! other tests have the stand-in in software.

mod common;

use common::storm::{self, PLAN, Plan};
use common::{PATIENCE, filled, until, watchdog};
use linux_raw_sys::general as sys;
use pagelock_vmm::uffd::{HUGE, Ram, SMALL, Uffd, Wish};
use pagelock_vmm::{Events, Fault, Fetch, Inbox, Layer, NotEvicted, Place, Region, RegionError, Server, Settings, Unprotect};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
use std::fs;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// An inbox, or the one line.
fn inbox(wish: Wish) -> Option<Arc<Inbox>> {
    watchdog();
    match Uffd::open(wish) {
        Ok(uffd) => Some(Inbox::new(uffd).unwrap()),
        Err(error) => {
            println!("SKIPPED: userfaultfd is refused ({error}); the stand-in in software is tested instead");
            None
        }
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

#[test]
fn every_byte_of_anonymous_memory_survives_a_storm() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let region = Region::anonymous(&inbox, 256 * SMALL).unwrap();
    println!("anonymous: {}", storm::run(&inbox, &region, PLAN));
}

#[test]
fn every_byte_of_shared_memory_survives_a_storm() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let ram = Ram::memfd(&inbox, memfd(256 * SMALL, MemfdFlags::empty()).unwrap(), 0, 256 * SMALL, SMALL).unwrap();
    let region = Region::new(ram, &inbox, 0).unwrap();
    println!("memfd: {}", storm::run(&inbox, &region, PLAN));
}

#[test]
fn control_a_store_that_forgets_a_page_is_found_out() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let region = Region::anonymous(&inbox, 64 * SMALL).unwrap();
    let plan = Plan { forgets: true, cleans: false, ..PLAN };
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| storm::run(&inbox, &region, plan)));
    assert!(found.is_err(), "the storm compares nothing");
}

/// Huge pages for one test, given back after it. Other processes that do the same wait.
struct Reserved {
    before: String,
    _alone: fs::File,
}

impl Reserved {
    const FILE: &str = "/proc/sys/vm/nr_hugepages";

    fn new(pages: usize) -> Option<Self> {
        let alone = fs::File::create(std::env::temp_dir().join("pagelock-huge-pages")).ok()?;
        alone.lock().ok()?;
        let before = fs::read_to_string(Self::FILE).ok()?;
        let wanted = before.trim().parse::<usize>().ok()? + pages;
        fs::write(Self::FILE, wanted.to_string()).ok()?;
        let this = Self { before, _alone: alone };
        (fs::read_to_string(Self::FILE).ok()?.trim().parse() == Ok(wanted)).then_some(this)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = fs::write(Self::FILE, &self.before);
    }
}

#[test]
fn every_byte_of_huge_pages_survives_a_storm() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let Some(_reserved) = Reserved::new(40) else {
        println!("SKIPPED: no huge pages to be had");
        return;
    };
    let plan = Plan { accesses: 60, device_pages: 2, guests: 2, handlers: 2, ..PLAN };
    let region = Region::new(Ram::anonymous(&inbox, 12 * HUGE, HUGE).unwrap(), &inbox, 0).unwrap();
    println!("hugetlb, private: {}", storm::run(&inbox, &region, plan));
    drop(region);
    let file = memfd(12 * HUGE, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB).unwrap();
    let region = Region::new(Ram::memfd(&inbox, file, 0, 12 * HUGE, HUGE).unwrap(), &inbox, 0).unwrap();
    println!("hugetlb, shared: {}", storm::run(&inbox, &region, plan));
}

#[test]
fn where_no_huge_page_is_left_nothing_is_taken_for_there() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    for shared in [false, true] {
        let Some(reserved) = Reserved::new(1) else {
            println!("SKIPPED: no huge pages to be had");
            return;
        };
        let ram = match shared {
            false => Ram::anonymous(&inbox, 2 * HUGE, HUGE).unwrap(),
            true => {
                // Not reserved for it when it is mapped: the pool is too small.
                let file = memfd(2 * HUGE, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB).unwrap();
                let Ok(ram) = Ram::memfd(&inbox, file, 0, 2 * HUGE, HUGE) else { continue };
                ram
            }
        };
        let region = Region::new(ram, &inbox, 0).unwrap();
        let fill = |page| match region.fault(page) {
            Fault::Owner(fetch) => fetch.fill(&vec![7; HUGE]).map(drop),
            other => panic!("{other:?}"),
        };
        fill(0).unwrap();
        let free = fs::read_to_string("/proc/meminfo").unwrap();
        if free.lines().any(|line| line.starts_with("HugePages_Free") && line.ends_with(" 0")) {
            assert!(fill(1).is_err(), "there is no room, and it was taken for done");
            assert_eq!(region.state(1).unwrap().place, Place::Out);
        }
        drop((region, reserved));
    }
}

#[test]
fn two_machines_in_one_process_are_told_apart() {
    let (Some(inbox), Some(other)) = (inbox(Wish::default()), inbox(Wish::default())) else { return };
    // Two on one inbox and a third on its own, with other contents each, all at once.
    let regions = [&inbox, &inbox, &other].map(|inbox| Region::anonymous(inbox, 600 * SMALL).unwrap());
    let place = |region: &Arc<Region>| regions.iter().position(|other| Arc::ptr_eq(region, other)).unwrap();
    assert_eq!(inbox.regions().len(), 2);
    let starts = regions.each_ref().map(|region| region.host_range().start);
    let store = move |fetch: &Fetch, into: &mut [u8]| {
        into.fill(starts.iter().position(|&start| start == fetch.region().host_range().start).unwrap() as u8 + 1);
        Ok(())
    };
    let servers = [Server::start(&inbox, 2, store).unwrap(), Server::start(&other, 1, store).unwrap()];
    thread::scope(|s| {
        for region in &regions {
            let value = place(region) as u8 + 1;
            for _ in 0..2 {
                s.spawn(move || (0..region.pages()).for_each(|page| assert_eq!(read(region, page), value)));
            }
        }
    });
    let fetched: u64 = servers.into_iter().map(|server| server.stop().unwrap().fetched).sum();
    assert_eq!(fetched, 1800);
}

#[test]
fn addresses_pages_and_headers_lead_to_each_other() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let pages = 3 * 511 + 7; // over several blocks of headers
    let ram = Ram::anonymous(&inbox, pages * SMALL, SMALL).unwrap();
    let region = Region::new(ram, &inbox, 0xc000_0000).unwrap();
    for page in [0, 1, 510, 511, 512, 1021, 1022, pages - 1] {
        let (host, guest) = (region.host_address(page).unwrap(), region.guest_address(page).unwrap());
        assert_eq!(region.page_at_host(host + 17), Some(page));
        assert_eq!(region.page_at_guest(guest + 4095), Some(page));
        assert_eq!(size_of_val(region.header(page).unwrap()), 8);
        assert!(Arc::ptr_eq(&inbox.region_of(host).unwrap(), &region));
    }
    assert_eq!((region.page_at_guest(0xbfff_ffff), region.page_at_host(region.host_range().end)), (None, None));
    assert!(region.header(pages).is_none() && region.host_address(pages).is_none());
    assert!(matches!(region.fault(pages), Fault::Gone));
    // And overlapping ones are refused, with nothing changed.
    let (base, owner) = (region.host_range().start as *mut u8, Arc::clone(&region));
    // SAFETY: the mapping is the other region's, which the owner keeps.
    let twice = unsafe { Ram::from_raw(&inbox, base, SMALL, SMALL, owner) };
    if let Ok(twice) = twice {
        assert!(matches!(Region::new(twice, &inbox, 0), Err(RegionError::Overlaps(_))));
    }
}

#[test]
fn what_a_guest_has_removed_reads_as_zeroes_at_once() {
    const PAGES: usize = 63;
    for (handlers, shared) in [(1, false), (3, false), (1, true), (3, true)] {
        let Some(inbox) = inbox(Wish::default().removes()) else { return };
        let len = PAGES * SMALL;
        let ram = match shared {
            false => Ram::anonymous(&inbox, len, SMALL).unwrap(),
            true => Ram::memfd(&inbox, memfd(len, MemfdFlags::empty()).unwrap(), 0, len, SMALL).unwrap(),
        };
        let region = Region::new(ram, &inbox, 0).unwrap();
        let advice = if shared { Advice::LinuxRemove } else { Advice::LinuxDontNeed };
        // One byte a page stands for it, and 1 is what the image has.
        let saved: Arc<Vec<AtomicU8>> = Arc::new((0..PAGES).map(|_| AtomicU8::new(1)).collect());
        let store = Arc::clone(&saved);
        let server = Server::start(&inbox, handlers, move |fetch: &Fetch, into: &mut [u8]| {
            into.fill(store[fetch.page()].load(SeqCst));
            Ok(())
        })
        .unwrap();
        let (removed, evicted, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|s| {
            let guests: Vec<_> = (0..3)
                .map(|guest| {
                    let (region, removed) = (&region, &removed);
                    s.spawn(move || {
                        let mut known = [1; PAGES];
                        for n in 0..3000_usize {
                            let page = n.wrapping_mul(2654435761) % 21 * 3 + guest; // pages of its own
                            assert_eq!(read(region, page), known[page], "page {page}, turn {n}");
                            if n % 3 == 0 {
                                known[page] = n as u8 | 1;
                                write(region, page, known[page]);
                                continue;
                            }
                            let at = region.host_address(page).unwrap() as *mut std::ffi::c_void;
                            // SAFETY: a page of the region.
                            unsafe { madvise(at, SMALL, advice) }.unwrap();
                            removed.fetch_add(1, SeqCst);
                            known[page] = 0;
                            assert_eq!(read(region, page), 0, "page {page}, removed in turn {n}");
                        }
                    })
                })
                .collect();
            // Meanwhile the region itself takes pages out, and some of them only to put them back.
            let (region, saved, evicted, done) = (&region, &saved, &evicted, &done);
            s.spawn(move || {
                for n in (0..PAGES).cycle().take_while(|_| !done.load(SeqCst)) {
                    let Ok(page) = region.evict(n) else { continue };
                    if n % 5 > 0 {
                        saved[n].store(page.bytes()[0], SeqCst);
                        page.done();
                        evicted.fetch_add(1, SeqCst);
                    }
                }
            });
            guests.into_iter().for_each(|guest| guest.join().unwrap());
            done.store(true, SeqCst);
        });
        let (removed, evicted) = (removed.into_inner(), evicted.into_inner());
        println!(
            "{handlers} handlers, shared: {shared}, {removed} removals, {evicted} evictions: {:?}",
            server.stop().unwrap()
        );
    }
}

#[test]
fn a_page_that_ksm_has_merged_is_taken_out() {
    const KSM: &str = "/sys/kernel/mm/ksm";
    let Some(inbox) = inbox(Wish::default()) else { return };
    let get = |name: &str| fs::read_to_string(format!("{KSM}/{name}")).map(|text| text.trim().to_owned());
    let put = |name: &str, value: &str| fs::write(format!("{KSM}/{name}"), value);
    let (Ok(run), Ok(scan), Ok(rest)) = (get("run"), get("pages_to_scan"), get("sleep_millisecs")) else {
        println!("SKIPPED: no KSM here");
        return;
    };
    let region = Region::anonymous(&inbox, 64 * SMALL).unwrap();
    let base = region.host_range().start as *mut std::ffi::c_void;
    // SAFETY: the region's memory.
    if unsafe { madvise(base, 64 * SMALL, Advice::LinuxMergeable) }.is_err() || put("run", "1").is_err() {
        println!("SKIPPED: KSM cannot be switched on");
        return;
    }
    let _ = (put("pages_to_scan", "2000"), put("sleep_millisecs", "1"));
    let server = Server::start(&inbox, 1, filled(|_| 0x5a)).unwrap();
    (0..64).for_each(|page| assert_eq!(read(&region, page), 0x5a));
    let merged = || fs::read_to_string("/proc/self/ksm_merging_pages").map_or(0, |text| text.trim().parse().unwrap_or(0));
    for _ in 0..3000 {
        if merged() >= 60 {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let was = merged();
    let taken: Vec<_> = (0..64).map(|page| region.evict(page)).collect();
    let _ = (put("run", &run), put("pages_to_scan", &scan), put("sleep_millisecs", &rest));
    for evicted in taken {
        let evicted = evicted.unwrap();
        assert!(evicted.bytes().iter().all(|&byte| byte == 0x5a));
        evicted.done();
    }
    println!("{was} of 64 pages were merged, all were taken out");
    server.stop().unwrap();
}

#[test]
fn a_page_that_is_behind_the_mapping_is_resumed() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let len = 16 * SMALL;
    let file = memfd(len, MemfdFlags::empty()).unwrap();
    // SAFETY: no address is asked for.
    let other = unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0) }.unwrap();
    let region = Region::new(Ram::memfd(&inbox, file, 0, len, SMALL).unwrap(), &inbox, 0).unwrap();
    // Another process has put half of the pages there already.
    for page in 0..8 {
        // SAFETY: in the other mapping.
        unsafe { ptr::write_volatile(other.cast::<u8>().add(page * SMALL), 100 + page as u8) };
    }
    let server = Server::start(&inbox, 2, filled(|_| 1)).unwrap();
    for page in 0..16 {
        assert_eq!(read(&region, page), if page < 8 { 100 + page as u8 } else { 1 });
    }
    assert_eq!(server.stop().unwrap().fetched, 8);
    assert!(region.states(0..16).all(|(_, state)| state.place == Place::In));
}

#[test]
fn pre_copy_hears_of_every_page_that_is_written_and_of_no_other() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    for shared in [false, true] {
        let len = 64 * SMALL;
        let ram = match shared {
            false => Ram::anonymous(&inbox, len, SMALL).unwrap(),
            true => Ram::memfd(&inbox, memfd(len, MemfdFlags::empty()).unwrap(), 0, len, SMALL).unwrap(),
        };
        let region = Region::new(ram, &inbox, 0).unwrap();
        let dirty = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&dirty);
        let settings = Settings::threads(2).on_write(move |write: &Unprotect| {
            noted.lock().unwrap().push(write.page());
            Ok(())
        });
        let server = Server::with(&inbox, settings, filled(|_| 3)).unwrap();
        (0..64).for_each(|page| assert_eq!(read(&region, page), 3));
        for round in 0..4 {
            let mut sent = [0; 64];
            for (page, sent) in sent.iter_mut().enumerate() {
                // Whoever was woken by the page's coming may be here before the owner has let go.
                until(|| region.state(page).is_some_and(|state| !state.owned));
                let clean = region.clean(page).unwrap();
                *sent = clean.bytes()[0];
                clean.done();
            }
            dirty.lock().unwrap().clear();
            for page in (round..64).step_by(5) {
                assert_eq!(read(&region, page), sent[page]);
                write(&region, page, 10 + round as u8);
            }
            let mut noted = dirty.lock().unwrap().clone();
            noted.sort_unstable();
            assert_eq!(noted, (round..64).step_by(5).collect::<Vec<_>>());
        }
        server.stop().unwrap();
    }
}

#[test]
fn a_page_that_was_saved_is_noticed_when_written_also_after_an_eviction() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    for shared in [false, true] {
        let len = 8 * SMALL;
        let ram = match shared {
            false => Ram::anonymous(&inbox, len, SMALL).unwrap(),
            true => Ram::memfd(&inbox, memfd(len, MemfdFlags::empty()).unwrap(), 0, len, SMALL).unwrap(),
        };
        let region = Region::new(ram, &inbox, 0).unwrap();
        let dirty = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&dirty);
        let attempts = AtomicUsize::new(0);
        let settings = Settings::threads(1).on_write(move |write: &Unprotect| {
            // It may fail, and even panic: the writer is told, and comes again.
            match attempts.fetch_add(1, SeqCst) {
                0 => return Err(io::ErrorKind::StorageFull.into()),
                1 => panic!("as this test wants it"),
                _ => {}
            }
            let mut before = [0; SMALL];
            write.read(&mut before)?;
            noted.lock().unwrap().push((write.page(), before[0]));
            Ok(())
        });
        let server = Server::with(&inbox, settings, filled(|page| page as u8)).unwrap();
        (0..8).for_each(|page| assert_eq!(read(&region, page), page as u8));
        until(|| region.states(0..8).all(|(_, state)| !state.owned));
        (1..6).for_each(|page| region.clean(page).unwrap().done());
        region.evict(2).unwrap().done();
        drop(region.evict(3).unwrap()); // and put back
        drop(region.clean(7).unwrap()); // given up, and free to be written
        assert!(region.state(2).unwrap().protected && region.state(3).unwrap().protected);
        assert_eq!(read(&region, 2), 2);
        (0..8).for_each(|page| write(&region, page, 100));
        assert_eq!(*dirty.lock().unwrap(), [1, 2, 3, 4, 5].map(|page| (page, page as u8)));
        assert_eq!(server.stop().unwrap().failed, 2);
    }
}

#[test]
fn the_kernel_notes_what_is_written_and_nobody_sleeps() {
    let Some(inbox) = inbox(Wish::default().write_async()) else { return };
    let region = Region::anonymous(&inbox, 64 * SMALL).unwrap();
    let ram = region.layer().as_any().downcast_ref::<Ram>().unwrap();
    let server = Server::start(&inbox, 1, filled(|_| 1)).unwrap();
    (0..60).for_each(|page| assert_eq!(read(&region, page), 1));
    match ram.take_written(0..64) {
        Ok(came) => assert_eq!(came, (0..60).collect::<Vec<_>>()),
        Err(error) => return println!("SKIPPED: no PAGEMAP_SCAN ({error})"),
    }
    for round in 0..3 {
        (round..60).step_by(7).for_each(|page| write(&region, page, 2));
        assert_eq!(ram.take_written(0..64).unwrap(), (round..60).step_by(7).collect::<Vec<_>>());
        assert!(ram.take_written(0..64).unwrap().is_empty());
    }
    assert_eq!(server.stop().unwrap().faults, 60);
}

#[test]
fn the_memory_of_another_process_is_served_by_its_descriptor() {
    // In this process, but with nothing more than another one would have: a descriptor that it was
    // sent, addresses, and the file.
    let Ok(uffd) = Uffd::open(Wish::default().removes()) else { return };
    let owner = Inbox::new(uffd.clone()).unwrap();
    for shared in [false, true] {
        let len = 8 * SMALL;
        let file = memfd(len, MemfdFlags::empty()).unwrap();
        let sent = shared.then(|| (file.try_clone().unwrap(), 0));
        let mapped = match shared {
            false => Ram::anonymous(&owner, len, SMALL).unwrap(),
            true => Ram::memfd(&owner, file, 0, len, SMALL).unwrap(),
        };
        let fd = uffd.fd().try_clone_to_owned().unwrap();
        let inbox = Inbox::new(Uffd::from_fd(fd, uffd.features())).unwrap();
        let region = Region::new(Ram::remote(&inbox, mapped.base(), len, SMALL, sent).unwrap(), &inbox, 0).unwrap();
        let server = Server::start(&inbox, 1, filled(|page| page as u8 + 1)).unwrap();
        (0..6).for_each(|page| assert_eq!(read(&region, page), page as u8 + 1));
        let advice = if shared { Advice::LinuxRemove } else { Advice::LinuxDontNeed };
        // SAFETY: a page of the mapping.
        unsafe { madvise(region.host_address(3).unwrap() as *mut _, SMALL, advice) }.unwrap();
        assert_eq!(read(&region, 3), 0);
        until(|| !region.state(5).unwrap().owned);
        match region.evict(5) {
            Ok(evicted) => assert_eq!((evicted.bytes()[0], shared), (6, true)),
            Err(NotEvicted::Io(error)) => assert_eq!((error.kind(), shared), (io::ErrorKind::Unsupported, false)),
            Err(other) => panic!("{other}"),
        }
        assert_eq!(read(&region, 5), 6);
        server.stop().unwrap();
    }
}

#[test]
fn a_shared_page_that_was_only_unmapped_is_mapped_again() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let len = 4 * SMALL;
    let ram = Ram::memfd(&inbox, memfd(len, MemfdFlags::empty()).unwrap(), 0, len, SMALL).unwrap();
    let region = Region::new(ram, &inbox, 0).unwrap();
    let server = Server::start(&inbox, 1, filled(|_| 1)).unwrap();
    write(&region, 2, 42);
    // As reclaim does: the page is in the file, and not in the table.
    // SAFETY: a page of the region.
    unsafe { madvise(region.host_address(2).unwrap() as *mut _, SMALL, Advice::LinuxDontNeed) }.unwrap();
    assert_eq!(read(&region, 2), 42);
    assert_eq!(server.stop().unwrap().fetched, 1);
}

#[test]
fn a_page_that_is_lost_makes_an_access_fail() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let uffd = inbox.events().as_any().downcast_ref::<Uffd>().unwrap();
    if !uffd.features().has(sys::UFFD_FEATURE_POISON) {
        println!("SKIPPED: no UFFDIO_POISON");
        return;
    }
    let region = Region::anonymous(&inbox, 2 * SMALL).unwrap();
    let server = Server::with(&inbox, Settings::threads(1).attempts(2), |_: &Fetch, _: &mut [u8]| -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    })
    .unwrap();
    // The kernel reads it on our behalf: an error, where a load would be a signal.
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    // SAFETY: the region's memory; nobody looks at it by this slice.
    let page = unsafe { std::slice::from_raw_parts(region.host_address(1).unwrap() as *const u8, 8) };
    assert!(rustix::io::write(&writer, page).is_err());
    assert_eq!(server.stop().unwrap().lost, 1);
    assert!(region.state(1).unwrap().poisoned && !region.state(0).unwrap().poisoned);
}

#[test]
fn who_sleeps_in_a_region_that_is_unplugged_wakes() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let stays = Region::anonymous(&inbox, 4 * SMALL).unwrap();
    let goes = Region::anonymous(&inbox, 4 * SMALL).unwrap();
    let guest = thread::spawn({
        let goes = Arc::clone(&goes);
        move || read(&goes, 2)
    });
    until(|| inbox.events().pending().unwrap().1 == 1);
    let report = goes.report(Duration::ZERO);
    assert_eq!((report.asleep, report.unread), (Some(1), Some(1)));
    let arrived = inbox.next().unwrap().unwrap();
    let Fault::Owner(fetch) = goes.fault(arrived.page) else { panic!() };
    goes.unplug().unwrap();
    assert_eq!(guest.join().unwrap(), 0);
    // Whoever was at it learns that it was in vain, and the other region goes on.
    assert!(fetch.fill(&[1; SMALL]).is_err());
    assert!(matches!(goes.fault(0), Fault::Gone) && goes.pin(0).is_err() && goes.prefetch(0..4).next().is_none());
    let server = Server::start(&inbox, 1, filled(|_| 5)).unwrap();
    assert_eq!(read(&stays, 0), 5);
    // A third one comes while it serves.
    let comes = Region::anonymous(&inbox, 4 * SMALL).unwrap();
    assert_eq!(read(&comes, 3), 5);
    drop(goes);
    assert_eq!(inbox.regions().len(), 2);
    server.stop().unwrap();
}

#[test]
fn a_page_that_a_child_shares_stays_and_says_so() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let region = Region::anonymous(&inbox, SMALL).unwrap();
    let Fault::Owner(fetch) = region.fault(0) else { panic!() };
    fetch.fill(&[1; SMALL]).unwrap();
    // A device that the region does not know of: a pipe that was given the page itself.
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    let slice = io::IoSlice::new(unsafe {
        // SAFETY: the region's memory, which is there.
        std::slice::from_raw_parts(region.host_address(0).unwrap() as *const u8, SMALL)
    });
    // SAFETY: the pages are given as they are, and not taken back.
    if unsafe {
        rustix::pipe::vmsplice(&writer, &[rustix::pipe::IoSliceRaw::from_slice(&slice)], rustix::pipe::SpliceFlags::empty())
    }
    .is_err()
    {
        return;
    }
    match region.evict(0) {
        Err(NotEvicted::Kept) => {}
        Ok(evicted) => assert_eq!(evicted.bytes()[0], 1),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_async_server_serves_and_a_task_waits_for_a_page() {
    use tokio::io::unix::AsyncFd;
    let Some(inbox) = inbox(Wish::default()) else { return };
    let region = Region::anonymous(&inbox, 128 * SMALL).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (stop, timed_out) = (Arc::new(pagelock_vmm::Stop::new()), Arc::new(AtomicBool::new(false)));
    let serving = runtime.spawn({
        let (inbox, stop, timed_out) = (Arc::clone(&inbox), Arc::clone(&stop), Arc::clone(&timed_out));
        async move {
            // SAFETY: the descriptor is the inbox's, which outlives this.
            let fd = &unsafe { AsyncFd::register(inbox.events().fd()) }?;
            let ready = || async move {
                fd.readable().await?.clear_ready();
                Ok(())
            };
            let fetch = |fetch: Fetch| {
                let first = fetch.page() == 7 && !timed_out.swap(true, SeqCst);
                tokio::spawn(tokio::time::timeout(Duration::from_millis(20), async move {
                    if first {
                        std::future::pending::<()>().await; // the first attempt at page 7 hangs
                    }
                    tokio::task::yield_now().await;
                    let byte = fetch.page() as u8;
                    fetch.fill(&[byte; SMALL]).map(drop)
                }));
            };
            inbox.serve(&Settings::threads(1), &stop, ready, fetch).await
        }
    });
    let guests: Vec<_> = (0..2)
        .map(|_| {
            let region = Arc::clone(&region);
            thread::spawn(move || (0..128).for_each(|page| assert_eq!(read(&region, page), page as u8)))
        })
        .collect();
    // A task that wants a page for a device, and does not block its thread.
    let device = runtime.spawn({
        let region = Arc::clone(&region);
        async move {
            loop {
                match region.fault(100) {
                    Fault::Owner(fetch) => _ = fetch.fill(&[100; SMALL]).unwrap(),
                    Fault::InFlight => region.released(100).await,
                    _ => {}
                }
                if let Ok(pin) = region.pin(100) {
                    return pin;
                }
            }
        }
    });
    guests.into_iter().for_each(|guest| guest.join().unwrap());
    let pin = runtime.block_on(async { tokio::time::timeout(PATIENCE, device).await }).unwrap().unwrap();
    assert!(matches!(region.evict(100), Err(NotEvicted::Pinned(1))));
    drop(pin);
    assert!(timed_out.load(SeqCst));
    stop.stop();
    let served = runtime.block_on(async { tokio::time::timeout(PATIENCE, serving).await }).unwrap().unwrap().unwrap();
    assert!(served.faults >= 128);
}

#[cfg(feature = "vm-memory")]
#[test]
fn a_guest_memory_of_vm_memory_is_served_and_its_bitmap_knows_what_is_dirty() {
    use vm_memory::bitmap::{AtomicBitmap, Bitmap};
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};
    let Some(inbox) = inbox(Wish::default()) else { return };
    let guests: Vec<_> = [0, 1 << 30]
        .map(|at| Arc::new(GuestRegionMmap::<AtomicBitmap>::from_range(GuestAddress(at), 32 * SMALL, None).unwrap()))
        .into();
    let regions: Vec<_> = guests.iter().map(|guest| Region::of_guest(&inbox, guest).unwrap()).collect();
    let memory = GuestMemoryMmap::from_arc_regions(guests).unwrap();
    let bitmaps = memory.clone();
    let settings = Settings::threads(2).on_write(move |write: &Unprotect| {
        let at = write.region().guest_address(write.page()).unwrap();
        let guest = bitmaps.find_region(GuestAddress(at)).unwrap();
        guest.bitmap().mark_dirty((at - guest.start_addr().0) as usize, SMALL);
        Ok(())
    });
    let server = Server::with(&inbox, settings, filled(|_| 8)).unwrap();
    assert_eq!(memory.read_obj::<u8>(GuestAddress((1 << 30) + 5 * SMALL as u64)).unwrap(), 8);
    until(|| !regions[1].state(5).unwrap().owned);
    regions[1].clean(5).unwrap().done();
    write(&regions[1], 5, 77);
    let guest = memory.find_region(GuestAddress(1 << 30)).unwrap();
    assert!(guest.bitmap().dirty_at(5 * SMALL) && !guest.bitmap().dirty_at(6 * SMALL));
    assert_eq!(memory.read_obj::<u8>(GuestAddress((1 << 30) + 5 * SMALL as u64)).unwrap(), 77);
    server.stop().unwrap();
}
