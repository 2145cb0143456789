//! How long the machine itself stops a thread that only reads the clock: no lock's longest wait is shorter than what its owner is stopped for.

use super::crew::Crew;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

/// The longest time between two looks at the clock, of all `threads`, in a window of this length.
pub fn longest_stop(crew: &Crew, threads: usize, window: Duration) -> Duration {
    let ours = Arc::new((AtomicBool::new(false), AtomicU64::new(0)));
    let theirs = ours.clone();
    let job = move |_| {
        let (over, longest) = &*theirs;
        let (mut last, mut mine) = (Instant::now(), Duration::ZERO);
        while !over.load(Relaxed) {
            let now = Instant::now();
            mine = mine.max(now - last);
            last = now;
        }
        // Only now: in the loop the threads would wait for each other's cache lines.
        longest.fetch_max(mine.as_nanos() as u64, Relaxed);
    };
    let (over, longest) = &*ours;
    crew.run(threads, job, || {
        std::thread::sleep(window);
        over.store(true, Relaxed);
    });
    Duration::from_nanos(longest.load(Relaxed))
}
