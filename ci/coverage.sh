#!/usr/bin/env bash
# Proves: the tests reach at least 95 % of the lines of the core (src without mm), and the lines that they do not reach are those
# that docs/coverage.md gives a reason for.
# Costs: 2 minutes warm; 3 more to compile the tool cold. Installs cargo-llvm-cov and, from apt, the LLVM tools of the version that the
# compiler was built with; says so if they cannot be had.
#
#   ci/coverage.sh          the check
#   ci/coverage.sh --show   the lines that were not reached, with their text
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

VERSION=0.9.1
AT_LEAST=95

llvm=$(rustc --version --verbose | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
bin=/usr/lib/llvm-$llvm/bin
if [ ! -x "$bin/llvm-cov" ] && ! install "$bin/llvm-cov" "llvm-$llvm"; then
    skipped "no llvm-cov of version $llvm, so coverage was not measured"
    exit 0
fi
if [ "$(cargo llvm-cov --version 2>/dev/null)" != "cargo-llvm-cov $VERSION" ]; then
    cargo install --locked --quiet "cargo-llvm-cov@$VERSION"
fi
export LLVM_COV=$bin/llvm-cov LLVM_PROFDATA=$bin/llvm-profdata
scratch

# The unit tests and one file per promise, with all features; the shared-memory tests count in the processes that they fork as well.
cargo llvm-cov --quiet --all-features --lib --tests --no-report >"$SCRATCH/tests" 2>&1 || { cat "$SCRATCH/tests"; exit 1; }
cargo llvm-cov report --ignore-filename-regex '/(tests|benches|examples|mm)/|/src/futex/model\.rs' --summary-only
cargo llvm-cov report --ignore-filename-regex '/(tests|benches|examples|mm)/|/src/futex/model\.rs' --fail-under-lines "$AT_LEAST" --lcov --output-path "$SCRATCH/lcov"
awk -F'[:,]' '
    /^SF:/ { file = $2; sub(/.*\/src\//, "src/", file) }
    /^DA:/ && $3 == 0 { print file ":" $2 }
' "$SCRATCH/lcov" | sort -t: -k1,1 -k2,2n >"$SCRATCH/missed"
while IFS=: read -r file line; do
    printf '%s:%s: %s\n' "$file" "$line" "$(sed -n "${line}p" "$file" | sed 's/^ *//')"
done <"$SCRATCH/missed" | tee "$SCRATCH/lines"
