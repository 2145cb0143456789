//! Starts the manager, notices its end, recovers what it held, starts another one.

use super::home::External;
use super::store::Store;
use super::{Handover, Shared, word};
use crate::options::Options;
use anyhow::{Context, Result, bail};
use pagelock_vmm::shared::Recovery;
use pagelock_vmm::uffd::Uffd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) struct Keeper {
    home: Arc<External>,
    handover: Handover,
    recovers: bool,
    /// The process to kill. Empty while there is none, so that no other is killed for it.
    manager: Mutex<Option<Pid>>,
    pub(crate) starts: AtomicU32,
    pub(crate) kills: AtomicU32,
    /// Managers that had something in hand when they were killed.
    pub(crate) in_the_middle: AtomicU32,
    recovery: Mutex<Recovery>,
    _inherited: [OwnedFd; 4],
}

impl Keeper {
    pub(crate) fn new(
        options: &Options,
        home: &Arc<External>,
        store: &Store,
        uffd: &Uffd,
        seat: u32,
    ) -> Result<Self> {
        use pagelock_vmm::Events;
        // Opened anew: a descriptor that is passed on would share the locks that say which process
        // lives.
        let of_segment = format!("/proc/self/fd/{}", home.region.segment().as_raw_fd());
        let segment = open(of_segment, OFlags::RDWR, Mode::empty()).context("the segment")?;
        let inherited = [
            segment,
            uffd.fd().try_clone_to_owned()?,
            home.region.file().try_clone()?,
            store.0.as_fd().try_clone_to_owned()?,
        ];
        for fd in &inherited {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        let [segment, descriptor, memory, store] = &inherited;
        let handover = Handover {
            segment: segment.as_raw_fd(),
            uffd: descriptor.as_raw_fd(),
            features: uffd.features().0,
            memory: memory.as_raw_fd(),
            store: store.as_raw_fd(),
            base: home.region.base(),
            pages: home.region.pages(),
            vcpus: options.vcpus.into(),
            handlers: options.handlers,
            limit: (home.region.pages() * u32::from(options.resident) / 100).max(32),
            seat,
        };
        Ok(Self {
            home: Arc::clone(home),
            handover,
            recovers: !options.no_recovery,
            manager: Mutex::new(None),
            starts: AtomicU32::new(0),
            kills: AtomicU32::new(0),
            in_the_middle: AtomicU32::new(0),
            recovery: Mutex::default(),
            _inherited: inherited,
        })
    }

    pub(crate) fn limit(&self) -> u32 {
        self.handover.limit
    }

    pub(crate) fn recovery(&self) -> Recovery {
        *self.recovery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a manager running, until one ends because it was told to.
    pub(crate) fn keep(&self) -> Result<()> {
        let region = &self.home.region;
        loop {
            word(region, Shared::Manager).store(0, SeqCst);
            let manage = serde_json::to_string(&self.handover)?;
            let program = std::env::current_exe().context("this program")?;
            let child = Command::new(program)
                .arg("--manage")
                .arg(manage)
                .spawn()
                .context("the manager cannot be started")?;
            self.starts.fetch_add(1, SeqCst);
            *self.lock() = Pid::from_raw(child.id() as i32);
            let status = self.end_of(child)?;
            if word(region, Shared::End).load(SeqCst) != 0 && status.success() {
                return Ok(());
            }
            if status.signal().is_none() {
                bail!("the manager has ended: {status}");
            }
            if self.recovers {
                let recovered = region.recover().context("recovery")?;
                self.in_the_middle.fetch_add(u32::from(recovered.pages() > 0), SeqCst);
                *self.recovery.lock().unwrap_or_else(PoisonError::into_inner) += recovered;
            }
        }
    }

    fn end_of(&self, mut child: Child) -> Result<ExitStatus> {
        let region = &self.home.region;
        loop {
            match word(region, Shared::Manager).load(SeqCst).checked_sub(1) {
                // The kernel wakes this thread when nobody sits there any more; and nobody else
                // does before it has recovered.
                Some(seat) => {
                    _ = region
                        .segment()
                        .wait_for_end_of(seat)
                        .map_err(|error| anyhow::anyhow!("{error}"))?
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
            let mut manager = self.lock();
            if let Some(status) = child.try_wait()? {
                *manager = None;
                return Ok(status);
            }
        }
    }

    /// Kills so many managers, each at a random moment after it has begun to serve.
    pub(crate) fn kill(&self, kills: u32) {
        let mut seed = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_nsec as u32;
        let (region, brake) = (&self.home.region, &self.home.brake);
        while self.kills.load(SeqCst) < kills && !brake.is_pulled() {
            let begun = word(region, Shared::Faults).load(SeqCst);
            let started = self.starts.load(SeqCst);
            let patience = Instant::now() + Duration::from_secs(5);
            while word(region, Shared::Faults).load(SeqCst) < begun + 20
                && Instant::now() < patience
                && !brake.is_pulled()
            {
                thread::sleep(Duration::from_millis(1));
            }
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            thread::sleep(Duration::from_micros(u64::from(seed >> 8) % 60_000));
            if let Some(manager) = *self.lock()
                && kill_process(manager, Signal::KILL).is_ok()
            {
                self.kills.fetch_add(1, SeqCst);
            }
            // Once each.
            let patience = Instant::now() + Duration::from_secs(10);
            while self.starts.load(SeqCst) == started
                && Instant::now() < patience
                && !brake.is_pulled()
            {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
