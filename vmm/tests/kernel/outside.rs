//! Other libraries: tokio, vm-memory.

use super::*;

#[test]
fn an_async_server_serves_and_a_task_waits_for_a_page() {
    use tokio::io::unix::AsyncFd;
    let Some(inbox) = inbox(Wish::default()) else { return };
    let region = Region::anonymous(&inbox, 128 * SMALL).unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (stop, timed_out) = (Arc::new(pagelock_vmm::Stop::new()), Arc::new(AtomicBool::new(false)));
    let serving = runtime.spawn({
        let (inbox, stop, timed_out) =
            (Arc::clone(&inbox), Arc::clone(&stop), Arc::clone(&timed_out));
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
            thread::spawn(move || {
                (0..128).for_each(|page| assert_eq!(read(&region, page), page as u8))
            })
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
    let pin =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, device).await }).unwrap().unwrap();
    assert!(matches!(region.evict(100), Err(NotEvicted::Pinned(1))));
    drop(pin);
    assert!(timed_out.load(SeqCst));
    stop.stop();
    let served = runtime
        .block_on(async { tokio::time::timeout(PATIENCE, serving).await })
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(served.faults >= 128);
}

#[cfg(feature = "vm-memory")]
#[test]
fn a_guest_memory_of_vm_memory_is_served_and_its_bitmap_knows_what_is_dirty() {
    use vm_memory::bitmap::{AtomicBitmap, Bitmap};
    use vm_memory::{
        Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
        GuestRegionMmap,
    };
    let Some(inbox) = inbox(Wish::default()) else { return };
    let guests: Vec<_> = [0, 1 << 30]
        .map(|at| {
            Arc::new(
                GuestRegionMmap::<AtomicBitmap>::from_range(GuestAddress(at), 32 * SMALL, None)
                    .unwrap(),
            )
        })
        .into();
    let regions: Vec<_> =
        guests.iter().map(|guest| Region::of_guest(&inbox, guest).unwrap()).collect();
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
