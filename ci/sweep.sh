#!/usr/bin/env bash
# Shows: what the chosen numbers of src/tune.rs cost and bring, as curves. To be read by a person on a quiet machine; proves nothing.
#
#   ci/sweep.sh bypass [PASSES]   BYPASS_BOUND from 0 to never
#   ci/sweep.sh linger [PASSES]   ARRIVAL_PAUSES times RUN_PAUSES, LOOKS times YIELDS
#   ci/sweep.sh give   [PASSES]   GIVE_WAY and GIVE_WAY_HOLDS, from every hold to never
#   ci/sweep.sh fan    [PASSES]   FIRST times NEXT
#   ci/sweep.sh smoke             two choices, one pass, to see that it runs
#
# Costs: on two cores, bypass and give 4 to 6 minutes (a third of it building), linger 8, fan 7; a minute more the first time. With STAGE=build in
# the environment it only builds, with STAGE=run it only runs what was built: only the second needs the machine to be quiet.
#
# Every choice is a build of its own, with the numbers from the environment (`--cfg pagelock_tune`). All are built first, then they take
# turns, one pass each, in an order that moves on by one with every pass; where it is about the lock, std, parking_lot and usync take turns with
# them. The results are left in target/sweep/FAMILY/: `passes` (each pass a line of JSON), `tables.md`, `curves.svg`.
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
    linger)
        for a in 0 8 20 40; do for b in 0 80 160; do echo "ARRIVAL_PAUSES=$a RUN_PAUSES=$b"; done; done
        for a in 25 50 100 200; do for b in 0 1; do echo "LOOKS=$a YIELDS=$b"; done; done
        ;;
    give)
        for a in 1/1 8/1 16/3 32/1 32/2 32/3 64/1 64/2 64/3 64/5 128/3; do echo "GIVE_WAY=${a%/*} GIVE_WAY_HOLDS=${a#*/}"; done
        echo "GIVE_WAY=0"
        ;;
    fan) for a in 1 2 4 8 16 32 64; do for b in 1 4 16 64; do echo "FIRST=$a NEXT=$b"; done; done; echo "FIRST=1000000 NEXT=1" ;;
    smoke) echo "BYPASS_BOUND=0 FIRST=2 NEXT=2" ;;
    esac
}
case $FAMILY in
bypass) WHAT=lock PASSES=${2:-9} ;;
linger) WHAT=lock PASSES=${2:-5} ;;
give) WHAT=lock PASSES=${2:-15} ;;
fan) WHAT=event PASSES=${2:-9} ;;
smoke) WHAT=both PASSES=${2:-1} EXTRA=(--test) ;;
*)
    sed -n '2,/^source/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac

place=$TARGET/sweep/$FAMILY
mapfile -t choices < <(grid)
# Who takes turns with the choices, in the first one's binary.
PEERS=()
[ "$WHAT" != lock ] || PEERS=(std parking_lot usync)
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
    local pass turn index all=$((${#choices[@]} + ${#PEERS[@]})) name bin
    for index in "${!choices[@]}"; do
        [ -x "$place/choice-$index" ] || { echo "choice $index was not built: STAGE=build first" >&2; exit 1; }
    done
    : >"$place/passes"
    for ((pass = 0; pass < PASSES; pass++)); do
        printf 'pass %d of %d, at %d s; load %s\n' $((pass + 1)) "$PASSES" "$SECONDS" "$(cut -d' ' -f1 /proc/loadavg 2>/dev/null || true)" >&2
        for ((turn = 0; turn < all; turn++)); do
            index=$(((pass + turn) % all))
            if [ "$index" -lt ${#choices[@]} ]; then
                name=${choices[$index]:-as chosen} bin=("$place/choice-$index" "$WHAT")
            else
                name=${PEERS[$index - ${#choices[@]}]} bin=("$place/choice-0" "$WHAT" "$name")
            fi
            printf '%s\t%s\n' "$name" "$("${bin[@]}" "${EXTRA[@]}")" >>"$place/passes"
        done
    done
    "$place/choice-0" table "$place/passes" | tee "$place/tables.md"
    "$place/choice-0" plot "$place/passes" "$place/curves.svg"
    printf '\nbuilt from %s; %s; left in %s\n' "$(cat "$place/built-from" 2>/dev/null || echo 'no repository')" "$(uname -sr)" "$place"
}

[ "$STAGE" = run ] || build
[ "$STAGE" = build ] || run
