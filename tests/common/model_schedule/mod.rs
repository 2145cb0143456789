//! Simulated threads fault, migrate, pin, wait and cancel, in an order that an input decides; see
//! `schedule` for how.
//!
//! The machine is small: two pages, each mapped twice, each with a frame in memory and one in the
//! device. The code that runs is the crate's, the fault path included. Every access checks what it
//! reads; at the end every reference, pin, byte and claim is accounted for. A thread that loses a
//! wake sleeps for ever, and that is noticed.
//!
//! A crate that includes this file has the module `schedule` beside it.

mod acts;

use crate::schedule::{self, Input, Turns, at, block_on, changed};
use core::cell::{Cell, RefCell};
use core::fmt::Write as _;
use pagelock::leaf::{Leaf, Rights, Tracking, UnknownLeaf};
use pagelock::mm::{Brought, Entry, Memory, Tables, ToRam};
use pagelock::{Cancel, PageGuard, PageLock};
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
}

impl<const C: bool> Machine<C> {
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

/// One run: what each thread does, and then which goes on, both from `input`.
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
