//! The bytes of all frames.

use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const WORD: usize = size_of::<usize>();

/// Words that anybody may read and write at any time: a page mapped twice is written through two
/// page-table locks, which do not exclude each other. Whatever order there is comes from those
/// locks and from the pages'.
pub(super) struct Bytes {
    words: Box<[AtomicUsize]>,
    page: usize,
}

impl Bytes {
    /// `frames` frames of `page` bytes, all zero. `page` is made a multiple of the word.
    pub(super) fn new(frames: usize, page: usize) -> Self {
        let page = page.next_multiple_of(WORD).max(WORD);
        Self { words: (0..frames * (page / WORD)).map(|_| AtomicUsize::new(0)).collect(), page }
    }

    pub(super) fn page(&self) -> usize {
        self.page
    }

    fn frame(&self, pfn: u64) -> &[AtomicUsize] {
        let words = self.page / WORD;
        let start = usize::try_from(pfn).unwrap_or(usize::MAX).saturating_mul(words);
        self.words.get(start..start.saturating_add(words)).unwrap_or(&[])
    }

    // Relaxed, throughout: see `Bytes`.

    pub(super) fn read(&self, pfn: u64, offset: usize, out: &mut [u8]) {
        let frame = self.frame(pfn);
        for (i, byte) in out.iter_mut().enumerate() {
            let at = offset + i;
            *byte =
                frame.get(at / WORD).map_or(0, |word| word.load(Relaxed).to_ne_bytes()[at % WORD]);
        }
    }

    pub(super) fn write(&self, pfn: u64, offset: usize, bytes: &[u8]) {
        let frame = self.frame(pfn);
        for (i, &byte) in bytes.iter().enumerate() {
            let at = offset + i;
            let Some(word) = frame.get(at / WORD) else { return };
            // Others may write to the same word's other bytes: an exchange of this byte only.
            let _ = word.fetch_update(Relaxed, Relaxed, |old| {
                let mut all = old.to_ne_bytes();
                all[at % WORD] = byte;
                Some(usize::from_ne_bytes(all))
            });
        }
    }

    pub(super) fn copy(&self, from: u64, to: u64) {
        for (from, to) in self.frame(from).iter().zip(self.frame(to)) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    pub(super) fn zero(&self, pfn: u64) {
        self.frame(pfn).iter().for_each(|word| word.store(0, Relaxed));
    }

    /// Adds to one of the frame's words in one step, and says what it was.
    pub(super) fn add(&self, pfn: u64, word: usize, add: usize) -> usize {
        self.frame(pfn).get(word).map_or(0, |word| word.fetch_add(add, Relaxed))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} words, {} bytes a page", self.words.len(), self.page)
    }
}
