//! Which figures there are: jobs, each of which measures one row of every table that it knows
//! something for.

pub mod bypass;
pub mod contended;
pub mod instructions;
pub mod layout;
pub mod release;
pub mod scale;
pub mod storm;
pub mod uncontended;

use super::crew::Crew;
use super::effort::Effort;
use super::table::Tables;

type Run<'e> = Box<dyn FnOnce(&Crew, &mut Tables) + 'e>;

/// One row's measurements.
pub struct Job<'e> {
    pub part: &'static str,
    pub name: String,
    /// How long it will take, roughly.
    pub seconds: f64,
    pub run: Run<'e>,
}

impl<'e> Job<'e> {
    pub fn new(
        part: &'static str,
        name: impl Into<String>,
        seconds: f64,
        run: impl FnOnce(&Crew, &mut Tables) + 'e,
    ) -> Self {
        Self { part, name: name.into(), seconds, run: Box::new(run) }
    }
}

pub const PARTS: [&str; 7] =
    ["instructions", "uncontended", "contended", "release", "storm", "scale", "layout"];

/// The jobs of a part.
pub fn jobs<'e>(part: &str, effort: &'e Effort) -> Vec<Job<'e>> {
    match part {
        "instructions" => instructions::jobs(),
        "uncontended" => uncontended::jobs(effort),
        "contended" => contended::jobs(effort).into_iter().chain(bypass::jobs(effort)).collect(),
        "release" => release::jobs(effort),
        "storm" => storm::jobs(effort),
        "scale" => scale::jobs(effort),
        "layout" => layout::jobs(effort),
        other => panic!("`{other}` is none of {PARTS:?}"),
    }
}
