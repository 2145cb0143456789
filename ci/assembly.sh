#!/usr/bin/env bash
# Shows: the machine code of the hot paths; ci/assembly.txt explains it line by line.
# Costs: a minute cold, 5 s warm. Needs objdump (binutils).
#
#   ci/assembly.sh [NAME]     prints all of them, or those whose name contains NAME
#   ci/assembly.sh --check    proves, on x86-64, of the code as compiled here: lock and unlock are
#                             two atomic read-modify-writes without a call or a stack frame on the
#                             way; a failed try_lock and is_locked read memory once and write none;
#                             and, with the compiler that ci/instructions.txt names, ci/assembly.txt
#                             shows this very code
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if ! install objdump binutils >&2; then
    skipped "no objdump" >&2
    exit 0
fi
scratch
cargo bench --no-run -p pagelock-benches --bench instructions 2>&1 | tee "$SCRATCH/build" >&2
bin=$(sed -n 's/.*Executable.*(\(.*\))$/\1/p' "$SCRATCH/build")

# The functions, one after another: the name with a colon, then its lines, each with its distance
# from the beginning. A jump shows the distance of its target, a call the name. Addresses are left
# out, so that two builds of the same code look the same.
objdump --disassemble --demangle --no-show-raw-insn "$bin" | awk '
    function number(hex,    i, n) {
        for (i = 1; i <= length(hex); i++)
            n = n * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
        return n
    }
    /^[0-9a-f]+ <instructions::fast_/ {
        name = $0; sub(/.*instructions::fast_/, "", name); sub(/>:$/, "", name)
        start = number($1); show = 1; print name ":"; next
    }
    /^$/ { if (show) print ""; show = 0 }
    show && !/int3/ {
        at = $1; sub(/:$/, "", at)
        line = $0; sub(/^[^\t]*\t/, "", line); gsub(/[ \t]+/, " ", line); sub(/ $/, "", line)
        if (line ~ /nop/) next
        if (match(line, /<instructions::fast_[a-z_]*(\+0x[0-9a-f]+)?>/)) {
            to = substr(line, RSTART, RLENGTH); sub(/.*\+0x/, "", to); sub(/>$/, "", to)
            if (to ~ /fast_/) to = "0"
            sub(/ [0-9a-f]+ <.*/, " " to, line)
        }
        sub(/ [0-9a-f]+ </, " <", line)
        gsub(/0x[0-9a-f]+\(%rip\) # [0-9a-f]+ <.*/, "(elsewhere)", line)
        printf "%4x  %s\n", number(at) - start, line
    }' >"$SCRATCH/all"
[ -s "$SCRATCH/all" ] || { echo "no function whose name begins with fast_ was found" >&2; exit 1; }

# body NAME: its lines, without the distances.
body() { awk -v name="$1:" '$0 == name { show = 1; next } /^$/ { show = 0 } show' "$SCRATCH/all"; }
# straight NAME: from the beginning to the first return, no jump taken: the uncontended path.
straight() { body "$1" | sed 's/^ *[0-9a-f]* *//' | sed '/^ret/q'; }

if [ "${1:-}" != --check ]; then
    awk -v want="${1:-}" 'BEGIN { RS = ""; ORS = "\n\n" } want == "" || index($1, want)' \
        "$SCRATCH/all"
    exit 0
fi
if [ "$(uname -m)" != x86_64 ]; then
    skipped "the checks are for x86-64, and this is $(uname -m)"
    exit 0
fi

status=0
expect() { # expect WHAT WANTED SEEN
    printf '%-60s %s' "$1" "$3"
    [ "$2" = "$3" ] || { printf ', ought to be %s: FAILED' "$2"; status=1; }
    printf '\n'
}
count() { grep -Ec "$1" || true; }
# A read-modify-write: a locked instruction, or an exchange with memory, which is always locked.
RMW='^lock |^xchg .*\('
# An operand in memory is in parentheses; lea only calculates.
MEMORY='\('

expect 'lock + unlock: atomic read-modify-writes' 2 "$(straight lock_unlock | count "$RMW")"
expect 'lock + unlock: calls on the way' 0 "$(straight lock_unlock | count '^call')"
expect 'lock + unlock: pushes and pops on the way' 0 "$(straight lock_unlock | count '^(push|pop)')"
for name in try_lock is_locked; do
    expect "$name (failing): atomic read-modify-writes" 0 "$(straight $name | count "$RMW")"
    expect "$name (failing): instructions that touch memory" 1 \
        "$(straight $name | grep -v '^lea' | count "$MEMORY")"
    expect "$name (failing): stores" 0 \
        "$(straight $name | count '^[a-z]+ [^(]*,[^,]*\([^)]*\)$|^(push|call)')"
    expect "$name (failing): ends with a return" 1 "$(straight $name | count '^ret')"
done

named=$(sed -n 's/^compiler //p' ci/instructions.txt 2>/dev/null || true)
if [ "$(rustc --version)" != "$named" ]; then
    printf '\n*** ci/assembly.txt was made with %s, and this is %s: not compared.\n' \
        "$named" "$(rustc --version)"
    exit "$status"
fi
# In that file the explanation follows a semicolon.
while read -r name; do
    shown=$(awk -v name="$name:" '$0 == name { show = 1; next } /^$|^#/ { show = 0 } show' \
        ci/assembly.txt | sed 's/ *;.*//')
    same=$([ "$shown" = "$(body "$name")" ] && echo same || echo another)
    expect "ci/assembly.txt: $name" same "$same"
done < <(sed -n 's/^\([a-z_]*\):$/\1/p' ci/assembly.txt)
grep -q '^[a-z_]*:$' ci/assembly.txt || { echo 'ci/assembly.txt shows no code'; status=1; }
exit "$status"
