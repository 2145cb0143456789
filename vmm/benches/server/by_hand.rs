//! The same server by hand, with a map and a mutex, as careful as the toolkit's: an owner that
//! fails or panics tells its faulter, a discard beats a fetch, a pinned page stays. The calls of
//! the kernel are taken from the toolkit, and are not counted.

use crate::with_toolkit::Store;
use pagelock_vmm::uffd::{Ram, SMALL, Uffd, Wish};
use pagelock_vmm::{Event, Events, Inbox, Layer};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

// count from here
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Out,
    In,
    Zero,
}

#[derive(Default)]
struct Flight {
    awaited: bool,
    discarded: bool,
}

struct Tracked {
    places: Vec<Place>,
    pins: HashMap<usize, u32>,
    in_flight: HashMap<usize, Flight>,
}

struct Shared {
    uffd: Uffd,
    ram: Ram,
    store: Arc<Store>,
    tracked: Mutex<Tracked>,
    landed: Condvar,
    stop: AtomicBool,
    bell: OwnedFd,
    fetched: AtomicU64,
}

/// A page in flight: its drop lands it, whatever has happened.
struct Owner<'s> {
    shared: &'s Shared,
    page: usize,
    place: Place,
    has_faulter: bool,
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        let mut tracked = self.shared.tracked.lock().unwrap_or_else(|e| e.into_inner());
        let flight = tracked.in_flight.remove(&self.page).unwrap_or_default();
        if flight.discarded && self.place != Place::Zero {
            if self.place == Place::In {
                let _ = self.shared.ram.drop_page(self.page * SMALL);
            }
            self.place = Place::Zero;
        }
        tracked.places[self.page] = self.place;
        drop(tracked);
        self.shared.landed.notify_all();
        if flight.awaited || self.has_faulter {
            self.shared.ram.wake(self.page * SMALL);
        }
    }
}

impl Shared {
    fn serve(&self) -> io::Result<()> {
        let mut buffer = [0; SMALL];
        while !self.stop.load(SeqCst) {
            match self.uffd.next()? {
                Some(Event::Fault { address, .. }) => {
                    let page = (address - self.ram.base()) / SMALL;
                    let fault = || self.fault(page, &mut buffer);
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fault));
                }
                Some(_) => {}
                None => {
                    let fds = [self.uffd.fd(), rustix::fd::AsFd::as_fd(&self.bell)];
                    let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
                    let _ = poll(&mut fds, None);
                }
            }
        }
        Ok(())
    }

    fn fault(&self, page: usize, buffer: &mut [u8; SMALL]) -> io::Result<()> {
        let mut tracked = self.tracked.lock().unwrap();
        if let Some(flight) = tracked.in_flight.get_mut(&page) {
            flight.awaited = true;
            return Ok(());
        }
        if tracked.places[page] == Place::In {
            drop(tracked);
            if !self.ram.zero(page * SMALL)? {
                self.ram.wake(page * SMALL);
            }
            return Ok(());
        }
        tracked.in_flight.insert(page, Flight::default());
        let place = tracked.places[page];
        drop(tracked);
        self.fetch(Owner { shared: self, page, place, has_faulter: true }, buffer)
    }

    fn fetch(&self, mut owner: Owner<'_>, buffer: &mut [u8; SMALL]) -> io::Result<()> {
        if owner.place == Place::Out {
            buffer.copy_from_slice(&self.store.lock().unwrap()[owner.page]);
        } else {
            buffer.fill(0);
        }
        let mut tracked = self.tracked.lock().unwrap();
        if let Some(flight) = tracked.in_flight.get_mut(&owner.page)
            && std::mem::take(&mut flight.discarded)
        {
            buffer.fill(0);
        }
        let put = self.ram.fill(owner.page * SMALL, buffer, false);
        drop(tracked);
        if put? {
            owner.has_faulter = false;
        }
        owner.place = Place::In;
        self.fetched.fetch_add(1, SeqCst);
        Ok(())
    }
}

pub struct Memory {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Memory {
    pub fn new(store: Arc<Store>, threads: usize) -> io::Result<Self> {
        let uffd = Uffd::open(Wish::default())?;
        let pages = store.lock().unwrap().len();
        let ram = Ram::anonymous(&*Inbox::new(uffd.clone())?, pages * SMALL, SMALL)?;
        let tracked = Tracked {
            places: vec![Place::Out; pages],
            pins: HashMap::new(),
            in_flight: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            uffd,
            ram,
            store,
            tracked: Mutex::new(tracked),
            landed: Condvar::new(),
            stop: AtomicBool::new(false),
            bell: eventfd(0, EventfdFlags::CLOEXEC)?,
            fetched: AtomicU64::new(0),
        });
        let threads = (0..threads)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve())
            })
            .collect();
        Ok(Self { shared, threads })
    }

    pub fn address(&self, page: usize) -> usize {
        self.shared.ram.base() + page * SMALL
    }

    pub fn evict(&self, page: usize) -> bool {
        let mut tracked = self.shared.tracked.lock().unwrap();
        let is_in = tracked.places[page] == Place::In;
        if !is_in || tracked.in_flight.contains_key(&page) || tracked.pins.contains_key(&page) {
            return false;
        }
        tracked.in_flight.insert(page, Flight::default());
        drop(tracked);
        let mut owner = Owner { shared: &self.shared, page, place: Place::In, has_faulter: false };
        let mut bytes = [0; SMALL];
        if self.shared.ram.take(page * SMALL, &mut bytes, false).is_err() {
            return false;
        }
        self.shared.store.lock().unwrap()[page] = bytes;
        owner.place = Place::Out;
        true
    }

    pub fn discard(&self, page: usize) {
        let mut tracked = self.shared.tracked.lock().unwrap();
        if tracked.pins.contains_key(&page) {
            return;
        }
        if let Some(flight) = tracked.in_flight.get_mut(&page) {
            flight.discarded = true;
            flight.awaited = true;
            return;
        }
        if tracked.places[page] == Place::In && self.shared.ram.drop_page(page * SMALL).is_err() {
            return;
        }
        tracked.places[page] = Place::Zero;
    }

    pub fn pin(&self, page: usize) -> io::Result<Pin> {
        let mut tracked = self.shared.tracked.lock().unwrap();
        loop {
            if tracked.in_flight.contains_key(&page) {
                tracked = self.shared.landed.wait(tracked).unwrap();
                continue;
            }
            if tracked.places[page] == Place::In {
                *tracked.pins.entry(page).or_insert(0) += 1;
                return Ok(Pin { shared: Arc::clone(&self.shared), page });
            }
            tracked.in_flight.insert(page, Flight::default());
            let place = tracked.places[page];
            drop(tracked);
            let owner = Owner { shared: &self.shared, page, place, has_faulter: false };
            self.shared.fetch(owner, &mut [0; SMALL])?;
            tracked = self.shared.tracked.lock().unwrap();
        }
    }

    pub fn stop(self) -> io::Result<u64> {
        self.shared.stop.store(true, SeqCst);
        rustix::io::write(&self.shared.bell, &1_u64.to_ne_bytes())?;
        for thread in self.threads {
            thread.join().map_err(|_| io::Error::other("a thread panicked"))??;
        }
        Ok(self.shared.fetched.load(SeqCst))
    }
}

pub struct Pin {
    shared: Arc<Shared>,
    page: usize,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut tracked = self.shared.tracked.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(pins) = tracked.pins.get_mut(&self.page) {
            *pins -= 1;
            if *pins == 0 {
                tracked.pins.remove(&self.page);
            }
        }
    }
}
// to here

pub fn lines() -> usize {
    count(include_str!("by_hand.rs"))
}

/// Code lines between the two marks: not blank, and no comments.
pub fn count(source: &str) -> usize {
    let code = source
        .split("// count from here")
        .nth(1)
        .and_then(|rest| rest.split("// to here").next())
        .unwrap_or("");
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}
