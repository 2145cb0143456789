//! The two words of a page against the same thing in plain fields.
//!
//! [`run_state`] and [`run_count`] apply transitions to a word and to a struct of plain numbers,
//! and panic where they differ: in a field, in the words of the `Debug` text, or in what is
//! refused. The struct knows the documented bit layout and the state table, and nothing of how the
//! word computes.
//!
//! A crate that includes this file has a module `word` beside it, which is `src/word/mod.rs`. With
//! `--cfg pagelock_fuzz` operations derive `arbitrary::Arbitrary`.

use crate::word::count::FROZEN;
use crate::word::{Count, MAX_PINS, MAX_REFS, MAX_SLEEPERS, State, UserBits};
use core::fmt::Write as _;

/// A transition of the state word. One that the state table does not allow at the moment is
/// skipped.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(pagelock_fuzz, derive(arbitrary::Arbitrary))]
pub(crate) enum StateOp {
    Take,
    TakeAsSleeper,
    /// A locker comes: registers, or waits outside.
    Come {
        starved: bool,
        closes: bool,
    },
    /// Several at once.
    ComeMany(u16),
    /// A registered locker goes back to sleep.
    Rearm {
        starved: bool,
    },
    Leave,
    LeaveMany(u16),
    Strike,
    Await,
    SetUser(u8),
    Begin,
    Cancel,
    Release {
        poison: bool,
    },
    ReleaseFair,
    /// Enough holds for the generation to wrap.
    Holds(u8),
}

/// The state word in plain fields.
#[derive(Clone, Default, PartialEq, Debug)]
struct Plain {
    locked: bool,
    lock_waiters: bool,
    event_waiters: bool,
    migrating: bool,
    poisoned: bool,
    closed: bool,
    crowd: bool,
    user: u32,
    sleepers: u32,
    generation: u32,
}

impl Plain {
    /// By the picture in the documentation.
    fn of(word: u32) -> Self {
        let bit = |n: u32| word >> n & 1 == 1;
        Self {
            locked: bit(0),
            lock_waiters: bit(1),
            event_waiters: bit(2),
            migrating: bit(3),
            poisoned: bit(4),
            closed: bit(5),
            crowd: bit(6),
            user: word >> 7 & 0x1f,
            sleepers: word >> 12 & 0xfff,
            generation: word >> 24,
        }
    }

    fn taken(&self) -> bool {
        self.locked || self.closed
    }

    fn text(&self) -> String {
        let mut text = String::from(match (self.locked, self.closed) {
            (true, _) => "locked",
            (false, false) => "free",
            (false, true) => "kept for a sleeper",
        });
        let mut say = |is: bool, what: String| {
            if is {
                write!(text, ", {what}").unwrap();
            }
        };
        say(self.migrating, "migrating".into());
        say(self.poisoned, "poisoned".into());
        say(self.sleepers > 0, format!("{} sleepers", self.sleepers));
        say(self.closed, "gate closed".into());
        say(self.crowd, "crowd outside".into());
        say(self.taken() && self.event_waiters, "awaited".into());
        say(self.user > 0, format!("user {}", self.user));
        say(true, format!("generation {}", self.generation));
        text
    }

    /// The rows of the state table, and what each field says of who changes it.
    fn is_legal(&self) -> bool {
        (!self.closed || self.sleepers > 0)
            && (!self.crowd || self.closed)
            && (self.locked || !self.migrating)
    }

    /// Registers one sleeper; false if it has to wait outside, for which it closes the gate.
    fn come(&mut self, starved: bool, closes: bool) -> bool {
        if self.closed && !starved || self.sleepers == MAX_SLEEPERS {
            (self.closed, self.crowd) = (true, true);
            return false;
        }
        self.sleepers += 1;
        self.goes_to_sleep(starved || closes);
        true
    }

    fn goes_to_sleep(&mut self, closes: bool) {
        self.lock_waiters = true;
        self.closed |= closes;
    }

    /// One sleeper fewer.
    fn one_out(&mut self) {
        self.sleepers -= 1;
        self.lock_waiters = self.sleepers > 0;
        self.closed &= self.sleepers > 0;
        self.crowd &= self.sleepers > 0;
    }

    /// Nobody may take the word of a page without an owner for what it was.
    fn ages(&mut self) {
        if !self.locked {
            self.generation = (self.generation + 1) % 256;
        }
    }

    fn release(&mut self, poison: bool) {
        self.locked = false;
        self.migrating = false;
        self.poisoned |= poison;
        self.generation = (self.generation + 1) % 256;
    }
}

struct Run {
    word: State,
    plain: Plain,
}

/// Applies `ops` to an idle word, one after the other.
pub(crate) fn run_state(ops: &[StateOp]) {
    let mut run = Run { word: State(0), plain: Plain::default() };
    for op in ops {
        run.apply(*op);
        run.compare(op);
    }
}

impl Run {
    fn compare(&self, op: &StateOp) {
        let (word, plain) = (self.word, &self.plain);
        assert_eq!(Plain::of(word.0), *plain, "after {op:?}");
        assert!(plain.is_legal(), "{plain:?} after {op:?}");
        assert_eq!(format!("{word:?}"), plain.text());
        assert_eq!(
            (word.is_taken(), word.is_locked(), word.is_migrating(), word.is_poisoned()),
            (plain.taken(), plain.locked, plain.migrating, plain.poisoned)
        );
        assert_eq!(
            (word.has_lock_waiters(), word.has_event_waiters(), word.is_closed(), word.has_crowd()),
            (plain.lock_waiters, plain.event_waiters, plain.closed, plain.crowd)
        );
        assert_eq!(word.has_waiters(), plain.lock_waiters || plain.event_waiters);
        assert_eq!(word.is_plain(), !plain.taken() && !plain.lock_waiters && !plain.event_waiters);
        assert_eq!(word.sleepers(), plain.sleepers);
        assert_eq!(
            (u32::from(word.generation()), u32::from(word.user().get())),
            (plain.generation, plain.user)
        );
        for starved in [false, true] {
            assert_eq!(word.admits(starved), plain.clone().come(starved, false), "{plain:?}");
        }
    }

    fn apply(&mut self, op: StateOp) {
        let Self { word, plain } = self;
        match op {
            StateOp::Take if !plain.taken() => {
                // Only LOCKED is set where nothing else has to change, by the shorter way as well.
                assert!(!word.is_plain() || word.with_locked() == word.taken_by_newcomer());
                *word = word.taken_by_newcomer();
                *plain = Plain {
                    locked: true,
                    lock_waiters: false,
                    event_waiters: false,
                    ..plain.clone()
                };
            }
            StateOp::TakeAsSleeper if !plain.locked && plain.sleepers > 0 => {
                *word = word.taken_by_sleeper();
                plain.locked = true;
                // A waiter for a page that was kept may have come since its release.
                plain.event_waiters &= plain.closed;
                plain.one_out();
            }
            StateOp::Come { starved, closes } if plain.taken() => self.come(starved, closes),
            StateOp::ComeMany(n) if plain.taken() => {
                (0..n % 6000).for_each(|_| self.come(false, false))
            }
            StateOp::Rearm { starved } if plain.taken() && plain.sleepers > 0 => {
                *word = word.with_sleeper(true, starved);
                plain.goes_to_sleep(starved);
            }
            StateOp::Leave => self.leave(),
            StateOp::LeaveMany(n) => (0..n % 6000).for_each(|_| self.leave()),
            StateOp::Strike => {
                *word = word.without_sleepers();
                plain.ages();
                (plain.sleepers, plain.lock_waiters, plain.closed, plain.crowd) =
                    (0, false, false, false);
            }
            StateOp::Await if plain.taken() => {
                *word = word.with_event_waiters();
                plain.event_waiters = true;
            }
            StateOp::SetUser(bits) if plain.locked => {
                *word = word.with_user(UserBits::new(bits));
                plain.user = u32::from(bits % 32);
            }
            StateOp::Begin if plain.locked => {
                word.0 |= crate::word::state::MIGRATING;
                plain.migrating = true;
            }
            StateOp::Cancel if plain.migrating => {
                word.0 &= !crate::word::state::MIGRATING;
                plain.migrating = false;
            }
            StateOp::Release { poison } if plain.locked => {
                let delta = State::release_delta(plain.migrating, poison && !plain.poisoned);
                *word = State(word.0.wrapping_add(delta));
                plain.release(poison);
            }
            StateOp::ReleaseFair if plain.locked && !plain.migrating && plain.sleepers > 0 => {
                *word = word.released_fairly();
                plain.release(false);
                plain.closed = true;
            }
            StateOp::Holds(n) if !plain.taken() => {
                for _ in 0..n {
                    *word = word.taken_by_newcomer();
                    *word = State(word.0.wrapping_add(State::release_delta(false, false)));
                    plain.release(false);
                }
                if n > 0 {
                    (plain.lock_waiters, plain.event_waiters) = (false, false);
                }
            }
            _ => {}
        }
    }

    fn come(&mut self, starved: bool, closes: bool) {
        let Self { word, plain } = self;
        *word = if word.admits(starved) {
            word.with_sleeper(false, starved || closes)
        } else {
            word.with_crowd()
        };
        plain.come(starved, closes);
    }

    fn leave(&mut self) {
        if self.plain.sleepers > 0 {
            self.word = self.word.without_sleeper();
            self.plain.ages();
            self.plain.one_out();
        }
    }
}

/// A transition of the count word.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(pagelock_fuzz, derive(arbitrary::Arbitrary))]
pub(crate) enum CountOp {
    Get,
    Put,
    Pin,
    Unpin,
    PlusRefs(u32),
    /// As many as leave room for `short` more.
    FillRefs {
        short: u8,
    },
    FillPins {
        short: u8,
    },
    MinusRefs(u32),
    Freeze,
    Thaw,
}

/// Applies `ops` to an empty word, one after the other.
pub(crate) fn run_count(ops: &[CountOp]) {
    let mut word = Count(0);
    // Wide, so that nothing here can wrap.
    let (mut refs, mut pins, mut frozen) = (0u64, 0u64, false);
    let (most_refs, most_pins) = (u64::from(MAX_REFS), u64::from(MAX_PINS));
    for op in ops {
        match *op {
            CountOp::Get => plus_refs(&mut word, &mut refs, 1),
            CountOp::PlusRefs(n) => plus_refs(&mut word, &mut refs, n),
            CountOp::FillRefs { short } => {
                let n = (most_refs - refs).saturating_sub(short.into());
                plus_refs(&mut word, &mut refs, n as u32);
            }
            CountOp::Put if refs > 0 => {
                // What a put does to the word, and what it may be compared with.
                let less = Count(word.0 - 1);
                assert_eq!(word.minus_refs(1), Some(less));
                (word, refs) = (less, refs - 1);
            }
            CountOp::MinusRefs(n) => {
                let less = word.minus_refs(n);
                assert_eq!(less.is_some(), u64::from(n) <= refs, "{n} of {refs}");
                if let Some(less) = less {
                    (word, refs) = (less, refs - u64::from(n));
                }
            }
            CountOp::Pin => {
                let more = word.plus_pin();
                assert_eq!(more.is_some(), pins < most_pins);
                if let Some(more) = more {
                    (word, pins) = (more, pins + 1);
                }
            }
            CountOp::FillPins { short } => {
                while pins < most_pins.saturating_sub(short.into()) {
                    (word, pins) = (word.plus_pin().expect("there is room"), pins + 1);
                }
            }
            CountOp::Unpin if pins > 0 => {
                (word, pins) = (word.minus_pin().expect("there is one"), pins - 1)
            }
            CountOp::Freeze => {
                assert_eq!(word.frozen().0, word.0 | FROZEN);
                (word, frozen) = (word.frozen(), true);
            }
            CountOp::Thaw => (word, frozen) = (word.thawed(), false),
            CountOp::Put => assert_eq!(word.minus_refs(1), None),
            CountOp::Unpin => assert_eq!(word.minus_pin(), None),
        }
        assert_eq!(
            (u64::from(word.refs()), u64::from(word.pins()), word.is_frozen()),
            (refs, pins, frozen),
            "after {op:?}"
        );
        assert_eq!(u64::from(word.0), refs | pins << 19 | u64::from(frozen) << 31, "after {op:?}");
        assert_eq!(word.is_free(), (refs, pins) == (0, 0));
        let text =
            format!("{refs} references, {pins} pins{}", if frozen { ", frozen" } else { "" });
        assert_eq!(format!("{word:?}"), text);
    }
}

fn plus_refs(word: &mut Count, refs: &mut u64, n: u32) {
    let more = word.plus_refs(n);
    assert_eq!(more.is_some(), *refs + u64::from(n) <= u64::from(MAX_REFS), "{n} on top of {refs}");
    if let Some(more) = more {
        (*word, *refs) = (more, *refs + u64::from(n));
    }
}
