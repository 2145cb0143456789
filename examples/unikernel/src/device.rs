//! A pretend device: it writes to memory by frame, past all tables, when the first processor's
//! timer interrupts. So a page that it is given is pinned: it must not move until the device is
//! done.

use crate::batches::Drains;
use crate::counters::TRANSFERS;
use crate::kernel::{KERNEL, Kernel};
use crate::paging::At;
use crate::platform::Halt;
use crate::{cpu, frames, layout};
use core::convert::Infallible;
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::pin::{PinOrder, PinPolicy, Term, pin_page};
use pagelock::mm::{Access, Entry};
use pagelock::sync::AtomicU32;
use pagelock::{Futex, Limits};

/// Words of a transfer.
pub const WORDS: usize = 8;
/// Words that it writes in a millisecond.
const RATE: u64 = 2;

const IDLE: u32 = 0;
const BUSY: u32 = 1;

struct Request {
    state: AtomicU32,
    pfn: AtomicU64,
    word: AtomicU64,
    value: AtomicU64,
    written: AtomicU64,
}

static REQUESTS: [Request; cpu::MAX] = [const {
    Request {
        state: AtomicU32::new(IDLE),
        pfn: AtomicU64::new(0),
        word: AtomicU64::new(0),
        value: AtomicU64::new(0),
        written: AtomicU64::new(0),
    }
}; cpu::MAX];

/// The control: pages are not pinned.
pub static NO_PINS: AtomicBool = AtomicBool::new(false);

/// Any page may be pinned, wherever the processor can access it.
struct AnyPage;

impl PinPolicy<Kernel> for AnyPage {
    type Refused = Infallible;

    fn permit(
        &self,
        _: &Kernel,
        _: At,
        _: &<Kernel as pagelock::mm::Tables>::Entry<'_>,
        _: Access,
        _: Term,
    ) -> Result<(), Infallible> {
        Ok(())
    }

    fn home(&self, _: &Kernel, _: frames::Tier) -> Option<frames::Tier> {
        None
    }
}

/// Has the device write `value` and what follows it to words of the page at `at`, and sleeps until
/// it has.
pub fn transfer(at: At, word: usize, value: u64, unlocked: &mut Unlocked) {
    let order = PinOrder::new(Access::Write, Term::Short, Limits::none());
    let mut pin = Some(
        pin_page(&KERNEL, at, &order, &AnyPage, &Drains, unlocked)
            .expect("the page is there, and will be free"),
    );
    let pfn = pin.as_ref().map_or(0, |pin| pin.pfn());
    if NO_PINS.load(Relaxed) {
        pin = None;
    }
    let request = &REQUESTS[cpu::this().index()];
    request.pfn.store(pfn, Relaxed);
    request.word.store(word as u64, Relaxed);
    request.value.store(value, Relaxed);
    request.written.store(0, Relaxed);
    // Release: pairs with the Acquire of `tick`.
    request.state.store(BUSY, Release);
    while request.state.load(Acquire) == BUSY {
        let _ = Halt.wait(&request.state, BUSY);
    }
    let still = crate::paging::lock(at).get();
    assert!(
        pin.is_none() || matches!(still, Ok(Leaf::Present { pfn: now, .. }) if now == pfn),
        "a pinned page has moved: {still:x?}"
    );
    TRANSFERS.one();
    drop(pin);
}

/// The device at work: in an interrupt, which wakes the processors that wait for it.
pub fn tick() {
    for request in &REQUESTS {
        if request.state.load(Acquire) != BUSY {
            continue;
        }
        let (pfn, first) = (request.pfn.load(Relaxed), request.word.load(Relaxed));
        for _ in 0..RATE {
            let n = request.written.load(Relaxed);
            if n < WORDS as u64 {
                layout::write(pfn, (first + n) as usize, request.value.load(Relaxed) + n);
                request.written.store(n + 1, Relaxed);
            }
        }
        if request.written.load(Relaxed) == WORDS as u64 {
            // Release: a processor that finds it done sees what was written.
            request.state.store(IDLE, Release);
            Halt.wake_all(&raw const request.state);
        }
    }
}
