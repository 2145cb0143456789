//! A device has pages to itself until the processor touches them.

use super::common::dmirror::Denied;
use super::common::hmm_soft::{Exclusive, Fixture, Variant};
use pagelock::leaf::{Leaf, Rights};

const PAGES: usize = 64;

/// The processor's first access to each ends it, and what both have written is there.
pub(super) fn exclusive(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.written(PAGES);
    let exclusive = Exclusive::of(&f);
    assert_eq!(exclusive.make(&mut b), Ok(PAGES));
    b.expect_mirror(|i| i);
    assert_eq!(exclusive.left(), PAGES);
    assert!(b.at.pages(PAGES).all(|at| matches!(f.mm.leaf(at), Leaf::DeviceExclusive { .. })));
    f.mm.audit().unwrap();
    for page in 0..PAGES {
        b.expect_in(page..page + 1, |i| i);
        b.set_in(page..page + 1, |i| i + 1);
        assert_eq!(exclusive.left(), PAGES - page - 1, "one access, one page");
    }
    b.expect(|i| i + 1);
    f.close();
}

/// Exclusive or not, where the process may not write, the device may not.
pub(super) fn exclusive_mprotect(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.written(PAGES);
    let exclusive = Exclusive::of(&f);
    assert_eq!(exclusive.make(&mut b), Ok(PAGES));
    b.expect_mirror(|i| i);
    f.mm.protect(b.at, PAGES, Some(Rights::Read)).unwrap();
    assert_eq!(b.device_write(f.device()), Err(Denied::Permission));
    assert_eq!(exclusive.make(&mut b), Err(Denied::Permission));
    b.expect(|i| i);
    assert_eq!(exclusive.left(), 0);
    f.close();
}

/// A fork ends it too: the page is nobody's for himself any more.
pub(super) fn exclusive_cow(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.written(PAGES);
    let exclusive = Exclusive::of(&f);
    assert_eq!(exclusive.make(&mut b), Ok(PAGES));
    let child = f.mm.fork(f.space).unwrap();
    assert_eq!(exclusive.left(), 0);
    for b in [&b, &b.of(child)] {
        b.expect(|i| i);
        b.set(|i| i + 1);
        b.expect(|i| i + 1);
    }
    f.mm.exit(child);
    b.expect(|i| i + 1);
    f.close();
}
