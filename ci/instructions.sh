#!/usr/bin/env bash
# Proves: the uncontended lock and unlock, and a failed try_lock, execute no more instructions than the limits below. Counted by
# an emulator, so the figures are the same on every x86-64 machine and need no quiet one.
# Costs: a minute cold, 10 seconds warm. Installs valgrind if it is missing and can be had; says so if not.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Function bodies, without the return: the code is printed by ci/assembly.sh.
PAIR_LIMIT=11
TRY_FAIL_LIMIT=4

if [ "$(uname -m)" != x86_64 ]; then
    skipped "the limits are for x86-64, and this is $(uname -m)"
    exit 0
fi
if ! install valgrind valgrind; then
    skipped "no valgrind, so no instructions were counted"
    exit 0
fi
scratch
cargo bench --no-run --bench instructions 2>&1 | tee "$SCRATCH/build"
bin=$(sed -n 's/.*Executable.*(\(.*\))$/\1/p' "$SCRATCH/build")

# instructions of one round of $1: what 1000 rounds more cost, so that starting and ending are not in it.
total() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bin" "$1" "$2" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
per_round() {
    local few many
    few=$(total "$1" 1000)
    many=$(total "$1" 2000)
    echo $(((many - few) / 1000))
}

overhead=$(per_round nothing)
status=0
judge() {
    local n=$(($(per_round "$1") - overhead))
    printf '%-24s %3d instructions' "$2" "$n"
    if [ -n "${3-}" ]; then
        printf ', at most %d allowed' "$3"
        [ "$n" -le "$3" ] || { printf ': TOO MANY'; status=1; }
        [ "$n" -gt 0 ] || { printf ': cannot be'; status=1; }
    fi
    printf '\n'
}
judge pair 'lock + unlock' "$PAIR_LIMIT"
judge try-fail 'failed try_lock' "$TRY_FAIL_LIMIT"
judge raw-pair 'bound: raw CAS + swap'
exit "$status"
