#!/usr/bin/env bash
# Proves: each bug of ci/seeded.bugs, put into the crate by itself, is found by the tests, models or scenarios that must find it; and
# that those pass without it. Fails if a bug survives, or does not fit the sources any more. The bugs are put into a copy.
# Costs: about 6 minutes on two cores, most of it waiting for watchdogs (5 minutes more with nothing compiled, cargo-fuzz among it).
#
#   ci/seeded.sh                 every bug, until its first finder
#   ci/seeded.sh --all           every bug, all of its finders; the table that it prints says how soon each finds it
#   ci/seeded.sh gate            the bugs with "gate" in their names
#
# By hand: `ci/weave.py copy DIR NAME` makes a copy of the tree that has this one bug.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python3 ci/weave.py check
scratch
arguments=() names=()
for argument in "$@"; do
    case $argument in
        --all) arguments+=(--all) ;;
        --*) echo "no such option: $argument" >&2; exit 2 ;;
        *) names+=("$argument") ;;
    esac
done
# shellcheck disable=SC2046 # a list of words
with_bugs $(python3 ci/seeded.py kinds "${names[@]}") >"$SCRATCH/programs"
bugs_alone "${names[@]}" >>"$SCRATCH/programs"
export PAGELOCK_SCHEDULES=${PAGELOCK_SCHEDULES:-2000}
python3 ci/seeded.py bugs "$SCRATCH/programs" "${arguments[@]}" "${names[@]}"
