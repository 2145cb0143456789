//! Rounds in which every subject has a turn.

/// The rounds of one subject, and its name.
pub struct Rounds<T> {
    pub name: &'static str,
    pub rounds: Vec<T>,
}

impl<T> Rounds<T> {
    pub fn of(&self, part: impl Fn(&T) -> f64) -> Vec<f64> {
        self.rounds.iter().map(part).collect()
    }
}

/// [`take_turns`] after one round that is not counted, in which memory is touched for the first
/// time.
pub fn take_turns_warm<T>(
    rounds: usize,
    subjects: &[(&'static str, &dyn Fn() -> T)],
) -> Vec<Rounds<T>> {
    for (_, measure) in subjects {
        measure();
    }
    take_turns(rounds, subjects)
}

/// Runs every measurement once per round, in an order that moves on by one each round, so that no
/// subject always follows the same one.
pub fn take_turns<T>(rounds: usize, subjects: &[(&'static str, &dyn Fn() -> T)]) -> Vec<Rounds<T>> {
    let mut all: Vec<Rounds<T>> = subjects
        .iter()
        .map(|&(name, _)| Rounds { name, rounds: Vec::with_capacity(rounds) })
        .collect();
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let subject = (round + turn) % subjects.len();
            all[subject].rounds.push(subjects[subject].1());
        }
    }
    all
}
