//! The load: processors that use memory, while it moves under them.
//!
//! All but the first add to words, run code, check words that never change, put references into
//! batches, have the device write, move a few pages themselves; the last one also forks. The first
//! migrates, and prints. Each knows what it has added where, so that a lost write is seen at once
//! or at the end.

use crate::batches::{self, Drains};
use crate::counters::*;
use crate::frames::{self, TIERS};
use crate::kernel::{KERNEL, Kernel};
use crate::layout::{CODE, COPIES, DATA, OWN, PATTERN, PRIVATE, TRANSFER, WORDS};
use crate::paging::{self, At};
use crate::port::{self, Exit};
use crate::{clock, cow, cpu, device, layout, platform, serial, shootdown};
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::leaf::Leaf;
use pagelock::mm::Entry;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::ledger::Owner;
use pagelock::mm::migrate::{Mode, Order, Outcome, Slot, migrate};

/// For how long.
pub static LAST_MS: AtomicU64 = AtomicU64::new(3_000);
/// Whether this is a control, which wants to see corruption.
pub static IS_CONTROL: AtomicBool = AtomicBool::new(false);
static IS_OVER: AtomicBool = AtomicBool::new(false);

type Each = [AtomicU64; PRIVATE.end];
/// What each processor has added to the common word of a page.
pub static COMMON: [Each; cpu::MAX] =
    [const { [const { AtomicU64::new(0) }; PRIVATE.end] }; cpu::MAX];
/// What each processor's own word of a page is.
pub static OWNED: [Each; cpu::MAX] =
    [const { [const { AtomicU64::new(0) }; PRIVATE.end] }; cpu::MAX];
/// What the device has written last for each processor.
pub static WRITTEN: [Each; cpu::MAX] =
    [const { [const { AtomicU64::new(0) }; PRIVATE.end] }; cpu::MAX];

/// Data was lost.
pub fn wrong(what: &str, page: usize, found: u64, wanted: u64) -> ! {
    serial::print_in_panic(format_args!(
        "\n{what} of page {page} is {found:#x} and should be {wanted:#x}\n"
    ));
    if IS_CONTROL.load(Relaxed) {
        port::exit(Exit::Corrupted);
    }
    panic!("data was lost");
}

/// Random numbers.
pub struct Random(u64);

impl Random {
    /// A sequence for a processor.
    pub fn new(seed: usize) -> Self {
        Self(clock::counts() | 1 | (seed as u64 + 1) << 32)
    }

    /// One below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn of(&mut self, pages: core::ops::Range<usize>) -> usize {
        pages.start + self.below(pages.len())
    }
}

/// What each processor does until the time is up.
pub fn run(index: usize) {
    let mut random = Random::new(index);
    let mut unlocked = Unlocked::promise();
    if index == 0 {
        lead(&mut random, &mut unlocked);
        // Release: pairs with the Acquire below.
        IS_OVER.store(true, Release);
        return;
    }
    let (mut next_fork, mut next_transfer) = (clock::now_ms(), clock::now_ms());
    while !IS_OVER.load(Acquire) {
        for _ in 0..64 {
            step(&mut random, index, &mut unlocked);
        }
        let (is_control, now) = (IS_CONTROL.load(Relaxed), clock::now_ms());
        let is_fork = shootdown::NOT_IN_FORK.load(Relaxed);
        if now >= next_transfer && !shootdown::IS_OFF.load(Relaxed) && !is_fork {
            transfer(index, random.below(2), random.of(DATA), &mut unlocked);
            next_transfer = clock::now_ms() + if is_control { 0 } else { 20 };
        }
        if now >= next_fork && (!is_control || is_fork) && index + 1 == cpu::up() {
            fork(index, &mut random);
            next_fork = clock::now_ms() + 30;
        }
    }
}

fn lead(random: &mut Random, unlocked: &mut Unlocked) {
    let began = clock::now_ms();
    let mut next_line = began;
    loop {
        let now = clock::now_ms();
        let is_over = now >= began + LAST_MS.load(Relaxed) && is_enough();
        if now >= next_line || is_over {
            line(now - began);
            next_line = now + 200;
        }
        if is_over {
            serial::print(format_args!("\n"));
            return;
        }
        move_some::<32>(random, unlocked);
    }
}

/// Whether some of everything was done: on a busy host that takes longer.
fn is_enough() -> bool {
    let least = [
        (&MOVED, 200),
        (&BROUGHT, 20),
        (&DRAINED, 20),
        (&TRANSFERS, 3),
        (&COPIED, 10),
        (&FORKS, 2),
    ];
    IS_CONTROL.load(Relaxed) || least.iter().all(|(counter, least)| counter.get() >= *least)
}

fn line(ms: u64) {
    serial::print(format_args!(
        "\r  {:>5} ms: moved {} (put back {}), faults {} (brought back {}), sleeps {}, \
         shootdowns {} for {} entries, drains {}, transfers {}, \
         copies {}, forks {} ",
        ms,
        MOVED.get(),
        PUT_BACK.get(),
        FAULTS.get(),
        BROUGHT.get(),
        SLEEPS.get(),
        SHOOTDOWNS.get(),
        SHOT.get(),
        DRAINED.get(),
        TRANSFERS.get(),
        COPIED.get(),
        FORKS.get(),
    ));
}

/// Moves `N` pages that are chosen by address or by frame to some tier.
fn move_some<const N: usize>(random: &mut Random, unlocked: &mut Unlocked) {
    let mut slots: [Slot<'_, Kernel>; N] = core::array::from_fn(|_| {
        if random.below(4) == 0 {
            return Slot::frame(frames::all().start + random.below(frames::COUNT as usize) as u64);
        }
        let page = random.below(PRIVATE.end);
        Slot::at(At::new(0, layout::windows(page).end - 1, page))
    });
    let mode = if random.below(2) == 0 { Mode::Async } else { Mode::SyncLight };
    let order = Order::to(TIERS[random.below(3)]).mode(mode).tries(3);
    let _ = migrate(&KERNEL, &mut slots, &order, &Drains, unlocked);
    for slot in &slots {
        match slot.outcome() {
            Outcome::Moved { .. } => MOVED.one(),
            Outcome::Aborted(_) => PUT_BACK.one(),
            _ => {}
        }
    }
}

fn step(random: &mut Random, index: usize, unlocked: &mut Unlocked) {
    let (window, page) = (random.below(2), random.of(DATA));
    // In a control data is lost, and the kernel itself has to live until that is seen.
    let is_fork = shootdown::NOT_IN_FORK.load(Relaxed);
    let what = match (IS_CONTROL.load(Relaxed), is_fork) {
        (false, _) => random.below(256),
        (true, false) => 255,
        (true, true) => 128,
    };
    match what {
        0 => move_some::<4>(random, unlocked),
        1..16 => refer(window, page),
        16..80 => check(window, page, random.below(WORDS - PATTERN) + PATTERN),
        80..128 => run_code(index, window, page, random),
        128..176 => own(index, 0, random.of(PRIVATE)),
        _ => own(index, window, page),
    }
}

/// Adds to the common word in one step, and to this processor's own in two.
fn own(index: usize, window: usize, page: usize) {
    layout::word(window, page, 0).fetch_add(1, Relaxed);
    COMMON[index][page].fetch_add(1, Relaxed);
    let (word, expected) = (layout::word(window, page, OWN + index), &OWNED[index][page]);
    let (found, wanted) = (word.load(Relaxed), expected.load(Relaxed));
    if found != wanted {
        wrong("a processor's own word", page, found, wanted);
    }
    word.store(wanted + 1, Relaxed);
    expected.store(wanted + 1, Relaxed);
}

fn check(window: usize, page: usize, word: usize) {
    let (found, wanted) =
        (layout::word(window, page, word).load(Relaxed), layout::pattern(page, word));
    if found != wanted {
        wrong("an unchanging word", page, found, wanted);
    }
}

/// Runs code that may move while it runs, on data that may move as well.
fn run_code(index: usize, window: usize, page: usize, random: &mut Random) {
    let (code, copy, seed, rounds) =
        (random.of(CODE), random.below(COPIES), random.below(1 << 20) as u64, 100);
    let found = layout::call(window, code, copy, layout::word(window, page, 0), seed, rounds);
    COMMON[index][page].fetch_add(1, Relaxed);
    if found != layout::result(seed, rounds) {
        wrong("what the code makes", code, found, layout::result(seed, rounds));
    }
}

/// Finds the page by its entry, and puts a reference into the batch, where it is in a migrator's
/// way until that drains.
fn refer(window: usize, page: usize) {
    let entry = paging::lock(At::new(0, window, page));
    if let Ok(Leaf::Present { pfn, .. } | Leaf::DevicePrivate { pfn, .. }) = entry.get() {
        let is_had = frames::get(pfn, Owner::Get);
        drop(entry);
        if is_had {
            let _ = batches::add(pfn, Owner::Get);
        }
    }
}

fn transfer(index: usize, window: usize, page: usize, unlocked: &mut Unlocked) {
    let (last, first) = (&WRITTEN[index][page], TRANSFER + index * device::WORDS);
    let value = last.load(Relaxed) + device::WORDS as u64;
    device::transfer(At::new(0, window, page), first, value, unlocked);
    last.store(value, Relaxed);
    for n in 0..device::WORDS {
        let (found, wanted) =
            (layout::word(window, page, first + n).load(Relaxed), value + n as u64);
        if found != wanted {
            wrong("what the device wrote", page, found, wanted);
        }
    }
}

/// Forks, and becomes the child for a while: the child's pages stay as they were, whatever the
/// parent's processors write.
fn fork(index: usize, random: &mut Random) {
    const CHILD: usize = 1;
    // So that there is something to share.
    (0..8).for_each(|_| own(index, 0, random.of(PRIVATE)));
    cow::fork(0, CHILD);
    paging::enter(CHILD);
    let found: [u64; PRIVATE.end - PRIVATE.start] =
        core::array::from_fn(|n| sum_of(PRIVATE.start + n));
    for _ in 0..4 {
        platform::rest_ms(1);
        let page = random.of(PRIVATE);
        let word = layout::word(0, page, WORDS - 1);
        word.store(word.load(Relaxed) + 1, Relaxed);
        for (n, found) in found.iter().enumerate() {
            let now = sum_of(PRIVATE.start + n);
            if now != *found {
                wrong("round after round, the child's copy", PRIVATE.start + n, now, *found);
            }
        }
    }
    paging::enter(0);
    cow::end(CHILD);
    // The parent has none of what the child wrote.
    let page = random.of(PRIVATE);
    let found = layout::word(0, page, WORDS - 1).load(Relaxed);
    if found != 0 {
        wrong("a word that only children write", page, found, 0);
    }
}

fn sum_of(page: usize) -> u64 {
    (0..OWN + cpu::MAX).map(|word| layout::word(0, page, word).load(Relaxed)).sum()
}
