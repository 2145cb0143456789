//! What the trap needs: a drain that waits for every processor's scheduler.
//!
//! In the kernel it is `lru_add_drain_all()`, which has a worker on each processor empty that
//! processor's batch of page references. Here too, with the crate's [batches](pagelock::mm::drain),
//! and a worker of idle priority for each. If what keeps a processor busy is a thread that spins
//! for a page which the drainer holds, neither ever gets on.

use crossbeam_utils::CachePadded;
use pagelock::OsFutex;
use pagelock::mm::drain::{Batch, Batches, Cpus, Drain, Reach, Unlocked};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

/// One for each processor's worker: whether to empty its batch, or to go home.
#[derive(Clone)]
struct Bells(Vec<Sender<bool>>);

impl Cpus for Bells {
    /// No processor's batch is the drainer's own, which it would not have to wait for: its is one
    /// more.
    fn current(&self) -> usize {
        self.0.len()
    }

    fn kick(&self, cpu: usize) -> Reach {
        // A worker that is gone has panicked, and fails the run.
        let _ = self.0[cpu].send(true);
        Reach::Kicked
    }
}

pub struct IdleWorkers {
    batches: Arc<Batches<Vec<CachePadded<Batch>>, Bells>>,
    bells: Bells,
    workers: Vec<JoinHandle<()>>,
}

impl IdleWorkers {
    /// Starts a worker on each processor that this process may use. If one cannot be had, those
    /// before it end.
    pub fn start() -> io::Result<Self> {
        let cpus = cpus();
        let (bells, heard): (Vec<_>, Vec<_>) = cpus.iter().map(|_| channel()).unzip();
        let bells = Bells(bells);
        let each = (0..=cpus.len()).map(|_| CachePadded::default()).collect();
        let batches = Arc::new(Batches::new(bells.clone(), OsFutex, each));
        let mut all = Self { batches, bells, workers: Vec::new() };
        for (index, (cpu, heard)) in cpus.into_iter().zip(heard).enumerate() {
            let batches = Arc::clone(&all.batches);
            all.workers.push(Builder::new().name(format!("drain {cpu}")).spawn(move || {
                pin_to(cpu);
                idle_priority();
                while heard.recv() == Ok(true) {
                    batches.run(index, put);
                }
            })?);
        }
        Ok(all)
    }
}

/// The batches stay empty: the storm shows the wait, not its purpose.
fn put(_pfn: u64) {}

impl Drain for IdleWorkers {
    fn local(&self) {
        self.batches.drain_local(put);
    }

    fn all(&self, unlocked: &mut Unlocked) {
        self.batches.drain_all(unlocked, put);
    }
}

impl Drop for IdleWorkers {
    fn drop(&mut self) {
        for bell in &self.bells.0 {
            let _ = bell.send(false);
        }
        for worker in self.workers.drain(..) {
            worker.join().expect("a drain worker panicked");
        }
    }
}

#[cfg(target_os = "linux")]
fn cpus() -> Vec<usize> {
    // SAFETY: all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: 0 is the calling thread; fills in the set, whose size is told.
    match unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } {
        // SAFETY: reads a bit of the set, and no further than it goes.
        0 => (0..libc::CPU_SETSIZE as usize)
            .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
            .collect(),
        _ => vec![0],
    }
}

#[cfg(target_os = "linux")]
fn pin_to(cpu: usize) {
    // SAFETY: all zero is the empty set.
    let mut only: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: sets a bit of the set, whose number `cpus` had from one as large.
    unsafe { libc::CPU_SET(cpu, &mut only) };
    // SAFETY: 0 is the calling thread; reads the set, whose size is told. Where it is refused, the
    // worker runs anywhere.
    unsafe { libc::sched_setaffinity(0, size_of_val(&only), &only) };
}

#[cfg(target_os = "linux")]
fn idle_priority() {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread; anybody may lower a thread's priority.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &param) };
}

#[cfg(not(target_os = "linux"))]
fn cpus() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

#[cfg(not(target_os = "linux"))]
fn pin_to(_cpu: usize) {}

#[cfg(not(target_os = "linux"))]
fn idle_priority() {}
