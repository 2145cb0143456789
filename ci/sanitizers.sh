#!/usr/bin/env bash
# Proves: the tests with many threads neither race (ThreadSanitizer, with std instrumented too) nor
# touch memory that is gone (AddressSanitizer), in the code that ships and on the real futex. Each
# sanitizer sees a seeded bug: a release that is not one, and a release that touches a header which
# is freed. The script fails if either goes unreported.
# Costs: 7 minutes cold, 3 of them compiling; about 4 minutes warm. Arguments: thread, address
# (both).
# Needs: x86-64 Linux. ThreadSanitizer is useless with a std that is not instrumented, so it also
# needs a std that it can compile: 110 MB of Debian packages, unpacked into the target folder and
# not installed. It says SKIPPED where they cannot be had.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

WHICH=("$@")
[ ${#WHICH[@]} -gt 0 ] || WHICH=(thread address)
# The modules in which threads meet. Left out: those of one thread (layout, words, lock_api, stats,
# the properties); shared, whose other processes no sanitizer follows; hmm, linux and the other
# modules of mm, which take the same paths as those here; and the soak, which runs for as long as it
# is told to. ThreadSanitizer does not see fences. mm/range/notifier.rs has two; in the tests of
# ranges nothing unsynchronised is behind them, so it reports nothing false. The two of
# futex/slot.rs order a count and no data. A missing fence is for loom to find.
TESTS=(lock wait refs mm signals mm_soak)
MODULES=(mutual_exclusion gate gate_rounds gate_crowd gate_leaving gate_releasing claim fault_race
    ptl holds wakes header cancel timeout sleeps limits slots
    counts unpinned stages freeze ways_out commit poison freeze_races
    batches drain moved skipped put_back lost fault_page pins pin_failures pin_races
    range range_ends range_changes stress)
HOST=x86_64-unknown-linux-gnu

if [ "$(rustc -vV | sed -n 's/^host: //p')" != "$HOST" ]; then
    skipped "the sanitizers' runtimes come with the toolchain for $HOST only"
    exit 0
fi
scratch

# package NAME TREE TEST...: a package for tests of TREE, without what benchmarks and examples need,
# and with a target folder of its own. Its manifest is in $MANIFEST.
package() {
    local folder=$TARGET/sanitizers/$1 tree=$2 test path
    shift 2
    mkdir -p "$folder"
    {
        cat <<MANIFEST
[package]
name = "sanitized"
version = "0.0.0"
edition = "2024"
autotests = false

[lib]
path = "lib.rs"

[features]
default = ["std"]
std = []

[dependencies]
pagelock = { path = "$tree" }

[dev-dependencies]
libc = "0.2.169"
crossbeam-utils = "0.8.20"
pagelock-soft = { path = "$tree/soft" }

[workspace]

[lints.rust]
unexpected_cfgs = "allow"

[profile.release]
debug = 1
debug-assertions = true

MANIFEST
        for test in "$@"; do
            path=$tree/tests/$test.rs
            [ -e "$path" ] || path=$tree/tests/$test/main.rs
            printf '[[test]]\nname = "%s"\npath = "%s"\n' "$test" "$path"
        done
    } >"$folder/Cargo.toml"
    : >"$folder/lib.rs"
    cp Cargo.lock "$folder/Cargo.lock"
    MANIFEST=$folder/Cargo.toml
}

# Allows `-Z` flags on a stable toolchain, for this alone.
export RUSTC_BOOTSTRAP=1 RUST_TEST_THREADS=2

# sanitized NAME ARGUMENT...: cargo test with these.
sanitized() {
    RUSTFLAGS="-Zsanitizer=$1" CARGO_TARGET_DIR=$TARGET/sanitizers/$1 \
        cargo test --quiet --manifest-path "$MANIFEST" --release --target "$HOST" "${@:2}"
}

# address ARGUMENT...: cargo test with these. Without leaks, because tests leak the platforms that
# they make, so that these outlive every thread.
address() {
    ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=1" sanitized address "$@"
}

# with_rust_source: a compiler and the source of its standard library, in $RUST. False if they
# cannot be had.
with_rust_source() {
    RUST=$TARGET/sanitizers/rust
    [ -e "$RUST/complete" ] && return
    local version library debs=$SCRATCH/debs
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return
    rm -rf "$RUST"
    mkdir -p "$debs" "$RUST"
    install /usr/lib/llvm-22/bin/llvm-config llvm-22 || return
    version=$(apt-cache madison rust-web-src | awk '{ print $3; exit }')
    [ -n "$version" ] || return
    library=libstd-rust-web-$(cut -d. -f1,2 <<<"$version")
    (
        cd "$debs" || return
        apt-get download -qq "rustc-web=$version" "libstd-rust-web-dev=$version" \
            "$library=$version" "rust-web-src=$version" 2>/dev/null
    ) || return
    local deb
    for deb in "$debs"/*.deb; do
        dpkg -x "$deb" "$RUST" || return
    done
    touch "$RUST/complete"
}

# thread ARGUMENT...: cargo test with these, and with std instrumented.
thread() {
    # The runtime comes with the installed toolchain.
    ln -sf "$(rustc --print sysroot)"/lib/rustlib/$HOST/lib/librustc-stable_rt.tsan.a \
        "$RUST/usr/lib/rustlib/$HOST/lib/"
    LD_LIBRARY_PATH=$RUST/usr/lib/x86_64-linux-gnu RUSTC=$RUST/usr/bin/rustc \
        TSAN_OPTIONS="halt_on_error=0" sanitized thread -Zbuild-std "$@"
}

# finds SANITIZER BUG REPORT FILE TEST: the test passes without the bug and, with it, makes the
# sanitizer say REPORT.
finds() {
    local sanitizer=$1 bug=$2 report=$3 file=$4 test=$5
    "$sanitizer" --test "$file" -- --exact "$test" >"$SCRATCH/without" 2>&1 || {
        cat "$SCRATCH/without"
        echo "$file:$test fails without any bug"
        return 1
    }
    grep -q '1 passed' "$SCRATCH/without" || { echo "there is no $file:$test"; return 1; }
    PAGELOCK_BUG=$bug "$sanitizer" --test "$file" -- --exact "$test" >"$SCRATCH/with" 2>&1 || true
    grep -q "$report" "$SCRATCH/with" || {
        cat "$SCRATCH/with"
        echo "the $sanitizer sanitizer does not see the bug $bug in $file:$test"
        return 1
    }
    echo "seeded bug $bug: $(grep -m1 -o "$report" "$SCRATCH/with")"
}

# seeded: a package for the tests that find the seeded bugs, in which PAGELOCK_BUG chooses one; see
# ci/seeded.sh.
seeded() {
    python3 ci/weave.py copy "$TARGET/sanitizers/tree"
    package seeded "$TARGET/sanitizers/tree" lock wait
}

for which in "${WHICH[@]}"; do
    if [ "$which" = thread ] && ! with_rust_source; then
        skipped "ThreadSanitizer: no Debian packages rustc-web and rust-web-src to instrument std"
        continue
    fi
    printf -- '-- %s sanitizer: %s\n' "$which" "${TESTS[*]}"
    package package "$PWD" "${TESTS[@]}"
    "$which" --no-fail-fast --test lock --test wait --test refs --test mm -- "${MODULES[@]/%/::}"
    "$which" --no-fail-fast --test signals --test mm_soak
    (
        seeded
        case $which in
            thread)
                finds thread lock/release.rs/release/state.fetch_add=Relaxed \
                    'ThreadSanitizer: data race' \
                    lock mutual_exclusion::what_one_owner_wrote_the_next_sees
                ;;
            address)
                finds address touched-after-release 'AddressSanitizer: heap-use-after-free' \
                    wait header::the_header_may_be_freed_before_anybody_is_woken
                ;;
        esac
    )
done
