//! A device reads and writes a process's memory by its own page tables.

use super::common::dmirror::{Denied, Device, Done, Place, after, read, write};
use super::common::hmm_soft::{Fixture, LARGE, Variant};
use super::common::{Lots, rounds, watched};
use pagelock::leaf::{Leaf, Rights};
use pagelock_soft::{Area, AreaKind};
use std::thread;

/// Pages in a buffer.
const PAGES: usize = 64;
/// How often, where a test does something many times.
const TIMES: usize = 256;

/// Nothing is left of a device that was there and did nothing.
pub(super) fn open_close(v: Variant) {
    Fixture::new(v).close();
}

/// Pages that are there, pages of zeroes, and pages where nothing was ever: all read in one fault
/// of the range.
pub(super) fn anon_read(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.mapped(PAGES);
    b.set_mirror(|i| i.wrapping_neg());
    // Page 0 never was, page 1 is the page of zeroes; and none may be written to any more when the
    // device reads.
    b.set_in(2..PAGES, |i| i);
    f.mm.protect(b.at, PAGES, Some(Rights::Read)).unwrap();
    b.expect_in(1..2, |_| 0);
    assert_eq!(b.device_read(f.device()), Ok(Done::new(PAGES, 1)));
    b.expect_mirror_in(0..2, |_| 0);
    b.expect_mirror_in(2..PAGES, |i| i);
    // What the device knows it need not ask again.
    assert_eq!(b.device_read(f.device()), Ok(Done::new(PAGES, 0)));
    assert_eq!(b.device_write(f.device()), Err(Denied::Permission));
    f.close();
}

/// What may not be read the device cannot read either.
pub(super) fn anon_read_prot(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.written(PAGES);
    b.set_mirror(|i| i.wrapping_neg());
    f.mm.protect(b.at, PAGES, None).unwrap();
    assert_eq!(b.device_read(f.device()), Err(Denied::Fault));
    f.mm.protect(b.at, PAGES, Some(Rights::Read)).unwrap();
    b.expect(|i| i);
    b.expect_mirror(|i| i.wrapping_neg());
    f.close();
}

/// What the device writes the processor reads.
pub(super) fn anon_write(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.mapped(PAGES);
    b.set_mirror(|i| i);
    assert_eq!(b.device_write(f.device()), Ok(Done::new(PAGES, 1)));
    b.expect(|i| i);
    f.close();
}

/// Where the processor may not write, the device may not; and it may as soon as the processor may.
pub(super) fn anon_write_prot(v: Variant) {
    let f = Fixture::new(v);
    f.mapped_as(0, PAGES, Some(Rights::Read));
    let mut b = f.buffer(0, PAGES);
    b.set_mirror(|i| i);
    // The page of zeroes is known to the device by then, for reading.
    let mut first = f.buffer(0, 1);
    first.set_mirror(|i| i + 1);
    assert_eq!(first.device_read(f.device()), Ok(Done::new(1, 1)));
    first.expect_mirror(|_| 0);
    assert_eq!(b.device_write(f.device()), Err(Denied::Permission));
    b.expect(|_| 0);
    f.mm.protect(b.at, PAGES, Some(Rights::Write)).unwrap();
    assert_eq!(b.device_write(f.device()), Ok(Done::new(PAGES, 1)));
    b.expect(|i| i);
    f.close();
}

/// A child's device writes to the child's copy, and the parent's pages stay as they are.
pub(super) fn anon_write_child(v: Variant) {
    for (migrate, large) in [(false, false), (false, true), (true, false), (true, true)] {
        let f = Fixture::new(v);
        let mut b = if large { f.large(0) } else { f.written(LARGE) };
        if migrate {
            // Then the child's device writes to pages that are in the device's memory, and the
            // parent's at the same time.
            assert_eq!(b.migrate_to(f.device()), Ok(LARGE));
            b.expect_mirror(|i| i);
        }
        b.set_mirror(|i| i.wrapping_neg());
        let child = f.mm.fork(f.space).unwrap();
        let of_child = b.of(child);
        if !migrate {
            of_child.expect(|i| i);
        }
        let device = Device::new(f.mm, f.device().tier);
        let done = of_child.device_write(&device).unwrap();
        assert_eq!(done.pages, LARGE);
        // What a copy had to be made of was looked at once more; but it is one range that is
        // faulted in.
        assert_eq!(done.faults, 1, "{migrate}, {large}");
        of_child.expect(|i| i.wrapping_neg());
        b.expect(|i| i);
        f.mm.exit(child);
        b.expect(|i| i);
        f.close();
    }
}

/// Shared memory is what both see.
pub(super) fn anon_write_child_shared(v: Variant) {
    let f = Fixture::new(v);
    f.mm.map_shared(f.space.page(0), PAGES).unwrap();
    let mut b = f.buffer(0, PAGES);
    b.set(|i| i);
    b.set_mirror(|i| i.wrapping_neg());
    let child = f.mm.fork(f.space).unwrap();
    let of_child = b.of(child);
    of_child.expect(|i| i);
    let device = Device::new(f.mm, f.device().tier);
    assert_eq!(of_child.device_write(&device), Ok(Done::new(PAGES, 1)));
    of_child.expect(|i| i.wrapping_neg());
    b.expect(|i| i.wrapping_neg());
    f.mm.exit(child);
    f.close();
}

/// A huge page is written to as any other, and stays one.
pub(super) fn anon_write_huge(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.large(0);
    b.set_mirror(|i| i * 3);
    assert_eq!(b.device_write(f.device()), Ok(Done::new(LARGE, 1)));
    b.expect(|i| i * 3);
    assert_eq!(pagelock::mm::Tiers::span(f.mm, f.mm.frame_at(b.at).unwrap()).len(), LARGE as u64);
    f.mm.unmap(b.at, LARGE).unwrap();
    // And where nothing is yet, as much of it.
    let mut b = f.mapped(LARGE);
    b.set_mirror(|i| i * 5);
    assert_eq!(b.device_write(f.device()), Ok(Done::new(LARGE, 1)));
    b.expect(|i| i * 5);
    f.close();
}

/// Memory that comes and goes: what the device knew of what was there before is of no harm.
pub(super) fn anon_read_multiple(v: Variant) {
    let f = Fixture::new(v);
    let pages = 8;
    for turn in 0..rounds(TIMES) as u32 {
        let mut b = f.mapped(pages);
        b.set(|i| i + turn);
        b.set_mirror(|_| 0);
        assert_eq!(b.device_read(f.device()), Ok(Done::new(pages, 1)));
        b.expect_mirror(|i| i + turn);
        f.mm.unmap(b.at, pages).unwrap();
    }
    assert!(
        f.device().forgotten() >= pages,
        "the device was never told, so this has shown nothing"
    );
    f.close();
}

/// Half of the memory is unmapped while the device reads. It reads all of it, or is told that it
/// may not.
pub(super) fn anon_teardown(v: Variant) {
    let f = Fixture::new(v);
    let pages = 16;
    let mut lots = Lots::of(v as usize);
    let mut outcomes = [0; 2];
    watched(&[], || {
        for turn in 0..rounds(TIMES) as u32 {
            let mut b = f.mapped(pages);
            b.set(|i| i + turn);
            if turn % 2 == 0 {
                b.migrate_to(f.device()).unwrap();
            }
            let (device, mm, half) = (f.device(), f.mm, after(b.at, pages / 2));
            let delay = lots.draw(2000);
            let done = thread::scope(|s| {
                s.spawn(move || {
                    (0..delay).for_each(|_| core::hint::spin_loop());
                    mm.unmap(half, pages / 2).unwrap();
                });
                b.device_read(device)
            });
            match done {
                Ok(done) => {
                    // One range, faulted in once; or known, because it has just been moved to the
                    // device.
                    assert_eq!(done, Done::new(pages, (turn % 2) as usize));
                    b.expect_mirror(|i| i + turn);
                }
                Err(e) => assert_eq!(e, Denied::Fault),
            }
            outcomes[usize::from(done.is_ok())] += 1;
            mm.unmap(b.at, pages).unwrap();
        }
    });
    f.close();
    // Which of the two comes first is the scheduler's choice; that the memory went in the middle of
    // it is seen above.
    assert_eq!(outcomes.iter().sum::<usize>(), rounds(TIMES));
}

/// A page that never keeps still, and a device that has a deadline: its read ends there, with an
/// error, and has not read a thing.
pub(super) fn device_read_past_its_deadline(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.written(4);
    assert_eq!(b.migrate_to(f.device()), Ok(4));
    let pfn = f.mm.frame_at(b.at).unwrap();
    let other = &f.devices[1];
    b.set_mirror(|_| 7);
    // Its owner does not let go of it, and it has to come back for another device to read it.
    let guard = f.mm.page(pfn).unwrap().lock();
    let done = watched(&[], || b.device_read_within(other, super::common::own::within(f.own, 30)));
    match v {
        Variant::Private => assert_eq!(done, Err(Denied::TimedOut)),
        // What it can access where it is need not be waited for.
        Variant::Coherent => assert_eq!(done, Ok(Done::new(4, 1))),
    }
    if v == Variant::Private {
        b.expect_mirror(|_| 7);
    }
    drop(guard);
    assert_eq!(
        b.device_read_within(other, super::common::own::within(f.own, 30_000))
            .map(|done| done.pages),
        Ok(4)
    );
    b.expect_mirror(|i| i);
    f.close();
}

/// Memory that a driver has put there, page by page: no fault would bring it, and a look finds it.
pub(super) fn mixedmap(v: Variant) {
    let f = Fixture::new(v);
    let driver = f.mm.spawn().unwrap();
    f.mm.map_shared(driver.page(0), 1).unwrap();
    let area = Area { kind: AreaKind::Shared, rights: Some(Rights::Read) };
    f.mm.share(driver.page(0), f.space.page(0), area).unwrap();
    assert_eq!(f.device().snapshot(f.space.page(0), 1), [read(Place::System)]);
    assert_eq!(f.mm.mappings(f.mm.frame_at(f.space.page(0)).unwrap()), 2);
    f.mm.exit(driver);
    f.close();
}

/// A huge page is seen as one, with the rights that it has.
pub(super) fn compound(v: Variant) {
    let f = Fixture::new(v);
    let b = f.large(0);
    let huge =
        |write| super::common::dmirror::Seen::Page { place: Place::System, write, large: true };
    assert_eq!(f.device().snapshot(b.at, LARGE), vec![huge(true); LARGE]);
    f.mm.protect(b.at, LARGE, Some(Rights::Read)).unwrap();
    assert_eq!(f.device().snapshot(b.at, LARGE), vec![huge(false); LARGE]);
    f.close();
}

/// A look at a mixture, by device 0: what may not be accessed, what is not there, what is of
/// zeroes, what may be written to, what is in its own memory and what is in the other device's.
/// Nothing is faulted in by it.
pub(super) fn snapshot(v: Variant) {
    let f = Fixture::new(v);
    f.mapped_as(0, 1, None);
    f.mapped_as(2, 5, Some(Rights::Write));
    let at = |page| f.space.page(page);
    // Page 1 is a hole in the mapping; 2 is of zeroes; 3 is there and may not be written to.
    f.mm.protect(at(2), 1, Some(Rights::Read)).unwrap();
    f.buffer(2, 1).expect(|_| 0);
    for page in 3..7 {
        f.buffer(page, 1).set(|i| i);
    }
    f.mm.protect(at(3), 1, Some(Rights::Read)).unwrap();
    for (page, device) in [(5, &f.devices[0]), (6, &f.devices[1])] {
        assert_eq!(f.buffer(page, 1).migrate_to(device), Ok(1));
    }
    let before: Vec<Leaf> = (0..7).map(|page| f.mm.leaf(at(page))).collect();
    use super::common::dmirror::Seen;
    let other = match v {
        Variant::Private => Seen::None,
        Variant::Coherent => write(Place::Remote),
    };
    let expected = [
        Seen::Error,
        Seen::Error,
        read(Place::Zero),
        read(Place::System),
        write(Place::System),
        write(Place::Local),
        other,
    ];
    assert_eq!(f.devices[0].snapshot(at(0), 7), expected);
    assert_eq!((0..7).map(|page| f.mm.leaf(at(page))).collect::<Vec<_>>(), before);
    f.close();
}

/// Two devices read the same memory. It goes to the one, and the other's reading brings it back.
pub(super) fn double_map(v: Variant) {
    let f = Fixture::new(v);
    let mut b = f.written(PAGES);
    f.mm.protect(b.at, PAGES, Some(Rights::Read)).unwrap();
    for device in &f.devices {
        b.set_mirror(|_| 0);
        assert_eq!(b.device_read(device), Ok(Done::new(PAGES, 1)));
        b.expect_mirror(|i| i);
    }
    assert_eq!(b.migrate_to(&f.devices[1]), Ok(PAGES));
    b.expect_mirror(|i| i);
    b.set_mirror(|_| 0);
    assert_eq!(b.device_read(&f.devices[0]), Ok(Done::new(PAGES, 1)));
    b.expect_mirror(|i| i);
    for at in b.at.pages(PAGES) {
        let stays = v == Variant::Coherent;
        assert_eq!(
            f.tier_at(at) == f.devices[1].tier,
            stays,
            "what others can access need not come back"
        );
        assert_eq!(f.mm.leaf(at).rights(), Some(Rights::ReadExclusive), "{:?}", f.mm.leaf(at));
    }
    f.close();
}
