//! The notes of `pagelock::shared` on paper: every interleaving of two threads that use a page and
//! may die at any step, and of two survivors, of which the first may die as well. Each step is one
//! access to what they share.
//!
//! From every state there must be a way to one in which nothing of the dead is left, nobody who
//! lives is ever robbed, and no count is off. Each rule of the protocol is then broken, and that
//! has to be found. (Accesses are in order here, as on x86; for what other machines may do there
//! are the orderings in `pagelock::shared`.)

#![cfg(not(pagelock_shuttle))]

use std::collections::HashMap;
use std::hash::Hash;

mod counts;
mod locks;

/// How often a worker uses the page.
const ROUNDS: u8 = 2;

/// A thread that uses the page, and may die at any step.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Worker {
    at: u8,
    rounds: u8,
    alive: bool,
}

impl Worker {
    const NEW: Self = Self { at: 0, rounds: 0, alive: true };
}

/// Every state that can be reached: how many there are. An error if a step says so, or if there is
/// a state with no way to a good one.
fn explore<S: Clone + Eq + Hash + core::fmt::Debug>(
    first: S,
    next: impl Fn(&S) -> Result<Vec<S>, String>,
    is_good: impl Fn(&S) -> bool,
) -> Result<usize, String> {
    let mut index = HashMap::from([(first.clone(), 0)]);
    let (mut states, mut before) = (vec![first], vec![Vec::new()]);
    let mut at = 0;
    while at < states.len() {
        for state in next(&states[at]).map_err(|e| format!("{e}: {:?}", states[at]))? {
            let to = *index.entry(state.clone()).or_insert_with(|| {
                states.push(state);
                before.push(Vec::new());
                states.len() - 1
            });
            before[to].push(at);
        }
        at += 1;
    }
    let mut reaches: Vec<bool> = states.iter().map(&is_good).collect();
    let mut todo: Vec<usize> = (0..states.len()).filter(|&s| reaches[s]).collect();
    while let Some(state) = todo.pop() {
        for &earlier in &before[state] {
            if !core::mem::replace(&mut reaches[earlier], true) {
                todo.push(earlier);
            }
        }
    }
    match reaches.iter().position(|reaches| !reaches) {
        Some(stuck) => Err(format!("no way back: {:?}", states[stuck])),
        None => Ok(states.len()),
    }
}

fn is_found<B: core::fmt::Debug + Copy>(bug: B, found: Result<usize, String>) {
    let why = found.expect_err(&format!("{bug:?} is not found"));
    println!("{bug:?}: {}", why.split(':').next().unwrap());
}
