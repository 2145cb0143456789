//! Pages go to a device and come back.

use super::common::dmirror::{Denied, Done, Place, after, write};
use super::common::hmm_soft::{Fixture, Variant};
use super::common::machine::RAM;
use super::common::rounds;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::Access;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Outcome, Skip};
use pagelock::mm::pin::Term;
use pagelock_soft::{Area, AreaKind};

const PAGES: usize = 64;
const TIMES: usize = 256;

/// All of them go, with what is in them.
pub(super) fn migrate(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.written(PAGES);
    assert_eq!(b.migrate_to(f.device()), Ok(PAGES));
    b.expect_mirror(|i| i);
    assert_eq!(f.device().snapshot(b.at, PAGES), vec![write(Place::Local); PAGES]);
    f.close();
}

/// Half of them are brought back by the processor's accesses, and the mixture goes again.
pub(super) fn migrate_fault(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.written(PAGES);
    assert_eq!(b.migrate_to(f.device()), Ok(PAGES));
    b.expect_mirror(|i| i);
    b.expect_in(0..PAGES / 2, |i| i);
    let in_ram = b.at.pages(PAGES).filter(|&at| f.tier_at(at) == RAM).count();
    assert_eq!(in_ram, if v == Variant::Private { PAGES / 2 } else { 0 });
    b.set_mirror(|_| 0);
    assert_eq!(b.migrate_to(f.device()), Ok(PAGES));
    b.expect_mirror(|i| i);
    b.expect(|i| i);
    f.close();
}

/// The device's memory goes away with everything in it, and nothing is lost.
pub(super) fn migrate_release(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.written(PAGES);
    assert_eq!(b.migrate_to(f.device()), Ok(PAGES));
    b.expect_mirror(|i| i);
    b.expect_in(0..PAGES / 2, |i| i);
    let left = PAGES / if v == Variant::Private { 2 } else { 1 };
    let summary = f.device().release();
    assert_eq!((summary.done as usize, summary.left), (left, 0));
    assert_eq!(f.mm.free_frames(f.device().tier), super::common::hmm_soft::FRAMES);
    b.expect(|i| i);
    f.close();
}

/// Linux's device drivers cannot take memory that is shared. Here it is the memory manager's to
/// refuse: a page that was never there is not made in a device's memory, and one that is there
/// stays where it is, if it says so, and is as it was.
pub(super) fn migrate_shared(v: Variant) {
    let f = Fixture::new(v);
    let area = Area { kind: AreaKind::Shared, rights: Some(Rights::Write) };
    f.mm.map_as(f.space.page(PAGES), 1, area).unwrap();
    assert_eq!(f.buffer(PAGES, 1).migrate_to(f.device()), Err(Denied::NotThere));
    f.mm.map_shared(f.space.page(0), PAGES).unwrap();
    let mut b = f.buffer(0, PAGES);
    b.set(|i| i);
    let before: Vec<Leaf> = b.at.pages(PAGES).map(|at| f.mm.leaf(at)).collect();
    f.mm.set_immovable(true);
    assert_eq!(b.migrate_to(f.device()), Err(Denied::NotThere));
    assert_eq!(b.at.pages(PAGES).map(|at| f.mm.leaf(at)).collect::<Vec<_>>(), before);
    // There is no such limit in the protocol: with the refusal gone they move, in every process
    // that shares them.
    f.mm.set_immovable(false);
    let child = f.mm.fork(f.space).unwrap();
    assert_eq!(b.migrate_to(f.device()), Ok(PAGES));
    b.expect_mirror(|i| i);
    b.of(child).set(|i| i + 1);
    b.expect(|i| i + 1);
    f.mm.exit(child);
    f.close();
}

/// Not what may not be read, not what is not mapped; a page of zeroes, one that may only be read
/// and two that may be written to all go; and a device does not take another's page.
pub(super) fn migrate_mixed(v: Variant) {
    let f = Fixture::new(v);
    let at = |page| f.space.page(page);
    f.mapped_as(0, 6, None);
    let mut all = f.buffer(0, 6);
    assert_eq!(all.migrate_to(&f.devices[1]), Err(Denied::Invalid));
    f.mm.unmap(at(1), 1).unwrap();
    f.mm.protect(at(0), 1, Some(Rights::Write)).unwrap();
    assert_eq!(f.buffer(0, 3).migrate_to(&f.devices[1]), Err(Denied::Invalid));
    // Page 2 is of zeroes and may only be read, page 3 may only be read, pages 4 and 5 may be
    // written to.
    f.mm.protect(at(2), 4, Some(Rights::Write)).unwrap();
    f.mm.protect(at(2), 1, Some(Rights::Read)).unwrap();
    f.buffer(2, 1).expect(|_| 0);
    for page in 3..6 {
        f.buffer(page, 1).set(|i| i + page as u32);
    }
    f.mm.protect(at(3), 1, Some(Rights::Read)).unwrap();
    let mut mixed = f.buffer(2, 4);
    assert_eq!(mixed.migrate_to(&f.devices[1]), Ok(4));
    for page in 2..6 {
        let expected = if page < 4 { Rights::Read } else { Rights::Write };
        let rights = f.mm.leaf(at(page)).rights().unwrap();
        assert_eq!(rights == Rights::Write, expected == Rights::Write, "page {page}: {rights:?}");
    }
    assert_eq!(f.buffer(5, 1).migrate_to(&f.devices[0]), Err(Denied::NotThere));
    assert_eq!(f.tier_at(at(5)), f.devices[1].tier);
    f.buffer(2, 1).expect(|_| 0);
    for page in 3..6 {
        f.buffer(page, 1).expect(|i| i + page as u32);
    }
    assert_eq!(f.buffer(3, 1).device_write(&f.devices[1]), Err(Denied::Permission));
    f.close();
}

/// There and back again many times: no frame and no reference is lost on the way.
pub(super) fn migrate_multiple(v: Variant) {
    let f = Fixture::new(v);
    let pages = 8;
    for turn in 0..rounds(TIMES) as u32 {
        let mut b = f.mapped(pages);
        b.set(|i| i ^ turn);
        b.set_mirror(|_| u32::MAX);
        assert_eq!(b.migrate_to(f.device()), Ok(pages));
        b.expect_mirror(|i| i ^ turn);
        assert_eq!(f.device().migrate_to_system(b.at, pages), pages);
        assert!(b.at.pages(pages).all(|at| f.tier_at(at) == RAM));
        b.expect(|i| i ^ turn);
        // And again, brought back by the processor's accesses.
        assert_eq!(b.migrate_to(f.device()), Ok(pages));
        b.expect(|i| i ^ turn);
        assert_eq!(b.at.pages(pages).all(|at| f.tier_at(at) == RAM), v == Variant::Private);
        f.mm.unmap(b.at, pages).unwrap();
        if turn % 32 == 0 {
            f.mm.audit().unwrap();
        }
    }
    f.close();
}

/// Pages that are in the device's memory when a process forks: what one of the two writes is its
/// own.
pub(super) fn hmm_cow_in_device(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.written(PAGES);
    assert_eq!(b.migrate_to(f.device()), Ok(PAGES));
    b.expect_mirror(|i| i);
    let child = f.mm.fork(f.space).unwrap();
    let of_child = b.of(child);
    b.set(|i| i + 7);
    assert_eq!(
        f.device().snapshot(b.at, PAGES),
        vec![write(Place::System); PAGES],
        "copies in system memory"
    );
    of_child.expect(|i| i);
    b.expect(|i| i + 7);
    f.mm.exit(child);
    b.expect(|i| i + 7);
    f.close();
}

/// References to pages in the device's memory bring back what the processor cannot access;
/// long-term pins bring back all of them.
pub(super) fn hmm_gup_test(v: Variant) {
    let unlocked = &mut Unlocked::promise();
    let f = Fixture::new(v);
    let mut b = f.written(4);
    assert_eq!(b.migrate_to(f.device()), Ok(4));
    b.expect_mirror(|i| i);
    // A reference, a short-term pin, and two long-term ones.
    let at = |page| after(b.at, page);
    let got = super::gup::get(f.mm, at(0));
    let pin = f.mm.pin(at(1), Access::Write, Term::Short, unlocked).unwrap();
    let long = [2, 3].map(|page| f.mm.pin(at(page), Access::Write, Term::Long, unlocked).unwrap());
    let short = match v {
        Variant::Private => write(Place::System),
        Variant::Coherent => write(Place::Local),
    };
    let expected = [short, short, write(Place::System), write(Place::System)];
    assert_eq!(f.device().snapshot(b.at, 4), expected);
    b.expect(|i| i);
    // What is pinned stays: nothing of it can be moved, and it is as it was.
    let (_, outcomes) = f.device().pull(b.at, 4).unwrap();
    let expected_outcomes = match v {
        Variant::Private => [
            Outcome::Aborted(Abort::Referenced { refs: 3, expected: 2 }),
            Outcome::Skipped(Skip::Pinned { pins: 1 }),
            Outcome::Skipped(Skip::Pinned { pins: 1 }),
            Outcome::Skipped(Skip::Pinned { pins: 1 }),
        ],
        // The first two are there.
        Variant::Coherent => [
            Outcome::AlreadyThere,
            Outcome::AlreadyThere,
            Outcome::Skipped(Skip::Pinned { pins: 1 }),
            Outcome::Skipped(Skip::Pinned { pins: 1 }),
        ],
    };
    assert_eq!(outcomes, expected_outcomes);
    assert_eq!(f.device().snapshot(b.at, 4), expected);
    drop(pin);
    drop(long);
    super::gup::put(f.mm, got);
    assert_eq!(b.migrate_to(f.device()), Ok(4));
    b.expect(|i| i);
    f.close();
}

/// A handler in user space fills pages when they are first touched. A device's reading is such a
/// touch, and the handler works without any lock of the memory manager's: it can take its time, and
/// can be asked for the same page by many.
pub(super) fn userfaultfd_read(v: Variant) {
    let f = Fixture::new(v);
    let handler = super::handler::Handler::new(f.mm, |i| i * 5);
    let mut b = f.mapped(PAGES);
    let done = handler.serve(b.at, PAGES, f.device().tier, |device| b.device_read(device));
    assert_eq!(done, Ok(Done::new(PAGES, 1)));
    b.expect_mirror(|i| i * 5);
    assert_eq!(handler.served(), PAGES, "each page once");
    // To the device and back: no page is missing any more.
    assert_eq!(b.migrate_to(f.device()), Ok(PAGES));
    b.expect(|i| i * 5);
    assert_eq!(handler.served(), PAGES);
    f.close();
}
