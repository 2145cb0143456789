//! What each strategy must achieve. A livelock loses no byte, so the check of the contents does not
//! see it: this does.

use crate::options::Drain;
use crate::output::{note, say};
use crate::region::Kind;
use crate::report::Section;
use crate::run::Outcome;
use pagelock::mm::Strategy;

/// With fewer retries for each migration it is not the trap. Without one it is 0.1 to 0.2; in it,
/// 100 to 800 have been seen.
pub const TRAPPED: f64 = 10.0;
/// A larger share of the processors for others makes the machine a busy one.
const BUSY: f64 = 0.1;

/// The outcomes that are wrong.
///
/// A faulter that waits gets its pages, and makes no migration fail. One that retries, or puts its
/// entry up at once, must not get them where the trap is: that is the control, without which too
/// mild a storm would pass for a proof. The control needs a page with two mappings, and the time of
/// a real fault: with faults in software it is skipped, and a line says so.
pub fn wrong(section: &Section, kind: Kind) -> Result<Vec<String>, String> {
    if !section.outcomes.iter().all(|o| o.traps) && !matches!(kind, Kind::Software { .. }) {
        say(format_args!("SKIPPED: {}: nothing traps here", section.memory))?;
    }
    let faults = section.outcomes.iter().filter_map(|o| Some((o, fault(o, kind)?)));
    Ok(faults
        .map(|(o, fault)| {
            let busy = busy(o).map_or(String::new(), |busy| format!(" ({busy})"));
            format!("{}, {}: {fault}{busy}", section.memory, o.plan.name())
        })
        .collect())
}

/// Names the strategies whose NO may be the machine's fault. A livelock is one on a busy machine
/// too.
pub fn excuse(section: &Section) {
    for outcome in
        section.outcomes.iter().filter(|o| !o.finished && o.retries_per_migration() < TRAPPED)
    {
        if let Some(busy) = busy(outcome) {
            note(format_args!("{} has a NO, but {busy}", outcome.plan.name()));
        }
    }
}

fn busy(outcome: &Outcome) -> Option<String> {
    let share = outcome.usage.others_share().filter(|&share| share > BUSY)?;
    Some(format!("the machine was busy: others had {:.0} % of the processors' time", share * 100.0))
}

fn fault(outcome: &Outcome, kind: Kind) -> Option<String> {
    let trap = outcome.traps && kind.mappings() > 1;
    match (outcome.plan.strategy, outcome.plan.drain) {
        (Strategy::Wait | Strategy::WaitThenLock { .. }, _) => {
            if !outcome.finished {
                return Some(format!("the work was not done within {:.1} s", outcome.seconds));
            }
            (outcome.aborted_refs > 0)
                .then(|| format!("{} migrations failed by a reference", outcome.aborted_refs))
        }
        (Strategy::TryAndRetry | Strategy::EntryInFault, Drain::Inside) if trap => {
            if outcome.finished {
                return Some(format!(
                    "finished in {:.1} s: this storm would not show a livelock",
                    outcome.seconds
                ));
            }
            let retries = outcome.retries_per_migration();
            (retries < TRAPPED)
                .then(|| format!("no livelock but slow: {retries:.2} retries per migration"))
        }
        _ => None,
    }
}
