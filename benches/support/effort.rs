//! How long to measure.

use super::machine::cores;
use super::release::MOST;
use core::time::Duration;

#[derive(Clone, Debug)]
pub struct Effort {
    /// Of everything that takes long.
    pub rounds: usize,
    /// Of the contended lock, which has many rows.
    pub fights: usize,
    /// Of rounds that take a millisecond; many of them cost little.
    pub short_rounds: usize,
    /// Operations of a round of one thread alone.
    pub ops: u32,
    pub throughput: Duration,
    pub waits: Duration,
    /// How many fight over a lock.
    pub threads: Vec<usize>,
    pub sleepers: Vec<usize>,
    /// Headers, as powers of two.
    pub headers: Vec<u32>,
    /// Threads that roam over them.
    pub roamers: Vec<usize>,
    pub faulters: Vec<usize>,
    pub storm_seconds: f64,
    pub storm_rounds: usize,
}

impl Effort {
    /// Ten minutes for everything.
    pub fn full() -> Self {
        Self {
            rounds: 13,
            fights: 5,
            short_rounds: 101,
            ops: 100_000,
            throughput: Duration::from_millis(60),
            waits: Duration::from_millis(100),
            threads: up_to_cores(&[2, 4, 8, 16, 32, 64]),
            sleepers: vec![1, 8, 64, 512, MOST],
            headers: vec![10, 12, 14, 16, 18, 20, 22],
            roamers: up_to_cores(&[1, 2, 8, 32, 128, 512]),
            faulters: up_to_cores(&[2, 8, 32]),
            storm_seconds: 0.6,
            storm_rounds: 5,
        }
    }

    /// One and a half.
    pub fn quick() -> Self {
        Self {
            rounds: 5,
            fights: 3,
            short_rounds: 31,
            ops: 50_000,
            throughput: Duration::from_millis(40),
            waits: Duration::from_millis(60),
            threads: up_to_cores(&[2, 8, 32]),
            sleepers: vec![1, 64, 512],
            headers: vec![10, 16, 22],
            roamers: vec![1, 8, 512],
            faulters: vec![8],
            storm_seconds: 0.4,
            storm_rounds: 1,
        }
    }

    /// Only to see that everything runs.
    pub fn smoke() -> Self {
        Self {
            rounds: 1,
            fights: 1,
            short_rounds: 1,
            ops: 1000,
            throughput: Duration::from_millis(2),
            waits: Duration::from_millis(2),
            threads: vec![2, 4],
            sleepers: vec![1, 8],
            headers: vec![10, 12],
            roamers: vec![1, 4],
            faulters: vec![2],
            storm_seconds: 0.05,
            storm_rounds: 1,
        }
    }

    pub fn is_smoke(&self) -> bool {
        self.rounds == 1
    }

    /// The bars are held to more rounds, of less.
    pub fn for_bars(mut self) -> Self {
        self.rounds = if self.rounds > 1 { 15 } else { 1 };
        self
    }
}

/// These, and as many as there are cores where that is more.
fn up_to_cores(usual: &[usize]) -> Vec<usize> {
    let (mut threads, cores) = (usual.to_vec(), cores());
    while let Some(&most) = threads.last().filter(|&&most| most < cores) {
        threads.push((2 * most).min(cores));
    }
    threads
}
