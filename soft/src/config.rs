//! How large everything is.

use alloc::vec;
use alloc::vec::Vec;

/// Whose memory a tier is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// The processor can access it.
    System,
    /// It is a device's, and the processor cannot access it.
    Device {
        /// Which device.
        owner: u32,
    },
    /// It is a device's, and the processor can access it.
    Coherent {
        /// Which device.
        owner: u32,
    },
}

/// One tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TierConfig {
    /// Whose memory it is.
    pub kind: Kind,
    /// How many frames it has.
    pub frames: usize,
}

/// How large everything is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bytes in a page.
    pub page_size: usize,
    /// Pages in an address space.
    pub pages: usize,
    /// How many address spaces there can be at a time.
    pub spaces: usize,
    /// The tiers. The first is where pages are made and brought back to, and its first frame is the
    /// frame of zeroes.
    pub tiers: Vec<TierConfig>,
    /// How many batches of references there are. With 0, new pages have no reference for a batch.
    pub batches: usize,
}

impl Config {
    /// System memory of so many frames, and one device's; 4096 bytes a page, spaces of as many
    /// pages as there is system memory.
    #[must_use]
    pub fn ram_and_device(ram: usize, device: usize) -> Self {
        Self {
            page_size: 4096,
            pages: ram,
            spaces: 16,
            tiers: vec![
                TierConfig { kind: Kind::System, frames: ram },
                TierConfig { kind: Kind::Device { owner: 1 }, frames: device },
            ],
            batches: 0,
        }
    }
}
