//! One machine's life: processors, handlers, evictor and device, until the time is up.

use crate::accident::{Accident, Brake};
use crate::check;
use crate::device::Device;
use crate::evictor::{self, Door};
use crate::home::Home;
use crate::kvm::{self, Vm};
use crate::machine::Machine;
use crate::options::Options;
use crate::processor::{Gate, Parked, Processor};
use crate::program::{LEDGER, Layout, Words};
use crate::report::{Figures, Sample};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::threads::{self, Mapped};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Where a machine begins.
pub(crate) struct Start {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<Store>,
    /// With what the device has written by then, if it goes on from a snapshot.
    pub(crate) resumed: Option<Moment>,
    pub(crate) seconds: f64,
    pub(crate) snapshot: bool,
}

/// What of a machine is not in its memory.
#[derive(Clone)]
pub(crate) struct Moment {
    pub(crate) parked: Vec<Parked>,
    pub(crate) written: Vec<u32>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) figures: Figures,
    pub(crate) samples: Vec<Sample>,
    pub(crate) snapshot: Option<(Moment, Arc<Store>)>,
}

pub(crate) fn run(
    options: &Options,
    layout: &Layout,
    kvm: bool,
    start: Start,
    brake: &Arc<Brake>,
) -> Result<Outcome> {
    let began = Instant::now();
    let machine = Machine::new(options, layout.clone(), Arc::clone(&start.store), brake)?;
    let server = machine.serve(options.handlers)?;
    let vm = if kvm { Some(Vm::new(&*machine)?) } else { None };
    let (gate, progress) = (Arc::new(Gate::new(options.vcpus.into())), Arc::new(AtomicU64::new(0)));
    let home: Arc<dyn Home> = Arc::clone(&machine) as _;
    let processors =
        processors(options, &home, vm.as_ref(), start.resumed.as_ref(), &gate, &progress)?;
    let (door, ends) =
        (Arc::new(Door::default()), Arc::new([AtomicBool::new(false), AtomicBool::new(false)]));
    let (m, d, e) = (Arc::clone(&machine), Arc::clone(&door), Arc::clone(&ends));
    let evictor = thread::spawn(move || evictor::evict(&m, &d, &e[1]));
    let device = match &start.resumed {
        Some(_) => None,
        None => {
            let device = Device::new(&machine, !options.unpinned)?;
            let (d, e) = (Arc::clone(&door), Arc::clone(&ends));
            Some(thread::spawn(move || device.run(&d, &e[0])))
        }
    };

    let bar = bar(start.name, start.seconds);
    let (mut samples, mut snapshot, mut saver) = (Vec::new(), None, None);
    while began.elapsed().as_secs_f64() < start.seconds
        && !brake.is_pulled()
        && processors.iter().any(|processor| !processor.is_finished())
    {
        thread::sleep(Duration::from_millis(20));
        let served = server.served();
        let resident = machine.region.resident();
        let at = began.elapsed().as_secs_f64();
        samples.push(Sample {
            at,
            resident,
            faults: served.faults,
            evictions: machine.region.stats().evictions,
        });
        bar.set_position((at * 1000.0) as u64);
        let rounds = progress.load(Relaxed);
        bar.set_message(format!(
            "{rounds} rounds, {} faults, {resident} of {} pages in",
            served.faults, layout.pages
        ));
        // Between a quarter and the half of its time.
        if start.snapshot && snapshot.is_none() && at > start.seconds / 4.0 {
            let store = Arc::new(Store::create(options.snapshot.as_deref(), layout.pages)?);
            snapshot =
                take(&machine, &gate, &door, Arc::clone(&store))?.map(|moment| (moment, store));
            let machine = Arc::clone(&machine);
            saver = snapshot.is_some().then(|| thread::spawn(move || finish(&machine)));
        }
    }
    bar.finish_and_clear();
    // The saver goes on while the guest does, unless something has failed.
    let saved_by_others = saver.map(|saver| saver.join().unwrap_or(0)).unwrap_or(0);
    let saved = machine.snapshot.get().map(Snapshot::is_complete);
    brake.stop();
    let ended: Vec<Processor> = processors.into_iter().map(join).collect::<Result<_>>()?;
    ends[0].store(true, Relaxed);
    let device = device.map(join).transpose()?;
    let seconds = began.elapsed().as_secs_f64();
    let mut figures = Figures::of(start.name, &machine, &server.served(), seconds);
    ends[1].store(true, Relaxed);
    join(evictor)?;
    figures.memory_ok = true;
    figures.snapshot_pages_saved_by_others = saved_by_others;
    figures.snapshot_complete = saved;
    let written = match (&device, &start.resumed) {
        (Some(device), _) => {
            figures.take_device(device);
            device.written.clone()
        }
        (None, Some(moment)) => moment.written.clone(),
        (None, None) => vec![0; layout.device.len()],
    };
    let rounds: Vec<u64> = ended.iter().map(|processor| processor.rounds).collect();
    figures.rounds = rounds.iter().sum();
    if !machine.unreadable.load(Relaxed) {
        compare(&machine, &rounds, &written, &mut figures);
    }
    drop(ended);
    server.stop().context("a handler")?;
    Ok(Outcome { figures, samples, snapshot: snapshot.filter(|_| saved == Some(true)) })
}

pub(crate) fn processors(
    options: &Options,
    machine: &Arc<dyn Home>,
    vm: Option<&Vm>,
    resumed: Option<&Moment>,
    gate: &Arc<Gate>,
    progress: &Arc<AtomicU64>,
) -> Result<Vec<JoinHandle<Processor>>> {
    let most = options.rounds.unwrap_or(u64::MAX);
    let mut made = Vec::new();
    for number in 0..u32::from(options.vcpus) {
        let parked = resumed.map(|moment| moment.parked[number as usize]);
        let (machine, gate, progress) =
            (Arc::clone(machine), Arc::clone(gate), Arc::clone(progress));
        let rounds = parked.map_or(0, |parked| parked.rounds);
        let processor = Processor { number, machine, gate, rounds, most, progress };
        made.push((
            processor,
            vm.map(|vm| vm.processor(number, parked)).transpose()?,
            parked.is_some(),
        ));
    }
    Ok(made
        .into_iter()
        .map(|(processor, vcpu, resumed)| {
            thread::spawn(move || match vcpu {
                Some(vcpu) => kvm::run(vcpu, processor),
                None => threads::run(processor, resumed),
            })
        })
        .collect())
}

/// Stops everything for a moment and begins a snapshot of it. `None` if processors have ended
/// already.
fn take(
    machine: &Arc<Machine>,
    gate: &Gate,
    door: &Door,
    store: Arc<Store>,
) -> Result<Option<Moment>> {
    let moment = match gate.close(Duration::from_secs(20)) {
        Some(parked) => {
            let _closed = door.close();
            let memory = Mapped(Arc::clone(machine) as _);
            let written =
                machine.layout.device.clone().map(|page| memory.get(LEDGER + 4 * page)).collect();
            Snapshot::begin(machine, store).map(|()| Some(Moment { parked, written }))
        }
        None => Ok(None),
    };
    gate.open();
    moment
}

fn finish(machine: &Machine) -> u64 {
    machine.snapshot.get().map_or(0, |snapshot| snapshot.finish(machine))
}

fn compare(machine: &Machine, rounds: &[u64], written: &[u32], figures: &mut Figures) {
    let (bytes, pages) = check::compare(machine, rounds, written);
    figures.bytes_compared = bytes;
    figures.pages_wrong = pages.len() as u64;
    figures.memory_ok = pages.is_empty();
    if let Some(first) = pages.first() {
        let what = format!(
            "data lost: {} pages are not what they have to be, the first is {first}",
            pages.len()
        );
        machine.brake.pull(Accident::Lost(what));
    }
}

fn join<T>(thread: JoinHandle<T>) -> Result<T> {
    thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))
}

fn bar(name: &'static str, seconds: f64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:8} {bar:30} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new((seconds * 1000.0) as u64).with_style(style).with_prefix(name)
}
