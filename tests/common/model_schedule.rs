//! Simulated threads fault, migrate, pin, wait and cancel, in an order that an input decides; see
//! `schedule` for how.
//!
//! The machine is small: two pages, each mapped twice, each with a frame in memory and one in the
//! device. The code that runs is the crate's, the fault path included. Every access checks what it
//! reads; at the end every reference, pin, byte and claim is accounted for. Who loses a wake sleeps
//! for ever, and that is noticed.
//!
//! Whoever includes this file has the module `schedule` beside it.

use crate::schedule::{self, Input, TOLD, Turns, at, block_on, changed};
use core::cell::{Cell, RefCell};
use core::fmt::Write as _;
use core::time::Duration;
use pagelock::leaf::{Leaf, Rights, Tracking, UnknownLeaf};
use pagelock::mm::{
    Access, Brought, Entry, Fault, FaultError, Faulter, Memory, Strategy, Tables, ToRam, resolve,
};
use pagelock::{
    Cancel, Claim, FreezeRule, FutexTimed, Limits, PageGuard, PageLock, PageRef, PinError, Put,
    Wait, Wake,
};
use std::rc::Rc;

const PAGES: usize = 2;
const MAPPINGS: usize = 2;
/// A page is in frame `2 * page` while it is in memory, and in the next one while it is in the
/// device.
const FRAMES: usize = 2 * PAGES;
const POISON: u64 = 0xdead_beef;
/// What simulated threads block on, beside the platform: locks of tables.
const PTL: usize = 100;

type Page<const C: bool> = PageLock<Turns<C>>;

struct Machine<const C: bool> {
    headers: [Page<C>; FRAMES],
    owners: [Cell<bool>; FRAMES],
    bytes: [Cell<u64>; FRAMES],
    /// What a page has to contain.
    ledger: [Cell<u64>; PAGES],
    tables: [Table; MAPPINGS],
    switch: Cancel<Turns<C>>,
    /// Which rule migrations go by.
    by_pins: bool,
    /// What each thread does, for the report.
    doing: RefCell<Vec<String>>,
}

struct Table {
    held: Cell<bool>,
    entries: [Cell<Leaf>; PAGES],
}

/// Names an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct At {
    mapping: usize,
    page: usize,
}

struct Locked<'t> {
    table: &'t Table,
    mapping: usize,
    page: usize,
}

impl Entry for Locked<'_> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        Ok(self.table.entries[self.page].get())
    }

    fn set(&mut self, leaf: Leaf) {
        self.table.entries[self.page].set(leaf);
    }
}

impl Locked<'_> {
    fn leaf(&self) -> Leaf {
        self.table.entries[self.page].get()
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        assert!(self.table.held.replace(false), "a page-table lock is dropped twice");
        changed(PTL + self.mapping);
    }
}

impl<const C: bool> Tables for Machine<C> {
    type Address = At;
    type Entry<'t> = Locked<'t>;

    fn lock(&self, name: At) -> Option<Locked<'_>> {
        Some(self.entry(name))
    }
}

impl<const C: bool> Memory for Machine<C> {
    type Futex = Turns<C>;
    type Error = &'static str;

    fn header(&self, pfn: u64) -> Option<&Page<C>> {
        self.headers.get(usize::try_from(pfn).ok()?)
    }

    fn migrate_to_ram(&self, request: ToRam<'_, At, Turns<C>>) -> Result<Brought, &'static str> {
        let frame = request.pfn as usize;
        assert!(core::ptr::eq(request.page.page(), &self.headers[frame]) && frame % 2 == 1);
        self.own(frame);
        // Under one of the strategies the entry that was faulted on is a migration entry by now,
        // and its reference is put. Here migration entries keep theirs, so it gets another;
        // whatever comes of the migration puts the entry up.
        if matches!(self.entry(request.at).leaf(), Leaf::Migration { .. }) {
            self.headers[frame].try_get().map_err(|_| "the faulter has a reference")?.into_raw();
        }
        let reference = request.reference.ok_or("a mapped page has references")?;
        let is_back = self.migrate(frame, frame - 1, request.page, reference);
        Ok(if is_back { Brought::Back } else { Brought::Busy })
    }
}

impl<const C: bool> Machine<C> {
    fn entry(&self, name: At) -> Locked<'_> {
        at("is about to lock a table");
        let table = &self.tables[name.mapping];
        while table.held.get() {
            block_on(PTL + name.mapping, "waits for a table");
        }
        table.held.set(true);
        Locked { table, mapping: name.mapping, page: name.page }
    }

    fn new(by_pins: bool) -> Rc<Self> {
        let machine = Rc::new(Self {
            headers: core::array::from_fn(|_| PageLock::with_futex(Turns)),
            owners: Default::default(),
            bytes: core::array::from_fn(|_| Cell::new(POISON)),
            ledger: Default::default(),
            tables: core::array::from_fn(|_| Table {
                held: Cell::new(false),
                entries: core::array::from_fn(|page| Cell::new(present(2 * page))),
            }),
            switch: Cancel::with_futex(Turns),
            by_pins,
            doing: RefCell::default(),
        });
        schedule::headers_begin_at(core::ptr::from_ref(&machine.headers).addr());
        for page in 0..PAGES {
            machine.headers[2 * page].activate(MAPPINGS as u32).expect("it is free");
            machine.bytes[2 * page].set(0);
        }
        machine
    }

    /// The lock of a frame has been taken: by nobody else at the same time.
    fn own(&self, frame: usize) {
        assert!(!self.owners[frame].replace(true), "frame {frame} has two owners");
    }

    /// The lock of a frame is about to be released.
    fn disown(&self, frame: usize) {
        assert!(self.owners[frame].replace(false), "frame {frame} is released by nobody");
    }

    fn release(&self, frame: usize, guard: PageGuard<'_, Turns<C>>, fair: bool) {
        self.disown(frame);
        if fair {
            guard.unlock_fair();
        } else {
            drop(guard);
        }
    }

    fn replace(&self, page: usize, with: impl Fn(Leaf) -> Option<Leaf>) {
        for mapping in 0..MAPPINGS {
            let mut entry = self.entry(At { mapping, page });
            if let Some(leaf) = with(entry.leaf()) {
                entry.set(leaf);
            }
        }
    }

    fn put_up(&self, frame: usize) {
        self.replace(frame / 2, |leaf| match frame % 2 {
            0 => leaf.to_present(frame as u64),
            _ => leaf.to_device_private(frame as u64),
        });
    }

    /// Moves a page from a frame to the other: takes down its mappings, freezes, copies, puts up
    /// the new entries, commits. The source's lock is released in any case.
    fn migrate(
        &self,
        from: usize,
        to: usize,
        guard: PageGuard<'_, Turns<C>>,
        reference: PageRef<'_, Turns<C>>,
    ) -> bool {
        let (page, references) = (from / 2, MAPPINGS as u32 + 1);
        let migration = guard.begin_migration();
        self.replace(page, Leaf::to_migration);
        let rule =
            if self.by_pins { FreezeRule::Unpinned } else { FreezeRule::ExactRefs(references) };
        let frozen = match migration.freeze(rule) {
            Ok(frozen) => frozen,
            Err(busy) => {
                self.put_up(from);
                drop(reference);
                self.disown(from);
                busy.into_migration().abort();
                return false;
            }
        };
        // With another page's lock held, one may try for a second, and not wait for it.
        let free = self.headers[to].try_lock().map(|guard| {
            self.own(to);
            (self.headers[to].refs() == 0, guard)
        });
        let destination = match free {
            Some((true, guard)) => guard,
            other => {
                self.put_up(from);
                if let Some((_, guard)) = other {
                    self.release(to, guard, false);
                }
                drop(reference);
                self.disown(from);
                frozen.abort();
                return false;
            }
        };
        assert_eq!(self.headers[from].pins(), 0, "a pinned page is moved");
        let bytes = self.bytes[from].replace(POISON);
        at("copies");
        assert_eq!(
            bytes,
            self.ledger[page].get(),
            "page {page} was written to while it was copied, or not all of it came"
        );
        self.bytes[to].set(bytes);
        self.put_up(to);
        // While the counts are frozen: after the commit it would be one too many for the next
        // migration.
        assert_eq!(reference.put(), Put::Kept);
        self.disown(from);
        self.disown(to);
        // SAFETY: the entries' references, which are raw, and move with the entries.
        let committed = unsafe { frozen.commit_to_moving(destination, MAPPINGS as u32) }
            .expect("the destination is free and ours");
        assert!(self.by_pins || committed.source == Put::Last);
        true
    }

    /// Reads and writes a page through a mapping, faulting as often as it takes.
    fn access(&self, name: At, strategy: Strategy, cancellable: bool) {
        loop {
            let mut faulter = Faulter::new(strategy);
            if cancellable {
                faulter = faulter.cancellable(&self.switch);
            }
            match resolve(self, name, Access::Write, &mut faulter) {
                Ok(Fault::Resolved | Fault::Present) => {}
                Err(FaultError::Cancelled) => {
                    assert!(cancellable && self.switch.is_cancelled());
                    return;
                }
                other => panic!("{name:?}: {other:?}"),
            }
            let entry = self.entry(name);
            let Leaf::Present { pfn, .. } = entry.leaf() else { continue };
            let (frame, ledger) = (pfn as usize, &self.ledger[name.page]);
            assert_eq!(
                frame,
                2 * name.page,
                "a page is present where the processor cannot reach it"
            );
            assert_eq!(self.bytes[frame].get(), ledger.get(), "{name:?} has lost a write");
            ledger.set(ledger.get() + 1);
            self.bytes[frame].set(ledger.get());
            return;
        }
    }

    /// Pushes a page out to the device, if it is in memory and nobody has it locked.
    fn push_out(&self, name: At) {
        let entry = self.entry(name);
        let Leaf::Present { pfn, .. } = entry.leaf() else { return };
        let frame = pfn as usize;
        let Some(guard) = self.headers[frame].try_lock() else { return };
        self.own(frame);
        let Ok(reference) = self.headers[frame].try_get() else {
            panic!("a mapped page has references, and its lock is ours")
        };
        drop(entry);
        self.migrate(frame, frame + 1, guard, reference);
    }

    /// Pins a page where it is, if it can be, and sees that it stays there.
    fn pin(&self, name: At, turns: usize) {
        let entry = self.entry(name);
        let Some(pfn) = entry.leaf().pfn() else { return };
        let frame = pfn as usize;
        match self.headers[frame].try_pin() {
            Ok(pin) => {
                drop(entry);
                for _ in 0..turns {
                    at("holds a pin");
                    assert_eq!(
                        self.bytes[frame].get(),
                        self.ledger[name.page].get(),
                        "a pinned page has moved"
                    );
                }
                drop(pin);
            }
            Err(PinError::Migrating | PinError::Frozen) => {
                let woken = self.headers[frame].wait_migration(entry);
                assert!(matches!(woken, Wake::Released | Wake::NotLocked), "{woken:?}");
            }
            // The entries are up and the commit, which moves the references, is still to come;
            // until then the frame is locked.
            Err(PinError::Free) => {
                let woken = self.headers[frame].wait_unlocked(entry);
                assert!(matches!(woken, Wake::Released | Wake::NotLocked), "{woken:?}");
            }
            Err(other) => panic!("a mapped page cannot be pinned: {other:?}"),
        }
    }

    fn refer(&self, name: At, turns: usize) {
        let entry = self.entry(name);
        let Some(pfn) = entry.leaf().pfn() else { return };
        let reference = self.headers[pfn as usize].try_get();
        drop(entry);
        (0..turns).for_each(|_| at("holds a reference"));
        drop(reference);
    }

    fn hold(&self, frame: usize, guard: PageGuard<'_, Turns<C>>, turns: usize) {
        self.own(frame);
        let mut guard = guard;
        if turns % 3 == 2 {
            guard = guard.begin_migration().cancel();
        }
        (0..turns).for_each(|_| at("holds a lock"));
        self.release(frame, guard, turns % 2 == 1);
    }

    fn wait(&self, name: At, frame: usize, kind: usize, turns: usize) {
        let entry = self.entry(name);
        let deadline =
            Turns::<C>.after(Duration::from_nanos(turns as u64)).expect("the clock has room");
        let mut wait = if kind % 2 == 0 { Wait::unlocked() } else { Wait::migration() };
        if kind & 2 != 0 {
            wait.limits = wait.limits.until(deadline);
        }
        if kind & 4 != 0 {
            wait.limits = wait.limits.unless(&self.switch);
        }
        let woken = self.headers[frame].wait_with(entry, wait);
        match woken {
            Wake::Released | Wake::NotLocked => {}
            Wake::TimedOut => assert!(kind & 2 != 0, "{woken:?}"),
            Wake::Cancelled => assert!(kind & 4 != 0 && self.switch.is_cancelled(), "{woken:?}"),
            other => panic!("{other:?}"),
        }
    }

    /// Claims a frame until it has it, and waits in between for the platform to be told.
    fn claim(&self, frame: usize, turns: usize) {
        loop {
            match self.headers[frame].claim() {
                Claim::Owner(guard) => return self.hold(frame, guard, turns),
                // No turn is given up between the claim and this, but the release may have been
                // told before.
                Claim::InFlight => {
                    block_on(TOLD + frame, "has claimed a page and waits to be told")
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// One operation, by three bytes.
    fn operate(&self, what: [u8; 3]) {
        let [op, place, how] = what.map(usize::from);
        let name = At { mapping: place / 2 % MAPPINGS, page: place % PAGES };
        let (frame, turns) = (place / 4 % FRAMES, how % 6);
        let page = &self.headers[frame];
        let strategy = match how % 8 {
            0 => Strategy::TryAndRetry,
            1 => Strategy::EntryInFault,
            2 => Strategy::WaitThenLock { after: 0 },
            3 => Strategy::WaitThenLock { after: 1 },
            // Not `ReferenceAndSleep`: with enough faulters its references abort every migration
            // that they wait for, for ever, as this machine shows within a few seconds.
            _ => Strategy::Wait,
        };
        match op % 16 {
            0..5 => self.access(name, strategy, how & 8 != 0),
            5..8 => self.push_out(name),
            8 => self.pin(name, turns),
            9 => self.refer(name, turns),
            10 => self.hold(frame, page.lock(), turns),
            11 => {
                let soon = Turns::<C>
                    .after(Duration::from_nanos(1 + turns as u64))
                    .expect("the clock has room");
                if let Ok(guard) = page.lock_within(Limits::none().until(soon)) {
                    self.hold(frame, guard, turns);
                }
            }
            12 => {
                let entry = self.entry(name);
                self.hold(frame, page.lock_releasing(entry), turns);
            }
            13 => self.wait(name, frame, how, turns),
            14 => self.claim(frame, turns),
            _ => match how % 4 {
                0 => self.switch.cancel(),
                _ => self.wait(name, frame, how, turns),
            },
        }
    }

    /// Whatever was done, this is so at the end.
    fn check(&self) {
        for page in 0..PAGES {
            let entries: Vec<_> = self.tables.iter().map(|t| t.entries[page].get()).collect();
            assert!(
                entries.windows(2).all(|two| two[0] == two[1]),
                "page {page}: its mappings disagree: {entries:?}"
            );
            let frame = match entries[0] {
                Leaf::Present { pfn, .. } | Leaf::DevicePrivate { pfn, .. } => pfn as usize,
                other => panic!("page {page} was left as {other:?}"),
            };
            assert_eq!(frame / 2, page);
            assert_eq!(
                self.bytes[frame].get(),
                self.ledger[page].get(),
                "page {page} has lost a write"
            );
            assert_eq!(self.bytes[frame ^ 1].get(), POISON, "page {page} is in two places");
            assert_eq!(
                (self.headers[frame].refs(), self.headers[frame ^ 1].refs()),
                (MAPPINGS as u32, 0),
                "page {page}"
            );
        }
        for header in &self.headers {
            let idle = !header.is_locked() && !header.is_migrating() && !header.is_frozen();
            assert!(idle && header.pins() == 0 && header.sleepers() == 0, "{header:?}");
        }
    }

    /// Everything in words.
    fn state(&self) -> String {
        let mut text = self.doing.borrow().join("\n");
        for (frame, header) in self.headers.iter().enumerate() {
            write!(text, "\nframe {frame}: {header:?}").unwrap();
        }
        for (mapping, table) in self.tables.iter().enumerate() {
            let leaves: Vec<_> = table.entries.iter().map(|e| e.get()).collect();
            write!(text, "\nmapping {mapping}, locked: {}: {leaves:?}", table.held.get()).unwrap();
        }
        text
    }
}

fn present(frame: usize) -> Leaf {
    Leaf::Present { pfn: frame as u64, rights: Rights::Write, tracking: Tracking::default() }
}

/// One run: what each thread does, and then who goes on, both from `input`.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let how = input.below(16);
    if how & 1 == 0 { run_on::<true>(how, input) } else { run_on::<false>(how, input) }
}

fn run_on<const C: bool>(how: usize, mut input: Input<'_>) {
    let threads = 2 + (how >> 1) % 4;
    schedule::begin(threads, FRAMES / 2);
    let machine = Machine::<C>::new(how & 8 != 0);
    let bodies = (0..threads)
        .map(|_| {
            let operations: Vec<[u8; 3]> = (0..1 + input.below(4))
                .map(|_| core::array::from_fn(|_| input.next().unwrap_or(0)))
                .collect();
            machine.doing.borrow_mut().push(format!("does {operations:?}"));
            let machine = machine.clone();
            Box::new(move || operations.into_iter().for_each(|op| machine.operate(op)))
                as Box<dyn FnOnce()>
        })
        .collect();
    let state = machine.clone();
    schedule::run(bodies, input, move || state.state());
    machine.check();
}
