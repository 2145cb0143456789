//! Virtual processors of KVM.

use crate::accident::Accident;
use crate::guest::{BALLOON, CONTROL, DONE, FAIL};
use crate::home::Home;
use crate::processor::{Parked, Processor};
use crate::program::{CODE, PARAMETERS, Wrong};
use anyhow::{Context, Result, bail};
use kvm_bindings::{kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

/// A virtual machine around the region's memory.
pub(crate) struct Vm {
    vm: VmFd,
}

impl Vm {
    pub(crate) fn new(machine: &dyn Home) -> Result<Self> {
        if cfg!(not(target_arch = "x86_64")) {
            bail!("the guest's program is for x86-64");
        }
        let vm = Kvm::new().context("/dev/kvm")?.create_vm().context("no virtual machine")?;
        // Needed by some processors only.
        let _ = vm.set_tss_address(0xfffb_d000);
        let host = machine.host_range();
        let slot = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: host.len() as u64,
            userspace_addr: host.start as u64,
        };
        // SAFETY: the memory is the region's, which every processor's thread holds.
        unsafe { vm.set_user_memory_region(slot) }.context("guest memory")?;
        Ok(Self { vm })
    }

    /// A processor at the program's beginning, or where it was parked.
    pub(crate) fn processor(&self, number: u32, from: Option<Parked>) -> Result<VcpuFd> {
        let vcpu = self.vm.create_vcpu(number.into()).context("no virtual processor")?;
        let (regs, sregs) = match from.and_then(|parked| parked.registers) {
            Some(registers) => registers,
            None => {
                let mut sregs = vcpu.get_sregs()?;
                let data = kvm_segment {
                    limit: u32::MAX,
                    selector: 0x10,
                    type_: 3,
                    present: 1,
                    db: 1,
                    s: 1,
                    g: 1,
                    ..Default::default()
                };
                (sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (data, data, data, data, data);
                sregs.cs = kvm_segment { selector: 0x8, type_: 11, ..data };
                sregs.cr0 |= 1; // protected mode
                let rbp = u64::from(PARAMETERS + number * 32);
                (kvm_regs { rip: CODE.into(), rbp, rflags: 2, ..Default::default() }, sregs)
            }
        };
        vcpu.set_sregs(&sregs)?;
        vcpu.set_regs(&regs)?;
        Ok(vcpu)
    }
}

/// Runs until the guest ends. The number of rounds.
pub(crate) fn run(mut vcpu: VcpuFd, mut processor: Processor) -> Processor {
    if let Err(error) = turn(&mut vcpu, &mut processor) {
        processor
            .machine
            .brake()
            .pull(Accident::Outside(format!("processor {}: {error:#}", processor.number)));
    }
    processor
}

fn turn(vcpu: &mut VcpuFd, processor: &mut Processor) -> Result<()> {
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoIn(CONTROL, data)) => {
                let answer = processor.control();
                data.copy_from_slice(&answer.to_le_bytes());
                if answer == 0 && processor.gate.is_closed() {
                    park(vcpu, processor)?;
                }
            }
            Ok(VcpuExit::IoOut(BALLOON, data)) => {
                let asked = u32::from_le_bytes(data.try_into()?);
                let first = asked & 0xff_ffff;
                processor.balloon(first..first + (asked >> 24));
            }
            Ok(VcpuExit::IoOut(FAIL, _)) => {
                let regs = vcpu.get_regs()?;
                processor.wrong(Wrong {
                    page: regs.rsi as u32,
                    found: regs.rdi as u32,
                    expected: regs.rdx as u32,
                });
                return Ok(());
            }
            Ok(VcpuExit::IoOut(DONE, _)) => return Ok(()),
            Ok(exit) => bail!("the guest went astray: {exit:?}"),
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {}
            Err(error) => return Err(error).context("the guest cannot run"),
        }
    }
}

/// Has the kernel take the answer, so that the registers are those of after the instruction.
fn park(vcpu: &mut VcpuFd, processor: &Processor) -> Result<()> {
    vcpu.set_kvm_immediate_exit(1);
    match vcpu.run().map(|exit| format!("{exit:?}")) {
        Err(error) if error.errno() == libc::EINTR => {}
        other => bail!("not parked: {other:?}"),
    }
    vcpu.set_kvm_immediate_exit(0);
    let registers = Some((vcpu.get_regs()?, vcpu.get_sregs()?));
    processor.gate.park(processor.number, Parked { rounds: processor.rounds, registers });
    Ok(())
}
