#!/usr/bin/env bash
# Proves: the storm example, many threads faulting on pages that are being moved, ends with every page intact, whatever the
# strategy of its faulters. Stress on the real futex; its figures are for reading.
# Costs: a minute to compile cold, then a quarter of a minute for each of five strategies. Argument: seconds per strategy (2).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

SECONDS_EACH=${1:-2}
STRATEGIES='retry reference entry wait lock'

for strategy in $STRATEGIES; do
    printf -- '-- strategy %s\n' "$strategy"
    timeout $((SECONDS_EACH * 10 + 240)) cargo run --quiet --release --example storm -- --seconds "$SECONDS_EACH" --strategy "$strategy"
done
