#!/usr/bin/env bash
# Proves: the benchmarks compile, and one round of each runs. So does the report: it writes its
# files, and its table has a row for each of its parts. A benchmark that leaves something out fails,
# unless it lacks userfaultfd, valgrind or threads. Measures nothing.
# Costs: about 2 minutes cold (an optimised build of the dev-dependencies), 15 seconds warm.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# complete FILE: fails if the benchmark says there that it left out something that could be had. A
# benchmark goes on without a part, for a person who reads that; here nobody does.
complete() {
    local missing
    missing=$(grep 'left out' "$1" | sort -u || true)
    [ -n "$missing" ] || return 0
    if grep -qvE 'no userfaultfd|no valgrind|threads can be started' <<<"$missing"; then
        cat "$1"
        printf 'left out, and nothing says that it cannot be had here:\n%s\n' "$missing"
        return 1
    fi
    skipped "$missing"
}

scratch
cargo clippy --quiet -p pagelock-benches --all-targets --all-features -- -D warnings
cargo bench --no-run -p pagelock-benches --all-features
for bench in uncontended event_wait counts scale layout storm engine bars instructions seat; do
    printf -- '-- one round of %s\n' "$bench"
    if ! cargo bench --quiet -p pagelock-benches --all-features --bench "$bench" -- --test \
        >"$SCRATCH/out" 2>&1; then
        cat "$SCRATCH/out"
        exit 1
    fi
    complete "$SCRATCH/out"
done

printf -- '-- the report\n'
# Without the instructions, which ci/instructions.sh counts.
PARTS=(uncontended contended release storm scale layout)
parts=()
for part in "${PARTS[@]}"; do parts+=(--only "$part"); done
if ! cargo run --quiet --release -p pagelock-benches --example report -- \
    --smoke "${parts[@]}" --out "$SCRATCH/report" >"$SCRATCH/out" 2>&1; then
    cat "$SCRATCH/out"
    exit 1
fi
complete "$SCRATCH/out"
for file in index.html report.json tables.md contended.svg; do
    [ -s "$SCRATCH/report/$file" ] || { echo "the report wrote no $file"; exit 1; }
done
python3 - "$SCRATCH/report/report.json" "${PARTS[@]}" <<'END'
import json, sys

tables = json.load(open(sys.argv[1]))["tables"]
for part in sys.argv[2:]:
    own = [table["rows"] for table in tables if table["head"]["part"] == part]
    rows = [sum(bool(row["series"]) for row in table) for table in own]
    if not rows or 0 in rows:
        sys.exit(f"the report has no table for `{part}`, or one without a figure")
    print(f"{part}: {len(rows)} tables, {sum(rows)} rows")
END
