//! Where the program goes to: it goes on at once, and its pages come when they are touched, or
//! before.

use crate::options::Options;
use crate::program::{self, Memory, Met, PAGE};
use crate::report::Report;
use crate::source::since_epoch;
use crate::wire::{ALL, GO, Wire, connect, number};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use pagelock_vmm::{Fetch, Inbox, Region, Server};
use std::io::{self, Write};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// So many pages are on their way to the prefetcher at once.
const AHEAD: usize = 16;

/// Connections that a pool of threads uses, one each; a broken one is replaced when it is next
/// used.
struct Connections {
    address: String,
    all: Vec<Mutex<Option<Box<dyn Wire>>>>,
    broken: AtomicU64,
}

impl Connections {
    /// Asks for one page on a connection that nobody uses.
    fn fetch(&self, page: usize, into: &mut [u8]) -> io::Result<()> {
        loop {
            for place in &self.all {
                let mut place = match place.try_lock() {
                    Ok(place) => place,
                    Err(TryLockError::Poisoned(place)) => place.into_inner(),
                    Err(TryLockError::WouldBlock) => continue,
                };
                let mut wire = match place.take() {
                    Some(wire) => wire,
                    None => patiently(&self.address)?,
                };
                ask(&mut *wire, page).and_then(|()| answer(&mut *wire, page, into)).inspect_err(
                    |_| {
                        // The page stays out, its faulter is told and comes again.
                        self.broken.fetch_add(1, Relaxed);
                    },
                )?;
                *place = Some(wire);
                return Ok(());
            }
            thread::yield_now();
        }
    }
}

/// A process that has lost its source for good has lost its memory, and does not go on.
fn patiently(address: &str) -> io::Result<Box<dyn Wire>> {
    for _ in 0..50 {
        if let Ok(wire) = connect(address) {
            return Ok(wire);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = writeln!(io::stderr(), "postcopy: the other process is gone, and pages with it");
    std::process::exit(3);
}

fn ask(wire: &mut dyn Wire, page: usize) -> io::Result<()> {
    wire.write_all(&(page as u32).to_le_bytes())
}

fn answer(wire: &mut dyn Wire, page: usize, into: &mut [u8]) -> io::Result<()> {
    if number(wire)? as usize != page {
        return Err(io::ErrorKind::InvalidData.into());
    }
    wire.read_exact(into)
}

pub(crate) fn run(options: &Options, address: &str) -> Result<Report> {
    let (pages, threads) = (options.pages(), usize::from(options.threads));
    let inbox = Inbox::open().context("no userfaultfd (run as root, or allow /dev/userfaultfd)")?;
    let region = Region::anonymous(&inbox, pages * PAGE).context("memory")?;
    // SAFETY: the region's memory, which is there until the end; pages that come and go keep their
    // words.
    let memory = unsafe { Memory::new(region.host_range().start, pages) };
    let connections = Arc::new(Connections {
        address: address.to_owned(),
        all: (0..options.connections).map(|_| Mutex::new(connect(address).ok())).collect(),
        broken: AtomicU64::new(0),
    });
    let pool = Arc::clone(&connections);
    let server = Server::start(
        &inbox,
        options.connections.into(),
        move |fetch: &Fetch, into: &mut [u8]| pool.fetch(fetch.page(), into),
    )?;
    let mut control = connect(address).context("the other process")?;
    control.write_all(&GO.to_le_bytes())?;
    number(&mut *control)?;

    let (went_on_at, began, stop) =
        (since_epoch(SystemTime::now()), Instant::now(), AtomicBool::new(false));
    let prefetched = AtomicU64::new(0);
    let (met, last_page) = thread::scope(|s| {
        let stop = &stop;
        let running: Vec<_> = (0..threads)
            .map(|thread| s.spawn(move || program::run(memory, threads, thread, stop, u32::MAX)))
            .collect();
        if !options.no_prefetch {
            s.spawn(|| prefetch(&region, &connections, &prefetched));
        }
        let last_page =
            watch(&region, began, if options.no_prefetch { options.seconds * 20.0 } else { 600.0 });
        // All pages are there: from here on nobody faults, and nobody needs the other process.
        let at_least = Duration::from_secs_f64(options.seconds);
        thread::sleep(at_least.saturating_sub(began.elapsed()));
        stop.store(true, SeqCst);
        let met: Vec<Met> =
            running.into_iter().map(|thread| thread.join().unwrap_or_default()).collect();
        (met, last_page)
    });
    let wrong_on_the_way = met.iter().any(|met| met.wrong.is_some());
    let (bytes_compared, wrong) = program::compare(memory, threads);
    let (stats, served) = (region.stats(), server.stop()?);
    let _ = control.write_all(&ALL.to_le_bytes());
    Ok(Report {
        pages: pages as u64,
        went_on_at,
        last_page_ms: last_page.as_secs_f64() * 1000.0,
        blocked_ms: met.iter().map(|met| met.blocked.as_secs_f64() * 1000.0).collect(),
        longest_ms: met.iter().map(|met| met.longest.as_secs_f64() * 1000.0).fold(0.0, f64::max),
        blocked_times: met.iter().map(|met| met.times).sum(),
        rounds: met.iter().map(|met| met.rounds).sum(),
        faults: served.faults,
        fetched: served.fetched,
        duplicates: served.duplicates,
        late: served.late,
        prefetched: prefetched.into_inner(),
        there: stats.there,
        broken: connections.broken.load(Relaxed),
        bytes_compared,
        pages_wrong: wrong.len() as u64 + u64::from(wrong_on_the_way && wrong.is_empty()),
        ..Report::default()
    })
}

/// Fetches what nobody has asked for, several at a time, until all is there.
fn prefetch(region: &Arc<Region>, connections: &Connections, prefetched: &AtomicU64) {
    let mut wire = None;
    while region.resident() < region.pages() {
        let mut all = region.prefetch(0..region.pages());
        loop {
            let batch: Vec<Fetch> = all.by_ref().take(AHEAD).collect();
            if batch.is_empty() {
                break;
            }
            match pull(wire.take(), &connections.address, batch, prefetched) {
                Ok(whole) => wire = Some(whole),
                // Those that did not come are out as before, and the next pass has them.
                Err(_) => _ = connections.broken.fetch_add(1, Relaxed),
            }
        }
        thread::sleep(Duration::from_micros(200));
    }
}

fn pull(
    wire: Option<Box<dyn Wire>>,
    address: &str,
    batch: Vec<Fetch>,
    prefetched: &AtomicU64,
) -> io::Result<Box<dyn Wire>> {
    let mut wire = match wire {
        Some(wire) => wire,
        None => patiently(address)?,
    };
    for fetch in &batch {
        ask(&mut *wire, fetch.page())?;
    }
    let mut bytes = [0; PAGE];
    for fetch in batch {
        answer(&mut *wire, fetch.page(), &mut bytes)?;
        fetch.fill(&bytes)?;
        prefetched.fetch_add(1, Relaxed);
    }
    Ok(wire)
}

/// Waits until all pages are there; for how long.
fn watch(region: &Region, began: Instant, most: f64) -> Duration {
    let style = ProgressStyle::with_template("moving {bar:30} {pos} of {len} pages")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(region.pages() as u64).with_style(style);
    loop {
        let there = region.resident();
        bar.set_position(there as u64);
        if there == region.pages() || began.elapsed().as_secs_f64() > most {
            bar.finish_and_clear();
            return began.elapsed();
        }
        thread::sleep(Duration::from_millis(1));
    }
}
