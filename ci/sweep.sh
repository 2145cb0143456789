#!/usr/bin/env bash
# Shows: what the chosen numbers of src/tune.rs cost and bring, as curves. To be read by a person on a quiet machine; proves nothing.
#
#   ci/sweep.sh bypass [PASSES]   BYPASS_BOUND from 0 to never
#   ci/sweep.sh spin   [PASSES]   SPIN_ROUNDS times YIELDS
#   ci/sweep.sh fan    [PASSES]   FIRST times NEXT
#   ci/sweep.sh smoke             two choices, one pass, to see that it runs
#
# Costs: on two cores, bypass 3 minutes (a third of it building), spin 8, fan 7; a minute more the first time. With STAGE=build in the
# environment it only builds, with STAGE=run it only runs what was built: only the second needs the machine to be quiet.
#
# Every choice is a build of its own, with the numbers from the environment (`--cfg pagelock_tune`). All are built first, then they take
# turns, one pass each, in an order that moves on by one with every pass. The results are left in target/sweep/FAMILY/: `passes` (each
# pass a line of JSON), `tables.md`, `curves.svg`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

FAMILY=${1:-}
STAGE=${STAGE:-all}
EXTRA=()

# The grid, one choice a line: NAME=VALUE pairs. The first line, without any, is what src/tune.rs has.
grid() {
    local a b
    echo
    case $FAMILY in
    bypass) for a in 0 1 2 4 8 16 64 1000000; do echo "BYPASS_BOUND=$a"; done ;;
    spin) for a in 0 1 2 3 4 6; do for b in 0 2 5 10; do echo "SPIN_ROUNDS=$a YIELDS=$b"; done; done ;;
    fan) for a in 1 2 4 8 16 32 64; do for b in 1 4 16 64; do echo "FIRST=$a NEXT=$b"; done; done; echo "FIRST=1000000 NEXT=1" ;;
    smoke) echo "BYPASS_BOUND=0 FIRST=2 NEXT=2" ;;
    esac
}
case $FAMILY in
bypass) WHAT=lock PASSES=${2:-9} ;;
spin) WHAT=lock PASSES=${2:-7} ;;
fan) WHAT=event PASSES=${2:-9} ;;
smoke) WHAT=both PASSES=${2:-1} EXTRA=(--test) ;;
*)
    sed -n '2,/^source/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac

place=$TARGET/sweep/$FAMILY
mapfile -t choices < <(grid)
mkdir -p "$place"

build() {
    local index choice out bin
    rm -f "$place"/choice-*
    for index in "${!choices[@]}"; do
        choice=${choices[$index]}
        printf 'building %d of %d: %s\n' $((index + 1)) "${#choices[@]}" "${choice:-as chosen}" >&2
        # shellcheck disable=SC2046 # the choice is to be split into its pairs
        if ! out=$(env $(sed 's/\([A-Z_]*=\)/PAGELOCK_\1/g' <<<"$choice") RUSTFLAGS="--cfg pagelock_tune ${RUSTFLAGS:-}" \
            CARGO_TARGET_DIR="$TARGET/sweep/build" cargo bench --no-run --bench sweep 2>&1); then
            printf '%s\n' "$out" >&2
            exit 1
        fi
        bin=$(sed -n 's/.*Executable.*(\(.*\))$/\1/p' <<<"$out")
        cp "$bin" "$place/choice-$index"
    done
    git rev-parse HEAD >"$place/built-from" 2>/dev/null || true
}

run() {
    local pass turn index
    for index in "${!choices[@]}"; do
        [ -x "$place/choice-$index" ] || { echo "choice $index was not built: STAGE=build first" >&2; exit 1; }
    done
    : >"$place/passes"
    for ((pass = 0; pass < PASSES; pass++)); do
        printf 'pass %d of %d, at %d s; load %s\n' $((pass + 1)) "$PASSES" "$SECONDS" "$(cut -d' ' -f1 /proc/loadavg 2>/dev/null || true)" >&2
        for turn in "${!choices[@]}"; do
            index=$(((pass + turn) % ${#choices[@]}))
            printf '%s\t%s\n' "${choices[$index]:-as chosen}" "$("$place/choice-$index" "$WHAT" "${EXTRA[@]}")" >>"$place/passes"
        done
    done
    "$place/choice-0" table "$place/passes" | tee "$place/tables.md"
    "$place/choice-0" plot "$place/passes" "$place/curves.svg"
    printf '\nbuilt from %s; %s; left in %s\n' "$(cat "$place/built-from" 2>/dev/null || echo 'no repository')" "$(uname -sr)" "$place"
}

[ "$STAGE" = run ] || build
[ "$STAGE" = build ] || run
