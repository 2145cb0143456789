//! Threads in the guest's place: the same program on the same memory, where there is no KVM.

use crate::home::Home;
use crate::processor::{Parked, Processor};
use crate::program::{self, Host, Words};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Guest memory as this process maps it.
pub(crate) struct Mapped(pub(crate) Arc<dyn Home>);

impl Mapped {
    fn word(&self, address: u32) -> &AtomicU32 {
        let range = self.0.host_range();
        assert!(address.is_multiple_of(4) && (address as usize) < range.len());
        // SAFETY: a word of the region's memory, which stays mapped, and is aligned. All that share
        // it use atomic accesses, or are guests or devices; pages that come and go keep it.
        unsafe {
            AtomicU32::from_ptr(std::ptr::with_exposed_provenance_mut(
                range.start + address as usize,
            ))
        }
    }
}

impl Words for Mapped {
    fn get(&self, address: u32) -> u32 {
        self.word(address).load(SeqCst)
    }

    fn set(&mut self, address: u32, word: u32) {
        self.word(address).store(word, SeqCst);
    }

    fn add_one(&mut self, address: u32) {
        self.word(address).fetch_add(1, SeqCst);
    }
}

impl Host for Processor {
    fn control(&mut self) -> u32 {
        let answer = Processor::control(self);
        if answer == 0 && self.gate.is_closed() {
            self.gate.park(self.number, Parked { rounds: self.rounds, registers: None });
        }
        answer
    }

    fn balloon(&mut self, pages: Range<u32>) {
        Processor::balloon(self, pages);
    }
}

/// Runs until the host says that it ends.
pub(crate) fn run(mut processor: Processor, resumed: bool) -> Processor {
    let mut memory = Mapped(Arc::clone(&processor.machine));
    if let Err(wrong) = program::run(processor.number, &mut memory, &mut processor, resumed) {
        processor.wrong(wrong);
    }
    processor
}
