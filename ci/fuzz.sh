#!/usr/bin/env bash
# Proves: no input that a fuzzer reaches in the time tells the crate from plain models of it:
#   words     the two words, against plain fields
#   leaf      leaf entries, against the layout that the documentation draws
#   page      the whole API: any sequence of operations on a few pages; no error changes anything
#   schedule  simulated threads fault, migrate, pin, wait and cancel; the input picks the thread
#             that takes each step of the protocol
# and, against no model, that each call returns and harms nothing:
#   segment   arbitrary segments, and calls on them with a hostile peer's writes between them
# Costs: 2 to 3 minutes cold (cargo-fuzz and its library are compiled), then the time given for each
# target.
# Arguments: seconds for each (30), then the targets (all).
# Environment: RUSTC_BOOTSTRAP=1 PAGELOCK_SANITIZER=address adds AddressSanitizer.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

FOR=${1:-30}
TARGETS=("${@:2}")
[ ${#TARGETS[@]} -gt 0 ] || TARGETS=(words leaf page schedule segment)

cargo_fuzz
scratch
for target in "${TARGETS[@]}"; do
    printf -- '-- %s\n' "$target"
    mkdir -p "$SCRATCH/$target"
    # The corpus is thrown away: what is worth keeping goes to fuzz/seeds.
    fuzzer run "$target" "$SCRATCH/$target" "fuzz/seeds/$target" -- -max_total_time="$FOR" \
        -max_len=512 -timeout=60 -artifact_prefix="$SCRATCH/" -print_final_stats=1 \
        2>"$SCRATCH/log" || {
        cat "$SCRATCH/log" >&2
        for found in "$SCRATCH"/crash-* "$SCRATCH"/timeout-*; do
            [ -e "$found" ] || continue
            printf 'input that fails %s, base64: %s\n' "$target" "$(base64 -w0 "$found")"
        done
        exit 1
    }
    grep -E '^(#.*(INITED|DONE)|stat::(number_of_executed_units|average_exec))' "$SCRATCH/log"
    # cargo-fuzz always makes these.
    rmdir fuzz/{artifacts,corpus}/"$target" fuzz/{artifacts,corpus} 2>/dev/null || true
done
