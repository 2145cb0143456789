#!/usr/bin/env bash
# Proves: what each model in tests/loom claims, for every interleaving of its threads and every
# value that the memory model lets a load see, with at most two preemptions in an execution, or
# three where the model says so (LOOM_MAX_PREEMPTIONS=n: for all). Prints how many executions those
# were. Each model is a process, because a stranded sleeper is a deadlock, which aborts it.
# Costs: about 20 s on two cores, after a first build of about 100 s of processor time.
#
#   ci/loom.sh            all models
#   ci/loom.sh fair       those with "fair" in their names
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scratch
checker loom "$PWD" >"$SCRATCH/binary"
LOOM_BINARY=$(cat "$SCRATCH/binary")
export LOOM_BINARY SCRATCH
models=$("$LOOM_BINARY" --list "${1-}" | sed -n 's/: test$//p')
[ -n "$models" ] || { echo "no model is called '${1-}'" >&2; exit 1; }

explore() {
    local file=$SCRATCH/${1//:/_} status=0 explored
    timeout 600 "$LOOM_BINARY" --exact "$1" --nocapture >"$file" 2>&1 || status=$?
    explored=$(sed -n 's/.*explored: //p' "$file")
    if [ "$status" = 0 ] && [ -n "$explored" ]; then
        printf '%-68s %s\n' "$1" "$explored"
    else
        printf '%-68s FAILED (exit status %d)\n' "$1" "$status"
        cat "$file"
        return 1
    fi
}
export -f explore
status=0
xargs -P "$(nproc)" -I{} bash -c 'explore {}' <<<"$models" | tee "$SCRATCH/table" || status=1
awk '/ executions, / { n += $2; models++ }
    END { printf "%d models, %d executions in all\n", models, n }' "$SCRATCH/table"
exit "$status"
