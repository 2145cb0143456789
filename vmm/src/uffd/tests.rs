//! Calls that a region makes one page at a time, made on several.

use super::{SMALL, Uffd, Wish};
use crate::layer::Events;
use linux_raw_sys::general as sys;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ptr;

#[test]
fn a_copy_in_part_goes_on_behind_the_page_that_is_there() {
    let Ok(uffd) = Uffd::open(Wish::default()) else {
        return println!("SKIPPED: userfaultfd is refused");
    };
    let len = 16 * SMALL;
    // SAFETY: no address is asked for.
    let base = unsafe {
        mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }
    .unwrap();
    let start = base.expose_provenance();
    uffd.register(start, len, sys::UFFDIO_REGISTER_MODE_MISSING).unwrap();
    let [old, new] = [vec![1_u8; len], vec![2_u8; len]];
    // SAFETY: both are that long, and the mapping is used by nobody else.
    unsafe {
        assert!(uffd.copy(start + 3 * SMALL, old.as_ptr(), SMALL, SMALL, false).unwrap());
        assert!(!uffd.copy(start, new.as_ptr(), 8 * SMALL, SMALL, false).unwrap());
    }
    assert!(!uffd.zero(start + 6 * SMALL, 10 * SMALL, SMALL).unwrap());
    // SAFETY: all of it is there by now.
    let seen: Vec<u8> = (0..16)
        .map(|page| unsafe { ptr::read_volatile((start + page * SMALL) as *const u8) })
        .collect();
    assert_eq!(seen, [2, 2, 2, 1, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(uffd.pending().unwrap(), (0, 0));
    // SAFETY: mapped above.
    unsafe { munmap(base, len) }.unwrap();
}
