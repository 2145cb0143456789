#!/usr/bin/env bash
# Proves: the table of docs/orderings.md has every atomic access of the crate, with its orderings;
# and every ordering stronger than Relaxed is needed: weakened by itself, it makes a model in
# tests/loom fail. ci/ordering-survivors explains each that survives, or this fails.
# Costs: 10 seconds with the models compiled (2 minutes more without).
#
#   ci/orderings.sh             all
#   ci/orderings.sh --check     the table only, at once
#   ci/orderings.sh --write     all, and writes the second table in docs/orderings.md
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python3 ci/orderings.py check
[ "${1-}" != --check ] || exit 0
scratch
with_bugs loom >"$SCRATCH/programs"
[ "${1-}" != --write ] || set -- --table docs/orderings.md
python3 ci/seeded.py orderings "$SCRATCH/programs" "$@"
