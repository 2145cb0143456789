#!/usr/bin/env bash
# Proves: processes that share pages (feature `shared`) can be killed, at random times and at every
# step of every call, and a survivor at every step of its recovery, and nothing is stuck, no byte
# wrong and no count off; a stopped process is not robbed; a peer that scribbles over the segment
# harms nothing outside of it. Prints the price of a seat, in instructions and nanoseconds.
# Costs: 2 minutes, and 4 minutes cold for compiling.
# Arguments: how many processes are killed at random times (1000); the long form is 10000.
# Environment: PAGELOCK_SEED, where random numbers start.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [ "$(uname -s)" != Linux ]; then
    skipped "segments are for Linux, and this is $(uname -s)"
    exit 0
fi
export PAGELOCK_KILLS=${1:-1000}
# As they ship, without assertions, which would end a process before it can do harm; and with them.
cargo test --quiet --release --features shared --test shared -- \
    hostile:: survivors:: --nocapture --test-threads=2
"$(stepped . steps)" --nocapture --test-threads=2

cargo bench --quiet -p pagelock-benches --features shared --bench seat
if [ "$(uname -m)" != x86_64 ] || ! install valgrind valgrind; then
    skipped "no valgrind for this machine, so the instructions of a seat were not counted"
    exit 0
fi
scratch
cargo bench --no-run -p pagelock-benches --features shared --bench seat 2>&1 | tee "$SCRATCH/build"
bin=$(sed -n 's/.*Executable.*(\(.*\))$/\1/p' "$SCRATCH/build")
total() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bin" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
"$bin" names | while read -r name; do
    printf '%-32s %4d instructions, calling and loop included\n' "$name" \
        $((($(total "$name" 2000) - $(total "$name" 1000)) / 1000))
done
