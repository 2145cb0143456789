//! Where headers lie: each thread has a header of its own, and only their places in memory are
//! common.

use super::crew::Crew;
use super::locks::Lock;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Instant;

/// Bytes from one header to the next.
pub trait Spacing<L>: Send + Sync + 'static {
    fn new(lock: L) -> Self;
    fn lock(&self) -> &L;
}

macro_rules! spacing {
    ($(#[$doc:meta])* $name:ident, $align:literal) => {
        $(#[$doc])*
        #[repr(C, align($align))]
        pub struct $name<L>(L);

        impl<L: Lock> Spacing<L> for $name<L> {
            fn new(lock: L) -> Self {
                Self(lock)
            }

            fn lock(&self) -> &L {
                &self.0
            }
        }
    };
}

spacing!(
    /// Eight bytes apart: eight headers share a line of 64 bytes.
    Packed, 8
);
spacing!(
    /// A line each.
    Line, 64
);
spacing!(
    /// Two lines each, because some processors fetch them in pairs.
    TwoLines, 128
);

/// The first of these begins a pair of cache lines, whatever the spacing.
#[repr(C, align(128))]
struct Start;

/// Each of `threads` threads locks and unlocks its own header `times` times: millions of pairs a
/// second, of all together.
pub fn neighbours<L: Lock, S: Spacing<L>>(crew: &Crew, threads: usize, times: u32) -> f64 {
    // Sixteen at a time, aligned: otherwise two packed ones might lie on two lines by chance.
    #[repr(C)]
    struct Block<S>(Start, [S; 16]);
    let blocks: Arc<Vec<Block<S>>> = Arc::new(
        (0..threads.div_ceil(16))
            .map(|_| Block(Start, core::array::from_fn(|_| S::new(L::new()))))
            .collect(),
    );
    let gate = Barrier::new(threads);
    let spans: Arc<Mutex<Vec<(Instant, Instant)>>> = Arc::default();
    let their_spans = spans.clone();
    let job = move |me: usize| {
        let lock = blocks[me / 16].1[me % 16].lock();
        gate.wait();
        let began = Instant::now();
        for _ in 0..times {
            core::hint::black_box(lock).with(|| ());
        }
        their_spans.lock().unwrap().push((began, Instant::now()));
    };
    crew.run(threads, job, || ());
    let spans = spans.lock().unwrap();
    let began = spans.iter().map(|s| s.0).min().expect("at least one thread");
    let ended = spans.iter().map(|s| s.1).max().expect("at least one thread");
    threads as f64 * f64::from(times) / (ended - began).as_secs_f64() / 1e6
}
