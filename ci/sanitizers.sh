#!/usr/bin/env bash
# Proves: the tests that run many threads neither race (ThreadSanitizer, with std instrumented too) nor touch memory that is gone
# (AddressSanitizer), in the code that ships and on the real futex.
# Costs: 5 minutes cold, 2 of them compiling; about 2 minutes warm. Arguments: thread, address (both).
# Needs: x86-64 Linux. For ThreadSanitizer also a standard library that it can compile: 110 MB of Debian packages, unpacked into a
# temporary folder and not installed. Where they cannot be had it says SKIPPED, as it is useless with a library that is not instrumented.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

WHICH=("$@")
[ ${#WHICH[@]} -gt 0 ] || WHICH=(thread address)
# One file per promise; these are the ones in which threads meet.
TESTS=(mutual_exclusion handoff wait claim cancel_timeout counts fault_race)
HOST=x86_64-unknown-linux-gnu

if [ "$(rustc -vV | sed -n 's/^host: //p')" != "$HOST" ]; then
    skipped "the sanitizers' runtimes come with the toolchain for $HOST only"
    exit 0
fi
scratch

# A package of its own for those tests: it needs none of the things that benchmarks and examples do, and its target folder is apart.
mkdir -p "$TARGET/sanitizers/package"
PACKAGE=$TARGET/sanitizers/package
{
    printf '[package]\nname = "sanitized"\nversion = "0.0.0"\nedition = "2024"\nautotests = false\n\n[lib]\npath = "lib.rs"\n'
    printf '[dependencies]\npagelock = { path = "%s" }\n[dev-dependencies]\nlibc = "0.2.169"\n' "$PWD"
    printf '[workspace]\n[lints.rust]\nunexpected_cfgs = "allow"\n[profile.release]\ndebug = 1\ndebug-assertions = true\n'
    for test in "${TESTS[@]}"; do
        printf '[[test]]\nname = "%s"\npath = "%s"\n' "$test" "$PWD/tests/$test.rs"
    done
} >"$PACKAGE/Cargo.toml"
: >"$PACKAGE/lib.rs"
cp Cargo.lock "$PACKAGE/Cargo.lock"

# `-Z` flags on a toolchain that is not nightly, for this alone.
export RUSTC_BOOTSTRAP=1 RUST_TEST_THREADS=2

# Leaks are not looked for: tests leak the platforms that they make, to have them for as long as anybody may need them.
address() {
    RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=1" CARGO_TARGET_DIR=$TARGET/sanitizers/address \
        cargo test --quiet --manifest-path "$PACKAGE/Cargo.toml" --release --target "$HOST" --tests
}

# with_rust_source: a compiler and the source of its standard library, in $RUST. False if they cannot be had.
with_rust_source() {
    RUST=$TARGET/sanitizers/rust
    [ -e "$RUST/complete" ] && return
    local version debs=$SCRATCH/debs
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return
    rm -rf "$RUST"
    mkdir -p "$debs" "$RUST"
    install /usr/lib/llvm-22/bin/llvm-config llvm-22 || return
    version=$(apt-cache madison rust-web-src | awk '{ print $3; exit }')
    [ -n "$version" ] || return
    (
        cd "$debs"
        apt-get download -qq "rustc-web=$version" "libstd-rust-web-dev=$version" "libstd-rust-web-$(cut -d. -f1,2 <<<"$version")=$version" "rust-web-src=$version" 2>/dev/null
    ) || return
    local deb
    for deb in "$debs"/*.deb; do
        dpkg -x "$deb" "$RUST" || return
    done
    touch "$RUST/complete"
}

thread() {
    if ! with_rust_source; then
        skipped "ThreadSanitizer: no Debian packages rustc-web and rust-web-src, so std cannot be instrumented"
        return
    fi
    # The runtime comes with the installed toolchain.
    ln -sf "$(rustc --print sysroot)"/lib/rustlib/$HOST/lib/librustc-stable_rt.tsan.a "$RUST/usr/lib/rustlib/$HOST/lib/"
    LD_LIBRARY_PATH=$RUST/usr/lib/x86_64-linux-gnu RUSTC=$RUST/usr/bin/rustc RUSTFLAGS="-Zsanitizer=thread" \
        TSAN_OPTIONS="halt_on_error=0" CARGO_TARGET_DIR=$TARGET/sanitizers/thread \
        cargo test -Zbuild-std --quiet --manifest-path "$PACKAGE/Cargo.toml" --release --target "$HOST" --tests --no-fail-fast
}

for which in "${WHICH[@]}"; do
    printf -- '-- %s sanitizer: %s\n' "$which" "${TESTS[*]}"
    "$which"
done
