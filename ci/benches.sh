#!/usr/bin/env bash
# Proves: the benchmarks compile, and one round of each runs; the report does too, and writes its files. Measures nothing.
# Costs: about 2 minutes cold (an optimised build of the dev-dependencies), a quarter of a minute warm.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cargo bench --no-run --all-features
for bench in uncontended contended event_wait counts scale layout storm bars instructions sweep; do
    printf -- '-- one round of %s\n' "$bench"
    scratch
    if ! cargo bench --quiet --all-features --bench "$bench" -- --test >"$SCRATCH/out" 2>&1; then
        cat "$SCRATCH/out"
        exit 1
    fi
done

printf -- '-- the report\n'
scratch
# Instructions are counted by ci/instructions.sh, which is a step of its own.
parts=()
for part in uncontended contended release storm scale layout; do parts+=(--only "$part"); done
if ! cargo run --quiet --release --example report -- --smoke "${parts[@]}" --out "$SCRATCH/report" >"$SCRATCH/out" 2>&1; then
    cat "$SCRATCH/out"
    exit 1
fi
for file in index.html report.json tables.md contended.svg; do
    [ -s "$SCRATCH/report/$file" ] || { echo "the report wrote no $file"; exit 1; }
done
