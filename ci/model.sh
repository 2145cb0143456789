#!/usr/bin/env bash
# Proves: the specification on paper (docs/model/fault.pml). The fixed protocol ends on every
# schedule, under the fairness stated there; the original one and its relatives do not. Each seeded
# bug is found, as what it is.
# Costs: 30 seconds. Installs spin if it is missing and can be had; says so if not. Needs a C
# compiler.
#
#   ci/model.sh             all cases
#   ci/model.sh fixed       one of them
#   ci/model.sh --traces    the traces of those that must fail, as in docs/model/README.md
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

traces=no only=
case ${1-} in
--traces) traces=yes ;;
?*) only=$1 ;;
esac
if ! install spin spin || ! command -v gcc >/dev/null; then
    skipped "no spin or no gcc, so the specification was not checked"
    exit 0
fi
scratch
printf '%-28s %-9s %-30s %10s %s\n' case search outcome states 'a step of it'

# relevant TRACE: its cycle, or all of it if it has none.
relevant() {
    if grep -q 'START OF CYCLE' "$1"; then sed '1,/START OF CYCLE/d' "$1"; else cat "$1"; fi
}

# check NAME SEARCH OUTCOME STEP DEFINES...
#
# SEARCH: `safety` looks for stuck threads and broken assertions, `fair` for runs that do not end
# although each thread is treated fairly, `unfair` for runs that do not end. OUTCOME: `holds`, or
# what must be found. STEP: a line that the trace must have, in its cycle if it has one, so that
# the right thing is found; `-` if there is none.
failed=() checked=0
check() {
    local name=$1 search=$2 outcome=$3 step=$4 depth=1000000 build=() run=()
    shift 4
    [ -z "$only" ] || [ "$only" = "$name" ] || return 0
    checked=$((checked + 1))
    if [ "$outcome" != holds ]; then
        # The shallower the search, the shorter the trace.
        depth=400
    elif [ "$traces" = yes ]; then
        return 0
    fi
    case $search in
    safety) build=(-DSAFETY -DNOCLAIM -DCOLLAPSE) run=() ;;
    fair) build=(-DNFAIR=3) run=(-a -f) ;;
    unfair) build=() run=(-a) ;;
    esac
    local dir=$SCRATCH/$name
    mkdir "$dir"
    cp docs/model/fault.pml "$dir"
    (
        cd "$dir"
        spin "$@" -a fault.pml >spin.out
        gcc -O2 -w "${build[@]}" -o pan pan.c
        ./pan "${run[@]}" -m$depth >pan.out || true
        if [ -f fault.pml.trail ]; then
            spin "$@" -t fault.pml | sed -n 's/^ *MSC: //p; s/^ *\(<<<<<.*\)/\1/p' |
                awk '$0 != last { print } { last = $0 }' >trace
        fi
    )
    local found states verdict=ok
    found=$(sed -n 's/^pan:[0-9]*: \(.*\) (at depth .*/\1/p' "$dir/pan.out" | head -n1)
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$dir/pan.out")
    if ! grep -q 'errors: ' "$dir/pan.out"; then
        verdict='WRONG: the search did not end'
    elif [ "$outcome" = holds ]; then
        if [ -n "$found" ] || ! grep -q 'errors: 0' "$dir/pan.out"; then
            verdict="WRONG: it should hold"
        elif grep -q 'max search depth too small' "$dir/pan.out"; then
            verdict='WRONG: the search was cut off'
        fi
    elif [[ "$found" != "$outcome"* ]]; then
        verdict="WRONG: there should be: $outcome"
    elif [ "$step" != - ] && ! relevant "$dir/trace" | grep -qF "$step"; then
        verdict="WRONG: there is no step \"$step\""
    fi
    printf '%-28s %-9s %-30s %10s %s\n' "$name" "$search" "${found:-holds}" "$states" "$step"
    if [ "$verdict" != ok ]; then
        printf '    %s\n' "$verdict"
        failed+=("$name")
        [ ! -f "$dir/trace" ] || sed 's/^/    | /' "$dir/trace"
    elif [ "$traces" = yes ]; then
        sed 's/^/    /' "$dir/trace"
    fi
}

# The protocol.
check fixed fair holds -
check fixed-safety safety holds -
check fixed-without-fairness unfair holds -
check fixed-three-faulters safety holds - -DFAULTERS=3 -DABORTS=0
check drain-first-with-spinner fair holds - -DDRAIN_FIRST -DSPINNER -DABORTS=0

# The original one and its relatives.
RETRIED='finds the page locked, and faults again'
check original fair 'acceptance cycle' "$RETRIED" -DRETRY
check original-preemptive fair holds - -DRETRY -DPREEMPTIVE
check entry-in-fault fair 'acceptance cycle' "$RETRIED" -DENTRY_IN_FAULT
check entry-in-fault-one-mapping fair holds - -DENTRY_IN_FAULT -DENTRIES=1
check reference fair 'acceptance cycle' 'finds a reference too many, and aborts' \
    -DREFERENCE -DABORTS=0 -DSEQUENCES=2
SPUN='the spinner finds the page locked'
check drain-under-lock-spinner fair 'acceptance cycle' "$SPUN" -DSPINNER

# The seeded bugs.
check flag-first safety 'invalid end state' 'sleeps' -DFLAG_FIRST
check keep-ptl safety 'invalid end state' 'sleeps' -DKEEP_PTL
check no-tell safety 'invalid end state' 'cannot move the page this time, and aborts' -DNO_TELL
check early-unlock safety 'assertion violated locked' - -DEARLY_UNLOCK

# The control: a spinner needs fairness, so the searches above do look at runs that never end.
check drain-first-unfair unfair 'acceptance cycle' "$SPUN" -DDRAIN_FIRST -DSPINNER

[ "$checked" -gt 0 ] || { echo "no case is called '$only'" >&2; exit 1; }
if [ ${#failed[@]} -gt 0 ]; then
    printf 'not as claimed: %s\n' "${failed[*]}"
    exit 1
fi
printf '%d cases, all as claimed\n' "$checked"
