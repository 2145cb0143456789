#!/usr/bin/env bash
# Proves: the library compiles with the oldest compiler that Cargo.toml names as `rust-version`.
# Costs: half a minute. Unpacks Debian's build of that compiler into a temporary folder; nothing is installed. Says so if it cannot
# be had.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
scratch

# A rustup toolchain of that version will do as well.
if command -v rustup >/dev/null && rustup toolchain list | grep -q "^$wanted"; then
    rustc=$(rustup which --toolchain "$(rustup toolchain list | grep -m1 "^$wanted" | cut -d' ' -f1)" rustc)
else
    fetch() {
        command -v apt-get >/dev/null && command -v dpkg >/dev/null || return
        apt-get update -qq || apt-get update -qq || true
        local version
        version=$(apt-cache madison rustc-web | awk -v w="$wanted." 'index($3, w) == 1 { print $3; exit }')
        [ -n "$version" ] || return
        local llvm
        llvm=$(apt-cache show "libstd-rust-web-$wanted=$version" | grep -o -m1 'libllvm[0-9]*' || true)
        (
            cd "$SCRATCH"
            apt-get download -qq "rustc-web=$version" "libstd-rust-web-dev=$version" "libstd-rust-web-$wanted=$version" ${llvm:+"$llvm"}
            for deb in *.deb; do dpkg -x "$deb" rust; done
        )
    }
    if ! fetch && ! { sleep 5; fetch; }; then
        skipped "no compiler of version $wanted to be had, so \`rust-version\` was not checked"
        exit 0
    fi
    rustc=$SCRATCH/rust/usr/bin/rustc
    export LD_LIBRARY_PATH=$SCRATCH/rust/usr/lib/x86_64-linux-gnu
fi
"$rustc" --version
for features in '' 'std,lock_api,stats' 'std,shared'; do
    RUSTC=$rustc CARGO_TARGET_DIR=$SCRATCH/target cargo check --quiet --lib --no-default-features --features "$features"
done
printf 'compiles with %s\n' "$wanted"
