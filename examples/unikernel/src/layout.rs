//! The pages, and their contents.

use crate::frames::{self, Tier};
use crate::kernel::KERNEL;
use crate::paging::{self, At, PAGE};
use core::arch::global_asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::ledger::{Change, Owner};
use pagelock::mm::{Entry, Tables};

/// Pages of data, which all processors write to through both windows.
pub const DATA: Range<usize> = 0..128;
/// Pages of code, which all of them run.
pub const CODE: Range<usize> = 128..132;
/// Pages that a fork shares until somebody writes. In the first window only, and not there before
/// they are touched.
pub const PRIVATE: Range<usize> = 132..164;

/// Words of a page.
pub const WORDS: usize = PAGE / 8;
/// Each processor's own word is this and its number.
pub const OWN: usize = 8;
/// Each processor's words for the device are these, eight for each.
pub const TRANSFER: usize = 32;
/// From here on words have a value that never changes.
pub const PATTERN: usize = 96;
/// The code is in so many places of a page.
pub const COPIES: usize = PAGE / COPY;
const COPY: usize = 64;

/// The windows that a page is in.
pub fn windows(page: usize) -> Range<usize> {
    if PRIVATE.contains(&page) { 0..1 } else { 0..2 }
}

/// Whether there is, or can be, a page at an address.
pub fn is_mapped(at: At) -> bool {
    let is_ours = PRIVATE.contains(&at.page()) || at.space == 0 && at.page() < PRIVATE.start;
    is_ours && windows(at.page()).contains(&(usize::from(at.entry) / paging::WINDOW))
}

/// What an unchanging word is.
pub fn pattern(page: usize, word: usize) -> u64 {
    ((page as u64) << 32 | word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A word of a page, in the space that this processor is in. Touching it may fault, and is
/// resolved.
pub fn word(window: usize, page: usize, word: usize) -> &'static AtomicU64 {
    let address = At::new(0, window, page).address() + 8 * word;
    // SAFETY: mapped memory, whatever frame it is in, used as atomic words only.
    unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(address) }
}

// Adds 1 to the word at rdi, and makes a number of the seed in rsi, in as many rounds as rdx says.
// Runs anywhere.
global_asm!(
    r#"
.globl moving_code, moving_code_end
moving_code:
    movabsq $0x9e3779b97f4a7c15, %rcx
    movq %rsi, %rax
1:  imulq %rcx, %rax
    rorq $23, %rax
    xorq %rsi, %rax
    decq %rdx
    jnz 1b
    lock incq (%rdi)
    ret
moving_code_end:
"#,
    options(att_syntax)
);

unsafe extern "C" {
    static moving_code: u8;
    static moving_code_end: u8;
}

type Code = extern "sysv64" fn(*const AtomicU64, u64, u64) -> u64;

/// Calls the code in a page.
pub fn call(
    window: usize,
    page: usize,
    copy: usize,
    word: &AtomicU64,
    seed: u64,
    rounds: u64,
) -> u64 {
    let at = At::new(0, window, page).address() + copy * COPY;
    // SAFETY: `set_up` has put this function there.
    let code = unsafe { core::mem::transmute::<usize, Code>(at) };
    code(word, seed, rounds)
}

/// What the code makes of a seed.
pub fn result(seed: u64, rounds: u64) -> u64 {
    (0..rounds)
        .fold(seed, |value, _| value.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(23) ^ seed)
}

/// Maps data and code in the first space.
pub fn set_up() {
    for page in DATA.start..CODE.end {
        let pfn = frames::allocate(frames::TIERS[page % 2]).expect("all frames are free");
        if CODE.contains(&page) {
            put_code(pfn);
        } else {
            put_data(pfn, page);
        }
        let entries = windows(page).len() as u32;
        frames::header(pfn).expect("a frame").activate(entries).expect("it was free");
        frames::set_page_in(pfn, page as u32);
        for window in windows(page) {
            map(At::new(0, window, page), pfn, CODE.contains(&page));
        }
    }
    for page in PRIVATE {
        paging::lock(At::new(0, 0, page)).set_executable(false);
    }
    assert!(frames::how_many_free(Tier::Device) == frames::PER_TIER as u32);
}

/// Puts up an entry that has a reference already.
fn map(at: At, pfn: u64, executable: bool) {
    frames::owners(pfn).note(Owner::Mapping, Change::Taken);
    if let Some(mut entry) = KERNEL.lock(at) {
        entry.set_executable(executable);
        entry.set(Leaf::Present { pfn, rights: Rights::Write, tracking: Tracking::default() });
    }
}

fn put_code(pfn: u64) {
    let (from, end) = (&raw const moving_code, &raw const moving_code_end);
    for copy in 0..COPIES {
        // SAFETY: a frame that no processor knows yet; the code is shorter than a copy.
        unsafe {
            core::ptr::copy_nonoverlapping(
                from,
                frames::bytes(pfn).add(copy * COPY),
                end.addr() - from.addr(),
            )
        };
    }
}

fn put_data(pfn: u64, page: usize) {
    for word in 0..WORDS {
        let value = if word >= PATTERN { pattern(page, word) } else { 0 };
        // SAFETY: as above.
        unsafe { frames::bytes(pfn).cast::<u64>().add(word).write(value) };
    }
}

/// Writes a word of a frame, as a device does.
pub fn write(pfn: u64, word: usize, value: u64) {
    // SAFETY: a frame's bytes, used as atomic words.
    unsafe { (*frames::bytes(pfn).cast::<AtomicU64>().add(word)).store(value, Relaxed) }
}
