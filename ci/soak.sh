#!/usr/bin/env bash
# Proves: nothing is lost in a long run of everything at once on real memory: threads of changing
# priorities fault, migrate, pin, time out and are cancelled under a storm of signals, with delays
# at every step of the protocol. A stranded thread is reported in words. Before that: at whatever
# step of whatever call a thread dies, there is a way back; and twelve threads do everything at once
# to the memory manager in software, with every possible failure, for as long.
# A run in which one of these never happened fails; docs/soak.md has the results of long ones.
# Costs: the time given twice, after 3 minutes cold for compiling. Arguments: seconds (60).
# Environment: PAGELOCK_SOAK_SEED, as printed by an earlier run, starts the random numbers;
# PAGELOCK_SOAK_MIN_FAULTS, the least number of faults in all (100 for each second, a tenth of the
# slowest run so far).
# Needs: Linux; the right to use userfaultfd, or it says that faults are taken in software only.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export PAGELOCK_SOAK_SECONDS=${1:-60}
export PAGELOCK_SOAK_MIN_FAULTS=${PAGELOCK_SOAK_MIN_FAULTS:-$((PAGELOCK_SOAK_SECONDS * 100))}
# Optimised, but with the crate's own assertions. The ordinary build has other flags, so this one
# has a target folder of its own.
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_TARGET_DIR=$TARGET/delay
export RUSTFLAGS="--cfg pagelock_delay ${RUSTFLAGS:-}"
scratch
# A survivor can mend what a thread leaves that dies at any of these steps.
cargo test --quiet --release --features stats --test killed
# Over the software memory manager, with all that it can do and every failure.
cargo test --quiet --release --features stats --test mm_soak -- --nocapture
cargo test --quiet --release --features stats --test soak -- --ignored --nocapture 2>&1 |
    tee "$SCRATCH/out"
# The soak goes on without what cannot be had. With this script it has the delays, unless the steps
# have lost their hook.
grep -q 'soak: NO DELAYS' "$SCRATCH/out" && { echo 'there were no delays'; exit 1; }
missing=$(sed -n 's/^soak: \(.*no real page faults.*\)/\1/p' "$SCRATCH/out" | sort -u)
[ -z "$missing" ] || skipped "real faults: $missing"
