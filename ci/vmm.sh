#!/usr/bin/env bash
# Proves: the fault server's toolkit keeps its promises, in software and on the kernel's memory
# (userfaultfd; where that is refused, one line says so), with all features and with none; its
# documentation and example run, and so does the bench.
# Costs: about 30 seconds on two cores, once compiled.
export RUST_BACKTRACE=0
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

features=(--features "shared,stats,tracing,vm-memory")
toolkit=(--quiet -p pagelock-vmm)
cargo fmt -p pagelock-vmm --check
cargo clippy "${toolkit[@]}" --all-targets "${features[@]}" -- -D warnings
cargo clippy "${toolkit[@]}" --all-targets -- -D warnings

# Compiled first, so that the limits are for the runs alone.
cargo test "${toolkit[@]}" "${features[@]}" --no-run
cargo test "${toolkit[@]}" --no-run
cargo build "${toolkit[@]}" --example server
cargo bench "${toolkit[@]}" --no-run

out=$(mktemp)
trap 'rm -f "$out"' EXIT
timeout 300 cargo test "${toolkit[@]}" "${features[@]}" -- --show-output 2>&1 | tee "$out"
while read -r why; do skipped "${why#SKIPPED: }"; done < <(grep '^SKIPPED: ' "$out" | sort -u)
# As it is by default.
timeout 300 cargo test "${toolkit[@]}" --test promises
RUSTDOCFLAGS='-D warnings' cargo doc "${toolkit[@]}" --no-deps "${features[@]}"
if ! grep -q 'userfaultfd is refused' "$out"; then
    timeout 60 cargo run "${toolkit[@]}" --example server
    timeout 120 cargo bench "${toolkit[@]}" -- quick
fi
