//! Devices.

use super::*;

// 9. A page that a device uses is changed or moved.

#[test]
fn a_pinned_page_is_not_evicted_discarded_or_protected() {
    let rig = Rig::new(1);
    assert_eq!(rig.region.pin(0).unwrap_err(), NotPinned::Out, "what is out cannot be pinned");
    rig.bring_in(0, 1);
    let (first, second) = (rig.region.pin(0).unwrap(), rig.region.pin(0).unwrap());
    let is_kept = |pins| {
        assert!(matches!(rig.region.evict(0), Err(NotEvicted::Pinned(n)) if n == pins));
        assert!(matches!(rig.region.clean(0), Err(NotEvicted::Pinned(n)) if n == pins));
        assert_eq!(rig.region.discard(0..1).pinned, 1);
        assert!(rig.ram.is_there(0));
    };
    is_kept(2);
    thread::spawn(move || drop(second)).join().unwrap();
    is_kept(1);
    drop(first);
    rig.region.evict(0).unwrap().done();
    assert_eq!(rig.region.pin(0).unwrap_err(), NotPinned::Out);
}

#[test]
fn a_device_and_an_evictor_never_have_a_page_at_once() {
    let rig = Rig::new(4);
    let server = Server::start(&rig.inbox, 2, filled(|_| 1)).unwrap();
    let devices: Vec<_> = (0..2)
        .map(|_| {
            let (region, ram) = (Arc::clone(&rig.region), rig.ram.clone());
            thread::spawn(move || {
                for n in 0..2000 {
                    let page = n % 4;
                    let pin = region
                        .pin_or_fetch(page, |fetch| Ok(fetch.fill(&[1; PAGE]).map(drop)?))
                        .unwrap();
                    assert!(ram.is_there(page), "pinned, and gone");
                    thread::yield_now();
                    assert!(ram.is_there(page), "gone under the pin");
                    drop(pin);
                }
            })
        })
        .collect();
    let mut evicted = 0;
    while !devices.iter().all(|device| device.is_finished()) {
        for page in 0..4 {
            evicted += rig.region.evict(page).map(pagelock_vmm::Evict::done).is_ok() as u32;
        }
    }
    devices.into_iter().for_each(|device| device.join().unwrap());
    assert!(evicted > 0);
    server.stop().unwrap();
}

#[test]
fn control_without_the_pin_the_page_goes_under_the_device() {
    let rig = Rig::new(1);
    rig.bring_in(0, 1);
    assert!(rig.ram.is_there(0)); // a device has looked, and begins
    rig.region.evict(0).unwrap().done();
    assert!(!rig.ram.is_there(0));
}
