//! Processes that are killed: at any time here, and at each step of each call in `steps.rs`.

#![cfg(all(
    feature = "shared",
    feature = "std",
    target_os = "linux",
    not(miri),
    not(pagelock_shuttle)
))]

use self::work::{PAGES, ROLES, World, rescue, work};
use crate::common::{
    Lots,
    child::{Child, End, fork, shared, sleep},
    watched,
};
use core::mem::forget;
use core::sync::atomic::Ordering::SeqCst;
use pagelock::FreezeRule;
use pagelock::shared::layout::SEAT_LOCKS;
use pagelock::shared::{Recovered, Seat, Segment, Size};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

mod work;

/// How many processes are killed: `PAGELOCK_KILLS`, for the long form.
fn kills() -> u32 {
    std::env::var("PAGELOCK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

struct Run {
    world: &'static World,
    segment: Segment,
    lots: Lots,
}

impl Run {
    fn new(seed: usize, seats: u32) -> Self {
        let segment = Segment::create(c"survivors", Size::of(PAGES).seats(seats)).unwrap();
        let seat = segment.sit().unwrap();
        (0..PAGES).for_each(|page| seat.activate(page).unwrap().into_raw());
        drop(seat);
        Self { world: shared(), segment, lots: Lots::of(seed) }
    }

    fn start(&mut self, role: usize) -> Child {
        let (world, seed) = (self.world, self.lots.draw(1 << 40));
        world.recovered[role].store(world.deaths.load(SeqCst), SeqCst);
        let segment = &self.segment;
        fork(move || match Segment::attach(segment) {
            Ok(own) => work(world, &own, role, seed),
            Err(_) => 7,
        })
    }

    /// Until one of the living has recovered what there is of all deaths.
    fn recovered(&self, children: &[Option<Child>]) {
        let (began, deaths) = (Instant::now(), self.world.deaths.load(SeqCst));
        loop {
            for (role, child) in children.iter().enumerate() {
                let Some(child) = child else { continue };
                if self.world.recovered[role].load(SeqCst) == deaths {
                    return;
                }
                assert_eq!(child.poll(), None, "role {role}");
            }
            assert!(began.elapsed() < Duration::from_secs(20), "stuck: {:?}", self.pages());
            std::thread::yield_now();
        }
    }

    fn pages(&self) -> Vec<String> {
        let seat = self.segment.sit().unwrap();
        (0..PAGES).map(|page| format!("{:?}", seat.look(page).unwrap())).collect()
    }

    fn no_byte_is_wrong(&self) {
        assert_eq!(self.world.wrong.load(SeqCst), 0, "found at that line of survivors/work.rs");
    }

    /// How many pages nobody can have any more, and how many counts are off.
    fn damage(&self) -> (usize, usize) {
        let pages = self.pages();
        let taken = pages.iter().filter(|page| !page.contains("free, ")).count();
        let off = pages.iter().filter(|page| !page.ends_with("; 1 references, 0 pins }")).count();
        (taken, off)
    }
}

/// Workers and a manager are killed while the others go on, now and then two at a time, the second
/// of them at recovering.
#[test]
fn whoever_is_killed_at_whatever_time_nothing_is_stuck_no_byte_wrong_and_no_count_off() {
    let seed = std::env::var("PAGELOCK_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut run = Run::new(seed, 8);
    let mut children: Vec<Option<Child>> = (0..ROLES).map(|role| Some(run.start(role))).collect();
    let (mut killed, mut by_role) = (0, [0; ROLES]);
    while killed < kills() {
        sleep(run.lots.draw(2000));
        let first = run.lots.draw(ROLES as u64) as usize;
        let mut dead = vec![first];
        children[first].take().unwrap().kill();
        run.world.deaths.fetch_add(1, SeqCst);
        if run.lots.draw(4) == 0 {
            sleep(run.lots.draw(150));
            let second = (first + 1) % ROLES;
            children[second].take().unwrap().kill();
            run.world.deaths.fetch_add(1, SeqCst);
            dead.push(second);
        }
        run.recovered(&children);
        run.no_byte_is_wrong();
        for role in dead {
            killed += 1;
            by_role[role] += 1;
            children[role] = Some(run.start(role));
        }
    }
    run.world.ends.store(1, SeqCst);
    for child in children {
        assert_eq!(child.unwrap().status(), 0);
    }
    run.no_byte_is_wrong();
    assert_eq!(run.segment.recover(|left| panic!("{left:?}")).unwrap(), Recovered::default());
    assert_eq!(run.damage(), (0, 0), "{:?}", run.pages());
    for page in 0..PAGES {
        assert!(run.world.is_right(&run.segment, page) && run.world.sum(page) > 0);
    }
    let seats: Vec<_> = (0..8).map(|_| run.segment.sit().unwrap()).collect();
    println!(
        "seed {seed}: {killed} kills, by role {by_role:?}, {} seats; {:?}",
        seats.len(),
        run.world.found
    );
    let found = &run.world.found;
    for (what, n) in [
        ("locked", &found.when[1]),
        ("pins", &found.pins),
        ("refs", &found.refs),
        ("frozen", &found.stages[2]),
    ] {
        assert!(n.load(SeqCst) > 0, "nobody died with {what}: the test does not test that");
    }
}

/// The control: what the above would find if nobody recovered.
#[test]
fn without_recovery_pages_stay_taken_and_counts_off() {
    let run = Run::new(2, 8);
    let parts: [fn(&Seat<'_>); 4] = [
        |seat| forget(seat.lock(0).unwrap()),
        |seat| {
            forget(seat.lock(1).unwrap().begin_migration().freeze(FreezeRule::Unpinned).unwrap())
        },
        |seat| forget(seat.pin(2).unwrap()),
        |seat| forget(seat.get(3).unwrap()),
    ];
    for part in parts {
        let child = fork(|| {
            let own = Segment::attach(&run.segment).unwrap();
            let seat = own.sit().unwrap();
            part(&seat);
            // SAFETY: ends this process.
            unsafe { libc::raise(libc::SIGKILL) };
            0
        });
        assert_eq!(child.wait(), End::Signal(libc::SIGKILL));
        child.reaped();
    }
    println!("{:?}", run.pages());
    // Two pages that nobody has, one that nobody can refer to, one that cannot move, and one that
    // is never freed.
    assert_eq!(run.damage(), (2, 3));
    let recovered = run.segment.recover(|left| rescue(run.world, &run.segment, left)).unwrap();
    assert_eq!((recovered.seats, recovered.pages, recovered.pins, recovered.refs), (4, 2, 1, 1));
    assert_eq!(run.damage(), (0, 0), "{:?}", run.pages());
}

#[test]
fn a_stopped_process_is_not_robbed() {
    let segment = Segment::create(c"stopped", Size::of(3).seats(2)).unwrap();
    watched(&[], || {
        let child = fork(|| {
            let own = Segment::attach(&segment).unwrap();
            let seat = own.sit().unwrap();
            let live = seat.activate(1).unwrap();
            let (guard, pin) = (seat.lock(0).unwrap(), seat.pin(1).unwrap());
            // SAFETY: stops this process, until it is told to go on.
            unsafe { libc::raise(libc::SIGSTOP) };
            let is_whole =
                format!("{:?}", seat.look(1).unwrap()).ends_with("1 references, 1 pins }");
            drop((live, guard, pin));
            u8::from(!is_whole)
        });
        assert_eq!(child.wait(), End::Stopped);
        for _ in 0..100 {
            assert_eq!(segment.recover(|left| panic!("{left:?}")).unwrap(), Recovered::default());
        }
        let seat = segment.sit().unwrap();
        assert!(seat.try_lock(0).is_err());
        child.signal(libc::SIGCONT);
        assert_eq!(child.status(), 0);
        drop(seat.try_lock(0).unwrap());
    });
}

#[test]
fn a_thread_that_waits_for_the_end_of_a_seat_is_woken_by_the_kernel() {
    let segment = Segment::create(c"ends", Size::of(2).seats(2)).unwrap();
    watched(&[], || {
        let child = fork(|| {
            let own = Segment::attach(&segment).unwrap();
            let seat = own.sit().unwrap();
            let _guard = seat.lock(1).unwrap();
            own.user_words()[0].store(1 + seat.number(), SeqCst);
            loop {
                std::thread::park();
            }
        });
        let number = loop {
            match segment.user_words()[0].load(SeqCst) {
                0 => std::thread::yield_now(),
                number => break number - 1,
            }
        };
        std::thread::scope(|s| {
            let watcher = s.spawn(|| segment.wait_for_end_of(number));
            sleep(5000);
            assert!(!watcher.is_finished());
            child.kill();
            assert_eq!(watcher.join().unwrap(), Ok(true));
        });
        assert_eq!(segment.recover(|left| drop(left)).unwrap().pages, 1);
        assert_eq!(segment.wait_for_end_of(number), Ok(false), "nothing is left");
        assert!(segment.wait_for_end_of(9).is_err());
    });
}

/// Its lock keeps a survivor from the seat, and the survivor says that something is left.
#[test]
fn a_waiter_that_is_stopped_as_it_wakes_does_not_hide_what_the_dead_have_left() {
    let segment = Segment::create(c"waiter", Size::of(2).seats(2)).unwrap();
    let child = fork(|| {
        let own = Segment::attach(&segment).unwrap();
        forget(own.sit().unwrap().lock(1).unwrap());
        // SAFETY: ends this process.
        unsafe { libc::raise(libc::SIGKILL) };
        0
    });
    assert_eq!(child.wait(), End::Signal(libc::SIGKILL));
    child.reaped();
    // As `wait_for_end_of` has it until it returns, on a description of its own.
    let waiter = std::fs::File::open(format!("/proc/self/fd/{}", segment.as_raw_fd())).unwrap();
    // SAFETY: integers, of which all zeroes are a value.
    let mut lock: libc::flock64 = unsafe { core::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_RDLCK as _, SEAT_LOCKS, 1);
    // SAFETY: reads the structure.
    assert_eq!(unsafe { libc::fcntl(waiter.as_raw_fd(), libc::F_OFD_SETLK, &lock) }, 0);
    let found = segment.recover(|left| panic!("{left:?}")).unwrap();
    assert_eq!((found.seats, found.undecided), (0, 1));
    drop(waiter);
    let found = segment.recover(|left| assert_eq!(left.page, 1)).unwrap();
    assert_eq!((found.pages, found.undecided), (1, 0));
}

/// Its number lives on, and nobody sits in its seat.
#[test]
fn a_process_that_executes_another_program_is_recovered_as_a_dead_one() {
    let segment = Segment::create(c"exec", Size::of(2).seats(2)).unwrap();
    watched(&[], || {
        let child = fork(|| {
            let own = Segment::attach(&segment).unwrap();
            let seat = own.sit().unwrap();
            forget(seat.lock(1).unwrap());
            let arguments = [c"sleep".as_ptr(), c"1000".as_ptr(), core::ptr::null()];
            // SAFETY: the strings end with a zero, and their list with null.
            unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
            1
        });
        while segment.recover(|left| drop(left.stage)).unwrap().pages == 0 {
            assert_eq!(child.poll(), None);
            std::thread::yield_now();
        }
        assert_eq!(child.poll(), None, "it goes on, as another program");
        child.kill();
        drop(segment.sit().unwrap().try_lock(1).unwrap());
    });
}

/// A fork shares the locks that say who lives: it must not act on them.
#[test]
fn a_fork_neither_gives_up_what_its_parent_has_nor_recovers() {
    let segment = Segment::create(c"fork", Size::of(2).seats(2)).unwrap();
    watched(&[], || {
        let seat = segment.sit().unwrap();
        let guard = seat.lock(1).unwrap();
        let child = fork(|| {
            let refused = segment.sit().is_err() && segment.recover(|left| drop(left)).is_err();
            let own = Segment::attach(&segment).unwrap();
            let found = own.recover(|left| panic!("{left:?}")) == Ok(Recovered::default());
            u8::from(!(refused && found))
        });
        assert_eq!(child.status(), 0);
        // One that ends as a program does drops what it has inherited.
        let other = Segment::attach(&segment).unwrap();
        drop(guard);
        let child = fork(|| {
            // SAFETY: the parent's, which this process does not use.
            drop(unsafe { core::ptr::read(&seat) });
            0
        });
        assert_eq!(child.status(), 0);
        let taken = [other.sit().unwrap()];
        assert!(other.sit().is_err(), "the parent's seat is its own still: {taken:?}");
    });
}
