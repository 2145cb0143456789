#!/usr/bin/env bash
# Proves: no undefined behaviour, as far as an interpreter that knows the rules sees, in the unit tests and those of the API, with strict
# provenance and the weak memory that the language allows.
# Costs: about 10 minutes, where Miri is installed (`rustup +nightly component add miri rust-src`). Elsewhere it says SKIPPED, at once.
# Environment: MIRI_SEEDS, so many different schedules of each (4).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if ! why=$(cargo +nightly miri --version 2>&1); then
    skipped "Miri: $(head -n 1 <<<"$why")"
    exit 0
fi
export MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-disable-isolation -Zmiri-many-seeds=0..${MIRI_SEEDS:-4} ${MIRIFLAGS:-}"
export CARGO_TARGET_DIR=$TARGET/miri
cargo +nightly miri setup
cargo +nightly miri test --lib
# One file per promise. Left out: those that fork or map memory (shared), and those that are not built here (schedules, the soak).
cargo +nightly miri test --test claim --test counts --test handoff --test layout --test mutual_exclusion --test property --test property_leaf --test property_words --test wait
