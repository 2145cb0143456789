#!/usr/bin/env bash
# Proves: the hot paths execute no more instructions than ci/instructions.txt says. An emulator
# counts them, so the figures are the same on every x86-64 machine and in every run, and need no
# quiet one.
# Costs: a minute cold, 20 seconds warm. Installs valgrind if it is missing and can be had; says so
# if not.
#
# A count that grew is a failure. One that shrank is said, so that the file is brought up to date.
# The file names the compiler of its counts; with another one, a tenth or two instructions more
# pass, whichever is more.
#
#   --plain    only the counts, a name and a number on each line; nothing is judged
#   --update   writes ci/instructions.txt
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

MODE=${1:-judge}
LIMITS=ci/instructions.txt

if [ "$(uname -m)" != x86_64 ]; then
    skipped "the limits are for x86-64, and this is $(uname -m)" >&2
    exit 0
fi
if ! install valgrind valgrind >&2; then
    skipped "no valgrind, so no instructions were counted" >&2
    exit 0
fi
scratch
cargo bench --no-run -p pagelock-benches --bench instructions 2>&1 | tee "$SCRATCH/build" >&2
bin=$(sed -n 's/.*Executable.*(\(.*\))$/\1/p' "$SCRATCH/build")

# total WHAT ROUNDS: instructions of the whole program.
total() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bin" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
# per_round WHAT: the cost of 1000 more rounds, which leaves out the start and the end.
per_round() {
    local few many
    few=$(total "$1" 1000)
    many=$(total "$1" 2000)
    echo $(((many - few) / 1000))
}

overhead=$(per_round nothing)
"$bin" names | grep -v '^nothing$' | while read -r name; do
    echo "$name $(($(per_round "$name") - overhead))"
done >"$SCRATCH/counts"

compiler=$(rustc --version)
case $MODE in
--plain)
    cat "$SCRATCH/counts"
    exit 0
    ;;
--update)
    {
        echo "# Instructions of the hot paths, written by ci/instructions.sh --update: function"
        echo "# bodies without the return. The peers are here for comparison, and not judged."
        echo "compiler $compiler"
        cat "$SCRATCH/counts"
    } >"$LIMITS"
    cat "$LIMITS"
    exit 0
    ;;
esac

named=$(sed -n 's/^compiler //p' "$LIMITS")
exact=1
if [ "$compiler" != "$named" ]; then
    printf '\n*** The limits are for %s, and this is %s:\n' "$named" "$compiler"
    printf 'a tenth more, or two instructions, passes.\n\n'
    exact=
fi
status=0 shrank=0
while read -r name n; do
    limit=$(sed -n "s/^$name //p" "$LIMITS")
    printf '%-28s %4d instructions' "$name" "$n"
    case $name in
    raw-* | parking_lot-* | std-* | usync-*)
        printf '\n'
        continue
        ;;
    esac
    if [ -z "$limit" ]; then
        printf ': NO LIMIT in %s\n' "$LIMITS"
        status=1
        continue
    fi
    most=$limit
    [ -n "$exact" ] || most=$((limit + (limit / 10 > 2 ? limit / 10 : 2)))
    printf ', at most %d' "$most"
    if [ "$n" -gt "$most" ]; then
        printf ': TOO MANY'
        status=1
    elif [ "$n" -le 0 ]; then
        printf ': CANNOT BE'
        status=1
    elif [ "$n" -lt "$limit" ]; then
        printf ': fewer than before'
        shrank=1
    fi
    printf '\n'
done <"$SCRATCH/counts"
# Nobody would see a path grow that is no longer counted.
while read -r name _; do
    grep -q "^$name " "$SCRATCH/counts" || {
        printf '%-28s is in %s and was not counted\n' "$name" "$LIMITS"
        status=1
    }
done < <(grep -v '^#\|^compiler ' "$LIMITS")
if [ "$shrank" = 1 ] && [ -n "$exact" ]; then
    printf 'Some are fewer than %s says: run ci/instructions.sh --update,\n' "$LIMITS"
    printf 'and say in the commit why.\n'
fi
exit "$status"
