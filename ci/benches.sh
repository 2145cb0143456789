#!/usr/bin/env bash
# Proves: the benchmarks compile, and one round of each runs. Measures nothing.
# Costs: about 2 minutes cold (an optimised build of the dev-dependencies), a quarter of a minute warm.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cargo bench --no-run --all-features
for bench in uncontended contended event_wait counts bars instructions engine; do
    printf -- '-- one round of %s\n' "$bench"
    scratch
    if ! cargo bench --quiet --all-features --bench "$bench" -- --test >"$SCRATCH/out" 2>&1; then
        cat "$SCRATCH/out"
        exit 1
    fi
done
