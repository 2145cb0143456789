#!/usr/bin/env bash
# Proves: the storm example, many threads faulting on pages that are being moved, ends with every page intact, whatever the
# strategy of its faulters; that those which wait get their work done and make no migration fail by a reference; and, as a control, that
# those which retry do not get it done where the trap is, so that the storm is one. Stress on the real futex; its figures are for reading.
# Costs: a minute to compile cold, then half a minute. Argument: seconds in which an idle machine would do the work more than twice (2).
# Needs: userfaultfd for the control and for real faults; says SKIPPED without.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

WORTH=${1:-2}
scratch
for strategy in retry reference entry wait lock; do
    # Who waits may take long on a busy machine: it has to finish, not to be fast. In the livelock a twentieth is done of the work that could
    # be, but what else runs on a busy machine breaks it up now and then; so there is twice the work to do in twice the time.
    case $strategy in
        wait | lock) seconds=$((WORTH * 20)) work=$((WORTH * 30000)) ;;
        retry | entry) seconds=$((WORTH * 2)) work=$((WORTH * 60000)) ;;
        *) seconds=$WORTH work=$((WORTH * 30000)) ;;
    esac
    printf -- '-- strategy %s\n' "$strategy"
    timeout $((seconds * 10 + 240)) cargo run --quiet --release --example storm -- \
        --must-finish --seconds "$seconds" --work "$work" --strategy "$strategy" | tee "$SCRATCH/out"
    while IFS= read -r why; do skipped "$strategy: $why"; done < <(sed -n 's/^SKIPPED: //p' "$SCRATCH/out")
done
