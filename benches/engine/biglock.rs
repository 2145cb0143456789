//! The engine's peer: one mutex for everything, as programs without page locks move memory.
//!
//! A call that moves pages holds the mutex until all of them have moved; a fault on any page waits
//! for it. It has no headers, no reverse map and no counts: nothing may be mapped twice, and no
//! thread may hold on to a page. The frames, and the copying, are those of the engine it is
//! compared with.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::mm::Tiers;
use pagelock_soft::{Config, Soft, TierId};
use std::sync::Mutex;

pub struct BigLock {
    /// For its bytes.
    memory: Soft,
    /// Where each page is. Written with the mutex held; looked at without it, as hardware would.
    table: Vec<AtomicU64>,
    /// The free frames of each tier.
    free: Mutex<[Vec<u64>; 2]>,
}

impl BigLock {
    /// All pages in tier 0.
    pub fn new(config: Config, pages: usize) -> Self {
        let memory = Soft::new(config);
        let mut free = [TierId(0), TierId(1)]
            .map(|tier| memory.frames_of(tier).rev().filter(|&pfn| pfn > 0).collect::<Vec<_>>());
        let table = (0..pages)
            .map(|_| AtomicU64::new(free[0].pop().expect("a frame for each page")))
            .collect();
        Self { memory, table, free: Mutex::new(free) }
    }

    /// Moves pages, and says how many.
    pub fn migrate(&self, pages: core::ops::Range<usize>, to: TierId) -> usize {
        let mut free = self.free.lock().expect("nobody panics");
        pages.filter(|&page| self.shift(&mut free, page, to)).count()
    }

    fn shift(&self, free: &mut [Vec<u64>; 2], page: usize, to: TierId) -> bool {
        // Relaxed: only the holder of the mutex writes.
        let old = self.table[page].load(Relaxed);
        let from = self.memory.tier(old);
        if from == to {
            return false;
        }
        let Some(new) = free[to.0].pop() else { return false };
        self.memory.copy(old, new).expect("nothing is made to fail");
        // Release: pairs with the look in `frame`.
        self.table[page].store(new, Release);
        free[from.0].push(old);
        true
    }

    pub fn is_hot(&self, page: usize) -> bool {
        self.memory.tier(self.frame(page)) == TierId(0)
    }

    fn frame(&self, page: usize) -> u64 {
        // Acquire: pairs with `shift`.
        self.table[page].load(Acquire)
    }

    /// Reads a word of a page, having brought it back if need be.
    pub fn read(&self, page: usize, out: &mut [u8; 8]) {
        while !self.is_hot(page) {
            let mut free = self.free.lock().expect("nobody panics");
            self.shift(&mut free, page, TierId(0));
        }
        self.memory.read_frame(self.frame(page), 0, out);
    }
}
