//! What the tests share: a deadline, a region in software, and a layer that counts.
#![allow(dead_code, missing_docs, unreachable_pub)] // Each test program uses some of it.

pub mod storm;

use pagelock_vmm::soft::{Failed, SoftRam};
use pagelock_vmm::{Fault, Fetch, Inbox, Layer, Region};
use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// After so long, a sleeper is stranded.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// After so long a *control* takes a sleeper for stranded.
pub const CONTROL: Duration = Duration::from_millis(300);
pub const PAGE: usize = 4096;

/// Ends the program if the test has not ended by then: nothing may hang.
pub fn watchdog() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(240));
            // Not by the macro, which a test captures.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"a test hangs\n");
            std::process::abort();
        });
    });
}

/// Waits until `what` is true.
pub fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < end, "it never came true");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Says that a test is over, also if it panics: its other threads end, and the panic is seen.
pub struct Over<'d>(pub &'d AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// A region in software, without a server.
pub struct Rig {
    pub ram: SoftRam,
    pub inbox: Arc<Inbox>,
    pub region: Arc<Region>,
    pub counts: Arc<Counts>,
}

impl Rig {
    pub fn new(pages: usize) -> Self {
        Self::over(SoftRam::new(pages, PAGE))
    }

    pub fn with_removes(pages: usize) -> Self {
        Self::over(SoftRam::with_removes(pages, PAGE))
    }

    fn over(ram: SoftRam) -> Self {
        watchdog();
        let inbox = Inbox::new(ram.clone()).unwrap();
        let counts = Arc::new(Counts::default());
        let layer = Counted { ram: ram.clone(), counts: Arc::clone(&counts) };
        let region = Region::new(layer, &inbox, 0x1_0000_0000).unwrap();
        Self { ram, inbox, region, counts }
    }

    /// A guest that reads a page's first byte.
    pub fn reader(&self, page: usize) -> JoinHandle<Result<u8, Failed>> {
        self.reader_for(page, PATIENCE)
    }

    pub fn reader_for(&self, page: usize, patience: Duration) -> JoinHandle<Result<u8, Failed>> {
        let ram = self.ram.clone();
        thread::spawn(move || ram.with(page, false, patience, |bytes| bytes[0]))
    }

    /// A guest that writes a page's first byte, and returns what was there.
    pub fn writer(&self, page: usize, value: u8) -> JoinHandle<Result<u8, Failed>> {
        let ram = self.ram.clone();
        thread::spawn(move || {
            ram.with(page, true, PATIENCE, |bytes| std::mem::replace(&mut bytes[0], value))
        })
    }

    /// The next fault; waits for it.
    pub fn arrived(&self) -> pagelock_vmm::Arrived {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(arrived) = self.inbox.next().unwrap() {
                return arrived;
            }
            assert!(Instant::now() < end, "no fault arrived");
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// The owner of the next fault.
    pub fn owner(&self) -> Fetch {
        let arrived = self.arrived();
        match arrived.region.fault(arrived.page) {
            Fault::Owner(fetch) => fetch,
            other => panic!("{other:?}"),
        }
    }

    /// Puts a page up as a server does, with every byte `value`.
    pub fn bring_in(&self, page: usize, value: u8) {
        match self.region.fault(page) {
            Fault::Owner(fetch) => _ = fetch.fill(&[value; PAGE]).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Default, Debug)]
pub struct Counts {
    pub fills: AtomicUsize,
    pub wakes: AtomicUsize,
    pub drops: AtomicUsize,
    pub reads: AtomicUsize,
    /// What every fill fails with.
    pub refuses: Mutex<Option<io::ErrorKind>>,
}

impl Counts {
    pub fn wakes(&self) -> usize {
        self.wakes.load(SeqCst)
    }

    pub fn fills(&self) -> usize {
        self.fills.load(SeqCst)
    }
}

/// A layer that counts the calls of another one.
pub struct Counted {
    pub ram: SoftRam,
    pub counts: Arc<Counts>,
}

impl Layer for Counted {
    fn base(&self) -> usize {
        self.ram.base()
    }
    fn len(&self) -> usize {
        self.ram.len()
    }
    fn page_size(&self) -> usize {
        self.ram.page_size()
    }
    fn fill(&self, at: usize, bytes: &[u8], protected: bool) -> io::Result<bool> {
        self.counts.fills.fetch_add(1, SeqCst);
        if let Some(kind) = *self.counts.refuses.lock().unwrap() {
            return Err(kind.into());
        }
        self.ram.fill(at, bytes, protected)
    }
    fn zero(&self, at: usize) -> io::Result<bool> {
        self.ram.zero(at)
    }
    fn resume(&self, at: usize, protected: bool) -> io::Result<bool> {
        self.ram.resume(at, protected)
    }
    fn take(&self, at: usize, into: &mut [u8], protected: bool) -> io::Result<()> {
        self.ram.take(at, into, protected)
    }
    fn drop_page(&self, at: usize) -> io::Result<()> {
        self.counts.drops.fetch_add(1, SeqCst);
        self.ram.drop_page(at)
    }
    fn protect(&self, at: usize, on: bool) -> io::Result<()> {
        self.ram.protect(at, on)
    }
    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        self.counts.reads.fetch_add(1, SeqCst);
        self.ram.read(at, into)
    }
    fn poison(&self, at: usize) -> io::Result<()> {
        self.ram.poison(at)
    }
    fn wake(&self, at: usize) {
        self.counts.wakes.fetch_add(1, SeqCst);
        self.ram.wake(at);
    }
    fn close(&self) -> io::Result<()> {
        self.ram.close()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A store whose pages are full of what `byte` says.
pub fn filled(
    byte: impl Fn(usize) -> u8 + Send + Sync,
) -> impl Fn(&Fetch, &mut [u8]) -> io::Result<()> + Send + Sync {
    move |fetch, into| {
        into.fill(byte(fetch.page()));
        Ok(())
    }
}
