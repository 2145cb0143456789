//! A kernel that embeds `pagelock`: see README.md.

#![no_std]
#![no_main]

mod apic;
mod boot;
mod clock;
mod cpu;
mod hooks;
mod mem;
mod port;
mod serial;
mod spin;
mod trap;

use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use port::Exit;

static GO: AtomicBool = AtomicBool::new(false);

/// Where each processor arrives, with interrupts off.
extern "C" fn cpu_main(index: usize) -> ! {
    cpu::set_up(index);
    if index == 0 {
        apic::mask_legacy();
        trap::make_table();
        clock::set_up();
    }
    trap::load_table();
    cpu::is_up(apic::set_up());
    if index == 0 {
        let wanted = port::processors().min(cpu::MAX);
        say!("unikernel: {:?}, {wanted} processors", boot::command_line());
        apic::start_others(wanted);
        GO.store(true, Release);
    }
    while !GO.load(Acquire) {
        core::hint::spin_loop();
    }
    cpu::enable_interrupts();
    say!("processor {index}");
    if index == 0 {
        let counts = apic::timer_counts_in(10) / 10;
        apic::start_timer(counts);
        let t = clock::now_ms();
        while cpu::this().ticks.load(core::sync::atomic::Ordering::Relaxed) < 50 {
            cpu::disable_interrupts();
            cpu::halt();
            cpu::enable_interrupts();
        }
        say!("50 ticks in {} ms", clock::now_ms() - t);
        port::exit(Exit::AllIsWell);
    }
    loop {
        cpu::disable_interrupts();
        cpu::halt();
        cpu::enable_interrupts();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    cpu::disable_interrupts();
    serial::print_in_panic(format_args!("\n*** processor {}: {info}\n", cpu::this().index()));
    port::exit(Exit::Failed);
}
