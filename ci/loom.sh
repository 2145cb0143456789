#!/bin/sh
# Explores every model in tests/loom, one process each, because a stranded sleeper is a deadlock and that aborts the process.
#
# Bound: at most two preemptions in an execution, three where the model says so. LOOM_MAX_PREEMPTIONS=n sets it for all.
# Cost: about 15 s on two cores for the models (35 s without nextest), after a first build of about 100 s of processor time.
# Needs: cargo, and the dependencies fetched. Uses cargo-nextest if it is there.
#
#   ci/loom.sh            all models
#   ci/loom.sh fair       those with "fair" in their names
set -eu
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg pagelock_loom ${RUSTFLAGS:-}"
# Optimised, but with the crate's own assertions; and apart from the ordinary build, which has other flags.
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
filter="${1:-}"

if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --release --test loom --no-fail-fast $filter
fi

cargo test --release --test loom --no-run
models="$(cargo test --quiet --release --test loom -- --list "$filter" | sed -n 's/: test$//p')"
[ -n "$models" ] || { echo "no model is called '$filter'" >&2; exit 1; }
failed=""
for model in $models; do
    if ! cargo test --quiet --release --test loom -- --exact "$model" --nocapture; then
        failed="$failed $model"
    fi
done
if [ -n "$failed" ]; then
    echo "failed:$failed" >&2
    exit 1
fi
