//! A software memory manager with something in it, and pictures of it to compare.

use super::own::Own;
use pagelock::leaf::Leaf;
use pagelock::mm::drain::{ThreadCpus, Unlocked};
use pagelock::mm::exclusive::{ExclusiveError, make_exclusive};
use pagelock::mm::migrate::{Order, Outcome, Slot, migrate};
use pagelock::mm::{ReverseMap, Tiers};
use pagelock_soft::{At, Config, Kind, Refusal, Soft, SpaceId, TierConfig, TierId};
use std::collections::BTreeSet;

pub(crate) type Mm = Soft<Own, ThreadCpus>;

pub(crate) const RAM: TierId = TierId(0);
pub(crate) const DEVICE: TierId = TierId(1);
pub(crate) const FAR: TierId = TierId(2);

/// System memory, a device's, and more system memory, 128 frames each; the platform, to see who
/// sleeps. Never dropped, so that hooks and threads may refer to it.
pub(crate) fn machine() -> (&'static Mm, Own) {
    machine_with(0)
}

pub(crate) fn machine_with(batches: usize) -> (&'static Mm, Own) {
    let own = Own::new(64);
    let tier = |kind| TierConfig { kind, frames: 128 };
    let tiers = vec![tier(Kind::System), tier(Kind::Device { owner: 1 }), tier(Kind::System)];
    let config = Config { page_size: 256, pages: 128, spaces: 16, tiers, batches };
    (Box::leak(Box::new(Soft::on(own, ThreadCpus, config))), own)
}

/// What page `page` has in it after `write_all`.
fn text(page: usize) -> [u8; 32] {
    core::array::from_fn(|i| (page * 7 + i) as u8)
}

/// Maps pages and writes to them.
pub(crate) fn written(mm: &Mm, space: SpaceId, pages: usize) -> At {
    let at = space.page(0);
    mm.map(at, pages).unwrap();
    write_all(mm, at, pages);
    at
}

pub(crate) fn write_all(mm: &Mm, at: At, pages: usize) {
    for at in at.pages(pages) {
        mm.write(at, 8, &text(at.page)).unwrap();
    }
}

pub(crate) fn check_all(mm: &Mm, at: At, pages: usize) {
    for at in at.pages(pages) {
        let mut bytes = [0; 32];
        mm.read(at, 8, &mut bytes).unwrap();
        assert_eq!(bytes, text(at.page), "{at:?}");
    }
}

/// Moves one page, as a thread of control of its own would, and says what became of it.
pub(crate) fn move_one(mm: &Mm, at: At, order: &Order<Mm>) -> Outcome<Refusal> {
    let unlocked = &mut Unlocked::promise();
    let mut slots = [Slot::at(at)];
    let _ = migrate(mm, &mut slots, order, mm, unlocked);
    slots[0].outcome()
}

/// Makes a page a device's, and has the device told at once: says which frame it is.
pub(crate) fn exclusive(mm: &Mm, at: At) -> Result<u64, ExclusiveError> {
    make_exclusive(mm, at).map(|exclusive| exclusive.pfn())
}

/// All that can be seen of a page from outside: every entry that names it, its counts, its lock,
/// its bytes.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Picture {
    pfn: u64,
    entries: BTreeSet<(At, String)>,
    refs: u32,
    pins: u32,
    locked: bool,
    migrating: bool,
    frozen: bool,
    bytes: Vec<u8>,
    free: [usize; 3],
}

pub(crate) fn picture(mm: &Mm, at: At) -> Picture {
    let pfn = mm.frame_at(at).expect("a page");
    let page = mm.page(pfn).unwrap();
    let mut entries = BTreeSet::new();
    mm.each_mapping(mm.span(pfn), |at| {
        entries.insert((at, format!("{:?}", mm.leaf(at))));
    });
    let mut bytes = vec![0; mm.page_size()];
    mm.read_frame(pfn, 0, &mut bytes);
    Picture {
        pfn,
        entries,
        refs: page.refs(),
        pins: page.pins(),
        locked: page.is_locked(),
        migrating: page.is_migrating(),
        frozen: page.is_frozen(),
        bytes,
        free: [RAM, DEVICE, FAR].map(|tier| mm.free_frames(tier)),
    }
}

/// Whether the entry is one for a page on its way.
pub(crate) fn is_migrating(mm: &Mm, at: At) -> bool {
    matches!(mm.leaf(at), Leaf::Migration { .. })
}

impl Picture {
    /// Without the numbers of free frames, which other pages change.
    pub(crate) fn forget_free(&mut self) {
        self.free = [0; 3];
    }
}
