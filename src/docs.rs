//! What is known about the crate, and how: pages of the repository's `docs` folder.

#[doc = include_str!("../docs/verification.md")]
pub mod verification {}

#[doc = include_str!("../docs/linux.md")]
pub mod linux {}

#[doc = include_str!("../docs/model/README.md")]
pub mod model {}

#[doc = include_str!("../docs/coverage.md")]
pub mod coverage {}

#[doc = include_str!("../docs/mutants.md")]
pub mod mutants {}

#[doc = include_str!("../docs/orderings.md")]
pub mod orderings {}

#[doc = include_str!("../docs/seeded.md")]
pub mod seeded_bugs {}

#[doc = include_str!("../docs/soak.md")]
pub mod soak {}

#[doc = include_str!("../docs/sizes.md")]
pub mod sizes {}

#[cfg(all(feature = "shared", target_os = "linux"))]
#[doc = include_str!("../docs/shared.md")]
pub mod segments {}
