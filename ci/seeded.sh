#!/usr/bin/env bash
# Proves: each bug of ci/seeded.list, put into the crate by itself, is found by the tests, models or scenarios that must find it; and
# that those pass without it. Fails if a bug survives. And: nothing of them is in a normal build, whose machine code is the same
# with every seeded!("name") replaced by false.
# Costs: about 6 minutes on two cores, most of it waiting for watchdogs (5 minutes more with nothing compiled, cargo-fuzz among it).
#
#   ci/seeded.sh                 every bug, until its first finder
#   ci/seeded.sh --all           every bug, all of its finders
#   ci/seeded.sh promise         the bugs with "promise" in their names
#   ci/seeded.sh --write         as --all, and the table in docs/seeded.md is written anew
#
# By hand: cargo test with RUSTFLAGS='--cfg pagelock_bug="NAME"'.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scratch
arguments=()
for argument in "$@"; do
    case $argument in
        --write) arguments+=(--all --table docs/seeded.md) ;;
        *) arguments+=("$argument") ;;
    esac
done
# Twice at the same place, so that only the sources differ. The program is the one that ci/no_std.sh links: it uses most of the crate.
normal_build() {
    CARGO_TARGET_DIR=$SCRATCH/target cargo build --quiet --locked --release --manifest-path "$SCRATCH/tree/ci/no_std_proof/Cargo.toml"
    objdump --disassemble --no-show-raw-insn "$SCRATCH/target/release/no_std_proof"
}
if [ "$(uname -sm)" = "Linux x86_64" ] && install objdump binutils; then
    mkdir "$SCRATCH/tree"
    cp -r Cargo.toml Cargo.lock README.md docs src benches examples tests ci "$SCRATCH/tree"
    normal_build >"$SCRATCH/with"
    find "$SCRATCH/tree/src" -name '*.rs' -exec sed -i 's/seeded!("[^"]*")/false/g; s/^use crate::seeded::seeded;$//' {} +
    grep -rq 'seeded!("[a-z]' "$SCRATCH/tree/src" --include=*.rs --exclude=seeded.rs && { echo 'not all were replaced'; exit 1; }
    normal_build >"$SCRATCH/without"
    cmp "$SCRATCH/with" "$SCRATCH/without" || { echo 'a seeded bug is in a normal build'; exit 1; }
    echo "a normal build is the same $(wc -l <"$SCRATCH/with") lines of disassembly without them"
else
    skipped "a comparison of machine code: that is written for x86-64 Linux with objdump"
fi

kinds=$(grep -v '^#' ci/seeded.list | awk -F'|' 'NF { print $2 }' | xargs -n1 | cut -d: -f1 | sort -u)
with_bugs $kinds >"$SCRATCH/programs"
export PAGELOCK_SCHEDULES=${PAGELOCK_SCHEDULES:-2000}
python3 ci/seeded.py bugs "$SCRATCH/programs" "${arguments[@]}"
