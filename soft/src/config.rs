//! How large everything is.

use alloc::vec;
use alloc::vec::Vec;

/// Whose memory a tier is.
///
/// ```
/// use pagelock_soft::{Config, Kind, Soft, TierConfig, TierId};
/// let mut config = Config::ram_and_device(16, 16);
/// config.tiers.push(TierConfig { kind: Kind::Coherent { owner: 2 }, frames: 8 });
/// let mm = Soft::new(config);
/// assert_eq!(mm.kind(TierId(2)), Some(Kind::Coherent { owner: 2 }));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
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

/// One tier of a [`Config`].
///
/// ```
/// use pagelock_soft::{Kind, TierConfig};
/// let ram = TierConfig { kind: Kind::System, frames: 1024 };
/// assert_eq!(ram.frames, 1024);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TierConfig {
    /// Whose memory it is.
    pub kind: Kind,
    /// How many frames it has.
    pub frames: usize,
}

/// How large everything is.
///
/// ```
/// use pagelock_soft::{Config, Soft};
/// let config = Config { page_size: 64, batches: 4, ..Config::ram_and_device(16, 16) };
/// assert_eq!(Soft::new(config).page_size(), 64);
/// ```
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
    /// System memory of `ram` frames, and one device's of `device`; 4096 bytes a page, spaces of as
    /// many pages as there is system memory, no batches.
    ///
    /// ```
    /// use pagelock_soft::Config;
    /// let config = Config::ram_and_device(16, 8);
    /// assert_eq!((config.pages, config.tiers.len()), (16, 2));
    /// ```
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
