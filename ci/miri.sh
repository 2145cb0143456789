#!/usr/bin/env bash
# Proves: no undefined behaviour in the unit tests and those of tests/, as far as an interpreter
# that knows the rules sees, with strict provenance and the weak memory that the language allows.
# Costs: as long as MIRI_MINUTES allows, where Miri is installed
# (`rustup +nightly component add miri rust-src`); a file that is not done by then says SKIPPED.
# Elsewhere it says SKIPPED at once. Miri could not be had on this project's machines: the list
# below follows from what the files do, not from a run.
# Environment: MIRI_SEEDS, the number of schedules of each file of the core (4); MIRI_MINUTES (25).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if ! why=$(cargo +nightly miri --version 2>&1); then
    skipped "Miri: $(head -n 1 <<<"$why")"
    exit 0
fi

# Left out: tests that need system calls which an interpreter lacks (shared forks, signals signals;
# soak, mm_soak and a part each of wait, hmm and linux map memory and trap; all of these leave
# themselves out); and map, which compares texts.
CORE='lock wait refs property stats'
# One schedule: the memory manager in software is much more code for each operation.
MM='mm linux hmm'
DEADLINE=$((SECONDS + ${MIRI_MINUTES:-25} * 60))
FLAGS="-Zmiri-strict-provenance -Zmiri-disable-isolation ${MIRIFLAGS:-}"
export CARGO_TARGET_DIR=$TARGET/miri
cargo +nightly miri setup

# interpret SCHEDULES ARGUMENT...: what `cargo miri test` runs with these arguments.
interpret() {
    local seeds=$1 status=0 left=$((DEADLINE - SECONDS))
    shift
    if [ "$left" -gt 0 ]; then
        MIRIFLAGS="$FLAGS -Zmiri-many-seeds=0..$seeds" \
            timeout "$left" cargo +nightly miri test --all-features "$@" || status=$?
    else
        status=124
    fi
    case $status in
        0) ;;
        124) skipped "Miri: not done with '$*' in time" ;;
        *) return "$status" ;;
    esac
}

interpret "${MIRI_SEEDS:-4}" --lib
for test in $CORE; do interpret "${MIRI_SEEDS:-4}" --test "$test"; done
for test in $MM; do interpret 1 --test "$test"; done
