//! Guest memory that comes and goes under a running guest: the toolkit in a small hypervisor.
//!
//! `cargo run --release -p hypervisor -- --help`
//!
//! | file | what it is |
//! |---|---|
//! | `machine.rs` | guest memory, its region; what is fetched and evicted. *The part to copy* |
//! | `evictor.rs`, `snapshot.rs`, `device.rs` | other users of pages: *to copy, too* |
//! | `kvm.rs`, `threads.rs` | the guest's processors, real ones or threads |
//! | `guest.rs`, `program.rs` | the guest's program, in machine code and in Rust |
//! | `processor.rs` | what a processor asks of the host; where it stops for a snapshot |
//! | `store.rs` | pages on disk, compressed |
//! | `run.rs` | one machine's life |
//! | `home.rs` | what processors need of it |
//! | `external/` | `--external-manager`: another process fetches and evicts |
//! | `check.rs` | what memory must contain, and whether it does |
//! | `report.rs`, `plot.rs` | table, JSON, picture |
//! | `accident.rs` | what ends a run before its time |

mod accident;
mod check;
mod device;
mod evictor;
mod external;
mod guest;
mod home;
mod kvm;
mod machine;
mod options;
mod plot;
mod processor;
mod program;
mod report;
mod run;
mod snapshot;
mod store;
mod threads;

use accident::{Accident, Brake};
use anyhow::{Context, Result};
use clap::Parser;
use indicatif::ProgressIterator;
use options::{Memory, Options};
use program::{Layout, PAGE};
use run::{Outcome, Start};
use std::io::{self, Write};
use std::sync::Arc;
use store::Store;

fn main() {
    let mut options = Options::parse();
    if options.unpinned {
        options.memory = Memory::Memfd;
    }
    let outcome = match &options.manage {
        Some(handover) => external::manage(handover),
        None => hypervisor(&options),
    };
    let code = match outcome {
        Ok(None) => 0,
        Ok(Some(accident)) => end(&accident),
        Err(error) => end(&Accident::from(error)),
    };
    // At once: after an accident, threads may sleep for pages that never come.
    std::process::exit(code.into())
}

fn end(accident: &Accident) -> u8 {
    // Nothing can be done about a closed standard error.
    let _ = writeln!(io::stderr(), "hypervisor: {accident}");
    accident.exit_code()
}

fn hypervisor(options: &Options) -> Result<Option<Accident>> {
    let brake = Arc::new(Brake::default());
    let ctrl_c = Arc::clone(&brake);
    ctrlc::set_handler(move || ctrl_c.pull(Accident::Interrupted)).context("Ctrl-C")?;

    let kvm = !options.no_kvm && has_kvm()?;
    let layout = Layout::new(options.mib * 256, options.vcpus.into());
    if options.external_manager {
        return external::run(options, &layout, kvm, &brake);
    }
    let store = Arc::new(Store::create(options.store.as_deref(), layout.pages)?);
    write_image(&layout, &store).context("the guest's image cannot be written to the store")?;

    let mut all = Vec::new();
    let (seconds, snapshot) = (options.seconds, !options.no_snapshot);
    let start = Start { name: "run", store, resumed: None, seconds, snapshot };
    let Outcome { figures, samples, snapshot } = run::run(options, &layout, kvm, start, &brake)?;
    all.push(figures);
    let mut accident = brake.accident().cloned();
    if let (None, Some((moment, store))) = (&accident, snapshot) {
        // Another machine, whose pages come from the snapshot as it asks for them.
        let again = Arc::new(Brake::default());
        let ctrl_c = Arc::clone(&again);
        let watch = Arc::clone(&brake);
        let watcher = std::thread::spawn(move || {
            while !ctrl_c.is_pulled() {
                if let Some(accident) = watch.accident() {
                    ctrl_c.pull(accident.clone());
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let start = Start {
            name: "restored",
            store,
            resumed: Some(moment),
            seconds: seconds / 3.0,
            snapshot: false,
        };
        let outcome = run::run(options, &layout, kvm, start, &again);
        again.stop();
        let _ = watcher.join();
        all.push(outcome?.figures);
        accident = again.accident().cloned();
    }
    let guest = if kvm { "KVM" } else { "threads" };
    all.iter_mut().for_each(|figures| figures.guest = guest);
    write(options, &all, &samples)?;
    Ok(accident)
}

/// Says so, in one line, if threads take the guest's place.
fn has_kvm() -> Result<bool> {
    if cfg!(not(target_arch = "x86_64")) {
        writeln!(io::stderr(), "the guest's program is for x86-64: threads take its place")?;
        return Ok(false);
    }
    match kvm_ioctls::Kvm::new() {
        Ok(_) => Ok(true),
        Err(error) => {
            writeln!(io::stderr(), "no KVM ({error}): threads take the guest's place")?;
            Ok(false)
        }
    }
}

fn write_image(layout: &Layout, store: &Store) -> Result<()> {
    let mut bytes = [0; PAGE];
    for page in (0..layout.pages).progress() {
        layout.image(page, &mut bytes);
        store.write(page, &bytes)?;
    }
    Ok(())
}

fn write(options: &Options, all: &[report::Figures], samples: &[report::Sample]) -> Result<()> {
    let to_stdout = options.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    let json =
        serde_json::to_string_pretty(&serde_json::json!({ "machines": all, "samples": samples }))?;
    match &options.json {
        Some(path) if !to_stdout => {
            std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?
        }
        Some(_) => writeln!(io::stdout(), "{json}").context("standard output")?,
        None => {}
    }
    if !to_stdout {
        writeln!(io::stdout(), "{}", report::table(all)).context("standard output")?;
        let wrong: u64 = all.iter().map(|figures| figures.pages_wrong).sum();
        let bytes: u64 = all.iter().map(|figures| figures.bytes_compared).sum();
        writeln!(io::stdout(), "{bytes} bytes compared, {wrong} pages wrong")
            .context("standard output")?;
    }
    match &options.plot {
        Some(path) => plot::draw(path, samples, all[0].limit),
        None => Ok(()),
    }
}
