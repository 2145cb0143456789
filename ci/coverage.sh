#!/usr/bin/env bash
# Proves: the tests reach at least 95 % of the lines of the core (src without mm), and
# ci/coverage.txt has each line that they do not reach, with a reason, as often as it is there.
# Costs: 2 minutes warm; 3 more to compile the tool and the crate cold. Installs cargo-llvm-cov and,
# from apt, the LLVM tools of the compiler's version; says so if they cannot be had.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

VERSION=0.9.1
AT_LEAST=95
# Tests, and what is not compiled into an ordinary build.
APART='/(tests|benches|examples|mm|shared|soft)/|/src/.*/tests\.rs|/src/mm/'
APART+='|/src/futex/model\.rs|/src/off\.rs'

llvm=$(rustc --version --verbose | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
bin=/usr/lib/llvm-$llvm/bin
if ! install "$bin/llvm-cov" "llvm-$llvm"; then
    skipped "no llvm-cov of version $llvm, so coverage was not measured"
    exit 0
fi
if [ "$(cargo llvm-cov --version 2>/dev/null)" != "cargo-llvm-cov $VERSION" ]; then
    cargo install --locked --quiet "cargo-llvm-cov@$VERSION"
fi
export LLVM_COV=$bin/llvm-cov LLVM_PROFDATA=$bin/llvm-profdata
scratch

# The data of an earlier run would be counted too, by the lines that the sources had then.
cargo llvm-cov clean --workspace
cargo llvm-cov --quiet --all-features --lib --tests --no-report >"$SCRATCH/tests" 2>&1 || {
    cat "$SCRATCH/tests"
    exit 1
}
report() { cargo llvm-cov report --ignore-filename-regex "$APART" "$@"; }
report --summary-only
report --lcov --output-path "$SCRATCH/lcov" 2>/dev/null
status=0
report --summary-only --fail-under-lines "$AT_LEAST" >/dev/null 2>&1 || {
    printf 'fewer than %d %% of the lines were reached\n' "$AT_LEAST"
    status=1
}

# Lines by their text, since numbers change with every edit. Those of unit tests are not the core's.
awk -F'[:,]' '
    /^SF:/ { file = $2; sub(/.*\/src\//, "src/", file) }
    /^DA:/ && $3 == 0 { print file, $2 }
' "$SCRATCH/lcov" | sort -k1,1 -k2,2n >"$SCRATCH/missed"
# The list: a text, and how many lines of that text may be missed: the number behind it, or one.
declare -A allowed missed places
while IFS= read -r text; do
    number=1
    if [[ $text =~ ^(.*)\ \(([0-9]+)\)$ ]]; then
        text=${BASH_REMATCH[1]} number=${BASH_REMATCH[2]}
    fi
    allowed[$text]=$number
done < <(grep -Ev '^(#|$)' ci/coverage.txt)
while read -r file line; do
    tests=$(grep -n -m1 '^mod tests {' "$file" | cut -d: -f1 || true)
    [ "$line" -lt "${tests:-1000000}" ] || continue
    text="$file: $(sed -n "${line}p" "$file" | sed 's/^ *//')"
    missed[$text]=$((${missed[$text]:-0} + 1))
    places[$text]+=" $line"
done <"$SCRATCH/missed"
for text in "${!missed[@]}"; do
    if [ "${missed[$text]}" -gt "${allowed[$text]:-0}" ]; then
        printf 'not reached %d times, of which ci/coverage.txt explains %d: %s (lines%s)\n' \
            "${missed[$text]}" "${allowed[$text]:-0}" "$text" "${places[$text]}"
        status=1
    fi
done
exit "$status"
