//! The manager: serves the hypervisor's faults from the store, and pushes pages out.

use super::ledger;
use super::store::Store;
use super::{Handover, Shared, count, word};
use crate::accident::Accident;
use crate::program::{Layout, PAGE};
use anyhow::{Context, Result};
use pagelock_vmm::shared::{Came, Desk, NotDropped, SharedRegion};
use pagelock_vmm::uffd::{Features, Uffd};
use pagelock_vmm::{Event, Place};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

struct Manager {
    region: SharedRegion,
    store: Store,
    limit: u32,
    /// About so many pages are in. If it is far too many, a handler that fetches a page pushes one
    /// out.
    about: AtomicU32,
    hand: AtomicU32,
    /// The hypervisor has ended without having said so.
    is_orphan: AtomicBool,
    failed: OnceLock<String>,
}

/// Runs until the hypervisor tells it to end, or is gone.
pub(crate) fn manage(handover: &str) -> Result<Option<Accident>> {
    let handover: Handover = serde_json::from_str(handover).context("--manage")?;
    let (manager, seat, layout) =
        (Manager::new(&handover)?, handover.seat, Layout::new(handover.pages, handover.vcpus));
    thread::scope(|scope| {
        // Before anything is asked for: the hypervisor waits for the end of this seat.
        let desk = manager.region.desk().context("no seat")?;
        let presence = desk.be_present().context("no presence")?;
        word(&manager.region, Shared::Manager).store(desk.number() + 1, SeqCst);
        // Not joined: it sleeps until the hypervisor has ended, whatever this process does.
        scope.spawn(|| manager.watch(seat));
        let mut threads: Vec<_> =
            (0..handover.handlers).map(|_| scope.spawn(|| manager.serve())).collect();
        threads.push(scope.spawn(|| manager.evict()));
        for thread in threads {
            let done = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            done.unwrap_or_else(|error| _ = manager.failed.set(format!("{error:#}")));
        }
        // Whatever failed because the hypervisor was going has not failed.
        if manager.failed.get().is_some() && !manager.ends() {
            thread::sleep(Duration::from_millis(300));
        }
        let accident = if manager.is_orphan.load(SeqCst) {
            manager.alone(&layout)?
        } else {
            manager.failed.get().map(|what| Accident::Outside(format!("manager: {what}")))
        };
        drop(presence);
        drop(desk);
        match accident {
            // `watch` may be asleep.
            None => std::process::exit(0),
            Some(accident) => {
                let _ = writeln!(io::stderr(), "hypervisor: {accident}");
                std::process::exit(if matches!(accident, Accident::Lost(_)) { 1 } else { 3 });
            }
        }
    })
}

impl Manager {
    fn new(handover: &Handover) -> Result<Self> {
        // SAFETY: the hypervisor has left them open for this process, and nobody else has them
        // here.
        let take = |fd: RawFd| unsafe { OwnedFd::from_raw_fd(fd) };
        let uffd = Uffd::from_fd(take(handover.uffd), Features(handover.features));
        let (segment, memory) = (take(handover.segment), take(handover.memory));
        let region = SharedRegion::attach(segment, uffd, memory, handover.base, handover.pages)
            .context("the segment")?;
        let about = region.resident();
        Ok(Self {
            region,
            store: Store(take(handover.store).into()),
            limit: handover.limit,
            about: AtomicU32::new(about),
            hand: AtomicU32::new(
                rustix::process::getpid().as_raw_nonzero().get() as u32 % handover.pages,
            ),
            is_orphan: AtomicBool::new(false),
            failed: OnceLock::new(),
        })
    }

    fn ends(&self) -> bool {
        word(&self.region, Shared::End).load(SeqCst) != 0 || self.is_orphan.load(SeqCst)
    }

    fn watch(&self, seat: u32) {
        // It ends earlier by a signal.
        while let Ok(has_left) = self.region.segment().wait_for_end_of(seat) {
            if word(&self.region, Shared::End).load(SeqCst) != 0 {
                return;
            }
            if has_left {
                self.is_orphan.store(true, SeqCst);
                return;
            }
        }
    }

    fn serve(&self) -> Result<()> {
        let desk = self.region.desk().context("no seat")?;
        let events = self.region.events();
        while !self.ends() && self.failed.get().is_none() {
            let Some(event) = events.next().context("userfaultfd")? else {
                let most = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                match poll(&mut [PollFd::from_borrowed_fd(events.fd(), PollFlags::IN)], Some(&most))
                {
                    Ok(_) | Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error).context("userfaultfd"),
                }
            };
            let Event::Fault { address, .. } = event else { continue };
            let Some(page) = self.region.page_at(address) else { continue };
            count(&self.region, Shared::Faults);
            if self.about.load(Relaxed) > self.limit + self.limit / 16 {
                self.evict_one(&desk)?;
            }
            match desk
                .fault(page, |into| self.store.read(page, into))
                .with_context(|| format!("page {page} cannot be fetched"))?
            {
                Came::Fetched => self.has_come(Shared::Fetched),
                Came::Zeroes => self.has_come(Shared::Zeroes),
                Came::There => count(&self.region, Shared::There),
                Came::InFlight => count(&self.region, Shared::InFlight),
            }
        }
        Ok(())
    }

    fn has_come(&self, how: Shared) {
        self.about.fetch_add(1, Relaxed);
        count(&self.region, how);
    }

    fn evict(&self) -> Result<()> {
        let desk = self.region.desk().context("no seat")?;
        while !self.ends() && self.failed.get().is_none() {
            let about = self.region.resident();
            self.about.store(about, Relaxed);
            for _ in self.limit..about {
                self.evict_one(&desk)?;
            }
            thread::sleep(Duration::from_micros(300));
        }
        Ok(())
    }

    /// Pushes out one page, whichever comes next, if one can be had.
    fn evict_one(&self, desk: &Desk<'_>) -> Result<()> {
        for _ in 0..self.region.pages() {
            let page = self.hand.fetch_add(1, Relaxed) % self.region.pages();
            match desk.evict(page, |bytes| self.store.write(page, bytes)) {
                Ok(()) => {
                    count(&self.region, Shared::Evicted);
                    let _ = self.about.fetch_update(Relaxed, Relaxed, |about| about.checked_sub(1));
                    return Ok(());
                }
                Err(NotDropped::NotIn) => {}
                Err(NotDropped::Pinned) => count(&self.region, Shared::RefusedPinned),
                Err(NotDropped::Owned) => count(&self.region, Shared::RefusedOwned),
                Err(other) => {
                    return Err(other).with_context(|| format!("page {page} cannot be evicted"));
                }
            }
        }
        Ok(())
    }

    /// The hypervisor is gone: ends what it has begun, and says what is left of the guest.
    fn alone(&self, layout: &Layout) -> Result<Option<Accident>> {
        let recovery = self.region.recover().context("recovery")?;
        let stuck = {
            let desk = self.region.desk().context("no seat")?;
            (0..self.region.pages()).filter(|&page| !desk.can_be_had(page)).count()
        };
        let mut memory = vec![0; self.region.pages() as usize * PAGE];
        let mut places = [0_u32; 3];
        for (page, into) in (0..).zip(memory.chunks_exact_mut(PAGE)) {
            match self.region.place(page).unwrap_or_default() {
                Place::Out => {
                    (places[0], ()) =
                        (places[0] + 1, self.store.read(page, into).context("the store")?)
                }
                Place::In => {
                    (places[1], ()) =
                        (places[1] + 1, self.region.read(page, into).context("guest memory")?)
                }
                Place::Discarded => places[2] += 1,
            }
        }
        let known = ledger::compare(layout, &memory);
        let line = format!(
            "the hypervisor is gone: {} pages that it owned and {} pins are free again, \
             {stuck} pages stuck; {} pages in the store, {} in memory, {} zeroes; \
             {} are as the guest's ledger says, {} were being written, {} have no entry, {} lost",
            recovery.pages(),
            // One said that it was present.
            recovery.pins.saturating_sub(1),
            places[0],
            places[1],
            places[2],
            known.right,
            known.on_the_way,
            known.unknown,
            known.lost.len(),
        );
        if stuck > 0 || !known.lost.is_empty() {
            let first =
                known.lost.first().map_or(String::new(), |page| format!(", the first is {page}"));
            return Ok(Some(Accident::Lost(format!("data lost: {line}{first}"))));
        }
        writeln!(io::stderr(), "manager: {line}")?;
        Ok(None)
    }
}
