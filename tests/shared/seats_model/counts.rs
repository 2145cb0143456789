//! One page's count.

use super::{ROUNDS, Worker, explore, is_found};
use Step::{Asked, Free, Given, Giving, Held, Lowering, Raising};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    Free,
    Asked,
    Raising,
    Held,
    Giving,
    Lowering,
    Given,
}

/// A rule that is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bug {
    None,
    /// Counts are changed by several at a time.
    NotAlone,
    /// The count is noted before one is alone at it.
    NotedTooEarly,
    /// That the count was changed is noted after others may change it.
    LetGoEarly,
    /// A survivor gives back without noting the steps.
    Unnoted,
    /// A survivor lets others at the count before it knows.
    SettledLate,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    count: i8,
    changer: u8,
    notes: [(Step, i8); 2],
    workers: [Worker; 2],
    recovering: Option<u8>,
    survivors: [Survivor; 2],
    first_died: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Survivor {
    at: u8,
    alive: bool,
    of: u8,
    as_before: bool,
}

fn worker(s: &State, who: usize, bug: Bug) -> Option<State> {
    let mut s = s.clone();
    let count = s.count;
    let note = &mut s.notes[who];
    let me = who as u8 + 1;
    let is_free = s.changer == 0 || bug == Bug::NotAlone;
    let to = match s.workers[who].at {
        0 if s.workers[who].rounds == ROUNDS => return None,
        0 => {
            s.workers[who].rounds += 1;
            *note = (Asked, if bug == Bug::NotedTooEarly { count } else { 0 });
            1
        }
        1 | 7 if !is_free => return None,
        1 => {
            s.changer = me;
            2
        }
        2 => {
            *note = (Raising, if bug == Bug::NotedTooEarly { note.1 } else { count });
            3
        }
        3 => {
            s.count += 1;
            if bug == Bug::LetGoEarly { 5 } else { 4 }
        }
        4 => {
            note.0 = Held;
            if bug == Bug::LetGoEarly { 6 } else { 5 }
        }
        5 => {
            s.changer = 0;
            if bug == Bug::LetGoEarly { 4 } else { 6 }
        }
        6 => {
            note.0 = Giving;
            7
        }
        7 => {
            s.changer = me;
            8
        }
        8 => {
            *note = (Lowering, count);
            9
        }
        9 => {
            s.count -= 1;
            10
        }
        10 => {
            note.0 = Given;
            11
        }
        11 => {
            s.changer = 0;
            12
        }
        _ => {
            *note = (Free, 0);
            0
        }
    };
    s.workers[who].at = to;
    Some(s)
}

fn settled(step: Step, is_as_before: bool) -> Step {
    match (step, is_as_before) {
        (Raising, true) => Asked,
        (Raising, false) | (Lowering, true) => Held,
        (Lowering, false) => Given,
        (step, _) => step,
    }
}

fn survivor(s: &State, which: usize, bug: Bug) -> Result<Option<State>, String> {
    let mut s = s.clone();
    let mut v = s.survivors[which].clone();
    let (of, me) = (v.of as usize, which as u8);
    let seat = v.of + 1;
    let (step, before) = s.notes[of];
    v.at = match v.at {
        0 => {
            let dead = (0..2).find(|&w| !s.workers[w].alive && s.notes[w].0 != Free);
            let Some(dead) = dead.filter(|_| s.recovering.is_none()) else { return Ok(None) };
            s.recovering = Some(me);
            v.of = dead as u8;
            1
        }
        // Settles.
        1 if s.changer != seat => 4,
        1 if bug == Bug::SettledLate => {
            s.changer = 0;
            11
        }
        1 | 11 => {
            v.as_before = s.count == before;
            2
        }
        2 => {
            s.notes[of].0 = settled(step, v.as_before);
            3
        }
        3 => {
            if bug != Bug::SettledLate {
                s.changer = 0;
            }
            4
        }
        // Gives back, as the dead would have.
        4 if matches!(step, Held | Giving) && bug == Bug::Unnoted => 7,
        4 if matches!(step, Held | Giving) => {
            s.notes[of].0 = Giving;
            5
        }
        4 => 10,
        // Of one that died since.
        5 if s.changer != 0 => {
            let other = s.changer as usize - 1;
            if s.workers[other].alive {
                return Ok(None);
            }
            let (step, before) = s.notes[other];
            s.notes[other].0 = settled(step, s.count == before);
            s.changer = 0;
            5
        }
        5 => {
            s.changer = seat;
            6
        }
        6 => {
            s.notes[of] = (Lowering, s.count);
            7
        }
        7 if bug == Bug::Unnoted => {
            s.count -= 1;
            10
        }
        7 => {
            s.count -= 1;
            8
        }
        8 => {
            s.notes[of].0 = Given;
            9
        }
        9 => {
            s.changer = 0;
            10
        }
        10 => {
            s.notes[of] = (Free, 0);
            12
        }
        _ => {
            s.recovering = s.recovering.filter(|&who| who != me);
            0
        }
    };
    if s.count < 0 {
        return Err("given back twice".into());
    }
    s.survivors[which] = v;
    Ok(Some(s))
}

fn next(s: &State, bug: Bug) -> Result<Vec<State>, String> {
    let mut all = Vec::new();
    for who in 0..2 {
        if s.workers[who].alive {
            all.extend(worker(s, who, bug));
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
        dies.recovering = dies.recovering.filter(|&who| who != 0);
        all.push(dies);
    }
    // What was lost or given twice shows as soon as nobody is in the middle of anything.
    let quiet = (0..2)
        .all(|w| if s.workers[w].alive { s.workers[w].at == 0 } else { s.notes[w].0 == Free });
    if quiet && s.recovering.is_none() && s.count != 0 {
        return Err("a count is off".into());
    }
    Ok(all)
}

fn check(bug: Bug) -> Result<usize, String> {
    let survivor = Survivor { at: 0, alive: true, of: 0, as_before: false };
    let first = State {
        count: 0,
        changer: 0,
        notes: [(Free, 0); 2],
        workers: [Worker::NEW, Worker::NEW],
        recovering: None,
        survivors: [survivor.clone(), survivor],
        first_died: false,
    };
    let is_good =
        |s: &State| (0..2).all(|w| s.workers[w].alive || s.notes[w].0 == Free) && s.count >= 0;
    explore(first, |s| next(s, bug), is_good)
}

#[test]
fn no_count_is_off_whoever_dies_wherever() {
    println!("{} states", check(Bug::None).unwrap());
}

#[test]
fn each_rule_of_the_counts_is_needed() {
    for bug in [Bug::NotAlone, Bug::NotedTooEarly, Bug::LetGoEarly, Bug::Unnoted, Bug::SettledLate]
    {
        is_found(bug, check(bug));
    }
}
