#!/usr/bin/env bash
# Proves: nothing is lost in a long run of everything at once on real memory: threads of changing priorities fault, migrate, pin, time
# out and are cancelled under a storm of signals, with delays at every step of the protocol. Whoever is stranded is reported in words.
# Costs: the time given, after 3 minutes cold for compiling. Arguments: seconds (60).
# Environment: PAGELOCK_SOAK_SEED, as printed by an earlier run, where random numbers start.
# Needs: Linux; the right to use userfaultfd, or it says that faults are taken in software only.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export PAGELOCK_SOAK_SECONDS=${1:-60}
# Optimised, but with the crate's own assertions; and apart from the ordinary build, which has other flags.
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_TARGET_DIR=$TARGET/delay
export RUSTFLAGS="--cfg pagelock_delay ${RUSTFLAGS:-}"
cargo test --quiet --release --features stats --test soak -- --ignored --nocapture
