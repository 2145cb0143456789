//! How long the machine itself stops a thread that only reads the clock: no lock's longest wait is shorter than what its owner is stopped for.

use super::crew::Crew;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

/// The longest time between two looks at the clock, of all `threads`, in a window of this length.
pub fn longest_stop(crew: &Crew, threads: usize, window: Duration) -> Duration {
    let (over, longest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let theirs = (over.clone(), longest.clone());
    let job = move |_| {
        let (over, longest) = &theirs;
        let mut last = Instant::now();
        while !over.load(Relaxed) {
            let now = Instant::now();
            longest.fetch_max((now - last).as_nanos() as u64, Relaxed);
            last = now;
        }
    };
    crew.run(threads, job, || {
        std::thread::sleep(window);
        over.store(true, Relaxed);
    });
    Duration::from_nanos(longest.load(Relaxed))
}
