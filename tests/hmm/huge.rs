//! Large pages. One is a page table's worth of ordinary ones, and goes as a whole where it can.

use super::common::dmirror::{Place, Seen, after};
use super::common::hmm_soft::{FRAMES, Fixture, LARGE, LARGE_ORDER, Variant};
use super::common::machine::RAM;
use super::common::rounds;
use pagelock::leaf::Leaf;
use pagelock::mm::Tiers;
use pagelock::mm::migrate::{Abort, Outcome};
use pagelock_soft::At;
use std::time::Instant;

/// The order of the page at an address.
fn order(f: &Fixture, at: At) -> u32 {
    f.mm.span(f.mm.frame_at(at).expect("a page")).order
}

/// There is nothing: the device gets pages of zeroes, where the entry is a large one a large page.
pub(super) fn migrate_anon_huge_empty(v: Variant) {
    for large in [false, true] {
        let f = Fixture::new(v);
        let mut b = f.hole(large);
        b.set_mirror(|i| i + 1);
        assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
        assert!(b.at.pages(LARGE).all(|at| order(&f, at) == if large { LARGE_ORDER } else { 0 }));
        b.expect_mirror(|_| 0);
        assert_eq!(f.mm.free_frames(RAM), FRAMES - 1, "nothing was made in system memory for it");
        b.expect(|_| 0);
        f.close();
    }
}

/// There is nothing but zeroes that were read: the same.
pub(super) fn migrate_anon_huge_zero(v: Variant) {
    for large in [false, true] {
        migrate_zeroes(v, large);
    }
}

fn migrate_zeroes(v: Variant, large: bool) {
    let f = Fixture::new(v);
    let mut b = f.hole(large);
    b.expect(|_| 0);
    b.set_mirror(|i| i + 1);
    assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
    assert!(b.at.pages(LARGE).all(|at| order(&f, at) == if large { LARGE_ORDER } else { 0 }));
    b.expect_mirror(|_| 0);
    b.expect(|_| 0);
    b.set(|i| i);
    b.expect(|i| i);
    f.close();
}

/// Thrown away while it is in the device's memory, which has its frames back at once.
pub(super) fn migrate_anon_huge_free(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.large(0);
    assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
    b.expect_mirror(|i| i);
    assert_eq!((order(&f, b.at), f.mm.free_frames(f.device().tier)), (LARGE_ORDER, FRAMES - LARGE));
    f.mm.discard(b.at, LARGE).unwrap();
    assert_eq!(f.mm.free_frames(f.device().tier), FRAMES);
    b.expect(|_| 0);
    f.close();
}

/// There as a whole, and back as a whole by the first access to any of it.
pub(super) fn migrate_anon_huge_fault(v: Variant) {
    let f = Fixture::new(v);
    for touched in [0, 1, LARGE - 1] {
        let mut b = f.large(0);
        assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
        b.expect_mirror(|i| i);
        assert_eq!(order(&f, b.at), LARGE_ORDER);
        // The device sees one large page of its own, and the processor's table has nothing present.
        let local = Seen::Page { place: Place::Local, write: true, large: true };
        assert_eq!(f.device().snapshot(b.at, LARGE), vec![local; LARGE]);
        let present =
            b.at.pages(LARGE).filter(|&at| matches!(f.mm.leaf(at), Leaf::Present { .. })).count();
        assert_eq!(present, if v == Variant::Private { 0 } else { LARGE });
        b.expect_in(touched..touched + 1, |i| i);
        for at in b.at.pages(LARGE) {
            assert_eq!(order(&f, at), LARGE_ORDER);
            assert_eq!(f.tier_at(at), if v == Variant::Private { RAM } else { f.device().tier });
        }
        b.expect(|i| i);
        f.mm.unmap(b.at, LARGE).unwrap();
        f.mm.audit().unwrap();
    }
    f.close();
}

/// Half of it is unmapped while it is in the device's memory: the beginning, the middle, the end.
/// The rest comes back.
pub(super) fn migrate_partial_unmap_fault(v: Variant) {
    let f = Fixture::new(v);
    for (from, large) in
        [0, LARGE / 4, LARGE / 2].into_iter().flat_map(|from| [(from, true), (from, false)])
    {
        let mut b = if large { f.large(0) } else { f.written(LARGE) };
        assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
        b.expect_mirror(|i| i);
        f.mm.unmap(after(b.at, from), LARGE / 2).unwrap();
        f.mm.audit().unwrap();
        b.expect_in(0..from, |i| i);
        b.expect_in(from + LARGE / 2..LARGE, |i| i);
        f.mm.audit().unwrap();
        // And goes again, as it is now.
        let (summary, outcomes) = f
            .device()
            .pull(after(b.at, (from + LARGE / 2) % LARGE), LARGE / 2 - LARGE / 4)
            .unwrap();
        assert_eq!(summary.left, 0, "{outcomes:?}");
        b.expect_in(0..from, |i| i);
        b.expect_in(from + LARGE / 2..LARGE, |i| i);
        f.mm.unmap(b.at, LARGE).unwrap();
        f.mm.audit().unwrap();
        assert_eq!(f.mm.free_frames(f.device().tier), FRAMES);
    }
    f.close();
}

/// Half of it moves to another address, before it goes to the device or while it is there; the old
/// address stays mapped or not; ordinary pages and a large one.
pub(super) fn migrate_remap_fault(v: Variant) {
    let f = Fixture::new(v);
    for case in 0..3 * 8 {
        let from = [0, LARGE / 4, LARGE / 2][case / 8];
        let (keep, before, large) = (case & 1 != 0, case & 2 != 0, case & 4 != 0);
        let mut b = if large { f.large(0) } else { f.written(LARGE) };
        let (half, at) = (LARGE / 2, b.at);
        // Not aligned to anything, so that the tables are others too.
        let to = f.space.page(3 * LARGE + 5);
        let remap = || f.mm.remap(after(at, from), to, half, keep).unwrap();
        if before {
            remap();
            f.mm.audit().unwrap();
            let mut moved = f.buffer(to.page, half);
            assert_eq!(moved.migrate_to(f.device()), Ok(half));
            let value = |i| i + (from * b.ints()) as u32;
            moved.expect_mirror(value);
            moved.expect(value);
        } else {
            assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
            b.expect_mirror(|i| i);
            remap();
            f.mm.audit().unwrap();
        }
        // As if it began where its pages would be then.
        b.expect_at(At { page: to.page - from, ..to }, from..from + half, |i| i);
        b.expect_in(0..from, |i| i);
        b.expect_in(from + half..LARGE, |i| i);
        let old = f.buffer(from, half);
        if keep {
            old.expect(|_| 0);
        } else {
            assert!(
                old.at.pages(half).all(|at| f.mm.read(at, 0, &mut [0]).is_err()),
                "case {case}"
            );
        }
        f.mm.audit().unwrap();
        f.mm.unmap(b.at, LARGE).unwrap();
        f.mm.unmap(to, half).unwrap();
    }
    f.close();
}

/// All of it moves to another address, aligned as it was or not, while it is in the device's
/// memory; in one piece where that can be.
pub(super) fn migrate_remap_whole_fault(v: Variant) {
    let f = Fixture::new(v);
    for (to, is_aligned) in [(3 * LARGE, true), (3 * LARGE + 5, false)] {
        let mut b = f.large(0);
        assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
        b.expect_mirror(|i| i);
        let to = f.space.page(to);
        f.mm.remap(b.at, to, LARGE, false).unwrap();
        f.mm.audit().unwrap();
        assert_eq!(
            pagelock::mm::Entry::order(&f.mm.entry(to)),
            if is_aligned { LARGE_ORDER } else { 0 }
        );
        assert!(b.at.pages(LARGE).all(|at| f.mm.read(at, 0, &mut [0]).is_err()));
        b.expect_at(to, 0..LARGE, |i| i);
        assert_eq!(order(&f, to), LARGE_ORDER, "and back as a whole");
        f.mm.audit().unwrap();
        f.mm.unmap(to, LARGE).unwrap();
    }
    f.close();
}

/// The device has no large page: it gets the pages one by one. And with system memory in the same
/// state, they come back one by one.
pub(super) fn migrate_anon_huge_err(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.large(0);
    f.mm.fail_allocations(f.device().tier, 1);
    assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
    b.expect_mirror(|i| i);
    assert!(b.at.pages(LARGE).all(|at| order(&f, at) == 0 && f.tier_at(at) == f.device().tier));
    // One of them is touched, and only that one comes.
    b.expect_in(LARGE / 2..LARGE / 2 + 1, |i| i);
    let back = b.at.pages(LARGE).filter(|&at| f.tier_at(at) == RAM).count();
    assert_eq!(back, usize::from(v == Variant::Private));
    b.expect(|i| i);
    f.mm.unmap(b.at, LARGE).unwrap();
    f.mm.audit().unwrap();

    // All of it, by the device's driver, where system memory has no large page.
    let mut b = f.large(0);
    assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
    b.expect_mirror(|i| i);
    f.mm.fail_large_allocations(RAM, usize::MAX);
    assert_eq!(f.device().migrate_to_system(b.at, LARGE), LARGE);
    assert!(b.at.pages(LARGE).all(|at| order(&f, at) == 0 && f.tier_at(at) == RAM));
    f.mm.fail_large_allocations(RAM, 0);
    b.expect(|i| i);
    f.mm.unmap(b.at, LARGE).unwrap();
    f.mm.audit().unwrap();

    for touched in [0, LARGE / 2] {
        let mut b = f.large(0);
        assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
        b.expect_mirror(|i| i);
        f.mm.fail_allocations(RAM, 1);
        match v {
            Variant::Private => b.expect_in(touched..touched + 1, |i| i),
            Variant::Coherent => {
                assert_eq!(f.device().migrate_to_system(after(b.at, touched), 1), 1)
            }
        }
        assert!(b.at.pages(LARGE).all(|at| order(&f, at) == 0));
        assert_eq!(f.tier_at(after(b.at, touched)), RAM);
        b.expect(|i| i);
        f.mm.unmap(b.at, LARGE).unwrap();
        f.mm.audit().unwrap();
    }
    f.close();
}

/// The device has no large page for the pages of zeroes: they go one by one, all of them in the
/// first call. If it has no memory for one at all, that one stays as it was, the others go, and
/// when there is memory it goes too.
pub(super) fn migrate_anon_huge_zero_err(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.mapped(LARGE);
    b.expect(|_| 0);
    f.mm.fail_large_allocations(f.device().tier, usize::MAX);
    assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
    b.expect_mirror(|_| 0);
    f.mm.fail_large_allocations(f.device().tier, 0);
    f.mm.discard(b.at, LARGE).unwrap();
    b.expect(|_| 0);
    f.mm.fail_allocations(f.device().tier, 1);
    let (summary, outcomes) = f.device().pull(b.at, LARGE).unwrap();
    assert_eq!((summary.done as usize, summary.left), (LARGE - 1, 1));
    assert_eq!(outcomes[0], Outcome::Aborted(Abort::NoDestination));
    assert!(
        outcomes[1..].iter().all(|outcome| matches!(outcome, Outcome::Filled { .. })),
        "{outcomes:?}"
    );
    f.mm.audit().unwrap();
    b.expect(|_| 0);
    assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
    b.expect_mirror(|_| 0);
    large_zeroes_without_a_large_page(v);
    // Back, with system memory that fails once.
    f.mm.fail_allocations(RAM, 1);
    let mut byte = [1];
    let failed = f.mm.read(b.at, 0, &mut byte).is_err();
    assert_eq!(failed, v == Variant::Private, "who cannot bring it back is told so");
    f.mm.fail_allocations(RAM, 0);
    b.expect(|_| 0);
    f.close();
}

/// One large entry of zeroes, and the device has no large page: each address has its page in the
/// first call.
fn large_zeroes_without_a_large_page(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.hole(true);
    b.expect(|_| 0);
    f.mm.fail_large_allocations(f.device().tier, usize::MAX);
    let (summary, outcomes) = f.device().pull(b.at, LARGE).unwrap();
    assert_eq!((summary.done as usize, summary.left), (LARGE, 0), "{outcomes:?}");
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, Outcome::Filled { .. })),
        "{outcomes:?}"
    );
    assert!(b.at.pages(LARGE).all(|at| order(&f, at) == 0));
    b.set_mirror(|i| i);
    b.expect(|_| 0);
    f.close();
}

/// How long it takes, there and back, as a whole and page by page. The figures are for the reader;
/// `benches/` has those that count. What is asserted is what makes the difference: one page is
/// locked, checked and committed where it were sixty-four.
pub(super) fn benchmark_thp_migration(v: Variant) {
    let f = Fixture::new(v);
    let turns = rounds(16);
    for large in [true, false] {
        let mut b = if large { f.large(0) } else { f.written(LARGE) };
        let begin = Instant::now();
        for _ in 0..turns {
            let (summary, outcomes) = f.device().pull(b.at, LARGE).unwrap();
            assert_eq!(summary.left, 0, "{outcomes:?}");
            let moved =
                outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Moved { .. })).count();
            assert_eq!(moved, if large { 1 } else { LARGE }, "pages that were moved");
            assert_eq!(f.device().migrate_to_system(b.at, LARGE), LARGE);
        }
        let each = begin.elapsed() / (2 * turns * LARGE) as u32;
        println!(
            "{v:?}, {}: {each:?} for each ordinary page's worth",
            if large { "as a whole" } else { "page by page" }
        );
        b.expect(|i| i);
        b.set_mirror(|_| 0);
        assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
        b.expect_mirror(|i| i);
        f.mm.unmap(b.at, LARGE).unwrap();
    }
    f.close();
}
