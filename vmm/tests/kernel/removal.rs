//! Pages that are taken away, and pages that stay.

use super::*;

#[test]
fn what_a_guest_has_removed_reads_as_zeroes_at_once() {
    const PAGES: usize = 63;
    for (handlers, shared) in [(1, false), (3, false), (1, true), (3, true)] {
        let Some(inbox) = inbox(Wish::default().removes()) else { return };
        let len = PAGES * SMALL;
        let ram = ram(&inbox, len, shared);
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
        let (removed, evicted, done) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|s| {
            let guests: Vec<_> = (0..3)
                .map(|guest| {
                    let (region, removed) = (&region, &removed);
                    s.spawn(move || {
                        let mut known = [1; PAGES];
                        for n in 0..3000_usize {
                            // Pages of its own.
                            let page = n.wrapping_mul(2654435761) % 21 * 3 + guest;
                            assert_eq!(read(region, page), known[page], "page {page}, turn {n}");
                            if n % 3 == 0 {
                                known[page] = n as u8 | 1;
                                write(region, page, known[page]);
                                continue;
                            }
                            // By the region's own verb as well, which removals of others get in
                            // the way of.
                            if n % 9 == 1 {
                                until(|| {
                                    let gone = region.discard(page..page + 1);
                                    assert_eq!(gone.failed, 0);
                                    gone.done == 1
                                });
                            } else {
                                let at =
                                    region.host_address(page).unwrap() as *mut std::ffi::c_void;
                                // SAFETY: a page of the region.
                                unsafe { madvise(at, SMALL, advice) }.unwrap();
                            }
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
    let get =
        |name: &str| fs::read_to_string(format!("{KSM}/{name}")).map(|text| text.trim().to_owned());
    let put = |name: &str, value: &str| fs::write(format!("{KSM}/{name}"), value);
    let (Ok(run), Ok(scan), Ok(rest)) = (get("run"), get("pages_to_scan"), get("sleep_millisecs"))
    else {
        println!("SKIPPED: no KSM here");
        return;
    };
    let region = Region::anonymous(&inbox, 64 * SMALL).unwrap();
    let base = region.host_range().start as *mut std::ffi::c_void;
    // SAFETY: the region's memory.
    if unsafe { madvise(base, 64 * SMALL, Advice::LinuxMergeable) }.is_err()
        || put("run", "1").is_err()
    {
        println!("SKIPPED: KSM cannot be switched on");
        return;
    }
    let _ = (put("pages_to_scan", "2000"), put("sleep_millisecs", "1"));
    let server = Server::start(&inbox, 1, filled(|_| 0x5a)).unwrap();
    (0..64).for_each(|page| assert_eq!(read(&region, page), 0x5a));
    let merged = || {
        fs::read_to_string("/proc/self/ksm_merging_pages")
            .map_or(0, |text| text.trim().parse().unwrap_or(0))
    };
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
fn a_shared_page_that_was_only_unmapped_is_mapped_again() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let len = 4 * SMALL;
    let ram = Ram::memfd(&inbox, memfd(len, MemfdFlags::empty()).unwrap(), 0, len, SMALL).unwrap();
    let region = Region::new(ram, &inbox, 0).unwrap();
    let server = Server::start(&inbox, 1, filled(|_| 1)).unwrap();
    write(&region, 2, 42);
    // As reclaim does: the page is in the file, and not in the table.
    // SAFETY: a page of the region.
    unsafe { madvise(region.host_address(2).unwrap() as *mut _, SMALL, Advice::LinuxDontNeed) }
        .unwrap();
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
    let server = Server::with(
        &inbox,
        Settings::threads(1).attempts(2),
        |_: &Fetch, _: &mut [u8]| -> io::Result<()> { Err(io::ErrorKind::NotFound.into()) },
    )
    .unwrap();
    // The kernel reads it on our behalf: an error, where a load would be a signal.
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    // SAFETY: the region's memory; nobody looks at it by this slice.
    let page =
        unsafe { std::slice::from_raw_parts(region.host_address(1).unwrap() as *const u8, 8) };
    assert!(rustix::io::write(&writer, page).is_err());
    assert_eq!(server.stop().unwrap().lost, 1);
    assert!(region.state(1).unwrap().poisoned && !region.state(0).unwrap().poisoned);
}

#[test]
fn a_page_that_the_kernel_keeps_stays_or_goes_with_its_bytes() {
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
        rustix::pipe::vmsplice(
            &writer,
            &[rustix::pipe::IoSliceRaw::from_slice(&slice)],
            rustix::pipe::SpliceFlags::empty(),
        )
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
fn an_owner_does_not_fall_asleep_over_a_page_that_is_gone_without_a_word() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let region = Region::anonymous(&inbox, 2 * SMALL).unwrap();
    let server = Server::start(&inbox, 1, filled(|_| 1)).unwrap();
    (0..2).for_each(|page| assert_eq!(read(&region, page), 1));
    until(|| region.states(0..2).all(|(_, state)| !state.owned));
    // No event was asked for, and the header says "in".
    // SAFETY: the region's memory.
    unsafe {
        madvise(region.host_range().start as *mut _, 2 * SMALL, Advice::LinuxDontNeed).unwrap();
    }
    let clean = region.clean(0).unwrap();
    let mut bytes = [7; SMALL];
    // An access would be a fault on a page of its own: nobody would serve it.
    assert_eq!(clean.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::NotFound);
    drop(clean);
    assert!(matches!(region.evict(1), Err(NotEvicted::NotIn)));
    assert_eq!((read(&region, 0), read(&region, 1)), (0, 0));
    server.stop().unwrap();
}
