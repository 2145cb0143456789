//! Segments and seats: what one process does with them. Those that are killed are in
//! `survivors.rs`.

#![cfg(all(
    feature = "shared",
    feature = "std",
    target_os = "linux",
    not(miri),
    not(pagelock_shuttle)
))]

use core::mem::{offset_of, size_of};
use core::sync::atomic::Ordering::SeqCst;
use pagelock::shared::layout::{Head, Note, PageCell, SeatCell};
use pagelock::shared::{Recovered, SeatError, Segment, SegmentError, SitError, Size};
use pagelock::{FreezeRule, PinError, Put, UserBits};

fn segment(pages: u32) -> Segment {
    Segment::create(c"test", Size::of(pages).seats(4)).unwrap()
}

#[test]
fn a_seat_does_what_a_page_does_and_leaves_no_note() {
    let segment = segment(4);
    let seat = segment.sit().unwrap();
    let (page, room) = (2, seat.room());
    let live = seat.activate(page).unwrap();
    assert_eq!(live.page(), page);
    let mut guard = seat.lock(page).unwrap();
    assert_eq!((guard.page(), seat.try_lock(page).unwrap_err()), (page, SeatError::Locked));
    guard.set_user(UserBits::new(5));
    let pin = seat.pin(page).unwrap();
    let busy = guard.begin_migration().freeze(FreezeRule::Unpinned).unwrap_err();
    assert_eq!(busy.why.pins, 1);
    assert_eq!(seat.pin(page).unwrap_err(), SeatError::Pin(PinError::Migrating));
    assert_eq!(seat.room(), room - 3);
    assert_eq!(pin.unpin(), Put::Kept);
    let frozen = busy.migration.freeze(FreezeRule::ExactRefs(1)).unwrap();
    let dst = seat.lock(3).unwrap();
    assert_eq!(frozen.commit_to(dst).unwrap().source, Put::Kept);
    assert_eq!(live.put(), Put::Last);
    drop(seat.lock(page).unwrap().begin_migration());
    assert_eq!(seat.lock(9).unwrap_err(), SeatError::NoSuchPage);
    assert_eq!(seat.room(), room);
    assert_eq!(segment.recover(|left| panic!("{left:?}")), Ok(Recovered::default()));
}

#[test]
fn a_seat_that_is_full_says_so_and_another_can_be_had() {
    let segment = segment(100);
    let seat = segment.sit().unwrap();
    let held: Vec<_> = (0..seat.room()).map(|page| seat.lock(page).unwrap()).collect();
    assert_eq!(held.len(), 60);
    assert_eq!(seat.lock(99).unwrap_err(), SeatError::Full);
    assert_eq!(seat.get(99).unwrap_err(), SeatError::Full);
    let more = segment.sit().unwrap();
    drop(more.lock(99).unwrap());
    let others = [segment.sit().unwrap(), segment.sit().unwrap()];
    assert_eq!(segment.sit().unwrap_err(), SitError::NoSeat);
    drop(others);
    drop(held);
    drop(seat.lock(99).unwrap());
}

#[test]
fn the_same_pages_are_seen_where_they_are_mapped_twice() {
    let here = segment(8);
    let there = Segment::attach(&here).unwrap();
    let (a, b) = (here.sit().unwrap(), there.sit().unwrap());
    assert_ne!(a.number(), b.number());
    let guard = a.lock(5).unwrap();
    assert_eq!(b.try_lock(5).unwrap_err(), SeatError::Locked);
    std::thread::scope(|s| {
        // Sleeps in the event table, as it is seen there.
        let locker = s.spawn(move || drop(b.lock(5).unwrap()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(guard);
        locker.join().unwrap();
    });
    here.user_words()[1].store(7, SeqCst);
    here.page_word(3).unwrap().store(8, SeqCst);
    assert_eq!(
        (there.user_words()[1].load(SeqCst), there.page_word(3).unwrap().load(SeqCst)),
        (7, 8)
    );
}

#[test]
fn a_segment_grows_under_those_who_use_it() {
    let here = Segment::create(c"grows", Size::of(2).up_to(100_000)).unwrap();
    let there = Segment::attach(&here).unwrap();
    let (a, b) = (here.sit().unwrap(), there.sit().unwrap());
    let held = a.lock(1).unwrap();
    assert_eq!(b.lock(50_000).unwrap_err(), SeatError::NoSuchPage);
    assert_eq!(here.grow(60_000), Ok(60_000));
    drop(a.lock(59_999).unwrap());
    assert_eq!(b.lock(50_000).unwrap_err(), SeatError::NoSuchPage, "not before it looks");
    assert_eq!(there.refresh(), Ok(60_000));
    drop(b.lock(50_000).unwrap());
    assert_eq!(there.grow(10), Ok(60_000), "it does not shrink");
    assert_eq!(there.grow(100_001), Err(SegmentError::Capacity { capacity: 100_000 }));
    assert_eq!(b.try_lock(1).unwrap_err(), SeatError::Locked);
    drop(held);
}

#[test]
fn a_seat_with_something_forgotten_is_recovered_as_that_of_a_dead_one() {
    let here = segment(8);
    let there = Segment::attach(&here).unwrap();
    let seat = there.sit().unwrap();
    seat.activate(1).unwrap().into_raw();
    core::mem::forget((seat.lock(1).unwrap(), seat.pin(1).unwrap()));
    drop(seat);
    assert_eq!(
        here.recover(|left| panic!("{left:?}")).unwrap(),
        Recovered::default(),
        "it may be in use"
    );
    drop(there);
    let mut pages = Vec::new();
    let recovered = here.recover(|left| pages.push((left.page, left.when))).unwrap();
    assert_eq!(
        (recovered.seats, recovered.pages, recovered.pins, recovered.undecided),
        (1, 1, 1, 0)
    );
    let seat = here.sit().unwrap();
    assert!(
        format!("{:?}", seat.look(1).unwrap()).contains("free, generation 1; 1 references, 0 pins"),
        "{:?}",
        seat.look(1)
    );
}

/// What a program in C relies on: `docs/shared.md` has it as a header.
#[test]
fn the_layout_is_the_one_that_is_documented() {
    assert_eq!(
        (size_of::<Head>(), size_of::<SeatCell>(), size_of::<Note>(), size_of::<PageCell>()),
        (256, 1024, 16, 16)
    );
    assert_eq!(
        [
            offset_of!(Head, magic),
            offset_of!(Head, order),
            offset_of!(Head, version),
            offset_of!(Head, head_bytes)
        ],
        [0, 8, 12, 16]
    );
    assert_eq!(
        [
            offset_of!(Head, slots),
            offset_of!(Head, slot_bytes),
            offset_of!(Head, seats),
            offset_of!(Head, seat_bytes)
        ],
        [20, 24, 28, 32]
    );
    assert_eq!(
        [
            offset_of!(Head, notes),
            offset_of!(Head, page_bytes),
            offset_of!(Head, capacity),
            offset_of!(Head, events_at)
        ],
        [36, 40, 44, 48]
    );
    assert_eq!(
        [
            offset_of!(Head, seats_at),
            offset_of!(Head, pages_at),
            offset_of!(Head, pages),
            offset_of!(Head, user)
        ],
        [52, 56, 60, 64]
    );
    assert_eq!([offset_of!(SeatCell, pid), offset_of!(SeatCell, notes)], [0, 64]);
    assert_eq!(
        [
            offset_of!(Note, what),
            offset_of!(Note, page),
            offset_of!(Note, before),
            offset_of!(Note, tag)
        ],
        [0, 4, 8, 12]
    );
    assert_eq!(
        [offset_of!(PageCell, lock), offset_of!(PageCell, changer), offset_of!(PageCell, user)],
        [0, 8, 12]
    );
    let segment = Segment::create(c"layout", Size::of(3).seats(2)).unwrap();
    let mut bytes = [0u8; 256];
    // SAFETY: fills in the array.
    let got = unsafe { libc::pread(segment.as_raw_fd(), bytes.as_mut_ptr().cast(), 256, 0) };
    assert_eq!(got, 256);
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(&bytes[..8], b"pagelock");
    assert_eq!(
        [word(8), word(12), word(28), word(44), word(56), word(60)],
        [0x0102_0304, 1, 2, 3, 4096 + 2048, 3]
    );
}
