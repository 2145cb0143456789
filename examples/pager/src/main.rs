//! An unmodified embedded database in more memory than it is allowed.
//!
//! `cargo run --release -p pager -- --help`
//!
//! | file | what it is |
//! |---|---|
//! | `paging.rs` | faults, eviction, and saving what was written. *The part to copy* |
//! | `backend.rs` | the database's storage: memory |
//! | `work.rs` | what the database is used for, and whether it is whole |

mod backend;
mod options;
mod paging;
mod work;

use anyhow::{Context, Result};
use backend::Backend;
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use options::Options;
use pagelock_vmm::Served;
use paging::{PAGE, Paging};
use redb::Database;
use serde_json::{Map, Value};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

/// Why it ends early.
enum End {
    Lost(anyhow::Error),
    Outside(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Outside(error.into())
    }
}

fn main() -> ExitCode {
    let (error, status) = match pager(&Options::parse()) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(End::Lost(error)) => (error.context("data lost"), 1),
        Err(End::Outside(error)) => (error, 3),
    };
    let _ = writeln!(io::stderr(), "pager: {error:#}");
    ExitCode::from(status)
}

fn pager(options: &Options) -> Result<(), End> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let path = options.store.clone().unwrap_or_else(|| folder.path().join("store"));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
    let paging = Paging::new(options, file.with_context(|| path.display().to_string())?)?;
    let server = paging.serve(options.handlers)?;
    let end = Arc::new(AtomicBool::new(false));
    let evictor = thread::spawn({
        let (paging, end) = (Arc::clone(&paging), Arc::clone(&end));
        move || paging.evict(&end)
    });

    // The database keeps little itself, so that memory is what it uses.
    let open =
        || Database::builder().set_cache_size(1 << 20).create_with_backend(Backend::new(&paging));
    let mut hit_rate = 0;
    let used = (|| -> Result<_> {
        let db = open()?;
        work::put(&db, options)?;
        let before = paging.counts.used();
        let (reads, changes) = work::use_it(&db, options)?;
        let after = paging.counts.used();
        hit_rate = (after.0 - before.0) * 1000 / (after.1 - before.1).max(1);
        Ok((db, reads, changes))
    })();
    let used = used.and_then(|(mut db, reads, changes)| {
        let (keys, found) = work::look_at_all(&db, options)?;
        anyhow::ensure!(found == changes, "{found} changes, and not {changes}");
        anyhow::ensure!(db.check_integrity()?, "the database had to be repaired");
        Ok((keys, reads, changes))
    });
    // A store that fails explains whatever the database says.
    paging.check()?;
    let (keys, reads, changes) = used.map_err(End::Lost)?;
    let served = server.served();
    let bytes = compare(&paging).map_err(End::Lost)?;
    let mut figures =
        figures(&paging, &served, &[("keys", keys), ("reads", reads), ("changes", changes)]);
    figures.push(("pages in memory when used so, per mille", hit_rate));
    figures.push(("bytes compared with the file", bytes));
    end.store(true, Relaxed);
    let _ = evictor.join();
    server.stop()?;

    // The file, without the pager: an ordinary database.
    let reopened = (|| -> Result<_> {
        let mut db = Database::open(&path)?;
        anyhow::ensure!(db.check_integrity()?, "the file had to be repaired");
        work::look_at_all(&db, options)
    })();
    figures.push(("keys that the file has, by itself", reopened.map_err(End::Lost)?.0));
    report(options, &figures).map_err(Into::into)
}

/// What is in memory, page by page, with what the file has: all was saved when the database was
/// closed.
fn compare(paging: &Paging) -> Result<u64> {
    use std::os::unix::fs::FileExt;
    paging.sync()?;
    let len = paging.file.metadata()?.len();
    let mut saved = [0; PAGE];
    for page in 0..len as usize / PAGE {
        paging.file.read_exact_at(&mut saved, (page * PAGE) as u64)?;
        let address =
            std::ptr::with_exposed_provenance::<u8>(paging.region.host_range().start + page * PAGE);
        let mut have = [0; PAGE];
        // SAFETY: a page of the region, which nobody writes any more.
        unsafe { std::ptr::copy_nonoverlapping(address, have.as_mut_ptr(), PAGE) };
        anyhow::ensure!(have == saved, "page {page} is not what was saved");
    }
    Ok(len / PAGE as u64 * PAGE as u64)
}

fn figures(
    paging: &Paging,
    served: &Served,
    first: &[(&'static str, u64)],
) -> Vec<(&'static str, u64)> {
    let (counts, stats) = (&paging.counts, paging.region.stats());
    let (hits, used) = counts.used();
    let mut all = first.to_vec();
    all.extend([
        ("pages used, in all", used),
        ("  of them in memory, per mille", hits * 1000 / used.max(1)),
        ("faults", served.faults),
        ("pages fetched", served.fetched),
        ("pages that came as zeroes", stats.zeroes),
        ("faults on a page in flight", served.duplicates),
        ("write faults", stats.write_faults),
        ("evictions", stats.evictions),
        ("  without a write", counts.evicted_clean.load(Relaxed)),
        ("  by a handler, first", counts.by_handlers.load(Relaxed)),
        ("  with a byte changed (control)", counts.flipped.load(Relaxed)),
        ("pages saved by syncs", counts.synced.load(Relaxed)),
        ("pages discarded", stats.discards),
        ("pages that may be in", paging.limit as u64),
        ("most that were", counts.peak.load(Relaxed) as u64),
        ("pages of the file", paging.file.metadata().map_or(0, |file| file.len() / PAGE as u64)),
    ]);
    all
}

fn report(options: &Options, figures: &[(&'static str, u64)]) -> Result<()> {
    let json: Map<String, Value> =
        figures.iter().map(|(words, figure)| (words.trim().to_owned(), (*figure).into())).collect();
    let json = serde_json::to_string_pretty(&json)?;
    match &options.json {
        Some(path) if path.as_os_str() == "-" => {
            return writeln!(io::stdout(), "{json}").context("standard output");
        }
        Some(path) => {
            std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?
        }
        None => {}
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    for (words, figure) in figures {
        table.add_row([(*words).to_owned(), figure.to_string()]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(io::stdout(), "{table}").context("standard output")
}
