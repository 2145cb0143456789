//! Why the crate is right, what it costs, how it compares: the pages of `docs`.
//!
//! They are files of the repository, beside the reference they describe:
//!
//! | page | answers |
//! |---|---|
//! | [`protocol`] | why is it right, and what breaks without each ordering? |
//! | [`performance`] | what does it cost, when does it lose, how is that measured? |
//! | [`peers`] | what do std, parking_lot, usync, event-listener and Linux offer instead? |
//! | [`linux`] | what of Linux's memory manager is here, and what is missing? |
//! | [`verification`] | which check would fail if a promise were false? |
//! | [`orderings`] | which ordering has each atomic access, and which model needs it? |
//! | [`model`] | what does the specification say under fairness? |
//! | [`soak`] | what did the long runs come to? |
//! | [`sizes`] | how large is the code, and what can panic? |
//! | [`guidelines`] | where does the API miss the Rust API Guidelines, and why? |
//! | `segments` | (feature `shared`) what do the bytes of a segment mean? |

#[doc = include_str!("../docs/protocol.md")]
pub mod protocol {}

#[doc = include_str!("../docs/pictures.md")]
#[doc = include_str!("../docs/performance.md")]
pub mod performance {}

#[doc = include_str!("../docs/peers.md")]
pub mod peers {}

#[doc = include_str!("../docs/verification.md")]
pub mod verification {}

#[doc = include_str!("../docs/linux.md")]
pub mod linux {}

#[doc = include_str!("../docs/model/README.md")]
pub mod model {}

#[doc = include_str!("../docs/orderings.md")]
pub mod orderings {}

#[doc = include_str!("../docs/guidelines.md")]
pub mod guidelines {}

#[doc = include_str!("../docs/soak.md")]
pub mod soak {}

#[doc = include_str!("../docs/sizes.md")]
pub mod sizes {}

#[cfg(all(feature = "shared", target_os = "linux"))]
#[doc = include_str!("../docs/shared.md")]
pub mod segments {}
