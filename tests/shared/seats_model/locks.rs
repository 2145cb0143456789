//! One page's lock.

use super::{ROUNDS, Worker, explore, is_found};
use Step::{Asked, Free, Giving, Held, Rescued};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    Free,
    Asked,
    Held,
    Giving,
    Rescued,
}

/// A rule that is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bug {
    None,
    /// The page is noted after it was taken.
    NotedLate,
    /// A note is struck out before the release.
    StruckEarly,
    /// The note says that it has the page until it has let go of it.
    HeldWhileGiving,
    /// The same, of a survivor that ends it for the dead.
    HeldWhileRescuing,
    /// A survivor does not look whether the hold has ended meanwhile.
    NoSequence,
    /// It does not set the flag, so a release does not say that it has ended.
    NoFlag,
    /// It takes a thread that is about to ask for one that has not.
    AskingIsNothing,
    /// Two survivors at a time.
    TwoAtATime,
    /// A page that may be the dead's is not taken over.
    OnlyWhatIsHeld,
    /// A releaser strikes its note out before it has told.
    StruckBeforeTold,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    locked: bool,
    flag: bool,
    /// How often the slot was told.
    sequence: u8,
    /// The page's real owner: 0 and 1 are the workers, 2 and 3 the survivors.
    owner: Option<u8>,
    notes: [Step; 2],
    workers: [Worker; 2],
    /// The process that recovers, as the kernel says.
    recovering: Option<u8>,
    survivors: [Survivor; 2],
    /// The second survivor does not die.
    first_died: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Survivor {
    at: u8,
    alive: bool,
    /// The dead that it has found, and which of them it is at.
    dead: [bool; 2],
    of: u8,
    saw: u8,
    scan: u8,
    living: bool,
    another: bool,
}

fn first() -> State {
    let survivor = Survivor {
        at: 0,
        alive: true,
        dead: [false; 2],
        of: 0,
        saw: 0,
        scan: 0,
        living: false,
        another: false,
    };
    State {
        locked: false,
        flag: false,
        sequence: 0,
        owner: None,
        notes: [Free; 2],
        workers: [Worker::NEW, Worker::NEW],
        recovering: None,
        survivors: [survivor.clone(), survivor],
        first_died: false,
    }
}

impl State {
    fn lives(&self, who: u8) -> bool {
        if who < 2 {
            self.workers[who as usize].alive
        } else {
            self.survivors[who as usize - 2].alive
        }
    }

    fn take(&mut self, who: u8) -> Result<bool, String> {
        if self.locked {
            return Ok(false);
        }
        if self.owner.is_some() {
            return Err("two owners".into());
        }
        (self.locked, self.flag, self.owner) = (true, false, Some(who));
        Ok(true)
    }

    /// Whether the owner must tell waiters.
    fn release(&mut self, who: u8) -> Result<bool, String> {
        if self.owner != Some(who) {
            return Err("robbed".into());
        }
        (self.locked, self.owner) = (false, None);
        Ok(self.flag)
    }
}

fn worker(s: &State, who: usize, bug: Bug) -> Result<Option<State>, String> {
    let (mut s, me) = (s.clone(), who as u8);
    let at = s.workers[who].at;
    let to = match at {
        0 if s.workers[who].rounds == ROUNDS => return Ok(None),
        0 => {
            s.workers[who].rounds += 1;
            if bug != Bug::NotedLate {
                s.notes[who] = Asked;
            }
            1
        }
        1 if s.take(me)? => 2,
        // Not had: struck out.
        1 => 6,
        2 => {
            s.notes[who] = Held;
            3
        }
        3 => {
            s.notes[who] = match bug {
                Bug::StruckEarly => Free,
                Bug::HeldWhileGiving => Held,
                _ => Giving,
            };
            4
        }
        4 => match s.release(me)? {
            true if bug == Bug::StruckBeforeTold => 7,
            true => 5,
            false => 6,
        },
        5 => {
            s.sequence += 1;
            6
        }
        7 => {
            s.notes[who] = Free;
            5
        }
        _ => {
            s.notes[who] = Free;
            0
        }
    };
    s.workers[who].at = to;
    Ok(Some(s))
}

fn survivor(s: &State, which: usize, bug: Bug) -> Result<Option<State>, String> {
    let (mut s, me) = (s.clone(), which as u8 + 2);
    let mut v = s.survivors[which].clone();
    let of = v.of as usize;
    match v.at {
        0 => {
            if s.recovering.is_some() && bug != Bug::TwoAtATime {
                return Ok(None);
            }
            v.dead = [0, 1].map(|w| !s.workers[w].alive && s.notes[w] != Free);
            if v.dead == [false; 2] {
                return Ok(None);
            }
            s.recovering = Some(me);
            (v.of, v.at) = (0, 1);
        }
        // The next note.
        1 => match (v.of..2).find(|&w| v.dead[w as usize] && s.notes[w as usize] != Free) {
            Some(w) => (v.of, v.at) = (w, 2),
            None => {
                s.recovering = s.recovering.filter(|&who| who != me);
                v.at = 0;
            }
        },
        2 => (v.saw, v.at) = (s.sequence, 3),
        3 if !s.locked => v.at = 9,
        3 if s.notes[of] == Held => v.at = 6,
        3 if bug == Bug::OnlyWhatIsHeld => v.at = 9,
        3 => {
            s.flag |= bug != Bug::NoFlag;
            (v.scan, v.living, v.another, v.at) = (0, false, false, 4);
        }
        4 => {
            let seat = v.scan as usize;
            v.another |= s.notes[seat] == Held;
            let counts =
                s.notes[seat] != Free && (s.notes[seat] != Asked || bug != Bug::AskingIsNothing);
            v.living |= !v.dead[seat] && counts;
            (v.scan, v.at) = (v.scan + 1, if seat == 1 { 5 } else { 4 });
        }
        5 if v.another => v.at = 9,
        5 if !v.living && (v.saw == s.sequence || bug == Bug::NoSequence) => v.at = 6,
        // Not known yet: left for the next time, when whoever may have it has gone on, or is among
        // the dead.
        5 => {
            s.recovering = s.recovering.filter(|&who| who != me);
            v.at = 0;
        }
        6 => {
            s.notes[of] = if bug == Bug::HeldWhileRescuing { Held } else { Rescued };
            v.at = 7;
        }
        7 if !s.locked => v.at = 9,
        7 => {
            match s.owner {
                Some(owner) if s.lives(owner) => return Err("robbed of what it has".into()),
                None => return Err("taken over from nobody".into()),
                _ => s.owner = Some(me),
            }
            v.at = 8;
        }
        8 => v.at = if s.release(me)? { 10 } else { 9 },
        10 => {
            s.sequence += 1;
            v.at = 9;
        }
        _ => {
            s.notes[of] = Free;
            v.at = 1;
        }
    }
    if v.at < 4 {
        (v.scan, v.living, v.another) = (0, false, false);
    }
    s.survivors[which] = v;
    Ok(Some(s))
}

fn next(s: &State, bug: Bug) -> Result<Vec<State>, String> {
    let mut all = Vec::new();
    for who in 0..2 {
        if s.workers[who].alive {
            all.extend(worker(s, who, bug)?);
            let mut dies = s.clone();
            dies.workers[who].alive = false;
            all.push(dies);
        }
        if s.survivors[who].alive {
            all.extend(survivor(s, who, bug)?);
        }
    }
    if !s.first_died && s.survivors[0].at != 0 {
        let mut dies = s.clone();
        (dies.survivors[0].alive, dies.first_died) = (false, true);
        dies.recovering = dies.recovering.filter(|&who| who != 2);
        all.push(dies);
    }
    Ok(all)
}

/// Nothing of the dead is left.
fn is_good(s: &State) -> bool {
    let notes = (0..2).all(|w| s.workers[w].alive || s.notes[w] == Free);
    notes && s.owner.is_none_or(|owner| s.lives(owner)) && s.locked == s.owner.is_some()
}

fn check(bug: Bug) -> Result<usize, String> {
    explore(first(), |s| next(s, bug), is_good)
}

#[test]
fn a_lock_of_the_dead_is_always_found_and_nobody_who_lives_is_robbed() {
    println!("{} states", check(Bug::None).unwrap());
}

#[test]
fn each_rule_of_the_lock_is_needed() {
    use Bug::*;
    for bug in [
        NotedLate,
        StruckEarly,
        HeldWhileGiving,
        HeldWhileRescuing,
        NoSequence,
        NoFlag,
        AskingIsNothing,
        TwoAtATime,
    ] {
        is_found(bug, check(bug));
    }
    for bug in [OnlyWhatIsHeld, StruckBeforeTold] {
        is_found(bug, check(bug));
    }
}
