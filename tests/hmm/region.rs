//! The parts of the storm example that talk to userfaultfd, for [`real`](super::real).

#![allow(dead_code)] // Not all of it is used.

#[path = "../../examples/storm/region/map.rs"]
pub mod map;
#[path = "../../examples/storm/region/page.rs"]
pub mod page;
#[path = "../../examples/storm/region/sigbus.rs"]
pub mod sigbus;
#[path = "../../examples/storm/region/uffd.rs"]
pub mod uffd;

pub const PAGE: usize = 4096;

/// As in the example: what to act as if the kernel lacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pretend {
    pub no_userfaultfd: bool,
    pub no_move: bool,
    pub no_write_protect: bool,
}
