//! How it is known that this works.

#[doc = include_str!("../docs/orderings.md")]
pub mod orderings {}

#[doc = include_str!("../docs/seeded.md")]
pub mod seeded_bugs {}
