//! The crate's protocol at work on a memory manager: faults by the plan's strategy, and the
//! migrator's batches.

use crate::counters::Counters;
use crate::machine::{COLD, HOT, Machine};
use crate::options::{Drain as When, Plan};
use crate::trap::migrate_and_drain_inside;
use crate::worker;
use pagelock::mm::drain::{Drain, NoBatches, Unlocked};
use pagelock::mm::migrate::{Abort, Order, Outcome, Skip, Slot, migrate};
use pagelock::mm::{Access, Fault, FaultError, Faulter, Strategy, Why, fault};
use pagelock_soft::At;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

pub struct Engine<M> {
    pub mm: M,
    pub mappings: usize,
    pub pages: usize,
    pub plan: Plan,
    pub counters: Counters,
    /// It is over. Faults that are still unresolved are waited for properly, whatever the strategy,
    /// so that all threads end.
    pub stop: AtomicBool,
    /// When the run ends at the latest. Each thread reads the clock itself: in a real-time class,
    /// threads that spin would keep another thread from telling them.
    pub deadline: Instant,
}

impl<M: Machine> Engine<M> {
    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed) || Instant::now() >= self.deadline
    }

    fn strategy(&self) -> Strategy {
        if self.stopped() { Strategy::Wait } else { self.plan.strategy }
    }

    /// One access that trapped, or would have. Afterwards the access is to be made again.
    pub fn fault(&self, at: At, access: Access) -> Result<(), FaultError<M::Error>> {
        let mut faulter = Faulter::new(self.strategy());
        loop {
            match fault(&self.mm, at, access, &mut faulter)? {
                Fault::Retry(why) => {
                    worker::count_retry();
                    self.counters.retries.add(1);
                    self.counters.spins.add(u64::from(why == Why::Locked));
                    // Only hot pages are pinned, so references stood in the way of this one.
                    self.counters.aborted_refs.add(u64::from(why == Why::Busy));
                    // This one counts its waits across attempts, so it has to make all of them
                    // here.
                    if !matches!(self.strategy(), Strategy::WaitThenLock { .. }) {
                        return Ok(());
                    }
                }
                Fault::Resolved => {
                    self.counters.back.add(1);
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }

    /// Adds `add` to a word through a mapping, or reads it, however often that faults.
    pub fn access(
        &self,
        at: At,
        word: usize,
        add: Option<usize>,
    ) -> Result<usize, FaultError<M::Error>> {
        let access = if add.is_some() { Access::Write } else { Access::Read };
        loop {
            if let Some(was) = self.mm.touch(at, word, add) {
                return Ok(was);
            }
            worker::count_fault();
            self.fault(at, access)?;
        }
    }

    /// Moves a batch of pages, hot ones out and cold ones back. Best effort: a page that another
    /// thread has locked stays where it is.
    pub fn migrate_batch(
        &self,
        hot: &[At],
        cold: &[At],
        drain: &impl Drain,
        unlocked: &mut Unlocked,
    ) {
        let mut out: Vec<_> = hot.iter().copied().map(Slot::at).collect();
        let mut back: Vec<_> = cold.iter().copied().map(Slot::at).collect();
        match self.plan.drain {
            When::Inside => {
                migrate_and_drain_inside(&self.mm, &mut out, &mut back, drain, unlocked)
            }
            When::Outside => {
                drain.all(unlocked);
                migrate(&self.mm, &mut out, &Order::to(COLD).tries(1), &NoBatches, unlocked);
                migrate(&self.mm, &mut back, &Order::to(HOT).tries(1), &NoBatches, unlocked);
            }
        }
        let c = &self.counters;
        for (slots, moved) in [(&out, &c.out), (&back, &c.ahead)] {
            for slot in slots {
                match slot.outcome() {
                    Outcome::Moved { .. } => moved.add(1),
                    Outcome::Skipped(Skip::Pinned { .. })
                    | Outcome::Aborted(Abort::Pinned { .. }) => c.aborted_pins.add(1),
                    Outcome::Aborted(Abort::Referenced { .. }) => c.aborted_refs.add(1),
                    Outcome::Aborted(Abort::CopyFailed) => c.aborted_system.add(1),
                    Outcome::Skipped(Skip::Locked | Skip::Migrating) => c.skipped_locked.add(1),
                    Outcome::Aborted(Abort::DestinationBusy) => c.skipped_locked.add(1),
                    // A fault was faster.
                    Outcome::AlreadyThere => {}
                    other => panic!("a page in the batch {other}"),
                }
            }
        }
    }
}
