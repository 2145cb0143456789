//! A write fault that is read late.

mod common;

use common::Rig;
use pagelock_vmm::{Claimed, Fault, Place};

#[test]
fn a_write_fault_on_a_page_that_was_evicted_meanwhile_owns_nothing() {
    let rig = Rig::new(1);
    rig.bring_in(0, 7);
    rig.region.clean(0).unwrap().done();
    // The writer sleeps, and its message is not read before the page is out.
    let writer = rig.writer(0, 8);
    let arrived = rig.arrived();
    rig.region.evict(0).unwrap().done();
    assert!(matches!(arrived.region.write_fault(arrived.page), Claimed::Present));
    assert_eq!(rig.region.state(0).unwrap().place, Place::Out, "or it would come back as zeroes");
    // It was told: it comes again, first for the page, and then for the protection that came with
    // it.
    rig.arrived();
    rig.bring_in(0, 7);
    while !writer.is_finished() {
        if let Ok(Some(arrived)) = rig.inbox.next() {
            match rig.region.write_fault(arrived.page) {
                Claimed::Owner(write) => write.allow().unwrap(),
                other => drop(other),
            }
        }
    }
    assert_eq!(writer.join().unwrap().unwrap(), 7);
    assert!(matches!(rig.region.fault(0), Fault::Present));
}
