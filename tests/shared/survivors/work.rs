//! Pages in two tiers that workers write, pin and refer to while a manager moves them; and what a
//! survivor makes of those of the dead.
//!
//! A page's bytes are eight words, which are equal whenever nobody owns the page. Each is the sum
//! of what the page's ledger says that each process has added. A worker enters what it is about to
//! add, then writes the words; so a survivor that finds them half written knows their values. The
//! page's own word says in which tier the bytes are; in the other there is garbage.

use crate::common::Lots;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::MonotonicTime;
use pagelock::shared::{InSegment, Left, RecoverError, Seat, SeatError, Segment, When};
use pagelock::{FreezeRule, Limits, TakenOver, Wait};

pub(crate) const PAGES: u32 = 4;
pub(crate) const ROLES: usize = 3;
const WORDS: usize = 8;

/// What the processes share beside the segment.
#[repr(C)]
pub(crate) struct World {
    words: [[[AtomicU64; WORDS]; 2]; PAGES as usize],
    ledger: [[AtomicU64; ROLES]; PAGES as usize],
    /// How many deaths there were, and up to which each process has recovered.
    pub(crate) deaths: AtomicU32,
    pub(crate) recovered: [AtomicU32; ROLES],
    pub(crate) ends: AtomicU32,
    /// What was found to be wrong: a line of this file.
    pub(crate) wrong: AtomicU32,
    pub(crate) found: Found,
}

/// What the dead had left.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Found {
    pub(crate) when: [AtomicU32; 4],
    pub(crate) stages: [AtomicU32; 4],
    pub(crate) half_written: AtomicU32,
    pub(crate) refs: AtomicU32,
    pub(crate) pins: AtomicU32,
    pub(crate) retold: AtomicU32,
    pub(crate) undecided: AtomicU32,
    pub(crate) busy: AtomicU32,
    pub(crate) moves: AtomicU32,
}

fn add(n: &AtomicU32, more: u32) {
    n.fetch_add(more, SeqCst);
}

impl World {
    fn is_wrong(&self, line: u32) {
        let _ = self.wrong.compare_exchange(0, line, SeqCst, SeqCst);
    }

    pub(crate) fn sum(&self, page: u32) -> u64 {
        self.ledger[page as usize].iter().map(|n| n.load(SeqCst)).sum()
    }

    /// Whether the page's bytes are right, in the tier in which they belong.
    pub(crate) fn is_right(&self, segment: &Segment, page: u32) -> bool {
        let tier = place(segment, page).load(SeqCst) as usize;
        self.words[page as usize][tier].iter().all(|word| word.load(SeqCst) == self.sum(page))
    }
}

fn place(segment: &Segment, page: u32) -> &pagelock::sync::AtomicU32 {
    segment.page_word(page).unwrap()
}

fn soon(micros: u64) -> Limits<'static, InSegment> {
    Limits::none().until(MonotonicTime::now() + Duration::from_micros(micros))
}

/// What role `me` does, until it is told to end: 0 and 1 are workers, 2 is the manager.
pub(crate) fn work(world: &World, segment: &Segment, me: usize, seed: u64) -> u8 {
    let mut lots = Lots::of(seed as usize);
    let mut seat = segment.sit();
    while world.ends.load(SeqCst) == 0 {
        if let Err(e) = recover_if_told(world, segment, me) {
            return e;
        }
        let Ok(seat) = &seat else {
            // Those of the dead come back with the recovery.
            seat = segment.sit();
            continue;
        };
        let page = lots.draw(u64::from(PAGES)) as u32;
        match (me, lots.draw(8)) {
            (2, 0..=5) => move_page(world, seat, page, lots.draw(2) == 0),
            (_, 0..=2) => write(world, seat, page, me),
            (_, 3 | 4) => pinned(world, seat, page),
            (_, 5) => {
                let got = [seat.get(page), seat.get(page)];
                if got.iter().any(|got| matches!(got, Err(SeatError::Full | SeatError::NoSuchPage)))
                {
                    world.is_wrong(line!());
                }
            }
            _ => {
                let _ = seat.wait(page, (), Wait::migration().within(soon(300)));
            }
        }
    }
    0
}

fn write(world: &World, seat: &Seat<'_>, page: u32, me: usize) {
    let Ok(guard) = seat.lock_within(page, soon(500)) else { return };
    if !world.is_right(seat.segment(), page) {
        world.is_wrong(line!());
    }
    let now = world.sum(page) + 1;
    let tier = place(seat.segment(), page).load(SeqCst) as usize;
    let mine = &world.ledger[page as usize][me];
    mine.store(mine.load(SeqCst) + 1, SeqCst);
    for word in &world.words[page as usize][tier] {
        word.store(now, SeqCst);
    }
    drop(guard);
}

fn pinned(world: &World, seat: &Seat<'_>, page: u32) {
    let Ok(pin) = seat.pin(page) else { return };
    let tier = place(seat.segment(), page).load(SeqCst);
    (0..50).for_each(|_| core::hint::spin_loop());
    if place(seat.segment(), page).load(SeqCst) != tier {
        world.is_wrong(line!());
    }
    drop(pin);
}

fn move_page(world: &World, seat: &Seat<'_>, page: u32, waits: bool) {
    let Ok(guard) = seat.lock_within(page, soon(500)) else { return };
    let migration = guard.begin_migration();
    let frozen = match waits {
        true => migration.freeze_unpinned(FreezeRule::Unpinned, soon(300)),
        false => migration.freeze(FreezeRule::Unpinned),
    };
    let Ok(frozen) = frozen else { return };
    let place = place(seat.segment(), page);
    let from = place.load(SeqCst) as usize;
    frozen.set_tag(1 + page);
    let tiers = &world.words[page as usize];
    for (to, from) in tiers[1 - from].iter().zip(&tiers[from]) {
        to.store(from.load(SeqCst), SeqCst);
    }
    place.store(1 - from as u32, SeqCst);
    tiers[from].iter().for_each(|word| word.store(u64::MAX, SeqCst));
    frozen.commit_in_place();
    add(&world.found.moves, 1);
}

fn recover_if_told(world: &World, segment: &Segment, me: usize) -> Result<(), u8> {
    let deaths = world.deaths.load(SeqCst);
    if world.recovered[me].load(SeqCst) == deaths {
        return Ok(());
    }
    match segment.recover(|left| rescue(world, segment, left)) {
        Ok(recovered) => {
            let found = &world.found;
            add(&found.refs, recovered.refs);
            add(&found.pins, recovered.pins);
            add(&found.retold, recovered.retold);
            add(&found.undecided, recovered.undecided);
            if recovered.undecided == 0 {
                world.recovered[me].store(deaths, SeqCst);
            }
            if recovered.nonsense > 0 || recovered.freed > 0 { Err(9) } else { Ok(()) }
        }
        Err(RecoverError::Busy) => {
            add(&world.found.busy, 1);
            Ok(())
        }
        Err(_) => Err(8),
    }
}

/// The bytes are where the page's word says, whatever step the dead was at; only the words may be
/// half written.
pub(crate) fn rescue(world: &World, segment: &Segment, left: Left<'_>) {
    let found = &world.found;
    let (when, stage) = match (left.when, &left.stage) {
        (_, TakenOver::Poisoning(_)) => (0, 3),
        (When::Taking, stage) => (0, number(stage)),
        (When::Working, stage) => (1, number(stage)),
        (When::Ending, stage) => (2, number(stage)),
        (_, stage) => (3, number(stage)),
    };
    add(&found.when[when], 1);
    add(&found.stages[stage], 1);
    if stage == 2 && left.tag != 0 && left.tag != 1 + left.page {
        world.is_wrong(line!());
    }
    if !world.is_right(segment, left.page) {
        add(&found.half_written, 1);
        let (tier, sum) = (place(segment, left.page).load(SeqCst) as usize, world.sum(left.page));
        world.words[left.page as usize][tier].iter().for_each(|word| word.store(sum, SeqCst));
    }
    drop(left.stage);
}

fn number<'r>(stage: &TakenOver<'r, InSegment>) -> usize {
    match stage {
        TakenOver::Locked(_) => 0,
        TakenOver::Migrating(_) => 1,
        TakenOver::Frozen(_) => 2,
        _ => 3,
    }
}
