//! What all of guest memory must contain, worked out without it, and whether it does.

use crate::home::Home;
use crate::processor::wish;
use crate::program::{self, COUNTER, END, Host, LEDGER, Layout, PAGE, Words, ZEROED, fill};
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Guest memory as expected.
struct Model {
    words: Vec<u32>,
}

impl Words for Model {
    fn get(&self, address: u32) -> u32 {
        self.words[address as usize / 4]
    }

    fn set(&mut self, address: u32, word: u32) {
        self.words[address as usize / 4] = word;
        let ledger = LEDGER..LEDGER + self.words.len() as u32 / 256;
        if word == ZEROED && ledger.contains(&address) {
            // The page is on its way to the balloon.
            let page = (address - LEDGER) as usize / 4;
            self.words[page * 1024..(page + 1) * 1024].fill(0);
        }
    }

    fn add_one(&mut self, address: u32) {
        self.words[address as usize / 4] += 1;
    }
}

/// Answers as the host has.
struct Replay<'l> {
    own: &'l Range<u32>,
    round: u64,
    rounds: u64,
}

impl Host for Replay<'_> {
    fn control(&mut self) -> u32 {
        if self.round == self.rounds {
            return END;
        }
        self.round += 1;
        wish(self.own, self.round - 1)
    }

    fn balloon(&mut self, _: Range<u32>) {}
}

/// After so many rounds of each processor, and with what the device has written last to each of its
/// pages.
fn expected(layout: &Layout, rounds: &[u64], written: &[u32]) -> Vec<u32> {
    let mut words = Vec::with_capacity(layout.pages as usize * 1024);
    let mut page = [0; PAGE];
    for number in 0..layout.pages {
        layout.image(number, &mut page);
        if layout.device.contains(&number) {
            fill(number, written[(number - layout.device.start) as usize], &mut page);
        }
        words.extend(
            page.chunks_exact(4)
                .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])),
        );
    }
    let mut model = Model { words };
    for (n, number) in written.iter().zip(layout.device.clone()) {
        model.set(LEDGER + 4 * number, *n);
    }
    for ((own, &rounds), vcpu) in layout.own.iter().zip(rounds).zip(0..) {
        let mut host = Replay { own, round: 0, rounds };
        if let Err(wrong) = program::run(vcpu, &mut model, &mut host, false) {
            unreachable!("the program finds its own memory wrong: {wrong:?}");
        }
    }
    debug_assert_eq!(u64::from(model.get(COUNTER)), rounds.iter().sum::<u64>());
    model.words
}

/// Compares every byte of guest memory, through the faults that this makes: the number of bytes,
/// and the pages that are wrong.
pub(crate) fn compare(machine: &dyn Home, rounds: &[u64], written: &[u32]) -> (u64, Vec<u32>) {
    let expected = expected(machine.layout(), rounds, written);
    let base = machine.host_range().start;
    let mut wrong = Vec::new();
    let mut bytes = 0;
    for (page, words) in expected.chunks_exact(1024).enumerate() {
        let expected = words.iter().flat_map(|word| word.to_le_bytes());
        let same = expected.enumerate().all(|(at, byte)| {
            let address = std::ptr::with_exposed_provenance_mut(base + page * PAGE + at);
            // SAFETY: a byte of the region; nobody writes any more.
            unsafe { AtomicU8::from_ptr(address) }.load(Relaxed) == byte
        });
        bytes += PAGE as u64;
        if !same {
            wrong.push(page as u32);
        }
    }
    (bytes, wrong)
}
