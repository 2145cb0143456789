//! A kernel that embeds `pagelock`: see README.md.

#![no_std]
#![no_main]

mod apic;
mod batch;
mod batches;
mod boot;
mod checks;
mod clock;
mod controls;
mod counters;
mod cow;
mod cpu;
mod device;
mod execute;
mod fault;
mod frames;
mod hooks;
mod interrupts;
mod kernel;
mod layout;
mod load;
mod locks;
mod mem;
mod paging;
mod phase;
mod platform;
mod port;
mod serial;
mod shootdown;
mod spin;
mod strategies;
mod trap;

use core::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use port::Exit;

static GO: AtomicBool = AtomicBool::new(false);
/// Counts of each processor's timer in a millisecond.
static TIMER: AtomicU32 = AtomicU32::new(0);

/// Where each processor arrives, with interrupts off.
extern "C" fn cpu_main(index: usize) -> ! {
    cpu::set_up(index);
    if index == 0 {
        apic::mask_legacy();
        trap::make_table();
        clock::set_up();
        paging::set_up();
    }
    trap::load_table();
    paging::enter(0);
    cpu::is_up(apic::set_up());
    if index == 0 {
        let wanted = port::processors().min(cpu::MAX);
        TIMER.store(apic::timer_counts_in(10) / 10, Relaxed);
        apic::start_others(wanted);
        say!("unikernel: {wanted} processors, {:?}", boot::command_line());
        GO.store(true, Release);
    }
    while !GO.load(Acquire) {
        core::hint::spin_loop();
    }
    apic::start_timer(TIMER.load(Relaxed));
    cpu::enable_interrupts();
    if index != 0 {
        phase::follow(index);
    }
    layout::set_up();
    let words = boot::command_line();
    match words.split(' ').find_map(|word| word.strip_prefix("control=")) {
        Some(name) => assert!(controls::run(name), "no such control: {name}"),
        None => show(words),
    }
    port::exit(Exit::AllIsWell);
}

/// The demonstration.
fn show(words: &str) {
    if let Some(ms) = words.split(' ').find_map(|word| word.strip_prefix("ms=")?.parse().ok()) {
        load::LAST_MS.store(ms, Relaxed);
    }
    let leaves = paging::check_encoding();
    phase::done("entries as the hardware wants them", format_args!("{leaves} leaves"));
    locks::run();
    interrupts::run();
    controls::run_right();
    batch::run();
    execute::run();
    strategies::run();
    phase::run(load::LAST_MS.load(Relaxed) + 150_000, load::run);
    let sums = checks::all();
    phase::done(
        "everything adds up",
        format_args!("{} words, {} added, {} entries", sums.words, sums.added, sums.entries),
    );
    phase::done(
        "nobody halts with a spin lock, in an interrupt, or without interrupts",
        format_args!(
            "{} sleeps, {} halts, {} wakes",
            counters::SLEEPS.get(),
            counters::HALTS.get(),
            counters::WAKES.get()
        ),
    );
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    cpu::disable_interrupts();
    serial::print_in_panic(format_args!("\n*** processor {}: {info}\n", cpu::this().index()));
    port::exit(Exit::Failed);
}
