#!/usr/bin/env bash
# Shows: what the compiler makes of the fast paths. To be read by a person; proves nothing by itself.
# Costs: a minute cold. Needs objdump (binutils).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if ! install objdump binutils; then
    skipped "no objdump"
    exit 0
fi
scratch
cargo bench --no-run --bench instructions 2>&1 | tee "$SCRATCH/build"
bin=$(sed -n 's/.*Executable.*(\(.*\))$/\1/p' "$SCRATCH/build")
objdump --disassemble --demangle --no-show-raw-insn "$bin" |
    awk '/^[0-9a-f]+ <instructions::fast_/ { show = 1 } /^$/ { if (show) print ""; show = 0 } show && !/int3/'
