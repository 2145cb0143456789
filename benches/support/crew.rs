//! Threads that are started once and then do one job after another.

use core::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire},
};
use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle, Thread};

type Job = Arc<dyn Fn(usize) + Send + Sync>;

struct Order {
    job: Job,
    left: Arc<AtomicUsize>,
    lead: Thread,
}

pub struct Crew {
    orders: Vec<Sender<Order>>,
    ids: Vec<u64>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    /// As many threads as that, or as the system gives.
    pub fn new(size: usize) -> Self {
        let mut crew = Self { orders: Vec::new(), ids: Vec::new(), threads: Vec::new() };
        let (id_to, id_from) = channel();
        for i in 0..size {
            let (to, from) = channel::<Order>();
            let id_to = id_to.clone();
            // Two thousand default stacks are four gigabytes of address space; none of the jobs
            // needs more than this.
            let thread = thread::Builder::new().stack_size(128 << 10).spawn(move || {
                id_to.send((i, thread_id())).expect("the crew is being built");
                for Order { job, left, lead } in from {
                    job(i);
                    drop(job);
                    // AcqRel: what the jobs wrote is seen by the lead. Only the last one wakes it:
                    // earlier wake-ups would compete with the threads that are being measured.
                    if left.fetch_sub(1, AcqRel) == 1 {
                        lead.unpark();
                    }
                }
            });
            let Ok(thread) = thread else {
                eprintln!(
                    "no more than {i} threads can be started here; what needs more is left out"
                );
                break;
            };
            crew.threads.push(thread);
            crew.orders.push(to);
        }
        let mut ids: Vec<_> = id_from.iter().take(crew.threads.len()).collect();
        ids.sort_unstable();
        crew.ids = ids.into_iter().map(|(_, id)| id).collect();
        crew
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.threads.len()
    }

    /// Runs `job(0)` to `job(workers - 1)`, each on its own thread, and `lead` on this one. Returns
    /// when all have ended.
    pub fn run<R>(
        &self,
        workers: usize,
        job: impl Fn(usize) + Send + Sync + 'static,
        lead: impl FnOnce() -> R,
    ) -> R {
        let job: Job = Arc::new(job);
        let left = Arc::new(AtomicUsize::new(workers));
        for to in &self.orders[..workers] {
            let order = Order { job: job.clone(), left: left.clone(), lead: thread::current() };
            to.send(order).expect("the crew is alive");
        }
        let answer = lead();
        while left.load(Acquire) > 0 {
            thread::park();
        }
        answer
    }

    /// Waits until the first `workers` threads sleep. Where the system does not say, waits for a
    /// time that should do.
    pub fn until_asleep(&self, workers: usize) {
        for id in &self.ids[..workers] {
            loop {
                match std::fs::read_to_string(format!("/proc/self/task/{id}/stat")) {
                    // The state follows the name, which ends with the last parenthesis.
                    Ok(stat)
                        if stat
                            .rsplit(')')
                            .next()
                            .is_some_and(|rest| rest.trim_start().starts_with('S')) =>
                    {
                        break;
                    }
                    Ok(_) => thread::sleep(Duration::from_micros(20)),
                    Err(_) => {
                        return thread::sleep(Duration::from_micros(500 + 20 * workers as u64));
                    }
                }
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.orders.clear();
        for thread in self.threads.drain(..) {
            thread.join().expect("no job panics");
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn thread_id() -> u64 {
    // SAFETY: no arguments, no preconditions.
    unsafe { libc::gettid() as u64 }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn thread_id() -> u64 {
    0
}
