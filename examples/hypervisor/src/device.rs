//! A device that writes guest memory by itself: io_uring reads a disk into registered buffers.
//!
//! A registered buffer is a page that the *kernel* holds. If the guest's page goes meanwhile, the
//! device goes on with memory that is nobody's, and nothing says so. So each page is pinned before
//! it is registered, and unpinned when the device has let go of it. `--unpinned` leaves that out.

use crate::accident::Accident;
use crate::evictor::Door;
use crate::machine::Machine;
use crate::program::{LEDGER, PAGE, Words, fill};
use crate::threads::Mapped;
use anyhow::{Context, Result, anyhow};
use io_uring::{IoUring, opcode, types};
use pagelock_vmm::{Fetch, Filled, Pin};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Pages of one batch.
const BATCH: usize = 8;

pub(crate) struct Device {
    machine: Arc<Machine>,
    ring: IoUring,
    disk: File,
    pins: bool,
    /// What each of its pages was last filled with.
    pub(crate) written: Vec<u32>,
    pub(crate) transfers: u64,
    pub(crate) pins_taken: u64,
    pub(crate) refused_discards: u64,
}

impl Device {
    pub(crate) fn new(machine: &Arc<Machine>, pins: bool) -> Result<Self> {
        Ok(Self {
            ring: IoUring::new(BATCH as u32).context("no io_uring")?,
            disk: tempfile::tempfile().context("a temporary file")?,
            written: vec![0; machine.layout.device.len()],
            machine: Arc::clone(machine),
            pins,
            transfers: 0,
            pins_taken: 0,
            refused_discards: 0,
        })
    }

    /// Batch after batch, until `end`.
    pub(crate) fn run(mut self, door: &Door, end: &AtomicBool) -> Self {
        let mut next = 0;
        while !end.load(Relaxed) && !self.machine.brake.is_pulled() {
            let batch: Vec<usize> =
                (next..next + BATCH).map(|n| n * 5 % self.written.len()).collect();
            let pass = door.pass();
            if let Err(error) = self.transfer(&batch) {
                self.machine.brake.pull(Accident::Outside(format!("device: {error:#}")));
            }
            drop(pass);
            next += BATCH;
            thread::sleep(Duration::from_millis(1));
        }
        self
    }

    fn transfer(&mut self, batch: &[usize]) -> Result<()> {
        let mut memory = Mapped(Arc::clone(&self.machine) as _);
        let first = self.machine.layout.device.start;
        // What comes next is on the disk.
        for &n in batch {
            let mut block = [0; PAGE];
            fill(first + n as u32, self.written[n] + 2, &mut block);
            self.disk.write_all_at(&block, (n * PAGE) as u64).context("the disk")?;
            memory.set(LEDGER + 4 * (first + n as u32), self.written[n] + 1);
        }
        let pins = match self.pins {
            true => {
                batch.iter().map(|&n| self.pin(first as usize + n)).collect::<Result<Vec<_>>>()?
            }
            false => Vec::new(),
        };
        for &n in batch {
            // A write of what is there. If the page is write protected, the fault is this thread's
            // then, and not the kernel's, of which an unprivileged userfaultfd is not told.
            let word = (first + n as u32) << 12;
            memory.set(word, memory.get(word));
        }
        let region = Arc::clone(&self.machine.region);
        let address = |n: usize| {
            region.host_address(first as usize + n).expect("its pages are in the region")
        };
        let buffers: Vec<_> = batch
            .iter()
            .map(|&n| libc::iovec { iov_base: address(n) as *mut _, iov_len: PAGE })
            .collect();
        // SAFETY: guest memory, mapped until the region is dropped; only the guest uses it, by
        // accesses that bear with a device.
        unsafe { self.ring.submitter().register_buffers(&buffers) }.context("buffers")?;
        let done = self.read(batch, &buffers);
        self.ring.submitter().unregister_buffers().context("buffers")?;
        self.refuse(&pins)?;
        drop(pins);
        done?;
        for &n in batch {
            self.written[n] += 2;
            memory.set(LEDGER + 4 * (first + n as u32), self.written[n]);
        }
        self.transfers += batch.len() as u64;
        Ok(())
    }

    fn pin(&mut self, page: usize) -> Result<Pin> {
        let machine = &self.machine;
        let fetch = |fetch: Fetch| {
            let mut bytes = [0; PAGE];
            machine.fetch(&fetch, &mut bytes)?;
            fetch.fill(&bytes).map(|_: Filled| ()).map_err(Into::into)
        };
        self.pins_taken += 1;
        machine
            .region
            .pin_or_fetch(page, fetch)
            .with_context(|| format!("page {page} cannot be pinned"))
    }

    fn read(&mut self, batch: &[usize], buffers: &[libc::iovec]) -> Result<()> {
        // The disk is slow: meanwhile pages are evicted.
        thread::sleep(Duration::from_millis(3));
        let disk = types::Fd(self.disk.as_raw_fd());
        for (index, (&n, buffer)) in batch.iter().zip(buffers).enumerate() {
            let read =
                opcode::ReadFixed::new(disk, buffer.iov_base.cast(), PAGE as u32, index as u16)
                    .offset((n * PAGE) as u64)
                    .build();
            // SAFETY: the buffer is registered until all have completed.
            unsafe { self.ring.submission().push(&read) }
                .map_err(|_| anyhow!("the queue is full"))?;
        }
        self.ring.submit_and_wait(batch.len()).context("the disk")?;
        let wrong = self
            .ring
            .completion()
            .map(|entry| entry.result())
            .find(|&result| result != PAGE as i32);
        wrong.map_or(Ok(()), |result| Err(anyhow!("a read gave {result}")))
    }

    /// The balloon does not get what a device uses.
    fn refuse(&mut self, pins: &[Pin]) -> Result<()> {
        if let Some(pin) = pins.first() {
            // An owner that has the page at this moment answers when that ends: it must end before
            // the pin goes, or the page is discarded after all.
            let discarded = self.machine.region.discard_blocking(pin.page()..pin.page() + 1);
            if discarded.done > 0 {
                return Err(anyhow!("a pinned page was discarded: {discarded:?}"));
            }
            self.refused_discards += 1;
        }
        Ok(())
    }
}
