//! What the memory must contain: the file, and every addition since.

use crate::region::{PAGE, WORD, boxed};
use std::collections::TryReserveError;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use xxhash_rust::xxh3::Xxh3;

/// Words in a page.
pub const WORDS: usize = PAGE / WORD;

/// Additions commute, so what a word must hold at the end is known without knowing the order: what
/// the file said, plus all that was added. A write that was lost, or a page that came back stale,
/// shows in the sum.
pub struct Ledger {
    words: Box<[AtomicUsize]>,
}

impl Ledger {
    /// The file, repeated or cut to fill `pages` pages. An error is that there is no memory for so
    /// many.
    pub fn new(file: &[u8], pages: usize) -> Result<Self, TryReserveError> {
        let mut bytes = file.iter().copied().cycle();
        let word = |_| {
            AtomicUsize::new(usize::from_le_bytes(core::array::from_fn(|_| {
                bytes.next().unwrap_or(0)
            })))
        };
        Ok(Self { words: boxed(pages * WORDS, word)? })
    }

    /// A worker added `add` to a word of the memory.
    pub fn added(&self, page: usize, word: usize, add: usize) {
        // Relaxed: read when all threads have ended.
        self.words[page * WORDS + word].fetch_add(add, Relaxed);
    }

    /// What a word must contain, once no thread writes.
    pub fn word(&self, page: usize, word: usize) -> usize {
        self.words[page * WORDS + word].load(Relaxed)
    }

    /// What the page must contain, once no thread writes.
    pub fn page(&self, page: usize) -> [u8; PAGE] {
        let mut bytes = [0; PAGE];
        for (word, to) in bytes.chunks_exact_mut(WORD).enumerate() {
            to.copy_from_slice(&self.word(page, word).to_ne_bytes());
        }
        bytes
    }
}

/// A digest of many pages, in order.
#[derive(Default)]
pub struct Digest(Xxh3);

impl Digest {
    pub fn add(&mut self, page: &[u8; PAGE]) {
        self.0.update(page);
    }

    pub fn value(&self) -> u64 {
        self.0.digest()
    }
}
