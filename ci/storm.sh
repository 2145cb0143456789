#!/usr/bin/env bash
# Proves: the storm example, many threads faulting on pages that are being moved, ends with every
# page intact, whatever the strategy of its faulters. Those that wait get their work done, and make
# no migration fail by a reference. As a control, those that retry do not get it done where the trap
# is. It is stress on the real futex; its figures are for reading.
# The storm also takes accidents as a program should: what cannot be had or written is one line and
# an exit code, and nothing hangs.
# Costs: a minute to compile cold, then 40 s. Argument: seconds in which an idle machine would do
# the work more than twice (2).
# Needs: userfaultfd for the control and for real faults; says SKIPPED without.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

WORTH=${1:-2}
scratch
cargo build --quiet --release --example storm
STORM=$TARGET/release/examples/storm
for strategy in retry reference entry wait lock; do
    # Those that wait may take long on a busy machine: they have to finish, not to be fast. The
    # livelock does a twentieth of the possible work, but other programs on a busy machine break it
    # up now and then; so there is twice the work in twice the time.
    case $strategy in
        wait | lock) seconds=$((WORTH * 20)) work=$((WORTH * 30000)) ;;
        retry | entry) seconds=$((WORTH * 2)) work=$((WORTH * 60000)) ;;
        *) seconds=$WORTH work=$((WORTH * 30000)) ;;
    esac
    printf -- '-- strategy %s\n' "$strategy"
    timeout $((seconds * 10 + 240)) cargo run --quiet --release --example storm -- \
        --must-finish --seconds "$seconds" --work "$work" --strategy "$strategy" \
        2> >(tee "$SCRATCH/err" >&2) | tee "$SCRATCH/out"
    while IFS= read -r why; do
        skipped "$strategy: $why"
    done < <(sed -n 's/^SKIPPED: //p' "$SCRATCH/out")
    case $strategy in retry | entry)
        grep -q '^SKIPPED: ' "$SCRATCH/out" || grep -q 'is livelocked' "$SCRATCH/err" || {
            echo "$strategy was livelocked, and nothing said so meanwhile"
            exit 1
        } ;;
    esac
done

printf -- '-- accidents\n'
SHORT=(--seconds 0.2 --strategy wait --memory anon)
# ends NAME STATUS PATTERN COMMAND...: it ends by itself with this status, without a panic, and a
# line of its errors fits.
ends() {
    local name=$1 wanted=$2 pattern=$3 status=0
    shift 3
    timeout -s KILL 60 "$@" >"$SCRATCH/out" 2>"$SCRATCH/err" || status=$?
    if [ "$status" != "$wanted" ] || ! grep -q "$pattern" "$SCRATCH/err" ||
        grep -q 'panicked\|RUST_BACKTRACE' "$SCRATCH/err"; then
        printf '%s: exit status %s, ought to be %s, and it said:\n' "$name" "$status" "$wanted"
        cat "$SCRATCH/err"
        exit 1
    fi
    printf '%s: %s\n' "$name" "$(grep "$pattern" "$SCRATCH/err" | head -n 1)"
}
# LIMITED KILOBYTES COMMAND...: runs it with no more memory than that.
LIMITED=(bash -c 'ulimit -v "$1"; shift; exec "$@"' limited)
# std itself ends a program whose new thread gets no signal stack; then another limit is tried, by
# which the thread is refused before.
refused=
for limit in 400000 400700 401400 402100 402800; do
    if (ends 'a thread that cannot be had' 1 '^storm: no thread for worker' \
        "${LIMITED[@]}" "$limit" "$STORM" "${SHORT[@]}" --threads 512); then
        refused=yes
        break
    fi
done
[ -n "$refused" ]
ends 'no memory' 1 '^storm: no memory for 1048576 pages' \
    "${LIMITED[@]}" 2000000 "$STORM" "${SHORT[@]}" --pages 1048576
ends 'no memory, in software' 1 '^storm: no memory for 65536 pages' \
    "${LIMITED[@]}" 600000 "$STORM" --seconds 0.2 --strategy wait --memory software --pages 65536
ends 'an input without an end' 0 '' "$STORM" "${SHORT[@]}" --input /dev/zero
ends 'an empty input' 1 'is empty' "$STORM" "${SHORT[@]}" --input /dev/null
ends 'a reader that went away' 1 'standard output: Broken pipe' \
    bash -c 'set -o pipefail; "$@" | true' pipe "$STORM" "${SHORT[@]}"
ends 'a full disk' 1 'standard output: No space left' \
    bash -c '"$@" >/dev/full' full "$STORM" "${SHORT[@]}"
ends 'a full disk for the results' 1 '/dev/full: No space left' \
    "$STORM" "${SHORT[@]}" --json /dev/full
ends 'a folder that is not there' 1 'No such file' \
    "$STORM" "${SHORT[@]}" --plot "$SCRATCH/no/where.svg"
[ ! -s "$SCRATCH/out" ] || { echo 'it ran before it found that it cannot write'; exit 1; }
ends 'more time than there is' 2 'between 0.001 and 3600' "$STORM" --seconds 1e300
# Its arithmetic is checked in this build too: see the profile in Cargo.toml.
ends 'the last seed' 0 '' "$STORM" "${SHORT[@]}" --seed 18446744073709551615
if chrt -f 20 true 2>/dev/null; then
    # On one processor, with threads that spin, and that no thread of their class can interrupt.
    cpu=$(taskset -cp $$ | sed 's/.*[ ,-]//')
    ends 'a real-time class' 0 '' timeout -s KILL 30 taskset -c "$cpu" chrt -f 20 \
        "$STORM" --seconds 0.5 --strategy retry --memory memfd --threads 4
else
    skipped 'no real-time class to be had, so the storm was not run in one'
fi

printf -- '-- what is printed\n'
for memory in both software; do
    ends "a table of $memory" 0 '' "$STORM" --seconds 0.1 --memory "$memory"
    # A path of the build's folder may be longer; nothing else is.
    awk 'NR > 2 && length > 80 && !/instead$/ { print; bad = 1 } END { exit bad }' \
        "$SCRATCH/out" || { echo 'wider than 80 columns'; exit 1; }
    grep -c '^wait, then lock  ' "$SCRATCH/out"
done
if command -v script >/dev/null; then
    # As on a terminal that says it has no columns.
    rows=$(script -qec "stty cols 0; $STORM --seconds 0.1 --memory software" /dev/null </dev/null |
        tr '\r' '\n' | grep -c '^wait, then lock  *[0-9N].*[0-9–]' || true)
    [ "$rows" -ge 1 ] || { echo 'no row in one line on a terminal without columns'; exit 1; }
fi

printf -- '-- pages that the kernel does not move back, as merged ones\n'
ends 'copied instead' 0 '' "$STORM" --without move-back --memory anon --strategy wait \
    --seconds 40 --work 20000 --must-finish --json "$SCRATCH/json"
if grep -q '"real_faults": true' "$SCRATCH/json"; then
    back=$(sed -n 's/.*"migrated_back": \([0-9]*\).*/\1/p' "$SCRATCH/json")
    echo "$back pages came back"
    [ "$back" -gt 0 ]
fi
