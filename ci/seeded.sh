#!/usr/bin/env bash
# Proves: each bug of ci/seeded.list, put into the crate by itself, is found by the tests, models or scenarios that must find it; and
# that those pass without it. Fails if a bug survives.
# Costs: about 3 minutes on two cores with the models compiled (2 minutes more without).
#
#   ci/seeded.sh                 every bug, until its first finder
#   ci/seeded.sh --all           every bug, all of its finders
#   ci/seeded.sh promise         the bugs with "promise" in their names
#   ci/seeded.sh --write         as --all, and the table in docs/seeded.md is written anew
#
# By hand: cargo test with RUSTFLAGS='--cfg pagelock_bug="NAME"'.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scratch
arguments=()
for argument in "$@"; do
    case $argument in
        --write) arguments+=(--all --table docs/seeded.md) ;;
        *) arguments+=("$argument") ;;
    esac
done
kinds=$(grep -v '^#' ci/seeded.list | cut -d'|' -f2 | grep -o '[a-z_]*:' | grep -o '[a-z_]*' | sort -u)
with_bugs $kinds >"$SCRATCH/programs"
export PAGELOCK_SCHEDULES=${PAGELOCK_SCHEDULES:-2000}
python3 ci/seeded.py bugs "$SCRATCH/programs" "${arguments[@]}"
