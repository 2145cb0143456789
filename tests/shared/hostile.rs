//! A process with a segment's descriptor can write all of it, at any time. Nothing that it writes
//! makes this process touch memory that is not the segment's: it is refused by name, or makes for a
//! wrong answer, a wait, or an assertion.

#![cfg(all(
    feature = "shared",
    feature = "std",
    target_os = "linux",
    not(miri),
    not(pagelock_shuttle)
))]

mod passed_on;

use crate::common::{
    Lots,
    child::{End, fork, shared},
    watched,
};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::MonotonicTime;
use pagelock::shared::layout::{ORDER, VERSION};
use pagelock::shared::{InSegment, Segment, SegmentError, Size};
use pagelock::{FreezeRule, Limits, Wait};
use proptest::prelude::*;
use std::io::Write as _;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Instant;

/// A file without a name that holds `bytes`, and is sealed if `seals` says so.
fn file(bytes: &[u8], seals: i32) -> OwnedFd {
    // SAFETY: a new file; the name ends with a zero.
    let fd = unsafe { libc::memfd_create(c"hostile".as_ptr(), libc::MFD_ALLOW_SEALING) };
    assert!(fd >= 0);
    // SAFETY: nobody else has it.
    let file = unsafe { std::fs::File::from_raw_fd(fd) };
    (&file).write_all(bytes).unwrap();
    // SAFETY: no effect but on this file.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) }, 0);
    file.into()
}

/// The bytes of a segment that is as it should be.
fn good() -> Vec<u8> {
    let segment = Segment::create(c"good", Size::of(8).up_to(64).seats(2)).unwrap();
    let mut bytes = vec![0; 4096 + 2 * 1024 + 8 * 16];
    // SAFETY: fills in the buffer.
    let got =
        unsafe { libc::pread(segment.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(got as usize, bytes.len());
    bytes
}

fn attached(bytes: &[u8]) -> Result<Segment, SegmentError> {
    Segment::attach(file(bytes, libc::F_SEAL_SHRINK))
}

fn put(bytes: &mut [u8], word: usize, value: u32) {
    bytes[word * 4..word * 4 + 4].copy_from_slice(&value.to_ne_bytes());
}

#[test]
fn what_is_no_segment_is_refused_by_name() {
    let good = good();
    assert!(attached(&good).is_ok());
    let with = |word, value| {
        let mut bytes = good.clone();
        put(&mut bytes, word, value);
        attached(&bytes).unwrap_err()
    };
    assert_eq!(attached(&[]).unwrap_err(), SegmentError::NoSegment);
    assert_eq!(attached(&good[..63]).unwrap_err(), SegmentError::NoSegment);
    assert_eq!(with(0, 7), SegmentError::NoSegment);
    assert_eq!(with(2, ORDER.swap_bytes()), SegmentError::ForeignEndian);
    assert_eq!(with(3, VERSION + 1), SegmentError::Version { found: VERSION + 1 });
    assert!(matches!(with(7, 0), SegmentError::Size(_)));
    assert!(matches!(with(7, u32::MAX), SegmentError::Size(_)));
    assert!(matches!(with(11, u32::MAX), SegmentError::Size(_)));
    assert!(matches!(with(15, 65), SegmentError::Size(_)), "more pages than there can be");
    assert_eq!(
        with(15, 64),
        SegmentError::Truncated { bytes: good.len() as u64, needed: good.len() as u64 + 56 * 16 }
    );
    for word in [4, 5, 6, 8, 9, 10, 12, 13, 14] {
        assert_eq!(with(word, 1 << 30), SegmentError::Inconsistent, "word {word}");
    }
    for bytes in [64, 4096, 6144, good.len() - 1] {
        assert!(
            matches!(attached(&good[..bytes]).unwrap_err(), SegmentError::Truncated { .. }),
            "{bytes}"
        );
    }
}

#[test]
fn more_pages_than_the_file_has_are_not_believed() {
    let segment = Segment::create(c"more", Size::of(8).up_to(100_000)).unwrap();
    for said in [100_000u32, u32::MAX, 0] {
        // SAFETY: reads the number.
        let put = unsafe { libc::pwrite(segment.as_raw_fd(), (&raw const said).cast(), 4, 60) };
        assert_eq!(put, 4);
        assert_eq!((segment.refresh(), segment.pages()), (Ok(8), 8));
    }
}

/// If it could, an access to what is gone would be a signal.
#[test]
fn a_file_that_could_shrink_is_refused() {
    assert_eq!(Segment::attach(file(&good(), 0)).unwrap_err(), SegmentError::NotSealed);
    let ordinary = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let refused = Segment::attach(&ordinary).unwrap_err();
    assert!(
        matches!(refused, SegmentError::NotSealed | SegmentError::System { .. }),
        "{refused:?}"
    );
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    assert_eq!(Segment::attach(&null).unwrap_err(), SegmentError::NotSealed);
    let segment = Segment::create(c"sealed", Size::of(8)).unwrap();
    // SAFETY: no effect but on this file.
    assert_eq!(unsafe { libc::ftruncate(segment.as_raw_fd(), 4096) }, -1);
}

#[test]
fn as_many_segments_as_a_process_can_have_and_no_more() {
    // In a process of its own: other tests of this one have some too.
    let child = fork(|| {
        let make = || Segment::create(c"many", Size::of(2));
        let mut all = Vec::new();
        let refused = loop {
            match make() {
                Ok(segment) => all.push(segment),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, SegmentError::TooMany);
        assert!(all.len() > 8, "{}", all.len());
        for segment in &all {
            let seat = segment.sit().unwrap();
            let guard = seat.lock(1).unwrap();
            std::thread::scope(|s| {
                s.spawn(|| drop(segment.sit().unwrap().lock(1).unwrap()));
                std::thread::sleep(Duration::from_millis(1));
                drop(guard);
            });
        }
        all.pop();
        all.push(make().unwrap());
        0
    });
    assert_eq!(child.status(), 0);
}

/// A count waits for a seat that is at it, and for no number that nobody can have written.
#[test]
fn a_count_does_not_wait_for_a_changer_that_is_none() {
    let segment = Segment::create(c"changer", Size::of(4).seats(4)).unwrap();
    let (seat, other) = (segment.sit().unwrap(), segment.sit().unwrap());
    seat.activate(1).unwrap().into_raw();
    let own = seat.number() + 1;
    let scribble = |changer: u32, page: i64| {
        let at = 4096 + 4 * 1024 + page * 16 + 8;
        // SAFETY: reads the number.
        let put = unsafe { libc::pwrite(segment.as_raw_fd(), (&raw const changer).cast(), 4, at) };
        assert_eq!(put, 4);
    };
    watched(&[], || {
        // No seat; a seat that nobody has; the one that counts.
        for changer in [5, u32::MAX, 4, own] {
            scribble(changer, 1);
            let pin = seat.pin(1).unwrap();
            scribble(changer, 1);
            drop(pin);
        }
        // Of the dead: one that has noted something else, while a survivor gives that back.
        drop(other);
        let child = fork(|| {
            let own = Segment::attach(&segment).unwrap();
            core::mem::forget(own.sit().unwrap().pin(1).unwrap());
            // SAFETY: ends this process.
            unsafe { libc::raise(libc::SIGKILL) };
            0
        });
        assert_eq!(child.wait(), End::Signal(libc::SIGKILL));
        child.reaped();
        scribble(2, 1);
        assert_eq!(segment.recover(|left| panic!("{left:?}")).unwrap().pins, 1);
        assert!(format!("{:?}", seat.look(1).unwrap()).ends_with("1 references, 0 pins }"));
    });
}

fn soon() -> Limits<'static, InSegment> {
    Limits::none().until(MonotonicTime::now() + Duration::from_micros(200))
}

/// Everything that can be done with a segment. What comes of it is not looked at.
fn use_all(segment: &Segment, lots: &mut Lots) {
    let _ = segment.recover(|left| drop(left.stage));
    let _ = segment.refresh();
    let _ = segment.grow(lots.draw(70) as u32);
    let Ok(seat) = segment.sit() else { return };
    for _ in 0..4 {
        let below = if lots.draw(2) == 0 { 80 } else { u64::from(segment.pages()) + 2 };
        let page = lots.draw(below) as u32;
        let _ = format!("{:?}", seat.look(page).map(|page| format!("{page:?}")));
        match lots.draw(5) {
            0 => drop((seat.lock_within(page, soon()), seat.try_lock(page))),
            1 => drop((seat.get(page), seat.pin(page), seat.activate(page))),
            2 => _ = seat.wait(page, (), Wait::migration().within(soon())),
            3 => {
                let Ok(guard) = seat.lock_within(page, soon()) else { continue };
                let Ok(frozen) =
                    guard.begin_migration().freeze_unpinned(FreezeRule::Unpinned, soon())
                else {
                    continue;
                };
                if let Ok(dst) = seat.lock_within(lots.draw(8) as u32, soon()) {
                    let _ = frozen.commit_to(dst).map_err(|e| e.why);
                }
            }
            _ => {
                if let Ok(guard) = seat.lock_within(page, soon()) {
                    let _ = guard.poison();
                }
            }
        }
    }
}

/// How a process ended that used what another has written: to its end, by an assertion, which in a
/// build that has them may end in an abort, or not at all, so that it was ended after a while.
#[derive(Default, Debug)]
struct Ends {
    whole: AtomicUsize,
    asserted: AtomicUsize,
    waited: AtomicUsize,
}

impl Ends {
    /// Runs `body` in a process of its own. Any other end, an access to what is not there above
    /// all, is a failure.
    fn run(&self, body: impl FnOnce()) {
        let child = fork(|| {
            let zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
            let soon = libc::itimerval {
                it_interval: zero,
                it_value: libc::timeval { tv_usec: 400_000, ..zero },
            };
            // SAFETY: ends this process in a while; and sends what is said of an abort to nowhere.
            unsafe {
                libc::setitimer(libc::ITIMER_REAL, &soon, core::ptr::null_mut());
                libc::dup2(libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY), 2);
            }
            // After that, for it takes a lock, which another thread may have had at the fork.
            std::panic::set_hook(Box::new(|_| {}));
            body();
            0
        });
        let end = child.wait();
        child.reaped();
        let count = match end {
            End::Exit(0) => &self.whole,
            End::Exit(101) | End::Signal(libc::SIGABRT) if cfg!(debug_assertions) => &self.asserted,
            End::Signal(libc::SIGALRM) => &self.waited,
            end => panic!("{end:?}"),
        };
        count.fetch_add(1, SeqCst);
    }
}

static OF_ANYTHING: Ends =
    Ends { whole: AtomicUsize::new(0), asserted: AtomicUsize::new(0), waited: AtomicUsize::new(0) };
static REFUSED: AtomicUsize = AtomicUsize::new(0);

fn try_out(bytes: &[u8], seed: usize) {
    match attached(bytes) {
        Ok(segment) => {
            OF_ANYTHING.run(|| use_all(&Segment::attach(&segment).unwrap(), &mut Lots::of(seed)))
        }
        Err(_) => _ = REFUSED.fetch_add(1, SeqCst),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(attached(&bytes).is_err());
    }
}

/// The top as it should be but for a word or none; seats and pages full of anything.
#[test]
fn a_segment_of_anything_is_refused_or_used_without_harm() {
    let words = prop::collection::vec((0usize..64, prop_oneof![any::<u32>(), 0u32..70]), 0..2);
    let what = prop_oneof![
        any::<u32>(),
        0u32..9,
        (1u32..4, 0u32..9).prop_map(|(kind, step)| kind | step << 8)
    ];
    let notes = prop::collection::vec((0usize..120, 0usize..4, what), 0..60);
    let pages = prop::collection::vec((0usize..32, prop_oneof![any::<u32>(), 0u32..4]), 0..32);
    let config =
        ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() };
    let run = proptest::test_runner::TestRunner::new(config).run(
        &(words, notes, pages, any::<u16>()),
        |(words, notes, pages, seed)| {
            let mut bytes = good();
            for (word, value) in words {
                put(&mut bytes, word, value);
            }
            for (note, word, value) in notes {
                put(&mut bytes, 1024 + note / 60 * 256 + 16 + note % 60 * 4 + word, value);
            }
            for (word, value) in pages {
                put(&mut bytes, 1536 + word, value);
            }
            try_out(&bytes, seed.into());
            Ok(())
        },
    );
    run.unwrap();
    println!("{} refused; {OF_ANYTHING:?}", REFUSED.load(SeqCst));
    assert!(OF_ANYTHING.whole.load(SeqCst) > 5 && REFUSED.load(SeqCst) > 5);
}

/// A process writes all over the segment, while another works with it, again and again.
#[test]
fn a_process_that_scribbles_harms_nothing_outside_of_the_segment() {
    let (ends, rounds): (Ends, &AtomicUsize) = (Ends::default(), shared());
    for seed in 0..30 {
        let is_attached: &AtomicUsize = shared();
        let segment = Segment::create(c"scribble", Size::of(32).up_to(4096).seats(4)).unwrap();
        let fd = segment.as_raw_fd();
        let scribbler = fork(move || {
            let mut lots = Lots::of(seed);
            while is_attached.load(SeqCst) == 0 {
                std::thread::yield_now();
            }
            loop {
                let at = lots.draw(4096 + 4 * 1024 + 32 * 16) as i64 & !3;
                let [plain, any] = [lots.draw(16) as u32, lots.draw(1 << 32) as u32];
                let value = [0, 0, plain, any][lots.draw(4) as usize];
                // SAFETY: reads the number.
                unsafe { libc::pwrite(fd, (&raw const value).cast(), 4, at) };
            }
        });
        ends.run(|| {
            let (own, began, mut lots) =
                (Segment::attach(&segment).unwrap(), Instant::now(), Lots::of(seed + 100));
            is_attached.store(1, SeqCst);
            while began.elapsed() < Duration::from_millis(100) {
                use_all(&own, &mut lots);
                rounds.fetch_add(1, SeqCst);
            }
        });
        assert_eq!(scribbler.poll(), None);
        scribbler.kill();
    }
    println!("{rounds:?} rounds; {ends:?}");
    assert!(rounds.load(SeqCst) > 0);
}
