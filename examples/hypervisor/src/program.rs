//! The guest's program, and what its memory must contain. `guest.rs` is the same in machine code.
//!
//! Each virtual processor has pages of its own. In a round it
//!
//! 1. asks the host what to do: go on, end, or give a few of its pages to the balloon;
//! 2. draws one of its pages (every 32nd time it first gives that page to the balloon), checks the
//!    word that it wrote last and the word that it is about to write, and writes that;
//! 3. draws a page that nobody writes, the same one as the other processors, and checks a word of
//!    it;
//! 4. draws a page that a device writes, and checks a word of it.
//!
//! A *ledger* in guest memory has a word for each page: how often it was written, and in the top
//! bit whether it began as zeroes. For a device's page it is odd while the device is at it.

use std::ops::Range;

pub(crate) const PAGE: usize = 4096;
pub(crate) const CODE: u32 = 0x1000;
pub(crate) const PARAMETERS: u32 = 0x2000;
pub(crate) const COUNTER: u32 = 0x3000;
pub(crate) const LEDGER: u32 = 0x4000;
pub(crate) const ZEROED: u32 = 0x8000_0000;
/// What the host answers for "end".
pub(crate) const END: u32 = u32::MAX;
/// So many pages at once go to the balloon when the host asks.
pub(crate) const WISH: u32 = 8;
/// The caller's parameters: eight words for each processor.
const WORDS: usize = 8;

/// What a page's word has after the page's `n`th write; `n` is 0 for what it begins with.
pub(crate) const fn value(word: u32, n: u32) -> u32 {
    (word >> 4).wrapping_mul(0x9E37_79B1).wrapping_add(n.wrapping_mul(0x85EB_CA6B))
}

/// The word of a page that the `n`th write goes to.
pub(crate) const fn slot(page: u32, n: u32) -> u32 {
    (n.wrapping_mul(97).wrapping_add(page.wrapping_mul(13))) & 1023
}

const fn draw(seed: u32) -> u32 {
    seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
}

/// `draw` as a number below `count`.
const fn below(draw: u32, count: u32) -> u32 {
    ((draw as u64 * count as u64) >> 32) as u32
}

/// Which pages belong to which user.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) pages: u32,
    pub(crate) fixed: Range<u32>,
    pub(crate) device: Range<u32>,
    pub(crate) own: Vec<Range<u32>>,
}

impl Layout {
    pub(crate) fn new(pages: u32, vcpus: u32) -> Self {
        let ledger = LEDGER / PAGE as u32 + (pages * 4).div_ceil(PAGE as u32);
        let fixed = ledger..ledger + pages / 4;
        let device = fixed.end..fixed.end + (pages / 64).max(16);
        let each = (pages - device.end) / vcpus / WISH * WISH;
        let own = (0..vcpus).map(|v| device.end + v * each..device.end + (v + 1) * each).collect();
        Self { pages, fixed, device, own }
    }

    /// What `page` has before the guest runs.
    pub(crate) fn image(&self, page: u32, into: &mut [u8]) {
        into.fill(0);
        let data = self.fixed.start..self.own.last().map_or(self.device.end, |own| own.end);
        if data.contains(&page) {
            fill(page, 0, into);
        } else if page == CODE / PAGE as u32 {
            let code = crate::guest::code();
            into[..code.len()].copy_from_slice(code);
        } else if page == PARAMETERS / PAGE as u32 {
            let words = self.own.iter().zip(0..).flat_map(|(own, v)| self.parameters(own, v));
            for (at, word) in into.chunks_exact_mut(4).zip(words) {
                at.copy_from_slice(&word.to_le_bytes());
            }
        }
    }

    fn parameters(&self, own: &Range<u32>, vcpu: u32) -> [u32; WORDS] {
        let len = |range: &Range<u32>| range.end - range.start;
        let (fixed, device) = (&self.fixed, &self.device);
        [1 + vcpu, 77, own.start, len(own), fixed.start, len(fixed), device.start, len(device)]
    }
}

/// A page as it is after `n` writes of all of it: a device's, or the image's.
pub(crate) fn fill(page: u32, n: u32, into: &mut [u8]) {
    for (word, at) in (page << 10..).zip(into.chunks_exact_mut(4)) {
        at.copy_from_slice(&value(word, n).to_le_bytes());
    }
}

/// Guest memory, by guest addresses of words.
pub(crate) trait Words {
    fn get(&self, address: u32) -> u32;
    fn set(&mut self, address: u32, word: u32);
    /// Adds 1, against other processors.
    fn add_one(&mut self, address: u32);
}

/// The host, as the guest sees it.
pub(crate) trait Host {
    /// 0: go on. [`END`]. Otherwise the first of [`WISH`] pages that the host would like to have.
    fn control(&mut self) -> u32;
    /// Pages for the balloon: they read as zeroes when this returns.
    fn balloon(&mut self, pages: Range<u32>);
}

/// A word that is not as expected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wrong {
    pub(crate) page: u32,
    pub(crate) found: u32,
    pub(crate) expected: u32,
}

/// Runs until the host says that it ends. `resumed`: the first answer is given already.
pub(crate) fn run(
    vcpu: u32,
    memory: &mut impl Words,
    host: &mut impl Host,
    resumed: bool,
) -> Result<(), Wrong> {
    let me = PARAMETERS + vcpu * 4 * WORDS as u32;
    let mut answered = resumed;
    loop {
        match if std::mem::take(&mut answered) { 0 } else { host.control() } {
            0 => {}
            END => return Ok(()),
            wish => give(memory, host, wish..wish + WISH),
        }
        round(me, memory, host)?;
    }
}

fn give(memory: &mut impl Words, host: &mut impl Host, pages: Range<u32>) {
    pages.clone().for_each(|page| memory.set(LEDGER + 4 * page, ZEROED));
    host.balloon(pages);
}

fn round(me: u32, memory: &mut impl Words, host: &mut impl Host) -> Result<(), Wrong> {
    let drawn = draw(memory.get(me));
    memory.set(me, drawn);
    let page = below(drawn, memory.get(me + 12)) + memory.get(me + 8);
    if drawn & 0x1f00 == 0 {
        give(memory, host, page..page + 1);
    }
    let ledger = memory.get(LEDGER + 4 * page);
    let n = ledger & !ZEROED;
    if n > 0 {
        let word = page << 10 | slot(page, n);
        check(memory, word, value(word, n))?;
    }
    let word = page << 10 | slot(page, n + 1);
    let expected = match (n + 1).checked_sub(1024) {
        Some(older) if older > 0 => value(word, older),
        _ if ledger & ZEROED != 0 => 0,
        _ => value(word, 0),
    };
    check(memory, word, expected)?;
    memory.set(4 * word, value(word, n + 1));
    memory.set(LEDGER + 4 * page, ledger + 1);

    let drawn = draw(memory.get(me + 4));
    memory.set(me + 4, drawn);
    let page = below(drawn, memory.get(me + 20)) + memory.get(me + 16);
    let word = page << 10 | (drawn >> 3) & 1023;
    check(memory, word, value(word, 0))?;

    let page = below(drawn.wrapping_mul(0x9E37_79B1), memory.get(me + 28)) + memory.get(me + 24);
    let word = page << 10 | drawn & 1023;
    let n = memory.get(LEDGER + 4 * page);
    if n & 1 == 0 {
        let (found, expected) = (memory.get(4 * word), value(word, n));
        if memory.get(LEDGER + 4 * page) == n && found != expected {
            return Err(Wrong { page, found, expected });
        }
    }
    memory.add_one(COUNTER);
    Ok(())
}

fn check(memory: &impl Words, word: u32, expected: u32) -> Result<(), Wrong> {
    let found = memory.get(4 * word);
    if found == expected { Ok(()) } else { Err(Wrong { page: word >> 10, found, expected }) }
}
