//! The kernel's selftests/mm/migration.c, re-expressed: threads read pages that a migrator moves to
//! and fro between two tiers, and must find at any time what was written there.
//!
//! The kernel's own tests ask whether a migration fails a hundred times in a row, and call that a
//! failure. These ask for more:
//!
//! * no migration, not one, is aborted because a thread waits for it;
//! * a destination that is there is reached: nothing but a page that a faulter has in hand is
//!   passed over;
//! * and threads did wait, often, or the test goes on until they have.
//!
//! | row of the kernel's | here | over |
//! |---|---|---|
//! | `private_anon` | N threads, one table | `pagelock-soft`, two nodes and a device; real anonymous memory |
//! | `shared_anon` | N tables, one object | `pagelock-soft`, two nodes and a device; a real memfd, mapped N times |
//! | `private_anon_thp`, `shared_anon_thp` | large pages, which are split half-way | `pagelock-soft` |
//! | `private_anon_htlb`, `shared_anon_htlb` | large pages that must not be split, from a pool that is empty at times | `pagelock-soft` |
//! | `shared_hugetlb_hgm` | not: mappings of a part of a huge page, never merged | |
//! | `ksm_and_mremap` | not: pages merged because they are alike have a reverse map of their own, which is the memory manager's | |
//!
//! Real memory only has pages of one size, so that the rows of large pages are over `pagelock-soft`
//! alone.
//!
//! Each turn takes a tenth of a second, over real memory four tenths; `PAGELOCK_MIGRATION_MS` in
//! the environment makes it longer (the kernel's take 20 seconds).

use crate::common::{own::Own, with_threads};
use core::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use core::time::Duration;
use pagelock::leaf::Rights;
use pagelock::mm::drain::{Drain, ThreadCpus, Unlocked};
use pagelock::mm::migrate::{Abort, Order, Outcome, Skip, Slot, collect};
use pagelock::mm::{Faulter, Strategy, Tiers};
use pagelock_soft::{Area, AreaKind, At, Config, Kind, Soft, TierConfig, TierId};
use std::thread;
use std::time::Instant;

type Mm = Soft<Own, ThreadCpus>;

/// Two nodes of system memory, and a device.
const NODES: [TierId; 2] = [TierId(0), TierId(2)];
const DEVICE: [TierId; 2] = [TierId(0), TierId(1)];

pub(crate) const READERS: usize = 4;
pub(crate) const PAGES: usize = 16;
const PAGE_SIZE: usize = 64;
/// A large page.
const ORDER: u32 = 3;

/// How long a turn takes, and how many waits it must have.
pub(crate) fn turn() -> Duration {
    let millis = std::env::var("PAGELOCK_MIGRATION_MS").ok().and_then(|ms| ms.parse().ok());
    Duration::from_millis(millis.unwrap_or(if cfg!(miri) { 1 } else { 100 }))
}
pub(crate) const WAITS: usize = if cfg!(miri) { 1 } else { 20 };

fn machine() -> Mm {
    let tier = |kind| TierConfig { kind, frames: 128 };
    let tiers = vec![tier(Kind::System), tier(Kind::Device { owner: 1 }), tier(Kind::System)];
    Soft::on(
        Own::new(64),
        ThreadCpus,
        Config { page_size: PAGE_SIZE, pages: PAGES, spaces: READERS, tiers, batches: 0 },
    )
}

pub(crate) fn text(page: usize) -> [u8; PAGE_SIZE] {
    core::array::from_fn(|i| (page * 31 + i + 1) as u8)
}

/// How a row's memory is mapped: one table that all readers use, or one for each of them.
#[derive(Clone, Copy, PartialEq)]
enum Mapped {
    Private,
    Shared,
}

/// Maps `PAGES` pages of `1 << order` frames' pages each, written to; each reader's first address.
fn mapped(mm: &Mm, how: Mapped, order: u32) -> Vec<At> {
    let first = mm.spawn().unwrap().page(0);
    if order > 0 {
        for at in first.pages(PAGES).step_by(1 << order) {
            mm.map_large(at, order, NODES[0]).unwrap();
        }
    } else if how == Mapped::Private {
        mm.map(first, PAGES).unwrap();
    } else {
        mm.map_shared(first, PAGES).unwrap();
    }
    for at in first.pages(PAGES) {
        mm.write(at, 0, &text(at.page)).unwrap();
    }
    if how == Mapped::Private {
        return vec![first; READERS];
    }
    let mut views = vec![first];
    while views.len() < READERS {
        let to = mm.spawn().unwrap().page(0);
        for (from, to) in first.pages(PAGES).zip(to.pages(PAGES)) {
            mm.share(from, to, Area { kind: AreaKind::Shared, rights: Some(Rights::Write) })
                .unwrap();
        }
        views.push(to);
    }
    views
}

/// What a migrator's pages came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) moved: usize,
    /// A large page that was split, and all of whose frames moved.
    pub(crate) split: usize,
    /// A faulter owned the page at that moment.
    pub(crate) passed_over: usize,
    /// What must not be.
    pub(crate) aborted_by_waiters: usize,
    pub(crate) declined: usize,
    /// How often in a row nothing has moved, and the most of it.
    pub(crate) in_vain: usize,
    pub(crate) most_in_vain: usize,
}

/// The kernel's tests give up after so many migrations in a row that fail, for whatever reason: a
/// page that is passed over counts, and so does a copy that fails.
const MOST_IN_VAIN: usize = 100;

impl Tally {
    pub(crate) fn was_tried(&mut self, is_done: bool) {
        self.in_vain = if is_done { 0 } else { self.in_vain + 1 };
        self.most_in_vain = self.most_in_vain.max(self.in_vain);
        assert!(
            self.in_vain < MOST_IN_VAIN,
            "nothing has moved {} times in a row: {self:?}",
            self.in_vain
        );
    }

    pub(crate) fn count<R: core::fmt::Debug>(&mut self, outcome: Outcome<R>) {
        self.was_tried(outcome.is_done());
        match outcome {
            Outcome::Moved { .. } => self.moved += 1,
            Outcome::Split { moved, of } if moved == of => self.split += 1,
            // Brought back by a faulter since.
            Outcome::AlreadyThere => {}
            Outcome::Skipped(Skip::Locked | Skip::Migrating) => self.passed_over += 1,
            Outcome::Aborted(Abort::Referenced { .. } | Abort::StillMapped) => {
                self.aborted_by_waiters += 1
            }
            Outcome::Aborted(Abort::Declined) => self.declined += 1,
            other => panic!("{other:?}"),
        }
    }
}

/// Reads all pages again and again until told to stop.
fn reader(mm: &Mm, view: At, strategy: Strategy, stop: &AtomicBool, waits: &AtomicUsize) {
    while !stop.load(SeqCst) {
        for at in view.pages(PAGES) {
            let (mut faulter, mut bytes) = (Faulter::new(strategy), [0; PAGE_SIZE]);
            mm.read_with(at, 0, &mut bytes, &mut faulter).unwrap();
            assert_eq!(bytes, text(at.page), "{at:?}");
            waits.fetch_add(faulter.waits() as usize, SeqCst);
        }
    }
}

/// Where the frames come from: `None` for a pool that is empty.
type Pool<'p> = &'p dyn Fn(&Mm, TierId, u32) -> Result<u64, Abort>;

fn from_tier(mm: &Mm, tier: TierId, order: u32) -> Result<u64, Abort> {
    mm.allocate(tier, order).ok_or(Abort::NoDestination)
}

/// Moves every page that begins at one of `starts`, and lets the others get at the entries while
/// they are down.
fn move_all(
    mm: &Mm,
    starts: impl Iterator<Item = At>,
    to: TierId,
    pool: Pool<'_>,
    tally: &mut Tally,
) {
    let unlocked = &mut Unlocked::promise();
    let mut slots: Vec<_> = starts.map(Slot::at).collect();
    let checked = collect(mm, &mut slots, &Order::to(to), unlocked).unmap();
    thread::yield_now();
    let copied = checked.drain_local(mm).check().copy_to(|_, order| pool(mm, to, order));
    thread::yield_now();
    let _ = copied.finalize();
    mm.all(unlocked);
    slots.iter().for_each(|slot| tally.count(slot.outcome()));
}

/// Readers against a migrator, until the time is up and it was no walk-over.
pub(crate) fn ping_pong(
    mm: &Mm,
    views: &[At],
    tiers: [TierId; 2],
    strategy: Strategy,
    mut step: impl FnMut(TierId, &mut Tally),
    is_enough: impl Fn(&Tally, usize) -> bool,
) -> Tally {
    let (stop, waits, mut tally) = (AtomicBool::new(false), AtomicUsize::new(0), Tally::default());
    with_threads(&[], |s| {
        for &view in views {
            let (stop, waits) = (&stop, &waits);
            s.spawn(move || reader(mm, view, strategy, stop, waits));
        }
        let began = Instant::now();
        for round in 1.. {
            step(tiers[round % 2], &mut tally);
            // A reader that has panicked does not wait any more.
            let has_failed =
                tally.aborted_by_waiters > 0 && strategy != Strategy::ReferenceAndSleep;
            if has_failed || began.elapsed() >= turn() && is_enough(&tally, waits.load(SeqCst)) {
                break;
            }
        }
        stop.store(true, SeqCst);
    });
    mm.audit().unwrap();
    tally
}

fn was_no_walk_over(tally: &Tally, waits: usize) -> bool {
    waits >= WAITS && tally.moved > 0
}

/// All that is over: contents, counts, and every frame free again.
fn finish(mm: &Mm, views: &[At]) {
    for &view in views {
        for at in view.pages(PAGES) {
            let mut bytes = [0; PAGE_SIZE];
            mm.read(at, 0, &mut bytes).unwrap();
            assert_eq!(bytes, text(at.page), "{at:?}");
        }
    }
    mm.audit().unwrap();
    for view in views {
        mm.exit(view.space);
    }
    mm.audit().unwrap();
    assert_eq!(
        [0, 1, 2].map(|tier| mm.free_frames(TierId(tier))),
        [127, 128, 128],
        "frames are left"
    );
}

fn pages_move(how: Mapped) {
    for tiers in [NODES, DEVICE] {
        for strategy in [Strategy::Wait, Strategy::WaitThenLock { after: 2 }] {
            let mm = machine();
            let views = mapped(&mm, how, 0);
            let step =
                |to, tally: &mut Tally| move_all(&mm, views[0].pages(PAGES), to, &from_tier, tally);
            let tally = ping_pong(&mm, &views, tiers, strategy, step, was_no_walk_over);
            assert_eq!(tally.aborted_by_waiters, 0, "{tally:?}");
            // Between nodes nobody but the migrator locks a page, so each goes each time.
            assert!(tiers != NODES || tally.passed_over == 0, "{tally:?}");
            finish(&mm, &views);
        }
    }
}

#[test]
fn private_anon() {
    pages_move(Mapped::Private);
}

#[test]
fn shared_anon() {
    pages_move(Mapped::Shared);
}

/// Large pages move as such; then there is no large frame, they are split on the way, and their
/// frames move one by one from then on.
fn large_pages_move(how: Mapped) {
    for tiers in [NODES, DEVICE] {
        let mm = machine();
        let views = mapped(&mm, how, ORDER);
        let heads = || views[0].pages(PAGES).step_by(1 << ORDER);
        let step = |to, tally: &mut Tally| move_all(&mm, heads(), to, &from_tier, tally);
        let tally = ping_pong(&mm, &views, tiers, Strategy::Wait, step, was_no_walk_over);
        assert_eq!((tally.aborted_by_waiters, tally.split), (0, 0), "{tally:?}");
        let is_large = |at| mm.span(mm.frame_at(at).unwrap()).order == ORDER;
        assert!(heads().all(is_large));

        let small = |mm: &Mm, tier, order| {
            if order > 0 { Err(Abort::NoDestination) } else { from_tier(mm, tier, order) }
        };
        let step = |to, tally: &mut Tally| move_all(&mm, views[0].pages(PAGES), to, &small, tally);
        let is_enough =
            |tally: &Tally, waits| was_no_walk_over(tally, waits) && !heads().any(is_large);
        let tally = ping_pong(&mm, &views, tiers, Strategy::Wait, step, is_enough);
        assert_eq!(tally.aborted_by_waiters, 0, "{tally:?}");
        assert!(tally.split > 0, "{tally:?}");
        finish(&mm, &views);
    }
}

#[test]
fn private_anon_thp() {
    large_pages_move(Mapped::Private);
}

#[test]
fn shared_anon_thp() {
    large_pages_move(Mapped::Shared);
}

/// Pages that are large for good: where no large frame is left in the pool they stay, whole, and
/// who waited for them gets on.
fn pooled_pages_move(how: Mapped) {
    let mm = machine();
    let views = mapped(&mm, how, ORDER);
    let asked = AtomicUsize::new(0);
    let pool = |mm: &Mm, tier, order| {
        assert_eq!(order, ORDER, "a page of the pool was split");
        // Relaxed: used by the migrator only.
        if asked.fetch_add(1, Relaxed) % 3 == 2 {
            Err(Abort::Declined)
        } else {
            from_tier(mm, tier, order)
        }
    };
    let step = |to, tally: &mut Tally| {
        move_all(&mm, views[0].pages(PAGES).step_by(1 << ORDER), to, &pool, tally)
    };
    let is_enough = |tally: &Tally, waits| was_no_walk_over(tally, waits) && tally.declined > 0;
    let tally = ping_pong(&mm, &views, NODES, Strategy::Wait, step, is_enough);
    assert_eq!((tally.aborted_by_waiters, tally.split, tally.passed_over), (0, 0, 0), "{tally:?}");
    finish(&mm, &views);
}

#[test]
fn private_anon_htlb() {
    pooled_pages_move(Mapped::Private);
}

#[test]
fn shared_anon_htlb() {
    pooled_pages_move(Mapped::Shared);
}

/// What this file asserts can be seen to fail: sleepers that hold a reference, as the kernel's did
/// until 2021, abort what they wait for.
#[test]
fn waiters_with_a_reference_abort_migrations() {
    let mm = machine();
    let views = mapped(&mm, Mapped::Shared, 0);
    let step = |to, tally: &mut Tally| move_all(&mm, views[0].pages(PAGES), to, &from_tier, tally);
    let tally = ping_pong(&mm, &views, NODES, Strategy::ReferenceAndSleep, step, |tally, _| {
        tally.aborted_by_waiters > 0
    });
    assert!(tally.aborted_by_waiters > 0);
    finish(&mm, &views);
}
