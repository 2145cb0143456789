//! One thread alone.

use super::Job;
use crate::support::effort::Effort;
use crate::support::locks::{Lock, RAW_LOAD, RawFutex, RawPair, role};
use crate::support::single::*;
use crate::support::table::{Better, Head, Role, Row};
use crate::support::turns::take_turns;
use pagelock::PageLock;

pub const LOCKS: &str = "One thread: locks";
pub const COUNTS: &str = "One thread: references, pins, migration";
pub const PAIR: &str = "lock + unlock";
pub const TRY_FAIL: &str = "failed try_lock";
/// In this part it is a lock that a user might write, and no bound.
const THREE_STATE: &str = "three-state futex";

type Turn<'a> = (&'static str, &'a dyn Fn() -> f64);

macro_rules! every_lock {
    ($measure:ident, $n:ident, $bound:expr) => {
        [
            ($bound, &|| $measure::<RawPair>($n)),
            ("pagelock", &|| $measure::<PageLock>($n)),
            #[cfg(feature = "lock_api")]
            ("pagelock-lock_api", &|| $measure::<crate::support::locks::LockApi>($n)),
            ("std", &|| $measure::<std::sync::Mutex<()>>($n)),
            ("parking_lot", &|| $measure::<parking_lot::Mutex<()>>($n)),
            ("parking_lot-fair", &|| $measure::<parking_lot::FairMutex<()>>($n)),
            ("usync", &|| $measure::<usync::Mutex<()>>($n)),
            ("spin", &|| $measure::<spin::Mutex<()>>($n)),
            (THREE_STATE, &|| $measure::<RawFutex>($n)),
        ]
    };
}

fn lock_role(name: &str) -> Role {
    if name == THREE_STATE { Role::Peer } else { role(name) }
}

fn count_role(name: &str) -> Role {
    match name {
        "pagelock" => Role::Ours,
        "Arc" => Role::Peer,
        _ => Role::Bound,
    }
}

pub fn jobs(effort: &Effort) -> Vec<Job<'_>> {
    let (n, rounds) = (effort.ops, effort.short_rounds);
    let seconds = |subjects: f64| rounds as f64 * f64::from(n) * subjects * 12e-9;
    let lock = |label: &'static str, measure: fn(usize, u32) -> Row| {
        Job::new("uncontended", label, seconds(8.0), move |_, tables| {
            let note = "The bound is a compare-exchange and a swap, or one load; spin's release is \
                        a plain store, which only a lock without sleepers can afford.";
            tables.row(
                Head::new("uncontended", LOCKS, "operation", "ns", Better::Less).note(note),
                measure(rounds, n),
            );
        })
    };
    let count = |label: &'static str, measure: fn(usize, u32) -> Row| {
        Job::new("uncontended", label, seconds(3.0), move |_, tables| {
            let note = "Raw atomics: an addition and a subtraction, and so on, without a check.";
            tables.row(
                Head::new("uncontended", COUNTS, "operation", "ns", Better::Less).note(note),
                measure(rounds, n),
            );
        })
    };
    vec![
        lock(PAIR, |rounds, n| {
            let turns: &[Turn<'_>] = &every_lock!(pair, n, RawPair::NAME);
            Row::of(PAIR, 0.0, &take_turns(rounds, turns), lock_role, |&ns| ns)
        }),
        lock("try_lock + unlock", |rounds, n| {
            let turns: &[Turn<'_>] = &every_lock!(try_pair, n, RawPair::NAME);
            Row::of("try_lock + unlock", 1.0, &take_turns(rounds, turns), lock_role, |&ns| ns)
        }),
        lock(TRY_FAIL, |rounds, n| {
            let turns: &[Turn<'_>] = &every_lock!(try_fail, n, RAW_LOAD);
            Row::of(TRY_FAIL, 2.0, &take_turns(rounds, turns), lock_role, |&ns| ns)
        }),
        count("get + put", |rounds, n| {
            let turns: &[Turn<'_>] = &[
                ("raw atomics", &|| raw_count(n)),
                ("pagelock", &|| reference(n)),
                ("Arc", &|| arc(n)),
            ];
            Row::of(
                "get + put; Arc: clone + drop",
                0.0,
                &take_turns(rounds, turns),
                count_role,
                |&ns| ns,
            )
        }),
        count("pin + unpin", |rounds, n| {
            let turns: &[Turn<'_>] =
                &[("raw atomics", &|| raw_count(n)), ("pagelock", &|| pin(n)), ("Arc", &|| arc(n))];
            Row::of(
                "pin + unpin; Arc: clone + drop",
                1.0,
                &take_turns(rounds, turns),
                count_role,
                |&ns| ns,
            )
        }),
        count("freeze + thaw", |rounds, n| {
            let turns: &[Turn<'_>] =
                &[("raw atomics", &|| raw_freeze(n)), ("pagelock", &|| freeze_thaw(n))];
            Row::of("freeze + thaw", 2.0, &take_turns(rounds, turns), count_role, |&ns| ns)
        }),
        count("empty migration", |rounds, n| {
            let turns: &[Turn<'_>] =
                &[("raw atomics", &|| raw_migration(n)), ("pagelock", &|| empty_migration(n))];
            Row::of(
                "lock + begin + freeze + commit",
                3.0,
                &take_turns(rounds, turns),
                count_role,
                |&ns| ns,
            )
        }),
    ]
}
