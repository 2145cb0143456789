#!/usr/bin/env bash
# Proves: the tests notice when the core (src without mm) is changed. Every mutant that
# cargo-mutants makes (an operator replaced, a match arm deleted, a function that returns something
# else at once) fails a test, or ci/mutants.txt has the reason why it need not. A run of all mutants
# also shows that those in the list do survive.
# Costs: 20 minutes on two cores for the first round, most of it waiting for tests that hang, and up
# to 25 to repeat those that hang, one on each processor; 5 more to compile cargo-mutants. Not in
# .ci/run. Needs python3.
#
# cargo-mutants names the mutants. They are not compiled one by one: ci/mutants.py writes all of
# them into one build, in a copy, and runs its tests once for each. Mutants of constants cannot be
# chosen at run time and are left out; the tests of the layout and the encoding contain the
# constants' values.
#
#   ci/mutants.sh           all of them
#   ci/mutants.sh 1/8       one eighth
#   ci/mutants.sh lock/     those with this, a regular expression, in their names
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

VERSION=27.1.0

if ! command -v python3 >/dev/null; then
    skipped "no python3, so there were no mutants"
    exit 0
fi
if [ "$(cargo mutants --version 2>/dev/null)" != "cargo-mutants $VERSION" ]; then
    cargo install --locked --quiet "cargo-mutants@$VERSION"
fi
scratch
cargo mutants --list --json --all-features --file 'src/**/*.rs' --exclude 'src/mm/**' \
    --exclude src/futex/model.rs --exclude src/docs.rs --exclude src/sync.rs \
    --exclude 'src/**/tests.rs' >"$SCRATCH/list"
mkdir "$SCRATCH/copy"
cp -r Cargo.toml Cargo.lock README.md docs src soft tests examples benches "$SCRATCH/copy"
core_alone "$SCRATCH/copy"
export CARGO_TARGET_DIR=$TARGET/mutants
python3 ci/mutants.py prepare "$SCRATCH/list" "$SCRATCH/copy"
# The names that ci/mutants.txt explains.
grep -Ev '^(#|$)' ci/mutants.txt >"$SCRATCH/known"
status=0
python3 ci/mutants.py run "$SCRATCH/copy" "$SCRATCH/known" "$@" || status=$?
cp "$SCRATCH/copy/outcomes.tsv" "$TARGET/mutants/outcomes.tsv"
exit "$status"
