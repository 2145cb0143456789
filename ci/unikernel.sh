#!/usr/bin/env bash
# Proves: a kernel embeds the crate and boots (examples/unikernel, under QEMU). Its processors halt
# and are woken by interrupts, its page tables are the hardware's, pages move under running code;
# counts and contents add up. Faulters that retry livelock there, and those that wait do not. The
# checks see what they should: without shootdowns, without pins, with a header touched after its
# release, with a fork that flushes nothing, with a wait that sets its flag too late, with a
# platform that loses wakes, it fails in just that way.
# Costs: a minute with 2 and 4 processors, half of it compiling when cold. 8 by hand:
# `ci/unikernel.sh 8`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    skipped "the unikernel needs the toolchain of an x86-64 Linux host, and this is $(uname -sm)"
    exit 0
fi
# Cargo reads the configuration of the folder that it runs in. RUSTFLAGS would replace it.
unset RUSTFLAGS
export CARGO_TARGET_DIR=$TARGET/unikernel
cd examples/unikernel
cargo fmt --check
cargo clippy --quiet --locked --release -- -D warnings
cargo build --quiet --locked --release
image=$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release/unikernel

if ! install qemu-system-x86_64 qemu-system-x86; then
    skipped "QEMU is not to be had, so the unikernel was built and not booted"
    exit 0
fi
[ $# != 0 ] || set -- 2 4
for cpus in "$@"; do
    CPUS=$cpus MS=2000 ./run.sh "$image" | tr '\r' '\n'
done
# Where KVM emulates instructions, it does not know all of them.
if [ -w /dev/kvm ] && grep -qsE '^kvm_(intel|amd) ' /proc/modules; then
    ACCEL=kvm CPUS=2 MS=2000 ./run.sh "$image" | tr '\r' '\n'
else
    echo "not booted under KVM: there is none that runs instructions itself"
fi
