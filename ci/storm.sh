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
    # Who waits may take long on a busy machine: it has to finish, not to be fast. In the livelock a twentieth of the work is done in the
    # time that it needs, so three times as long is no chance for that either.
    case $strategy in
        wait | lock) seconds=$((WORTH * 20)) ;;
        retry | entry) seconds=$((WORTH * 3)) ;;
        *) seconds=$WORTH ;;
    esac
    printf -- '-- strategy %s\n' "$strategy"
    timeout $((seconds * 10 + 240)) cargo run --quiet --release --example storm -- \
        --must-finish --seconds "$seconds" --work $((WORTH * 30000)) --strategy "$strategy" | tee "$SCRATCH/out"
    while IFS= read -r why; do skipped "$strategy: $why"; done < <(sed -n 's/^SKIPPED: //p' "$SCRATCH/out")
done
