#!/usr/bin/env bash
# Proves: nothing is lost in a long run of everything at once on real memory: threads of changing priorities fault, migrate, pin, time
# out and are cancelled under a storm of signals, with delays at every step of the protocol. Whoever is stranded is reported in words.
# And before: whatever step of whatever call a thread dies at, there is a way back; and twelve threads that do everything at once to the
# memory manager in software, with everything failing that can, for as long.
# A run in which something of that never happened fails; docs/soak.md says what the long ones came to.
# Costs: the time given twice, after 3 minutes cold for compiling. Arguments: seconds (60).
# Environment: PAGELOCK_SOAK_SEED, as printed by an earlier run, where random numbers start; PAGELOCK_SOAK_MIN_FAULTS, so many there must
# be in all (100 for each second, a tenth of what the slowest run so far had).
# Needs: Linux; the right to use userfaultfd, or it says that faults are taken in software only.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export PAGELOCK_SOAK_SECONDS=${1:-60}
export PAGELOCK_SOAK_MIN_FAULTS=${PAGELOCK_SOAK_MIN_FAULTS:-$((PAGELOCK_SOAK_SECONDS * 100))}
# Optimised, but with the crate's own assertions; and apart from the ordinary build, which has other flags.
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_TARGET_DIR=$TARGET/delay
export RUSTFLAGS="--cfg pagelock_delay ${RUSTFLAGS:-}"
scratch
# A thread that dies at any of those steps leaves what a survivor can mend.
cargo test --quiet --release --features stats --test killed
# Over the software memory manager, with all that it can do and all that can be made to fail.
cargo test --quiet --release --features stats --test mm_soak -- --nocapture
cargo test --quiet --release --features stats --test soak -- --ignored --nocapture 2>&1 | tee "$SCRATCH/out"
# It goes on without what cannot be had. With this script it has the delays, or the steps have lost their hook.
grep -q 'soak: NO DELAYS' "$SCRATCH/out" && { echo 'there were no delays'; exit 1; }
missing=$(sed -n 's/^soak: \(.*no real page faults.*\)/\1/p' "$SCRATCH/out" | sort -u)
[ -z "$missing" ] || skipped "real faults: $missing"
