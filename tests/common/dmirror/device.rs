//! The device: what it does with its table and its memory.

use crate::common::{
    dmirror::{
        Denied, Done, Host, Mirrored, Place, Seen, Table,
        buffer::{leaf_of, load_ints, to_bytes},
        read,
    },
    machine::RAM,
    own::Own,
};
use core::sync::atomic::Ordering::SeqCst;
use pagelock::Limits;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Mode, Order, Outcome, Slot, Summary, migrate};
use pagelock::mm::range::{self, Found, Page, Stop, Want, fault_range};
use pagelock::mm::{Access, Tiers};
use pagelock_soft::{At, TierId};
use std::sync::Arc;

pub(crate) struct Device<'h, H: Host> {
    pub(crate) host: &'h H,
    /// Its own memory.
    pub(crate) tier: TierId,
    pub(crate) table: Arc<Table>,
    /// Provides missing pages, if the memory manager does not.
    #[allow(clippy::type_complexity)]
    pub(crate) ask: Option<Box<dyn Fn(At) + Send + Sync + 'h>>,
}

pub(crate) fn after(at: At, pages: usize) -> At {
    At { page: at.page + pages, ..at }
}

/// What the address allows, whatever is there.
fn is_allowed<H: Host>(host: &H, at: At, access: Access) -> Result<(), Denied> {
    match host.allowed(at, host.lock(at).as_ref()) {
        None => Err(Denied::Fault),
        Some(most) if access == Access::Write && most != Rights::Write => Err(Denied::Permission),
        Some(_) => Ok(()),
    }
}

impl<'h, H: Host> Device<'h, H> {
    pub(crate) fn new(host: &'h H, tier: TierId) -> Self {
        Self { host, tier, table: host.mirrors().new_table(), ask: None }
    }

    /// A device of which `ask` is told where a page is missing; it returns when there is one.
    pub(crate) fn asking(host: &'h H, tier: TierId, ask: impl Fn(At) + Send + Sync + 'h) -> Self {
        Self { ask: Some(Box::new(ask)), ..Self::new(host, tier) }
    }

    /// How many entries of its table were taken away by others.
    pub(crate) fn forgotten(&self) -> usize {
        self.table.forgotten.load(SeqCst)
    }

    /// Has `act` at a page that the device knows. `false` if it does not.
    pub(crate) fn with(&self, at: At, access: Access, act: impl FnOnce(u64)) -> bool {
        let entries = self.table.entries.lock().unwrap();
        let Some(known) = entries.get(&at).filter(|known| known.write || access == Access::Read)
        else {
            return false;
        };
        // While the lock is held nobody takes the page away.
        act(known.pfn);
        true
    }

    pub(crate) fn each(
        &self,
        at: At,
        pages: usize,
        access: Access,
        limits: Limits<'_, Own>,
        mut act: impl FnMut(usize, At, u64),
    ) -> Result<Done, Denied> {
        let mut done = Done { pages: 0, faults: 0 };
        while done.pages < pages {
            let here = after(at, done.pages);
            if self.with(here, access, |pfn| act(done.pages, here, pfn)) {
                done.pages += 1;
            } else {
                self.fault_in(here, pages - done.pages, access, limits)?;
                done.faults += 1;
            }
        }
        Ok(done)
    }

    pub(crate) fn order<'c>(&self, limits: Limits<'c, Own>) -> range::RangeOrder<'c, H> {
        range::RangeOrder::new(limits).own(self.tier)
    }

    /// Has every page of a range in the table, by faults where it takes any.
    pub(crate) fn fault_in(
        &self,
        at: At,
        pages: usize,
        access: Access,
        limits: Limits<'_, Own>,
    ) -> Result<(), Denied> {
        let want = if access == Access::Write { Want::Write } else { Want::Read };
        self.ask_for(at, pages, access)?;
        loop {
            let mut pages: Vec<Page<At>> = at.pages(pages).map(|at| Page::new(at, want)).collect();
            let notifier = self.host.notifier(at.space);
            let read =
                fault_range(self.host, notifier, &mut pages, &self.order(limits)).map_err(|e| {
                    match e.why {
                        Stop::NotAllowed => {
                            match is_allowed(self.host, after(at, e.done), access) {
                                Err(denied) => denied,
                                // It has just been allowed; it was not.
                                Ok(()) => Denied::Fault,
                            }
                        }
                        Stop::TimedOut => Denied::TimedOut,
                        why => panic!("{why:?}"),
                    }
                })?;
            let mut entries = self.table.entries.lock().unwrap();
            if notifier.is_good(read.ticket) {
                entries
                    .extend(pages.iter().filter_map(|page| Some((page.at, mirrored(page.found)?))));
                return Ok(());
            }
        }
    }

    /// Nothing is held while others work on what is missing.
    pub(crate) fn ask_for(&self, at: At, pages: usize, access: Access) -> Result<(), Denied> {
        let Some(ask) = &self.ask else { return Ok(()) };
        for at in at.pages(pages) {
            is_allowed(self.host, at, access)?;
            let is_missing =
                self.host.lock(at).is_none_or(|entry| leaf_of::<H>(&entry) == Leaf::None);
            if is_missing {
                ask(at);
            }
        }
        Ok(())
    }

    /// What is there, without a fault, all of it at one time.
    pub(crate) fn look(&self, at: At, pages: usize) -> (Vec<Page<At>>, range::Ticket) {
        let mut pages: Vec<Page<At>> =
            at.pages(pages).map(|at| Page::new(at, Want::Read)).collect();
        let limits = Limits::none();
        let read = range::snapshot(
            self.host,
            self.host.notifier(at.space),
            &mut pages,
            &self.order(limits),
        );
        let read = read.unwrap_or_else(|e| panic!("{:?}", e.why));
        (pages, read.ticket)
    }

    /// The device reads into `out`.
    pub(crate) fn read(
        &self,
        at: At,
        pages: usize,
        limits: Limits<'_, Own>,
        out: &mut [u32],
    ) -> Result<Done, Denied> {
        let (host, ints) = (self.host, self.host.page_size() / 4);
        self.each(at, pages, Access::Read, limits, |index, at, pfn| {
            load_ints(host, at, pfn, &mut out[index * ints..][..ints]);
        })
    }

    /// The device writes what is in `ints`.
    pub(crate) fn write(&self, at: At, pages: usize, from: &[u32]) -> Result<Done, Denied> {
        let (host, ints) = (self.host, self.host.page_size() / 4);
        self.each(at, pages, Access::Write, Limits::none(), |index, at, pfn| {
            host.store(at, pfn, &to_bytes(&from[index * ints..][..ints]));
        })
    }

    /// Moves system pages of a range to the device, and has what became of each.
    pub(crate) fn pull(&self, at: At, pages: usize) -> Result<Pulled<H>, Denied> {
        let unlocked = &mut Unlocked::promise();
        for at in at.pages(pages) {
            // Not the range for it if a part cannot even be read.
            is_allowed(self.host, at, Access::Read).map_err(|_| Denied::Invalid)?;
        }
        let order = Order::to(self.tier).from(RAM).filling_holes().mode(Mode::SyncLight);
        let mut slots: Vec<Slot<'_, H>> = at.pages(pages).map(Slot::at).collect();
        let summary = migrate(self.host, &mut slots, &order, self.host, unlocked);
        Ok((summary, slots.iter().map(Slot::outcome).collect()))
    }

    /// Moves a range to the device and has the device read it there. How many pages that are, if it
    /// is any.
    pub(crate) fn migrate_to_device(
        &self,
        at: At,
        pages: usize,
        out: &mut [u32],
    ) -> Result<usize, Denied> {
        self.pull(at, pages)?;
        let ints = self.host.page_size() / 4;
        let mut count = 0;
        let (found, ticket) = self.look(at, pages);
        let mut entries = self.table.entries.lock().unwrap();
        // Nobody else is at work on the range.
        assert!(self.host.notifier(at.space).is_good(ticket));
        for (index, page) in found.iter().enumerate() {
            if let (Found::Own { pfn, .. }, Some(known)) = (page.found, mirrored(page.found)) {
                load_ints(self.host, page.at, pfn, &mut out[index * ints..][..ints]);
                entries.insert(page.at, known);
                count += 1;
            }
        }
        if count == 0 { Err(Denied::NotThere) } else { Ok(count) }
    }

    /// Moves what of a range is in the device's memory back. How many pages that are.
    pub(crate) fn migrate_to_system(&self, at: At, pages: usize) -> usize {
        let unlocked = &mut Unlocked::promise();
        let order = Order::to(RAM).from(self.tier).mode(Mode::SyncLight);
        let mut slots: Vec<Slot<'_, H>> = at.pages(pages).map(Slot::at).collect();
        let _ = migrate(self.host, &mut slots, &order, self.host, unlocked);
        slots.iter().filter(|slot| slot.outcome().is_done()).count()
    }

    /// Empties the device's memory of every process's pages: it will be removed.
    pub(crate) fn release(&self) -> Summary {
        let unlocked = &mut Unlocked::promise();
        let mut slots: Vec<Slot<'_, H>> = Vec::new();
        let mut frames = self.host.frames(self.tier);
        while let Some(pfn) = frames.next() {
            let span = self.host.span(pfn);
            if self.host.header(span.head).is_some_and(|page| page.refs() > 0) {
                slots.push(Slot::frame(span.head));
                frames.start = span.frames().end;
            }
        }
        migrate(self.host, &mut slots, &Order::to(RAM).mode(Mode::SyncLight), self.host, unlocked)
    }

    /// Looks, without a fault.
    pub(crate) fn snapshot(&self, at: At, pages: usize) -> Vec<Seen> {
        self.look(at, pages).0.iter().map(|page| self.seen(page.found)).collect()
    }

    pub(crate) fn seen(&self, found: Found) -> Seen {
        let page = |place, pfn, rights| Seen::Page {
            place,
            write: rights == Rights::Write,
            large: self.host.span(pfn).order > 0,
        };
        match found {
            Found::Forbidden => Seen::Error,
            Found::Zero => read(Place::Zero),
            Found::Own { pfn, rights } => page(Place::Local, pfn, rights),
            Found::Local { pfn, rights } if self.host.tier(pfn) == RAM => {
                page(Place::System, pfn, rights)
            }
            Found::Local { pfn, rights } => page(Place::Remote, pfn, rights),
            _ => Seen::None,
        }
    }
}

/// What became of a range that was to go to a device.
type Pulled<H> = (Summary, Vec<Outcome<<H as Tiers>::Refusal>>);

/// What of what was found goes into a device's table.
fn mirrored(found: Found) -> Option<Mirrored> {
    match found {
        Found::Zero => Some(Mirrored { pfn: 0, write: false }),
        Found::Local { pfn, rights } | Found::Own { pfn, rights } => {
            Some(Mirrored { pfn, write: rights == Rights::Write })
        }
        _ => None,
    }
}
