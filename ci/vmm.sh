#!/usr/bin/env bash
# The fault server's toolkit: its promises in software and on the kernel's memory (userfaultfd; where that is refused, one line says so),
# with all features and with none; its documentation; its example; and that the bench runs. About 90 seconds on two cores, once compiled.
export RUST_BACKTRACE=0
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cargo fmt -p pagelock-vmm --check
cargo clippy --quiet -p pagelock-vmm --all-targets --features shared,stats,tracing,vm-memory -- -D warnings
cargo clippy --quiet -p pagelock-vmm --all-targets -- -D warnings

# Compiled before, so that the limits are for what runs.
cargo test --quiet -p pagelock-vmm --features shared,stats,tracing,vm-memory --no-run
cargo test --quiet -p pagelock-vmm --no-run
cargo build --quiet -p pagelock-vmm --example server
cargo bench --quiet -p pagelock-vmm --no-run

out=$(mktemp)
trap 'rm -f "$out"' EXIT
timeout 300 cargo test --quiet -p pagelock-vmm --features shared,stats,tracing,vm-memory -- --show-output 2>&1 | tee "$out"
while read -r why; do skipped "${why#SKIPPED: }"; done < <(grep '^SKIPPED: ' "$out" | sort -u)
# As it is by default.
timeout 300 cargo test --quiet -p pagelock-vmm --test promises
RUSTDOCFLAGS='-D warnings' cargo doc --quiet -p pagelock-vmm --no-deps --features shared,stats,tracing,vm-memory
if ! grep -q 'userfaultfd is refused' "$out"; then
    timeout 60 cargo run --quiet -p pagelock-vmm --example server
    timeout 120 cargo bench --quiet -p pagelock-vmm -- quick
fi
