//! The program that moves. All that it knows is in its memory, so moving that moves it.
//!
//! Each thread has a share of the pages. Its first page has its seed and the number of its rounds.
//! A round draws another page of the share, checks the word that was written to it last, and writes
//! the next one.

use std::ops::Range;
use std::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Relaxed, SeqCst},
};
use std::time::{Duration, Instant};

pub(crate) const PAGE: usize = 4096;
const WORDS: usize = PAGE / 4;
/// An access that takes longer was blocked.
const BLOCKED: Duration = Duration::from_micros(10);

/// The program's memory, wherever it is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    base: usize,
    pages: usize,
}

impl Memory {
    /// # Safety
    ///
    /// `pages` pages from `base` on are mapped, readable and writable, for as long as this and its
    /// copies are used, and everybody uses them by atomic accesses, or bears with these.
    pub(crate) const unsafe fn new(base: usize, pages: usize) -> Self {
        Self { base, pages }
    }

    pub(crate) fn word(&self, page: usize, word: usize) -> &AtomicU32 {
        assert!(page < self.pages && word < WORDS);
        // SAFETY: `new`'s caller has promised it.
        unsafe {
            AtomicU32::from_ptr(std::ptr::with_exposed_provenance_mut(
                self.base + page * PAGE + word * 4,
            ))
        }
    }

    /// A page's bytes, which may be written meanwhile.
    pub(crate) fn read(&self, page: usize, into: &mut [u8]) {
        for (number, bytes) in into.chunks_exact_mut(4).enumerate() {
            bytes.copy_from_slice(&self.word(page, number).load(Relaxed).to_ne_bytes());
        }
    }

    /// What it has before the program runs.
    pub(crate) fn fill(&self, threads: usize) {
        for page in 0..self.pages {
            for word in 1..WORDS {
                self.word(page, word).store(value(page, word, 0), Relaxed);
            }
        }
        for thread in 0..threads {
            let me = share(self.pages, threads, thread).start;
            self.word(me, 1).store(thread as u32 + 1, Relaxed);
            self.word(me, 2).store(0, Relaxed);
        }
    }
}

/// The word `word` of `page` after the page's write `n`.
const fn value(page: usize, word: usize, n: u32) -> u32 {
    ((page * WORDS + word) as u32)
        .wrapping_mul(0x9E37_79B1)
        .wrapping_add(n.wrapping_mul(0x85EB_CA6B))
}

const fn slot(n: u32) -> usize {
    1 + n.wrapping_mul(97) as usize % (WORDS - 1)
}

fn share(pages: usize, threads: usize, thread: usize) -> Range<usize> {
    let each = pages / threads;
    thread * each..(thread + 1) * each
}

/// What a thread has met.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Met {
    pub(crate) rounds: u64,
    pub(crate) blocked: Duration,
    pub(crate) longest: Duration,
    pub(crate) times: u64,
    /// A page that was wrong.
    pub(crate) wrong: Option<usize>,
}

/// Rounds of one thread, until `stop`, or until there have been `most` of them in the program's
/// life.
pub(crate) fn run(
    memory: Memory,
    threads: usize,
    thread: usize,
    stop: &AtomicBool,
    most: u32,
) -> Met {
    let share = share(memory.pages, threads, thread);
    let (me, mut met) = (share.start, Met::default());
    loop {
        let began = Instant::now();
        let rounds = memory.word(me, 2).load(SeqCst);
        met.note(began.elapsed());
        if stop.load(Relaxed) || rounds == most {
            return met;
        }
        let seed =
            memory.word(me, 1).load(SeqCst).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let page = me + 1 + ((u64::from(seed) * (share.len() as u64 - 1)) >> 32) as usize;
        let began = Instant::now();
        let n = memory.word(page, 0).load(SeqCst);
        met.note(began.elapsed());
        if n > 0 && memory.word(page, slot(n)).load(SeqCst) != value(page, slot(n), n) {
            met.wrong = Some(page);
            return met;
        }
        memory.word(page, slot(n + 1)).store(value(page, slot(n + 1), n + 1), SeqCst);
        memory.word(page, 0).store(n + 1, SeqCst);
        memory.word(me, 1).store(seed, SeqCst);
        memory.word(me, 2).store(rounds.wrapping_add(1), SeqCst);
        met.rounds += 1;
    }
}

impl Met {
    fn note(&mut self, took: Duration) {
        if took > BLOCKED {
            self.blocked += took;
            self.times += 1;
            self.longest = self.longest.max(took);
        }
    }
}

/// Compares every byte with a program that never moved. The number of bytes, and the pages that are
/// wrong.
pub(crate) fn compare(memory: Memory, threads: usize) -> (u64, Vec<usize>) {
    let mut words = vec![0_u32; memory.pages * WORDS];
    // SAFETY: the vector's words; nobody else has them meanwhile, and atomics are as large.
    let model = unsafe { Memory::new(words.as_mut_ptr().expose_provenance(), memory.pages) };
    model.fill(threads);
    let never = AtomicBool::new(false);
    for thread in 0..threads {
        let rounds = memory.word(share(memory.pages, threads, thread).start, 2).load(SeqCst);
        run(model, threads, thread, &never, rounds);
    }
    let (mut have, mut expected, mut wrong) = ([0; PAGE], [0; PAGE], Vec::new());
    for page in 0..memory.pages {
        memory.read(page, &mut have);
        model.read(page, &mut expected);
        if have != expected {
            wrong.push(page);
        }
    }
    ((memory.pages * PAGE) as u64, wrong)
}
