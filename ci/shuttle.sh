#!/usr/bin/env bash
# Proves, as far as random schedules go: eight threads and the fault path keep what tests/shuttle
# claims. Prints the seed of each scenario, and how to run a failing schedule again.
# Costs: about a minute with the default of 10 000 schedules for each scenario and scheduler, after
# a first build of about a minute.
#
#   ci/shuttle.sh                               all scenarios
#   ci/shuttle.sh fault                         those with "fault" in their names
#   PAGELOCK_SCHEDULES=100000 ci/shuttle.sh     for longer
#   PAGELOCK_SEED=7 ci/shuttle.sh NAME          the run with that seed again
#   PAGELOCK_REPLAY=91... ci/shuttle.sh NAME    the one schedule that a failure has printed
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scratch
binary=$(checker shuttle "$PWD")
scenarios=$("$binary" --list "${1-}" | sed -n 's/: test$//p')
[ -n "$scenarios" ] || { echo "no scenario is called '${1-}'" >&2; exit 1; }

status=0
for scenario in $scenarios; do
    if "$binary" --exact "$scenario" --nocapture >"$SCRATCH/out" 2>&1 &&
        explored=$(sed -n 's/.*explored: //p' "$SCRATCH/out") && [ -n "$explored" ]; then
        seed=$(grep -o 'PAGELOCK_SEED=.*' "$SCRATCH/out" || true)
        printf '%-52s %s, %s\n' "$scenario" "$explored" "$seed"
    else
        printf '%-52s FAILED, or did not say how many schedules it explored\n' "$scenario"
        cat "$SCRATCH/out"
        status=1
    fi
done
exit "$status"
