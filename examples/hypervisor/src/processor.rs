//! What a virtual processor asks of the host, whatever it runs on.

use crate::accident::Accident;
use crate::home::Home;
use crate::program::{END, WISH, Wrong};
use kvm_bindings::{kvm_regs, kvm_sregs};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The host's part of one virtual processor.
pub(crate) struct Processor {
    pub(crate) number: u32,
    pub(crate) machine: Arc<dyn Home>,
    pub(crate) gate: Arc<Gate>,
    /// How often it was told to go on.
    pub(crate) rounds: u64,
    pub(crate) most: u64,
    /// The sum over all processors, for the progress bar.
    pub(crate) progress: Arc<AtomicU64>,
}

impl Processor {
    /// The answer to "what next?".
    pub(crate) fn control(&mut self) -> u32 {
        if self.machine.brake().is_pulled() || self.rounds >= self.most {
            return END;
        }
        self.rounds += 1;
        self.progress.fetch_add(1, Relaxed);
        wish(&self.machine.layout().own[self.number as usize], self.rounds - 1)
    }

    pub(crate) fn balloon(&self, pages: Range<u32>) {
        self.machine.balloon(pages);
    }

    pub(crate) fn wrong(&self, wrong: Wrong) {
        let Wrong { page, found, expected } = wrong;
        let what = format!(
            "data lost: processor {} found {found:#x} in page {page}, not {expected:#x}",
            self.number
        );
        self.machine.brake().pull(Accident::Lost(what));
    }
}

/// What the host answers in a round: every 256th time it would like to have some pages.
pub(crate) fn wish(own: &Range<u32>, round: u64) -> u32 {
    if round % 256 != 255 {
        return 0;
    }
    let blocks = u64::from((own.end - own.start) / WISH);
    own.start + ((round / 256 * 37) % blocks) as u32 * WISH
}

/// What a processor needs to go on elsewhere, beside memory.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parked {
    pub(crate) rounds: u64,
    /// `None` if a thread takes its place: all its state is in memory.
    pub(crate) registers: Option<(kvm_regs, kvm_sregs)>,
}

/// Where processors stop for a snapshot.
#[derive(Default)]
pub(crate) struct Gate {
    inner: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    is_closed: bool,
    parked: Vec<Option<Parked>>,
}

impl Gate {
    pub(crate) fn new(processors: u32) -> Self {
        let parked = vec![None; processors as usize];
        Self { inner: Mutex::new(Inside { is_closed: false, parked }), changed: Condvar::new() }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Sleeps until it is open.
    pub(crate) fn park(&self, processor: u32, state: Parked) {
        let mut inside = self.lock();
        inside.parked[processor as usize] = Some(state);
        self.changed.notify_all();
        while inside.is_closed {
            inside = self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes it and waits for all. `None` if they did not all come, because some have ended.
    pub(crate) fn close(&self, most: Duration) -> Option<Vec<Parked>> {
        let mut inside = self.lock();
        inside.is_closed = true;
        inside.parked.fill(None);
        let waiting = |inside: &mut Inside| inside.parked.iter().any(Option::is_none);
        let (inside, _) = self
            .changed
            .wait_timeout_while(inside, most, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        inside.parked.iter().copied().collect()
    }

    pub(crate) fn open(&self) {
        self.lock().is_closed = false;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
