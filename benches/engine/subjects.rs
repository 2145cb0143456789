//! The two engines behind one face.

use crate::biglock::BigLock;
use core::time::Duration;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Order, Outcome, Slot, migrate};
use pagelock_soft::{Area, AreaKind, At, Config, Kind, Soft, TierConfig, TierId};
use std::time::Instant;

pub const HOT: TierId = TierId(0);
pub const COLD: TierId = TierId(1);
const SPARE: usize = 256;

/// Pages in two tiers.
pub trait Engine: Sync {
    const NAME: &'static str;

    /// `pages` pages, all hot and touched, with room for `cold` at the other place.
    fn new(pages: usize, page_size: usize, cold: usize) -> Self;

    /// A migrator: moves `count` pages from `first` on with each call, and says how many have
    /// moved.
    fn migrator(&self) -> impl FnMut(usize, usize, TierId) -> usize;

    fn is_hot(&self, page: usize) -> bool;

    /// Reads a word, having brought the page back if need be.
    fn read(&self, page: usize) -> [u8; 8];
}

fn config(pages: usize, page_size: usize, cold: usize, spaces: usize) -> Config {
    // A frame is free a moment after its page can be found at the other place, so that there have
    // to be some more than pages.
    let tiers = vec![
        TierConfig { kind: Kind::System, frames: pages + SPARE },
        TierConfig { kind: Kind::Device { owner: 1 }, frames: cold + SPARE },
    ];
    Config { page_size, pages, spaces, tiers, batches: 0 }
}

pub struct Ours {
    mm: Soft,
    first: At,
}

impl Ours {
    /// As [`Engine::new`], with all pages mapped by this many address spaces.
    pub fn mapped(pages: usize, page_size: usize, cold: usize, spaces: usize) -> Self {
        let mm = Soft::new(config(pages, page_size, cold, spaces));
        let first = mm.spawn().expect("there is one").page(0);
        if spaces == 1 { mm.map(first, pages) } else { mm.map_shared(first, pages) }
            .expect("nothing is mapped yet");
        for at in first.pages(pages) {
            mm.write(at, 0, &[1; 8]).expect("a frame for each page");
        }
        for _ in 1..spaces {
            let other = mm.spawn().expect("there is one").page(0);
            let area = Area { kind: AreaKind::Shared, rights: Some(Rights::Write) };
            let mut pairs = first.pages(pages).zip(other.pages(pages));
            pairs
                .try_for_each(|(from, to)| mm.share(from, to, area))
                .expect("nothing is mapped yet");
        }
        Self { mm, first }
    }

    /// Has each flush take so long, awake.
    pub fn flush_takes(&self, time: Duration) {
        self.mm.on_flush(move || {
            if !time.is_zero() {
                let began = Instant::now();
                while began.elapsed() < time {
                    core::hint::spin_loop();
                }
            }
        });
    }

    /// As [`Engine::migrator`], with `batch` pages locked, and flushed, at a time.
    pub fn migrator_by(&self, batch: usize) -> impl FnMut(usize, usize, TierId) -> usize {
        let mut slots: Vec<Slot<'_, Soft>> = Vec::new();
        // The migrator is the thread that has it.
        let mut unlocked = Unlocked::promise();
        move |first, count, to| {
            slots.clear();
            slots.extend(self.first.space.page(first).pages(count).map(Slot::at));
            migrate(
                &self.mm,
                &mut slots,
                &Order::to(to).tries(1).batch(batch),
                &self.mm,
                &mut unlocked,
            );
            // Those that were there already, or that a faulter has, have not been moved.
            slots.iter().filter(|slot| matches!(slot.outcome(), Outcome::Moved { .. })).count()
        }
    }
}

impl Engine for Ours {
    const NAME: &'static str = "pagelock::mm";

    fn new(pages: usize, page_size: usize, cold: usize) -> Self {
        Self::mapped(pages, page_size, cold, 1)
    }

    fn migrator(&self) -> impl FnMut(usize, usize, TierId) -> usize {
        self.migrator_by(512)
    }

    fn is_hot(&self, page: usize) -> bool {
        matches!(self.mm.leaf(self.first.space.page(page)), Leaf::Present { .. })
    }

    fn read(&self, page: usize) -> [u8; 8] {
        let mut out = [0; 8];
        self.mm
            .read(self.first.space.page(page), 0, &mut out)
            .expect("it is mapped, and there is room");
        out
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.mm.audit().expect("every reference has its owner");
    }
}

impl Engine for BigLock {
    const NAME: &'static str = "one mutex";

    fn new(pages: usize, page_size: usize, cold: usize) -> Self {
        let engine = Self::new(config(pages, page_size, cold, 1), pages);
        (0..pages).for_each(|page| engine.read(page, &mut [0; 8]));
        engine
    }

    fn migrator(&self) -> impl FnMut(usize, usize, TierId) -> usize {
        |first, count, to| self.migrate(first..first + count, to)
    }

    fn is_hot(&self, page: usize) -> bool {
        self.is_hot(page)
    }

    fn read(&self, page: usize) -> [u8; 8] {
        let mut out = [0; 8];
        self.read(page, &mut out);
        out
    }
}
