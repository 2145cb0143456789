//! A device that has memory of its own and uses a process's through page tables of its own: what Linux's tests of `hmm` have as
//! `test_hmm`, in software.
//!
//! The device knows which frame is where from having looked, under the entry's lock; and it looks again, under the same lock, when it uses
//! what it knows. What it does not know, or knows wrongly, it faults in, all of the range at a time.

use super::machine::RAM;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::Drain;
use pagelock::mm::migrate::{Mode, Order, Outcome, Slot, Summary, migrate};
use pagelock::mm::soft::{Area, AreaKind, At, TierId};
use pagelock::mm::{Access, Mm, Tables, Tiers};
use std::collections::BTreeMap;
use std::sync::Mutex;

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
pub(crate) trait Host: Mm + Tables<Address = At> + Tiers<Tier = TierId> + Drain + Sync {
    fn page_size(&self) -> usize;

    /// What the address may be used for.
    fn area(&self, entry: &Self::Entry<'_>) -> Area;

    /// One attempt to resolve a fault, as if the processor had run into it.
    fn attempt(&self, at: At, access: Access);

    /// Reads what `leaf` is for, the entry at `at`, whose lock is held.
    fn load(&self, at: At, leaf: Leaf, out: &mut [u8]);

    /// Writes to it.
    fn store(&self, at: At, leaf: Leaf, bytes: &[u8]);

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

/// What the device knows of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mirrored {
    pfn: u64,
    write: bool,
}

pub(crate) struct Device<'h, H: Host> {
    pub(crate) host: &'h H,
    /// Its own memory.
    pub(crate) tier: TierId,
    table: Mutex<BTreeMap<At, Mirrored>>,
    /// How often what it knew was no longer so.
    stale: AtomicUsize,
    /// Who provides what is missing, if it is not the memory manager.
    #[allow(clippy::type_complexity)]
    ask: Option<Box<dyn Fn(At) + Send + Sync + 'h>>,
}

pub(crate) fn after(at: At, pages: usize) -> At {
    At { page: at.page + pages, ..at }
}

fn allows(rights: Rights, access: Access) -> bool {
    access == Access::Read || rights == Rights::Write
}

fn is_allowed(area: Area, access: Access) -> Result<(), Denied> {
    match (area.kind, area.rights) {
        (AreaKind::Unmapped, _) | (_, None) => Err(Denied::Fault),
        (_, Some(rights)) if !allows(rights, access) => Err(Denied::Permission),
        _ => Ok(()),
    }
}

impl<'h, H: Host> Device<'h, H> {
    pub(crate) fn new(host: &'h H, tier: TierId) -> Self {
        Self { host, tier, table: Mutex::default(), stale: AtomicUsize::new(0), ask: None }
    }

    /// A device of which `ask` is told where a page is missing; it returns when there is one.
    pub(crate) fn asking(host: &'h H, tier: TierId, ask: impl Fn(At) + Send + Sync + 'h) -> Self {
        Self { ask: Some(Box::new(ask)), ..Self::new(host, tier) }
    }

    /// How often the device found that what it knew of an address was no longer so.
    pub(crate) fn stale(&self) -> usize {
        self.stale.load(SeqCst)
    }

    fn is_own(&self, pfn: u64) -> bool {
        self.host.tier(pfn) == self.tier
    }

    /// What of `leaf` the device can use as it is.
    fn usable(&self, leaf: Leaf) -> Option<Mirrored> {
        match leaf {
            Leaf::Present { pfn, rights, .. } => Some(Mirrored { pfn, write: rights == Rights::Write }),
            Leaf::DevicePrivate { pfn, rights, .. } if self.is_own(pfn) => {
                Some(Mirrored { pfn, write: rights == Rights::Write })
            }
            _ => None,
        }
    }

    /// Has `act` at a page that the device knows. `false` if it does not.
    fn with(&self, at: At, access: Access, act: impl FnOnce(Leaf)) -> bool {
        let known = self.table.lock().unwrap().get(&at).copied();
        let Some(known) = known.filter(|known| known.write || access == Access::Read) else { return false };
        let entry = self.host.lock(at);
        let leaf = leaf_of::<H>(&entry);
        let now = self.usable(leaf);
        if now.is_none_or(|now| now.pfn != known.pfn || (access == Access::Write && !now.write)) {
            self.table.lock().unwrap().remove(&at);
            self.stale.fetch_add(1, SeqCst);
            return false;
        }
        // While the entry's lock is held nobody takes the entry down, so the page stays where it is.
        act(leaf);
        true
    }

    fn each(&self, at: At, pages: usize, access: Access, mut act: impl FnMut(usize, At, Leaf)) -> Result<Done, Denied> {
        let mut done = Done { pages: 0, faults: 0 };
        while done.pages < pages {
            let here = after(at, done.pages);
            if self.with(here, access, |leaf| act(done.pages, here, leaf)) {
                done.pages += 1;
            } else {
                self.fault_in(here, pages - done.pages, access)?;
                done.faults += 1;
            }
        }
        Ok(done)
    }

    /// Makes every page of a range one that the device knows and may access, by faults where it takes any.
    pub(crate) fn fault_in(&self, at: At, pages: usize, access: Access) -> Result<(), Denied> {
        for at in at.pages(pages) {
            loop {
                let entry = self.host.lock(at);
                is_allowed(self.host.area(&entry), access)?;
                let leaf = leaf_of::<H>(&entry);
                if let Some(now) = self.usable(leaf).filter(|now| now.write || access == Access::Read) {
                    self.table.lock().unwrap().insert(at, now);
                    break;
                }
                // Nothing is held while others work on it.
                drop(entry);
                match &self.ask {
                    Some(ask) if leaf == Leaf::None => ask(at),
                    _ => self.host.attempt(at, access),
                }
            }
        }
        Ok(())
    }

    /// The device reads into `out`.
    pub(crate) fn read(&self, at: At, pages: usize, out: &mut [u32]) -> Result<Done, Denied> {
        let (host, ints) = (self.host, self.host.page_size() / 4);
        self.each(at, pages, Access::Read, |index, at, leaf| {
            load_ints(host, at, leaf, &mut out[index * ints..][..ints]);
        })
    }

    /// The device writes what is in `ints`.
    pub(crate) fn write(&self, at: At, pages: usize, from: &[u32]) -> Result<Done, Denied> {
        let (host, ints) = (self.host, self.host.page_size() / 4);
        self.each(at, pages, Access::Write, |index, at, leaf| {
            host.store(at, leaf, &to_bytes(&from[index * ints..][..ints]));
        })
    }

    /// Moves system pages of a range to the device, and has what became of each.
    pub(crate) fn pull(&self, at: At, pages: usize) -> Result<(Summary, Vec<Outcome<H::Refusal>>), Denied> {
        for at in at.pages(pages) {
            // Not the range for it if a part cannot even be read.
            is_allowed(self.host.area(&self.host.lock(at)), Access::Read).map_err(|_| Denied::Invalid)?;
        }
        let order = Order::to(self.tier).from(RAM).filling_holes().mode(Mode::SyncLight);
        let mut slots: Vec<Slot<'_, H>> = at.pages(pages).map(Slot::at).collect();
        let summary = migrate(self.host, &mut slots, &order, self.host);
        Ok((summary, slots.iter().map(Slot::outcome).collect()))
    }

    /// Moves a range to the device and has the device read it there. How many pages that are, if it is any.
    pub(crate) fn migrate_to_device(&self, at: At, pages: usize, out: &mut [u32]) -> Result<usize, Denied> {
        self.pull(at, pages)?;
        let ints = self.host.page_size() / 4;
        let mut count = 0;
        for (index, at) in at.pages(pages).enumerate() {
            let entry = self.host.lock(at);
            let leaf = leaf_of::<H>(&entry);
            let Some(now) = self.usable(leaf).filter(|now| self.is_own(now.pfn)) else { continue };
            load_ints(self.host, at, leaf, &mut out[index * ints..][..ints]);
            self.table.lock().unwrap().insert(at, now);
            count += 1;
        }
        if count == 0 { Err(Denied::NotThere) } else { Ok(count) }
    }

    /// Moves what of a range is in the device's memory back. How many pages that are.
    pub(crate) fn migrate_to_system(&self, at: At, pages: usize) -> usize {
        let order = Order::to(RAM).from(self.tier).mode(Mode::SyncLight);
        let mut slots: Vec<Slot<'_, H>> = at.pages(pages).map(Slot::at).collect();
        let _ = migrate(self.host, &mut slots, &order, self.host);
        slots.iter().filter(|slot| slot.outcome().is_done()).count()
    }

    /// Empties the device's memory, whoever has pages there: it is to be removed.
    pub(crate) fn release(&self) -> Summary {
        let mut slots: Vec<Slot<'_, H>> = Vec::new();
        let mut frames = self.host.frames(self.tier);
        while let Some(pfn) = frames.next() {
            let span = self.host.span(pfn);
            if self.host.header(span.head).is_some_and(|page| page.refs() > 0) {
                slots.push(Slot::frame(span.head));
                frames.start = span.frames().end;
            }
        }
        migrate(self.host, &mut slots, &Order::to(RAM).mode(Mode::SyncLight), self.host)
    }

    /// Looks, without a fault.
    pub(crate) fn snapshot(&self, at: At, pages: usize) -> Vec<Seen> {
        at.pages(pages).map(|at| self.look(at)).collect()
    }

    fn look(&self, at: At) -> Seen {
        let entry = self.host.lock(at);
        if is_allowed(self.host.area(&entry), Access::Read).is_err() {
            return Seen::Error;
        }
        let Some(Mirrored { pfn, write }) = self.usable(leaf_of::<H>(&entry)) else { return Seen::None };
        let place = match self.host.tier(pfn) {
            _ if self.host.is_zero_frame(pfn) => Place::Zero,
            RAM => Place::System,
            tier if tier == self.tier => Place::Local,
            _ => Place::Remote,
        };
        Seen::Page { place, write, large: self.host.span(pfn).order > 0 }
    }
}

pub(crate) fn leaf_of<H: Host>(entry: &H::Entry<'_>) -> Leaf {
    use pagelock::mm::Entry;
    Leaf::decode(entry.get()).expect("the tables hold nothing but leaves")
}

pub(crate) fn to_bytes(ints: &[u32]) -> Vec<u8> {
    ints.iter().flat_map(|int| int.to_ne_bytes()).collect()
}

fn load_ints<H: Host>(host: &H, at: At, leaf: Leaf, out: &mut [u32]) {
    let mut bytes = vec![0; out.len() * 4];
    host.load(at, leaf, &mut bytes);
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
    pub(crate) fn of(&self, space: pagelock::mm::soft::SpaceId) -> Self {
        Self { host: self.host, at: At { space, ..self.at }, pages: self.pages, mirror: self.mirror.clone() }
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
            self.host.cpu_write(after(self.at, page), &to_bytes(&self.numbers(page, &value))).unwrap();
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
            assert_eq!(self.mirror[page * ints..][..ints], self.numbers(page, &value), "the device's copy of page {page}");
        }
    }

    // What the tests ask of a device, for all of the buffer.

    pub(crate) fn device_read(&mut self, device: &Device<'_, H>) -> Result<Done, Denied> {
        device.read(self.at, self.pages, &mut self.mirror)
    }

    pub(crate) fn device_write(&self, device: &Device<'_, H>) -> Result<Done, Denied> {
        device.write(self.at, self.pages, &self.mirror)
    }

    pub(crate) fn migrate_to(&mut self, device: &Device<'_, H>) -> Result<usize, Denied> {
        device.migrate_to_device(self.at, self.pages, &mut self.mirror)
    }
}
