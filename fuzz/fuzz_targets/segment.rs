//! Any bytes as a segment, then any calls on it, with a peer's writes between them.
//!
//! The peer has the descriptor, so it can write the whole file. Its writes make for wrong answers,
//! and for nothing else: no access outside of the mapping, no panic, no call that does not return.
//! One wait is left out of the inputs, because a peer can cause it (`docs/shared.md`): for a count,
//! while the page's `changer` names another seat whose owner lives.
//!
//! Built without debug assertions, as users have it: a peer can make those fail.

#![no_main]

use arbitrary::Arbitrary;
use core::time::Duration;
use pagelock::futex::MonotonicTime;
use pagelock::shared::{
    InSegment, Seat, SeatFrozen, SeatGuard, SeatMigration, SeatPin, SeatRef, Segment, Size, layout,
};
use pagelock::sync::Ordering::Relaxed;
use pagelock::{FreezeRule, Limits, TakenOver, UserBits, Wait};
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

#[derive(Arbitrary, Debug)]
struct Input {
    start: Start,
    ops: Vec<Op>,
}

#[derive(Arbitrary, Debug)]
enum Start {
    /// The whole file.
    Bytes(Vec<u8>),
    /// A segment as it should be, but for some words, and cut off somewhere.
    Segment { size: [u8; 3], words: Vec<Write>, bytes: Option<u16> },
}

/// A word that the peer writes.
#[derive(Arbitrary, Debug)]
struct Write {
    at: Place,
    value: Value,
}

#[derive(Arbitrary, Debug)]
enum Place {
    Anywhere(u16),
    Head(u8),
    Event(u8),
    Note { seat: u8, note: u8, word: u8 },
    Page { page: u8, word: u8 },
}

#[derive(Arbitrary, Debug)]
enum Value {
    Any(u32),
    Small(u8),
    Bit(u8),
    /// What a note says: a kind and a step.
    Step(u8, u8),
}

/// `seat` is one of two, `thing` one of those that it has.
#[derive(Arbitrary, Debug)]
enum Op {
    Peer(Write),
    Lock { seat: bool, page: u8 },
    Count { seat: bool, page: u8, what: u8 },
    Next { thing: u8, what: u8 },
    End { thing: u8, what: u8 },
    Wait { seat: bool, page: u8, what: u8 },
    Look { seat: bool, page: u8 },
    Grow(u16),
    Refresh,
    Recover(u8),
    WaitForEnd(u8),
    Sit,
    Attach,
}

/// What a seat has.
enum Thing<'s> {
    Guard(SeatGuard<'s>),
    Migration(SeatMigration<'s>),
    Frozen(SeatFrozen<'s>),
    Ref(SeatRef<'s>),
    Pin(SeatPin<'s>),
}
use Thing::{Frozen, Guard, Migration, Pin, Ref};

libfuzzer_sys::fuzz_target!(|input: Input| run(input));

fn run(input: Input) {
    let Some(peer) = file(&input.start) else { return };
    let Ok(one) = Segment::attach(&peer) else { return };
    // As another process has it: other locks, another address.
    let Ok(other) = Segment::attach(&one) else { return };
    let (Ok(a), Ok(b)) = (one.sit(), other.sit()) else {
        let _ = (one.recover(|left| drop(left.stage)), one.sit().map(drop));
        return;
    };
    let mut world = World { segments: [&one, &other], seats: [&a, &b], peer, things: Vec::new() };
    world.unblock();
    for op in input.ops {
        world.step(op);
    }
}

/// A sealed file that holds what `start` says.
fn file(start: &Start) -> Option<File> {
    let bytes = match start {
        Start::Bytes(bytes) => bytes.clone(),
        Start::Segment { size: [pages, more, seats], words, bytes } => {
            let pages = u32::from(pages % 40);
            let size =
                Size::of(pages).up_to(pages + u32::from(*more)).seats(1 + u32::from(seats % 8));
            let good = Segment::create(c"good", size).ok()?;
            let file = File::from(good_fd(&good));
            let mut all = vec![0; file.metadata().unwrap().len() as usize];
            file.read_exact_at(&mut all, 0).unwrap();
            for write in words {
                let at = write.at.offset();
                if let Some(word) = all.get_mut(at..at + 4) {
                    word.copy_from_slice(&write.value.of().to_ne_bytes());
                }
            }
            all.truncate(bytes.map_or(usize::MAX, usize::from));
            all
        }
    };
    // SAFETY: a new file, of which this is the only descriptor; the name ends with a zero.
    let file = unsafe {
        let fd = libc::memfd_create(c"peer".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        assert!(fd >= 0 && libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) == 0);
        File::from_raw_fd(fd)
    };
    file.write_all_at(&bytes, 0).unwrap();
    Some(file)
}

fn good_fd(segment: &Segment) -> OwnedFd {
    use std::os::fd::AsFd;
    segment.as_fd().try_clone_to_owned().unwrap()
}

impl Place {
    /// By the layout, as if there were 8 seats: with fewer, a page is at a seat's place.
    fn offset(&self) -> usize {
        let (seat, page) = (layout::SEATS_AT as usize, 16);
        4 * match *self {
            Self::Anywhere(word) => usize::from(word),
            Self::Head(word) => usize::from(word % 20),
            Self::Event(word) => 64 + usize::from(word),
            Self::Note { seat: n, note, word } => {
                let in_seat = 16 + usize::from(note % 60) * 4 + usize::from(word % 4);
                seat / 4 + usize::from(n % 8) * 256 + in_seat
            }
            Self::Page { page: n, word } => {
                seat / 4 + 256 + usize::from(n) * page / 4 + usize::from(word % 4)
            }
        }
    }
}

impl Value {
    fn of(&self) -> u32 {
        match *self {
            Self::Any(value) => value,
            Self::Small(value) => value.into(),
            Self::Bit(bit) => 1 << (bit % 32),
            Self::Step(kind, step) => u32::from(kind % 5) | u32::from(step % 10) << 8,
        }
    }
}

/// Over so soon that no input is slow.
fn soon() -> Limits<'static, InSegment> {
    Limits::none().until(MonotonicTime::now() + Duration::from_micros(5))
}

struct World<'s> {
    segments: [&'s Segment; 2],
    seats: [&'s Seat<'s>; 2],
    peer: File,
    things: Vec<Thing<'s>>,
}

impl<'s> World<'s> {
    fn step(&mut self, op: Op) {
        let [segment, other] = self.segments;
        let seat = |which: bool| self.seats[usize::from(which)];
        match op {
            Op::Peer(write) => {
                let (at, value) = (write.at.offset() as u64, write.value.of());
                // Within the file: what is longer is another input.
                if at < self.peer.metadata().unwrap().len() {
                    self.peer.write_all_at(&value.to_ne_bytes(), at).unwrap();
                }
                self.unblock();
            }
            Op::Lock { seat: which, page } => {
                self.things.extend(seat(which).lock_within(page.into(), soon()).map(Guard));
            }
            Op::Count { seat: which, page, what } => {
                let (seat, page) = (seat(which), page.into());
                let counted = match what % 5 {
                    0 => seat.activate(page).map(Ref),
                    1 => seat.get(page).map(Ref),
                    2 => seat.pin(page).map(Pin),
                    // SAFETY: whose it is makes no difference to memory, as for a peer's writes.
                    3 => unsafe { seat.adopt_ref(page) }.map(Ref),
                    // SAFETY: as above.
                    _ => unsafe { seat.adopt_pin(page) }.map(Pin),
                };
                self.things.extend(counted);
            }
            Op::Next { thing, what } => {
                if let Some(thing) = self.take(thing) {
                    let next = self.next(thing, what);
                    self.things.push(next);
                }
            }
            Op::End { thing, what } => {
                if let Some(thing) = self.take(thing) {
                    self.end(thing, what);
                }
            }
            Op::Wait { seat: which, page, what } => {
                let wait = if what % 2 == 0 { Wait::unlocked() } else { Wait::migration() };
                let _ = seat(which).wait(page.into(), (), wait.within(soon()));
            }
            Op::Look { seat: which, page } => {
                let _ = format!("{:?}", seat(which).look(page.into()));
            }
            Op::Grow(pages) => _ = segment.grow(u32::from(pages)),
            Op::Refresh => _ = other.refresh(),
            Op::Recover(what) => {
                let _ = segment.recover(|left| match (left.stage, what % 4) {
                    (TakenOver::Frozen(frozen), 1) => _ = frozen.commit_in_place(),
                    (TakenOver::Frozen(frozen), 2) => _ = frozen.poison(),
                    (TakenOver::Poisoning(poisoning), 3) => drop(poisoning.thaw()),
                    (stage, _) => drop(stage),
                });
            }
            // For a seat that has an owner it would not return, as it should.
            Op::WaitForEnd(n) => {
                if self.seats.iter().all(|seat| seat.number() != n.into()) {
                    let _ = segment.wait_for_end_of(n.into());
                }
            }
            Op::Sit => _ = other.sit().map(|seat| drop(seat.try_lock(0))),
            Op::Attach => {
                let _ = Segment::attach(other).map(|third| third.recover(|left| drop(left.stage)));
            }
        }
    }

    /// What the peer keeps to: it does not say that one of the two seats is at a count.
    fn unblock(&self) {
        for page in 0..self.segments.iter().map(|s| s.pages()).max().unwrap_or(0) {
            let Some(cell) = self.segments.iter().find_map(|s| s.page_cell(page)) else { break };
            // SAFETY: mapped as long as the segment is, and an atomic.
            let changer = unsafe { &(*cell).changer };
            let named = changer.load(Relaxed);
            if self.seats.iter().any(|seat| seat.number() + 1 == named) {
                changer.store(0, Relaxed);
            }
        }
    }

    fn take(&mut self, thing: u8) -> Option<Thing<'s>> {
        let len = self.things.len();
        (len > 0).then(|| self.things.swap_remove(usize::from(thing) % len))
    }

    fn next(&mut self, thing: Thing<'s>, what: u8) -> Thing<'s> {
        let rule = match what / 8 {
            refs @ 0..4 => FreezeRule::ExactRefs(refs.into()),
            _ => FreezeRule::Unpinned,
        };
        match (thing, what % 4) {
            (Guard(mut guard), 0) => {
                guard.set_user(UserBits::new(what / 4 % 32));
                guard.set_tag(what.into());
                Guard(guard)
            }
            (Guard(guard), _) => Migration(guard.begin_migration()),
            (Migration(migration), 0) => Guard(migration.cancel()),
            (Migration(mut migration), 1) => {
                let _ = migration.wait_unpinned(soon());
                Migration(migration)
            }
            (Migration(migration), 2) => migration
                .freeze_unpinned(rule, soon())
                .map_or_else(|e| Migration(e.migration), Frozen),
            (Migration(migration), _) => {
                migration.freeze(rule).map_or_else(|e| Migration(e.migration), Frozen)
            }
            (Frozen(frozen), 0) => Guard(frozen.commit_keeping()),
            (Frozen(mut frozen), 1) => {
                frozen.set_user(UserBits::new(what / 4 % 32));
                Frozen(frozen)
            }
            (Frozen(frozen), _) => Migration(frozen.thaw()),
            (other, _) => other,
        }
    }

    fn end(&mut self, thing: Thing<'s>, what: u8) {
        match (thing, what % 4) {
            (Guard(guard), 0) => _ = guard.unlock(),
            (Guard(guard), 1) => _ = guard.poison(),
            (Migration(migration), 0) => _ = migration.abort(),
            (Migration(migration), 1) => _ = migration.poison(),
            (Frozen(frozen), 0) => _ = frozen.commit_in_place(),
            (Frozen(frozen), 1) => _ = frozen.poison(),
            (Frozen(frozen), 2) => match self.take(what / 4) {
                Some(Guard(dst)) => {
                    if let Err(refused) = frozen.commit_to(dst) {
                        self.things.extend([Frozen(refused.frozen), Guard(refused.dst)]);
                    }
                }
                other => {
                    self.things.extend(other);
                    _ = frozen.abort();
                }
            },
            (Ref(counted), 0) => counted.into_raw(),
            (Ref(counted), _) => _ = counted.put(),
            (Pin(counted), 0) => counted.into_raw(),
            (Pin(counted), _) => _ = counted.unpin(),
            (other, _) => drop(other),
        }
    }
}
