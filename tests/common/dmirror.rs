//! A device that has memory of its own and uses a process's through page tables of its own: what
//! Linux's tests of `hmm` have as `test_hmm`, in software.
//!
//! Its page table is filled by [`range`](pagelock::mm::range): what is there is read against the
//! notifier of the address space, what is not is faulted in, all of the range at a time; and what
//! was found goes into the table if the ticket is still good, with the table's lock held. Whoever
//! changes an entry tells the device first, which forgets it under the same lock. So while the
//! device holds that lock, what is in the table is so, and it accesses frames by number and nothing
//! else.

use super::machine::RAM;
use super::own::Own;
use core::fmt::Debug;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use pagelock::Limits;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::{Drain, Unlocked};
use pagelock::mm::migrate::{Mode, Order, Outcome, Slot, Summary, migrate};
use pagelock::mm::range::{self, Found, Notifier, Page, Stop, Want, fault_range};
use pagelock::mm::{Access, Areas, Memory, Mm, Tables, Tiers};
use pagelock_soft::{At, SpaceId, TierId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Why something was refused. In brackets what Linux's driver says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Denied {
    /// Nothing may be accessed there (`EFAULT`).
    Fault,
    /// It may be read and not be written to (`EPERM`).
    Permission,
    /// The range is not one that the request is possible for (`EINVAL`).
    Invalid,
    /// The device does not have it (`ENOENT`).
    NotThere,
    /// The time was up (`ETIME`).
    TimedOut,
}

/// Where a page is, for the one who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    System,
    /// The frame of zeroes.
    Zero,
    /// The asking device's own memory.
    Local,
    /// Another device's, which the processor can access.
    Remote,
}

/// What a look at an address without a fault says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// Nothing may be accessed there.
    Error,
    /// There is nothing that could be used without a fault.
    None,
    Page {
        place: Place,
        write: bool,
        /// Part of a large page that is mapped as a whole.
        large: bool,
    },
}

pub(crate) const fn read(place: Place) -> Seen {
    Seen::Page { place, write: false, large: false }
}

pub(crate) const fn write(place: Place) -> Seen {
    Seen::Page { place, write: true, large: false }
}

/// The memory that both use: what the device needs besides the protocol.
pub(crate) trait Host:
    Mm
    + Areas<Failure: Debug>
    + Tables<Address = At>
    + Tiers<Tier = TierId>
    + Memory<Futex = Own, Error: Debug>
    + Drain
    + Sync
{
    fn page_size(&self) -> usize;

    /// That of an address space.
    fn notifier(&self, space: SpaceId) -> &Notifier<Own>;

    /// The tables of devices. All of them are told of what the notifiers are told of.
    fn mirrors(&self) -> Arc<Mirrors>;

    /// Reads frame `pfn`, which is at `at` if the processor can access it, and stays there.
    fn load(&self, at: At, pfn: u64, out: &mut [u8]);

    /// Writes to it.
    fn store(&self, at: At, pfn: u64, bytes: &[u8]);

    /// Reads as the processor does.
    fn cpu_read(&self, at: At, out: &mut [u8]) -> Result<(), Denied>;

    /// Writes as the processor does.
    fn cpu_write(&self, at: At, bytes: &[u8]) -> Result<(), Denied>;

    /// The frames of a tier.
    fn frames(&self, tier: TierId) -> Range<u64>;
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    /// Pages that were read or written.
    pub(crate) pages: usize,
    /// How often a range was faulted in for that.
    pub(crate) faults: usize,
}

impl Done {
    pub(crate) fn new(pages: usize, faults: usize) -> Self {
        Self { pages, faults }
    }
}

/// What a device knows of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mirrored {
    pfn: u64,
    write: bool,
}

/// A device's page table.
#[derive(Default)]
struct Table {
    entries: Mutex<BTreeMap<At, Mirrored>>,
    /// How many entries were taken away by those who were about to change what they said.
    forgotten: AtomicUsize,
}

/// The page tables of all devices.
#[derive(Default)]
pub(crate) struct Mirrors(Mutex<Vec<Arc<Table>>>);

impl Mirrors {
    /// What is at these addresses is about to change.
    pub(crate) fn forget(&self, at: At, pages: usize) {
        for table in &*self.0.lock().unwrap() {
            let mut entries = table.entries.lock().unwrap();
            let gone: Vec<At> = entries.range(at..after(at, pages)).map(|(&at, _)| at).collect();
            for at in &gone {
                entries.remove(at);
            }
            table.forgotten.fetch_add(gone.len(), SeqCst);
        }
    }

    fn new_table(&self) -> Arc<Table> {
        let table = Arc::<Table>::default();
        self.0.lock().unwrap().push(Arc::clone(&table));
        table
    }
}

pub(crate) struct Device<'h, H: Host> {
    pub(crate) host: &'h H,
    /// Its own memory.
    pub(crate) tier: TierId,
    table: Arc<Table>,
    /// Who provides what is missing, if it is not the memory manager.
    #[allow(clippy::type_complexity)]
    ask: Option<Box<dyn Fn(At) + Send + Sync + 'h>>,
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
    fn with(&self, at: At, access: Access, act: impl FnOnce(u64)) -> bool {
        let entries = self.table.entries.lock().unwrap();
        let Some(known) = entries.get(&at).filter(|known| known.write || access == Access::Read)
        else {
            return false;
        };
        // While the lock is held nobody takes the page away.
        act(known.pfn);
        true
    }

    fn each(
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

    fn order<'c>(&self, limits: Limits<'c, Own>) -> range::RangeOrder<'c, H> {
        range::RangeOrder::new(limits).own(self.tier)
    }

    /// Has every page of a range in the table, by faults where it takes any.
    fn fault_in(
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
    fn ask_for(&self, at: At, pages: usize, access: Access) -> Result<(), Denied> {
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
    fn look(&self, at: At, pages: usize) -> (Vec<Page<At>>, range::Ticket) {
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

    /// Empties the device's memory, whoever has pages there: it is to be removed.
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

    fn seen(&self, found: Found) -> Seen {
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

pub(crate) fn leaf_of<H: Host>(entry: &H::Entry<'_>) -> Leaf {
    use pagelock::mm::Entry;
    entry.get().expect("the tables hold nothing but leaves")
}

pub(crate) fn to_bytes(ints: &[u32]) -> Vec<u8> {
    ints.iter().flat_map(|int| int.to_ne_bytes()).collect()
}

fn load_ints<H: Host>(host: &H, at: At, pfn: u64, out: &mut [u32]) {
    let mut bytes = vec![0; out.len() * 4];
    host.load(at, pfn, &mut bytes);
    from_bytes(&bytes, out);
}

fn from_bytes(bytes: &[u8], out: &mut [u32]) {
    for (int, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *int = u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
    }
}

/// Some pages of a process, numbers in them, and a copy that the device reads into and writes from.
pub(crate) struct Buffer<'h, H: Host> {
    pub(crate) host: &'h H,
    pub(crate) at: At,
    pub(crate) pages: usize,
    pub(crate) mirror: Vec<u32>,
}

impl<'h, H: Host> Buffer<'h, H> {
    pub(crate) fn new(host: &'h H, at: At, pages: usize) -> Self {
        let mirror = vec![0; pages * host.page_size() / 4];
        Self { host, at, pages, mirror }
    }

    /// The same pages, as another process has them.
    pub(crate) fn of(&self, space: SpaceId) -> Self {
        Self {
            host: self.host,
            at: At { space, ..self.at },
            pages: self.pages,
            mirror: self.mirror.clone(),
        }
    }

    /// Numbers in a page.
    pub(crate) fn ints(&self) -> usize {
        self.host.page_size() / 4
    }

    /// The numbers that page `page` should have, if number `i` of the buffer is `value(i)`.
    fn numbers(&self, page: usize, value: &impl Fn(u32) -> u32) -> Vec<u32> {
        let ints = self.ints();
        (page * ints..(page + 1) * ints).map(|i| value(i as u32)).collect()
    }

    /// The processor writes `value(i)` as number `i`.
    pub(crate) fn set(&self, value: impl Fn(u32) -> u32) {
        self.set_in(0..self.pages, value);
    }

    pub(crate) fn set_in(&self, pages: Range<usize>, value: impl Fn(u32) -> u32) {
        for page in pages {
            self.host
                .cpu_write(after(self.at, page), &to_bytes(&self.numbers(page, &value)))
                .unwrap();
        }
    }

    pub(crate) fn set_mirror(&mut self, value: impl Fn(u32) -> u32) {
        self.mirror.iter_mut().zip(0..).for_each(|(int, i)| *int = value(i));
    }

    /// The processor reads, and finds `value(i)` as number `i`.
    #[track_caller]
    pub(crate) fn expect(&self, value: impl Fn(u32) -> u32) {
        self.expect_in(0..self.pages, value);
    }

    #[track_caller]
    pub(crate) fn expect_in(&self, pages: Range<usize>, value: impl Fn(u32) -> u32) {
        self.expect_at(self.at, pages, value);
    }

    /// The same, for pages that have moved so that the buffer begins at `at`.
    #[track_caller]
    pub(crate) fn expect_at(&self, at: At, pages: Range<usize>, value: impl Fn(u32) -> u32) {
        for page in pages {
            let mut bytes = vec![0; self.host.page_size()];
            let mut found = vec![0; self.ints()];
            if let Err(e) = self.host.cpu_read(after(at, page), &mut bytes) {
                panic!("page {page}: {e:?}");
            }
            from_bytes(&bytes, &mut found);
            assert_eq!(found, self.numbers(page, &value), "page {page}");
        }
    }

    #[track_caller]
    pub(crate) fn expect_mirror(&self, value: impl Fn(u32) -> u32) {
        self.expect_mirror_in(0..self.pages, value);
    }

    #[track_caller]
    pub(crate) fn expect_mirror_in(&self, pages: Range<usize>, value: impl Fn(u32) -> u32) {
        for page in pages {
            let ints = self.ints();
            assert_eq!(
                self.mirror[page * ints..][..ints],
                self.numbers(page, &value),
                "the device's copy of page {page}"
            );
        }
    }

    // What the tests ask of a device, for all of the buffer.

    pub(crate) fn device_read(&mut self, device: &Device<'_, H>) -> Result<Done, Denied> {
        self.device_read_within(device, Limits::none())
    }

    pub(crate) fn device_read_within(
        &mut self,
        device: &Device<'_, H>,
        limits: Limits<'_, Own>,
    ) -> Result<Done, Denied> {
        device.read(self.at, self.pages, limits, &mut self.mirror)
    }

    pub(crate) fn device_write(&self, device: &Device<'_, H>) -> Result<Done, Denied> {
        device.write(self.at, self.pages, &self.mirror)
    }

    pub(crate) fn migrate_to(&mut self, device: &Device<'_, H>) -> Result<usize, Denied> {
        device.migrate_to_device(self.at, self.pages, &mut self.mirror)
    }
}
