//! Storms: every byte is compared.

use super::*;

#[test]
fn every_byte_of_anonymous_memory_survives_a_storm() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let region = Region::anonymous(&inbox, 256 * SMALL).unwrap();
    println!("anonymous: {}", storm::run(&inbox, &region, PLAN));
}

#[test]
fn every_byte_of_shared_memory_survives_a_storm() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let ram =
        Ram::memfd(&inbox, memfd(256 * SMALL, MemfdFlags::empty()).unwrap(), 0, 256 * SMALL, SMALL)
            .unwrap();
    let region = Region::new(ram, &inbox, 0).unwrap();
    println!("memfd: {}", storm::run(&inbox, &region, PLAN));
}

#[test]
fn control_a_store_that_forgets_a_page_is_found_out() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let region = Region::anonymous(&inbox, 64 * SMALL).unwrap();
    let plan = Plan { forgets: true, cleans: false, ..PLAN };
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        storm::run(&inbox, &region, plan)
    }));
    assert!(found.is_err(), "the storm compares nothing");
}

/// Huge pages for one test, given back after it. Other processes that do the same wait; not for
/// ever, since one of them may be stopped in a debugger.
struct Reserved {
    before: String,
    _alone: fs::File,
}

impl Reserved {
    const FILE: &str = "/proc/sys/vm/nr_hugepages";

    fn new(pages: usize) -> Option<Self> {
        let alone = fs::File::create(std::env::temp_dir().join("pagelock-huge-pages")).ok()?;
        let end = Instant::now() + Duration::from_secs(60);
        while alone.try_lock().is_err() {
            if Instant::now() > end {
                println!("another process has the huge pages");
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
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
    let plan = Plan { accesses: 24, device_pages: 2, guests: 2, handlers: 2, ..PLAN };
    let region = Region::new(Ram::anonymous(&inbox, 12 * HUGE, HUGE).unwrap(), &inbox, 0).unwrap();
    println!("hugetlb, private: {}", storm::run(&inbox, &region, plan));
    drop(region);
    let file = memfd(12 * HUGE, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB).unwrap();
    let region =
        Region::new(Ram::memfd(&inbox, file, 0, 12 * HUGE, HUGE).unwrap(), &inbox, 0).unwrap();
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
        // Two pages, for one that there is.
        let (access, len) = (ProtFlags::READ | ProtFlags::WRITE, 2 * HUGE);
        let flags = MapFlags::NORESERVE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
        let ram = match shared {
            // SAFETY: no address is asked for; the mapping stays until the end of the program.
            false => unsafe {
                let base = rustix::mm::mmap_anonymous(
                    ptr::null_mut(),
                    len,
                    access,
                    flags | MapFlags::PRIVATE,
                )
                .unwrap();
                Ram::from_raw(&inbox, base.cast(), len, HUGE, ()).unwrap()
            },
            // SAFETY: as above.
            true => unsafe {
                let file = memfd(len, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB).unwrap();
                let base =
                    mmap(ptr::null_mut(), len, access, flags | MapFlags::SHARED, &file, 0).unwrap();
                Ram::from_raw_shared(&inbox, base.cast(), len, HUGE, (Arc::new(file), 0), ())
                    .unwrap()
            },
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
        // Given back, so that the pool is as it was.
        if let Ok(evicted) = region.evict(0) {
            evicted.done();
        }
        drop((region, reserved));
    }
}
