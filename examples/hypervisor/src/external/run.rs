//! One run with the manager in another process.

use super::device::{self, Written};
use super::home::External;
use super::keeper::Keeper;
use super::store::Store;
use super::{SEATS, Shared, word};
use crate::accident::{Accident, Brake};
use crate::check;
use crate::home::Home;
use crate::kvm::Vm;
use crate::options::Options;
use crate::processor::{Gate, Processor};
use crate::program::{Layout, PAGE};
use crate::run::processors;
use anyhow::{Context, Result, anyhow};
use comfy_table::{CellAlignment, Table, presets};
use pagelock_vmm::shared::SharedRegion;
use pagelock_vmm::uffd::{Uffd, Wish};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) fn run(
    options: &Options,
    layout: &Layout,
    kvm: bool,
    brake: &Arc<Brake>,
) -> Result<Option<Accident>> {
    let file = match &options.store {
        Some(path) => {
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
        }
        None => tempfile::tempfile(),
    };
    let store = Store(file.context("the store")?);
    let mut bytes = [0; PAGE];
    for page in 0..layout.pages {
        layout.image(page, &mut bytes);
        store.write(page, &bytes).context("the guest's image cannot be written to the store")?;
    }
    let memory = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&memory, u64::from(layout.pages) * PAGE as u64)?;
    let uffd = Uffd::open(Wish::default())
        .context("no userfaultfd (run as root, or allow /dev/userfaultfd)")?;
    let region =
        SharedRegion::create(uffd.clone(), memory, layout.pages, SEATS, Shared::Count as u32);
    let home = Arc::new(External {
        region: region.context("guest memory")?,
        layout: layout.clone(),
        brake: Arc::clone(brake),
        balloon_guest: AtomicU64::new(0),
        balloon_host: AtomicU64::new(0),
    });
    // The manager waits for the end of this seat.
    let desk = home.region.desk()?;
    let presence = desk.be_present()?;
    let keeper = Arc::new(Keeper::new(options, &home, &store, &uffd, desk.number())?);
    let (k, b) = (Arc::clone(&keeper), Arc::clone(brake));
    let keeping = thread::spawn(move || {
        k.keep().unwrap_or_else(|error| b.pull(Accident::Outside(format!("{error:#}"))));
    });
    let (k, kills) = (Arc::clone(&keeper), options.kill_manager);
    let killing = thread::spawn(move || k.kill(kills));

    let (mut outcome, began) = (Outcome::default(), Instant::now());
    // Threads that sleep for a page that never comes are left where they are: the caller ends the
    // process.
    let ended = guest(options, &home, kvm, &keeper, &killing, &mut outcome);
    outcome.seconds = began.elapsed().as_secs_f64();
    let ended = ended.map(|()| {
        word(&home.region, Shared::End).store(1, SeqCst);
        let _ = keeping.join();
        drop(presence);
        // Nobody is at work any more.
        outcome.stuck = (0..layout.pages).filter(|&page| !desk.can_be_had(page)).count();
        if outcome.stuck > 0 {
            brake.pull(Accident::Lost(format!(
                "stuck: {} pages cannot be had at the end",
                outcome.stuck
            )));
        }
    });
    let accident = match ended {
        Ok(()) => None,
        Err(error) => {
            // The first accident counts, whatever came of it.
            brake.pull(error);
            word(&home.region, Shared::End).store(1, SeqCst);
            thread::sleep(Duration::from_millis(200));
            outcome.stuck = stuck(&home, &desk);
            brake.accident().cloned()
        }
    };
    write(options, &home, &keeper, &outcome, kvm)?;
    Ok(accident.or_else(|| brake.accident().cloned()))
}

#[derive(Default)]
struct Outcome {
    seconds: f64,
    rounds: u64,
    device: Written,
    bytes_compared: u64,
    pages_wrong: usize,
    stuck: usize,
}

fn guest(
    options: &Options,
    home: &Arc<External>,
    kvm: bool,
    keeper: &Keeper,
    killing: &JoinHandle<()>,
    outcome: &mut Outcome,
) -> Result<(), Accident> {
    let brake = &home.brake;
    let vm = if kvm { Some(Vm::new(&**home)?) } else { None };
    let (gate, progress) = (Arc::new(Gate::new(options.vcpus.into())), Arc::new(AtomicU64::new(0)));
    let shared: Arc<dyn Home> = Arc::clone(home) as _;
    let running = processors(options, &shared, vm.as_ref(), None, &gate, &progress)?;
    let h = Arc::clone(home);
    let device = thread::spawn(move || device::run(&h));

    // A guest that has come to a stop for so long is stuck.
    let most = Duration::from_secs(if options.no_recovery { 3 } else { 15 });
    let (began, mut seen, mut moved) = (Instant::now(), 0, Instant::now());
    let is_time = || began.elapsed().as_secs_f64() >= options.seconds && killing.is_finished();
    while !is_time()
        && !brake.is_pulled()
        && running.iter().any(|processor| !processor.is_finished())
    {
        thread::sleep(Duration::from_millis(10));
        let now = progress.load(Relaxed);
        if now != seen {
            (seen, moved) = (now, Instant::now());
        } else if moved.elapsed() > most {
            return Err(Accident::Lost(format!(
                "stuck: the guest has not moved for {most:?}, after {} kills",
                keeper.kills.load(SeqCst)
            )));
        }
    }
    brake.stop();
    let ended: Vec<Processor> =
        running.into_iter().map(|thread| within(thread, most)).collect::<Result<_, _>>()?;
    outcome.device = within(device, most)?;
    if let Some(accident) =
        brake.accident().filter(|accident| !matches!(accident, Accident::Interrupted))
    {
        return Err(accident.clone());
    }
    let rounds: Vec<u64> = ended.iter().map(|processor| processor.rounds).collect();
    outcome.rounds = rounds.iter().sum();
    let (h, written) = (Arc::clone(home), outcome.device.pages.clone());
    let (bytes, wrong) =
        within(thread::spawn(move || check::compare(&*h, &rounds, &written)), most * 4)?;
    (outcome.bytes_compared, outcome.pages_wrong) = (bytes, wrong.len());
    match wrong.first() {
        None => Ok(()),
        Some(first) => Err(Accident::Lost(format!(
            "data lost: {} pages are not what they have to be, the first is {first}",
            wrong.len()
        ))),
    }
}

/// Joins a thread that may sleep for ever.
fn within<T>(thread: JoinHandle<T>, most: Duration) -> Result<T, Accident> {
    let began = Instant::now();
    while !thread.is_finished() {
        if began.elapsed() > most {
            return Err(Accident::Lost(format!(
                "stuck: a thread sleeps for a page that has not come for {most:?}"
            )));
        }
        thread::sleep(Duration::from_millis(1));
    }
    thread.join().map_err(|_| Accident::from(anyhow!("a thread panicked")))
}

/// Pages that cannot be had, however often one looks.
fn stuck(home: &External, desk: &pagelock_vmm::shared::Desk<'_>) -> usize {
    let mut pages: Vec<u32> = (0..home.region.pages()).collect();
    for _ in 0..20 {
        pages.retain(|&page| !desk.can_be_had(page));
        thread::sleep(Duration::from_millis(10));
    }
    pages.len()
}

fn write(
    options: &Options,
    home: &External,
    keeper: &Keeper,
    outcome: &Outcome,
    kvm: bool,
) -> Result<()> {
    let shared = |which| u64::from(word(&home.region, which).load(SeqCst));
    let recovery = keeper.recovery();
    let load = |n: &AtomicU64| n.load(Relaxed);
    let rows: [(&str, &str, u64); 32] = [
        ("rounds", "rounds of the guest", outcome.rounds),
        ("faults", "faults", shared(Shared::Faults)),
        ("fetched", "pages fetched", shared(Shared::Fetched)),
        ("zeroes", "pages that came as zeroes", shared(Shared::Zeroes)),
        ("duplicates", "faults on a page in flight", shared(Shared::InFlight)),
        ("late", "faults on a page that had come", shared(Shared::There)),
        ("evictions", "evictions", shared(Shared::Evicted)),
        ("refused_pinned", "  refused: pinned", shared(Shared::RefusedPinned)),
        ("refused_owned", "  refused: owned", shared(Shared::RefusedOwned)),
        ("balloon_guest", "pages to the balloon, by the guest", load(&home.balloon_guest)),
        ("balloon_host", "pages to the balloon, by the host", load(&home.balloon_host)),
        ("pins", "pins for the device", outcome.device.pins),
        ("refused_discards", "  discards that they refused", outcome.device.refused_discards),
        ("limit", "pages that may be in", keeper.limit().into()),
        ("managers", "managers started", keeper.starts.load(SeqCst).into()),
        ("kills", "managers killed", keeper.kills.load(SeqCst).into()),
        ("in_the_middle", "  with something in hand", keeper.in_the_middle.load(SeqCst).into()),
        ("recovered_pages", "pages that the dead owned", recovery.pages().into()),
        ("recovered_locked", "  locked", recovery.locked.into()),
        ("recovered_migrating", "  migrating", recovery.migrating.into()),
        ("recovered_frozen", "  frozen", recovery.frozen.into()),
        ("untouched", "  of these: nothing begun", recovery.untouched.into()),
        ("evictions_put_back", "  evictions put back", recovery.evictions_put_back.into()),
        ("evictions_finished", "  evictions finished", recovery.evictions_finished.into()),
        ("fetches_put_back", "  fetches put back", recovery.fetches_put_back.into()),
        ("fetches_finished", "  fetches finished", recovery.fetches_finished.into()),
        ("discards_finished", "  discards finished", recovery.discards_finished.into()),
        ("recovered_pins", "pins given back (each manager's own)", recovery.pins.into()),
        ("recovered_refused", "pages that the system refused to recover", recovery.refused.into()),
        ("stuck", "pages stuck at the end", outcome.stuck as u64),
        ("bytes_compared", "bytes compared", outcome.bytes_compared),
        ("pages_wrong", "pages wrong", outcome.pages_wrong as u64),
    ];
    let guest = if kvm { "KVM" } else { "threads" };
    if let Some(path) = &options.json {
        let fields: serde_json::Map<String, serde_json::Value> =
            rows.iter().map(|(name, _, n)| ((*name).to_owned(), json!(n))).collect();
        let text = serde_json::to_string_pretty(
            &json!({ "machines": [fields], "guest": guest, "seconds": outcome.seconds }),
        )?;
        if path.as_os_str() == "-" {
            writeln!(io::stdout(), "{text}").context("standard output")?;
            return Ok(());
        }
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        String::new(),
        format!("external manager, {:.1} s on {guest}", outcome.seconds),
    ]);
    rows.iter().for_each(|(_, words, n)| _ = table.add_row([(*words).to_owned(), n.to_string()]));
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    writeln!(io::stdout(), "{table}").context("standard output")?;
    let (bytes, wrong) = (outcome.bytes_compared, outcome.pages_wrong);
    writeln!(io::stdout(), "{bytes} bytes compared, {wrong} pages wrong").context("standard output")
}
