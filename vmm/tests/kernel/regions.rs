//! Regions, inboxes, machines, processes.

use super::*;

#[test]
fn two_machines_in_one_process_are_told_apart() {
    let (Some(inbox), Some(other)) = (inbox(Wish::default()), inbox(Wish::default())) else {
        return;
    };
    // Two on one inbox and a third on its own, with other contents each, all at once.
    let regions =
        [&inbox, &inbox, &other].map(|inbox| Region::anonymous(inbox, 600 * SMALL).unwrap());
    let place =
        |region: &Arc<Region>| regions.iter().position(|other| Arc::ptr_eq(region, other)).unwrap();
    assert_eq!(inbox.regions().len(), 2);
    let starts = regions.each_ref().map(|region| region.host_range().start);
    let store = move |fetch: &Fetch, into: &mut [u8]| {
        into.fill(
            starts.iter().position(|&start| start == fetch.region().host_range().start).unwrap()
                as u8
                + 1,
        );
        Ok(())
    };
    let servers =
        [Server::start(&inbox, 2, store).unwrap(), Server::start(&other, 1, store).unwrap()];
    thread::scope(|s| {
        for region in &regions {
            let value = place(region) as u8 + 1;
            for _ in 0..2 {
                s.spawn(move || {
                    (0..region.pages()).for_each(|page| assert_eq!(read(region, page), value))
                });
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
        let (host, guest) =
            (region.host_address(page).unwrap(), region.guest_address(page).unwrap());
        assert_eq!(region.page_at_host(host + 17), Some(page));
        assert_eq!(region.page_at_guest(guest + 4095), Some(page));
        assert_eq!(size_of_val(region.header(page).unwrap()), 8);
        assert!(Arc::ptr_eq(&inbox.region_of(host).unwrap(), &region));
    }
    assert_eq!(
        (region.page_at_guest(0xbfff_ffff), region.page_at_host(region.host_range().end)),
        (None, None)
    );
    assert!(region.header(pages).is_none() && region.host_address(pages).is_none());
    assert!(matches!(region.fault(pages), Fault::Gone));
    // Memory whose faults arrive elsewhere is refused: nobody would serve it.
    let other = Inbox::open().unwrap();
    let elsewhere = Ram::anonymous(&other, SMALL, SMALL).unwrap();
    assert!(matches!(Region::new(elsewhere, &inbox, 0), Err(RegionError::OtherInbox)));
    // And overlapping ones are refused, with nothing changed.
    let (base, owner) = (region.host_range().start as *mut u8, Arc::clone(&region));
    // SAFETY: the mapping is the other region's, which the owner keeps.
    let twice = unsafe { Ram::from_raw(&inbox, base, SMALL, SMALL, owner) };
    if let Ok(twice) = twice {
        assert!(matches!(Region::new(twice, &inbox, 0), Err(RegionError::Overlaps(_))));
    }
}

#[test]
fn a_page_that_is_behind_the_mapping_is_resumed() {
    let Some(inbox) = inbox(Wish::default()) else { return };
    let len = 16 * SMALL;
    let file = memfd(len, MemfdFlags::empty()).unwrap();
    // SAFETY: no address is asked for.
    let other = unsafe {
        mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
    }
    .unwrap();
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
        let region =
            Region::new(Ram::remote(&inbox, mapped.base(), len, SMALL, sent).unwrap(), &inbox, 0)
                .unwrap();
        let server = Server::start(&inbox, 1, filled(|page| page as u8 + 1)).unwrap();
        (0..6).for_each(|page| assert_eq!(read(&region, page), page as u8 + 1));
        let advice = if shared { Advice::LinuxRemove } else { Advice::LinuxDontNeed };
        // SAFETY: a page of the mapping.
        unsafe { madvise(region.host_address(3).unwrap() as *mut _, SMALL, advice) }.unwrap();
        assert_eq!(read(&region, 3), 0);
        until(|| !region.state(5).unwrap().owned);
        match region.evict(5) {
            Ok(evicted) => assert_eq!((evicted.bytes()[0], shared), (6, true)),
            Err(NotEvicted::Io(error)) => {
                assert_eq!((error.kind(), shared), (io::ErrorKind::Unsupported, false))
            }
            Err(other) => panic!("{other}"),
        }
        assert_eq!(read(&region, 5), 6);
        server.stop().unwrap();
    }
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
    assert!(
        matches!(goes.fault(0), Fault::Gone)
            && goes.pin(0).is_err()
            && goes.prefetch(0..4).next().is_none()
    );
    let server = Server::start(&inbox, 1, filled(|_| 5)).unwrap();
    assert_eq!(read(&stays, 0), 5);
    // A third one comes while it serves.
    let comes = Region::anonymous(&inbox, 4 * SMALL).unwrap();
    assert_eq!(read(&comes, 3), 5);
    drop(goes);
    assert_eq!(inbox.regions().len(), 2);
    server.stop().unwrap();
}
