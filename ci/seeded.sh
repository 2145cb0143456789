#!/usr/bin/env bash
# Proves: each bug of ci/seeded.bugs, put into a copy of the crate by itself, is found by a test, a
# model or a scenario that the list names for it; and these pass without a bug. Fails if a bug
# survives or no longer fits the sources.
# Costs: about 4 minutes on two cores, a third of it waiting for tests that hang (6 minutes with
# nothing compiled).
#
#   ci/seeded.sh                 every bug: its first finder, and the others if that misses it
#   ci/seeded.sh --all           every bug, all of its finders, and how soon each finds it
#   ci/seeded.sh gate            the bugs with "gate" in their names
#
# By hand: `ci/weave.py copy DIR NAME` makes a copy of the tree with this one bug.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python3 ci/weave.py check
scratch
all=() names=()
for argument in "$@"; do
    case $argument in
        --all) all=(--all) ;;
        --*) echo "no such option: $argument" >&2; exit 2 ;;
        *) names+=("$argument") ;;
    esac
done
export PAGELOCK_SCHEDULES=${PAGELOCK_SCHEDULES:-2000}

# ask KINDS-OPTION OPTIONS NAME...: compiles what finds these bugs, and has it find them.
ask() {
    local kinds=$1 options=$2
    shift 2
    # shellcheck disable=SC2046,SC2086 # lists of words
    with_bugs $(python3 ci/seeded.py kinds $kinds "$@") >"$SCRATCH/programs"
    bugs_alone "$@" >>"$SCRATCH/programs"
    # shellcheck disable=SC2086 # a list of words
    python3 ci/seeded.py bugs $options "$SCRATCH/programs" "$@"
}

if [ ${#all[@]} != 0 ]; then
    ask '' --all "${names[@]}"
    exit
fi
ask --first "--first $SCRATCH/missed" "${names[@]}"
mapfile -t missed <"$SCRATCH/missed"
[ ${#missed[@]} = 0 ] || ask '' '' "${missed[@]}"
