//! What the database is used for: keys are put in, then read and changed at once, then all are
//! looked at.

use crate::options::Options;
use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressIterator, ProgressStyle};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("values");
const VALUE: usize = 240;
/// Keys that one transaction changes.
const TOGETHER: u64 = 2000;

/// What `key` has after it was changed `n` times: `n`, and bytes that follow from both.
fn value(key: u64, n: u64) -> [u8; VALUE] {
    let mut bytes = [0; VALUE];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    let mut word = key.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(n);
    for at in bytes[8..].chunks_exact_mut(8) {
        word = next(word);
        at.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn next(mut word: u64) -> u64 {
    word ^= word << 13;
    word ^= word >> 7;
    word ^ word << 17
}

fn is_whole(key: u64, bytes: &[u8]) -> Option<u64> {
    let n = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    (bytes == value(key, n)).then_some(n)
}

/// Keys are spread, so that neighbours in time are not neighbours in the tree.
const fn key(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

pub(crate) fn put(db: &Database, options: &Options) -> Result<()> {
    let style = ProgressStyle::with_template("putting {bar:30} {pos} of {len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let steps = options.keys.div_ceil(TOGETHER);
    for step in (0..steps).progress_with(ProgressBar::new(steps).with_style(style)) {
        let transaction = db.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for number in step * TOGETHER..((step + 1) * TOGETHER).min(options.keys) {
                table.insert(key(number), value(key(number), 0).as_slice())?;
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

/// The numbers of reads and of changes.
pub(crate) fn use_it(db: &Database, options: &Options) -> Result<(u64, u64)> {
    let (end, reads, changes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let hot = (options.keys * u64::from(options.hot) / 100).max(1);
    thread::scope(|s| {
        let mut all = Vec::new();
        for seed in 1..=u64::from(options.readers) {
            let (end, reads) = (&end, &reads);
            all.push(s.spawn(move || -> Result<()> {
                let mut word = key(seed);
                while !end.load(Relaxed) {
                    let transaction = db.begin_read()?;
                    let table = transaction.open_table(TABLE)?;
                    for _ in 0..100 {
                        word = next(word);
                        let number =
                            (word >> 8) % if word.is_multiple_of(10) { options.keys } else { hot };
                        check(
                            key(number),
                            table.get(key(number))?.as_ref().map(|found| found.value()),
                        )?;
                        reads.fetch_add(1, Relaxed);
                    }
                }
                Ok(())
            }));
        }
        let (ended, changes) = (&end, &changes);
        all.push(s.spawn(move || -> Result<()> {
            let mut word = key(99);
            while !ended.load(Relaxed) {
                let transaction = db.begin_write()?;
                {
                    let mut table = transaction.open_table(TABLE)?;
                    for _ in 0..TOGETHER / 40 {
                        word = next(word);
                        let key = key((word >> 8) % options.keys);
                        let n = check(key, table.get(key)?.as_ref().map(|found| found.value()))?;
                        table.insert(key, value(key, n + 1).as_slice())?;
                        changes.fetch_add(1, Relaxed);
                    }
                }
                transaction.commit()?;
            }
            Ok(())
        }));
        let began = Instant::now();
        while began.elapsed().as_secs_f64() < options.seconds
            && !all.iter().any(|thread| thread.is_finished())
        {
            thread::sleep(Duration::from_millis(10));
        }
        end.store(true, Relaxed);
        all.into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    Ok((reads.into_inner(), changes.into_inner()))
}

fn check(key: u64, found: Option<&[u8]>) -> Result<u64> {
    match found.and_then(|bytes| is_whole(key, bytes)) {
        Some(n) => Ok(n),
        None => bail!("key {key:#x} is not what it has to be"),
    }
}

/// Looks at every key. How many there are, and how often they were changed in all.
pub(crate) fn look_at_all(db: &Database, options: &Options) -> Result<(u64, u64)> {
    let transaction = db.begin_read()?;
    let table = transaction.open_table(TABLE)?;
    let mut changes = 0;
    for number in 0..options.keys {
        changes += check(key(number), table.get(key(number))?.as_ref().map(|found| found.value()))?;
    }
    let there = table.iter()?.count() as u64;
    if there != options.keys {
        bail!("{there} keys, and not {}", options.keys);
    }
    Ok((there, changes))
}
