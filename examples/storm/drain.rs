//! The trap of the original bug: a thread for each processor, of idle priority, that all have to run before a drain is done.
//!
//! In the kernel these are the workers behind `lru_add_drain_all()`, which empty per-processor batches of page references. A drain is
//! an implicit wait for every processor's scheduler. If what keeps one of them busy is a thread that spins for a page which the
//! drainer holds, neither ever gets on.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Which drain was asked for last, and how far each processor's worker has come.
struct Rounds {
    asked: u64,
    done: Vec<u64>,
    quit: bool,
}

pub struct Drain {
    rounds: Arc<(Mutex<Rounds>, Condvar)>,
    workers: Vec<JoinHandle<()>>,
}

impl Drain {
    /// Starts a worker on each processor that this process may use.
    pub fn start() -> Self {
        let cpus = cpus();
        let rounds = Rounds { asked: 0, done: vec![0; cpus.len()], quit: false };
        let rounds = Arc::new((Mutex::new(rounds), Condvar::new()));
        let workers = cpus
            .into_iter()
            .enumerate()
            .map(|(index, cpu)| {
                let rounds = rounds.clone();
                std::thread::spawn(move || {
                    pin_to(cpu);
                    idle_priority();
                    work(index, &rounds);
                })
            })
            .collect();
        Self { rounds, workers }
    }

    /// Returns once every processor's worker has run since the call.
    pub fn all(&self) {
        let (rounds, changed) = &*self.rounds;
        let mut rounds = rounds.lock().unwrap();
        rounds.asked += 1;
        let round = rounds.asked;
        changed.notify_all();
        while rounds.done.iter().any(|&done| done < round) {
            rounds = changed.wait(rounds).unwrap();
        }
    }
}

fn work(index: usize, rounds: &(Mutex<Rounds>, Condvar)) {
    let (rounds, changed) = rounds;
    let mut rounds = rounds.lock().unwrap();
    while !rounds.quit {
        if rounds.done[index] < rounds.asked {
            // Here a kernel would empty this processor's batch.
            rounds.done[index] = rounds.asked;
            changed.notify_all();
        }
        rounds = changed.wait(rounds).unwrap();
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let (rounds, changed) = &*self.rounds;
        rounds.lock().unwrap().quit = true;
        changed.notify_all();
        for worker in self.workers.drain(..) {
            worker.join().expect("a drain worker panicked");
        }
    }
}

#[cfg(target_os = "linux")]
fn cpus() -> Vec<usize> {
    // SAFETY: all zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: fills in the set, whose size is given.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if rc != 0 {
        return vec![0];
    }
    // SAFETY: reads a bit of the set; the index is below the size of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

#[cfg(target_os = "linux")]
fn pin_to(cpu: usize) {
    // SAFETY: all zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: sets a bit of the set; the index came from such a set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: reads the set, whose size is given; 0 is the calling thread. Where it is refused, the worker runs anywhere.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
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
