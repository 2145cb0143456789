//! What the strategies have to come to. A livelock loses no byte, so the check of the contents does not see it: this does.

use crate::options::Drain;
use crate::region::Kind;
use crate::report::Section;
use crate::run::Outcome;
use pagelock::mm::Strategy;

/// With fewer retries for each migration it is not the trap. Without one it is 0.1 to 0.2; in it, 100 to 800 have been seen.
const TRAPPED: f64 = 10.0;

/// What is not as it must be.
///
/// Who waits gets its pages, and is in no migration's way. Who retries, or puts its entry up at once, does not where the trap is: that is
/// the control, without which a storm that is too mild would pass for a proof. It needs a page with two mappings, and the time that a real
/// fault takes: with faults in software it is not asked for, and a line says so.
pub fn wrong(section: &Section, kind: Kind, traps: bool) -> Vec<String> {
    if !traps && !matches!(kind, Kind::Software { .. }) {
        println!("SKIPPED: {}: its memory does not trap here, so faults were raised in software", section.memory);
    }
    section
        .outcomes
        .iter()
        .filter_map(|o| Some(format!("{}, {}: {}", section.memory, o.plan.name(), fault(o, kind, traps)?)))
        .collect()
}

fn fault(outcome: &Outcome, kind: Kind, traps: bool) -> Option<String> {
    let trap = traps && kind.mappings() > 1;
    match (outcome.plan.strategy, outcome.plan.drain) {
        (Strategy::Wait | Strategy::WaitThenLock { .. }, _) => {
            if !outcome.finished {
                return Some(format!("the work was not done within {:.1} s", outcome.seconds));
            }
            (outcome.aborted_refs > 0).then(|| format!("{} migrations failed by a reference", outcome.aborted_refs))
        }
        (Strategy::TryAndRetry | Strategy::EntryInFault, Drain::Inside) if trap => {
            if outcome.finished {
                return Some(format!("finished in {:.1} s: this storm would not show a livelock", outcome.seconds));
            }
            let retries = outcome.retries_per_migration();
            (retries < TRAPPED).then(|| format!("no livelock but slow: {retries:.2} retries per migration"))
        }
        _ => None,
    }
}
