//! Where the program comes from: it runs, stops, and from then on its pages are handed out.

use crate::options::Options;
use crate::program::{self, Memory, PAGE};
use crate::report::Report;
use crate::wire::{ALL, GO, Listener, Wire, number};
use anyhow::{Context, Result, bail};
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

struct Source {
    memory: Memory,
    /// How often each page was handed out whole.
    handed: Vec<AtomicU32>,
    kills: AtomicU32,
    killed: AtomicU32,
    answers: AtomicU32,
    delay: Duration,
    flips: AtomicBool,
    has_stopped: (Mutex<bool>, Condvar),
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let pages = options.pages();
    // Threads that serve a connection may outlive everything else here.
    let words = vec![0_u64; pages * PAGE / 8].leak();
    let base = words.as_mut_ptr().expose_provenance();
    // SAFETY: `words`, which is there until the process ends and not used otherwise.
    let memory = unsafe { Memory::new(base, pages) };
    memory.fill(options.threads.into());

    let source = Arc::new(Source {
        memory,
        handed: (0..pages).map(|_| AtomicU32::new(0)).collect(),
        kills: AtomicU32::new(options.kills),
        killed: AtomicU32::new(0),
        answers: AtomicU32::new(0),
        delay: Duration::from_micros(options.delay),
        flips: AtomicBool::new(options.flip),
        has_stopped: Default::default(),
    });
    let listener = Arc::new(Listener::new(options.unix)?);
    let destination = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .args(["--destination", &listener.address()?])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the other process")?;
    let (accepting, serving) = (Arc::clone(&listener), Arc::clone(&source));
    thread::spawn(move || {
        while let Ok(wire) = accepting.accept() {
            let source = Arc::clone(&serving);
            // An error is the other side's: it connects again, or it has ended.
            thread::spawn(move || source.serve(wire));
        }
    });

    let stop = AtomicBool::new(false);
    let threads = usize::from(options.threads);
    thread::scope(|s| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                s.spawn({
                    let stop = &stop;
                    move || program::run(memory, threads, thread, stop, u32::MAX)
                })
            })
            .collect();
        thread::sleep(Duration::from_secs_f64(options.seconds));
        stop.store(true, SeqCst);
        running.into_iter().for_each(|thread| drop(thread.join()));
    });
    let stopped = SystemTime::now();
    *source.has_stopped.0.lock().expect("nobody panics with it") = true;
    source.has_stopped.1.notify_all();

    let ended = destination.wait_with_output().context("the other process")?;
    if ended.status.code() == Some(3) {
        // It has said why.
        std::process::exit(3);
    }
    let Ok(mut report) = serde_json::from_slice::<Report>(&ended.stdout) else {
        bail!("the other process ended without a report: {}", ended.status);
    };
    report.down_ms = (report.went_on_at - since_epoch(stopped)) * 1000.0;
    report.killed = source.killed.load(SeqCst).into();
    let times = source.handed.iter().map(|times| times.load(SeqCst));
    (report.handed_out_once, report.handed_out_again) = times
        .fold((0, 0), |(once, again), times| {
            (once + u64::from(times == 1), again + u64::from(times > 1))
        });
    Ok(report)
}

pub(crate) fn since_epoch(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl Source {
    fn serve(&self, mut wire: Box<dyn Wire>) -> io::Result<()> {
        let mut page = vec![0; 4 + PAGE];
        loop {
            let asked = number(&mut *wire)?;
            match asked {
                ALL => return Ok(()),
                GO => {
                    let mut stopped = self.has_stopped.0.lock().expect("nobody panics with it");
                    while !*stopped {
                        stopped = self.has_stopped.1.wait(stopped).expect("nobody panics with it");
                    }
                    wire.write_all(&GO.to_le_bytes())?;
                    continue;
                }
                _ if asked as usize >= self.handed.len() => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                _ => {}
            }
            thread::sleep(self.delay);
            page[..4].copy_from_slice(&asked.to_le_bytes());
            self.memory.read(asked as usize, &mut page[4..]);
            if self.flips.swap(false, SeqCst) {
                page[4 + PAGE - 1] ^= 1;
            }
            // One in a few hundred, as long as there are any to be killed.
            let is_killed = self.answers.fetch_add(1, SeqCst) % 300 == 299
                && self.kills.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
            if is_killed {
                self.killed.fetch_add(1, SeqCst);
                wire.write_all(&page[..PAGE / 2])?;
                return Ok(()); // which closes it
            }
            wire.write_all(&page)?;
            self.handed[asked as usize].fetch_add(1, SeqCst);
        }
    }
}
