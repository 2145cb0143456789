#!/usr/bin/env bash
# Proves: on other processors the library compiles without a warning, and its own tests and those of its behaviour pass: 32 bits
# (i686, natively), AArch64 (under qemu-user); by hand ARMv7 and s390x (big-endian). With musl, and where there is no operating system, it
# compiles; on a processor without compare-and-swap, or under a system that the crate does not know, it says so.
# Usage: ci/foreign.sh [i686 | aarch64 | armv7 | s390x | musl | bare | refusals]...; without arguments i686, aarch64, and refusals.
# Costs: 5 minutes of a processor cold, 170 MB of Debian's compilers and standard libraries, unpacked into the target folder and not installed; cross
# linkers and qemu-user are installed. Says so where something cannot be had.
#
# An emulated processor orders memory as this one does: what a weaker one would show is for the models (loom, shuttle).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ "$(uname -sm)" = "Linux x86_64" ] || {
    skipped "the recipes are for x86-64 Linux, and this is $(uname -sm)"
    exit 0
}
HOME_OF_IT=$TARGET/foreign
# The compiler that Debian has a standard library of for every processor.
RELEASE=1.85
# What is run. Not: storms, processes that are killed, signals in time, which say nothing more here, or not under an emulator.
TESTS=(--lib)
for test in claim counts gate layout migration_stages mm_edges mm_migrate mutual_exclusion take_over wait; do
    TESTS+=(--test "$test")
done

# apt_aside: apt knows the packages of all processors, in a state of its own.
apt_aside() {
    mkdir -p "$HOME_OF_IT"/apt/{state/lists/partial,cache/archives/partial} "$HOME_OF_IT/debs"
    cat >"$HOME_OF_IT/apt/apt.conf" <<CONF
Dir::State "$HOME_OF_IT/apt/state";
Dir::State::status "/dev/null";
Dir::Cache "$HOME_OF_IT/apt/cache";
APT::Architectures { "amd64"; "arm64"; "armhf"; "i386"; "s390x"; };
Acquire::Languages "none";
CONF
    export APT_CONFIG=$HOME_OF_IT/apt/apt.conf
}

# unpacked PACKAGE[:ARCH]...: each of them lies under $HOME_OF_IT/root. False if one cannot be had.
unpacked() {
    local package version
    for package in "$@"; do
        [ ! -e "$HOME_OF_IT/debs/$package" ] || continue
        (
            apt_aside
            [ -e "$HOME_OF_IT/apt/known" ] || apt-get update -qq || apt-get update -qq || true
            touch "$HOME_OF_IT/apt/known"
            version=$(apt-cache madison "$package" | awk -v w="$RELEASE." 'index($3, w) == 1 { print $3; exit }')
            rm -rf "$HOME_OF_IT/new" && mkdir "$HOME_OF_IT/new" && cd "$HOME_OF_IT/new"
            apt-get download -qq "$package${version:+=$version}" || { sleep 5; apt-get download -qq "$package${version:+=$version}"; }
            dpkg -x ./*.deb "$HOME_OF_IT/root"
            rm ./*.deb
        ) || return
        touch "$HOME_OF_IT/debs/$package"
    done
}

# compiler: Debian's, in $RUSTC.
compiler() {
    unpacked rustc-web "libstd-rust-web-$RELEASE" libllvm19 libstd-rust-web-dev || return
    RUSTC=$HOME_OF_IT/rustc
    cat >"$RUSTC" <<WRAPPER
#!/bin/sh
export LD_LIBRARY_PATH=$HOME_OF_IT/root/usr/lib/x86_64-linux-gnu
exec $HOME_OF_IT/root/usr/bin/rustc --sysroot $HOME_OF_IT/root/usr "\$@"
WRAPPER
    chmod +x "$RUSTC"
    export RUSTC
    "$RUSTC" --version >/dev/null
}

# processor NAME: its TRIPLE, DEBIAN's name, GNU's name, and the emulator's, if there has to be one.
processor() {
    case $1 in
        i686) TRIPLE=i686-unknown-linux-gnu DEBIAN=i386 GNU=i686-linux-gnu QEMU='' ;;
        aarch64) TRIPLE=aarch64-unknown-linux-gnu DEBIAN=arm64 GNU=aarch64-linux-gnu QEMU=aarch64 ;;
        armv7) TRIPLE=armv7-unknown-linux-gnueabihf DEBIAN=armhf GNU=arm-linux-gnueabihf QEMU=arm ;;
        s390x) TRIPLE=s390x-unknown-linux-gnu DEBIAN=s390x GNU=s390x-linux-gnu QEMU=s390x ;;
    esac
}

# tree: a copy of the core with the few packages that these tests need, in $TREE. The others take longer to compile than all the rest.
tree() {
    TREE=$HOME_OF_IT/tree
    rm -rf "$TREE"
    mkdir -p "$TREE"
    cp -rp Cargo.lock README.md docs src soft tests examples "$TREE"
    awk '/^\[/ { keep = !/^\[\[(bench|example)\]\]|^\[workspace|^\[profile/; dev = /dev-dependencies\]$/ }
        keep && (!dev || /^\[|^$|^(libc|proptest|pagelock-soft|rustix) /)' Cargo.toml >"$TREE/Cargo.toml"
    echo '[workspace]' >>"$TREE/Cargo.toml"
}

# tests NAME: the library's tests and those of its behaviour, on that processor. Linked statically, so that no foreign loader is needed.
tests() {
    local name=$1 upper
    processor "$name"
    printf -- '-- %s\n' "$TRIPLE"
    local started=$SECONDS
    compiler && unpacked "libstd-rust-web-dev:$DEBIAN" && install "$GNU-gcc" "gcc-$GNU" "libc6-dev-$DEBIAN-cross" || {
        skipped "no compiler for $TRIPLE to be had"
        return
    }
    upper=$(tr 'a-z-' 'A-Z_' <<<"$TRIPLE")
    export "CARGO_TARGET_${upper}_LINKER=$GNU-gcc"
    if [ -n "$QEMU" ]; then
        install "qemu-$QEMU-static" qemu-user-static || {
            skipped "no emulator of $TRIPLE to be had"
            return
        }
        export "CARGO_TARGET_${upper}_RUNNER=qemu-$QEMU-static"
    fi
    export "CARGO_TARGET_${upper}_RUSTFLAGS=-C target-feature=+crt-static -D warnings"
    export CARGO_TARGET_DIR=$HOME_OF_IT/target CARGO_PROFILE_DEV_DEBUG=0
    local log=$HOME_OF_IT/$name.log
    (cd "$TREE" && cargo test --quiet --ignore-rust-version --target "$TRIPLE" "${TESTS[@]}") >"$log" 2>&1 || {
        grep -vE '^$|^running|^\.+$|^test result: ok' "$log" | head -100
        return 1
    }
    awk '/^test result/ { passed += $4; failed += $6; ignored += $8 } END { printf "%d passed, %d failed, %d ignored", passed, failed, ignored }' "$log"
    printf ', in %d s with compiling\n' $((SECONDS - started))
}

# core_of TRIPLE: the compiler's own library for that processor, made from its sources, as far as to compile against it: Debian has it
# for no processor without a system.
core_of() {
    local to=$HOME_OF_IT/root/usr/lib/rustlib/$1/lib
    compiler || return
    [ ! -e "$to/libcompiler_builtins.rmeta" ] || return 0
    unpacked rust-web-src || return
    local library
    library=$(ls -d "$HOME_OF_IT"/root/usr/src/rustc-"$RELEASE"*/library)
    mkdir -p "$to"
    export RUSTC_BOOTSTRAP=1
    "$RUSTC" --edition 2021 --crate-type rlib --crate-name core --emit metadata -Z always-encode-mir --target "$1" --cap-lints allow \
        -Z force-unstable-if-unmarked --out-dir "$to" "$library/core/src/lib.rs" || return
    # What a program would need besides is not asked for by a library.
    printf '#![no_core]\n#![feature(no_core, compiler_builtins)]\n#![compiler_builtins]\n' >"$HOME_OF_IT/nothing.rs"
    "$RUSTC" --edition 2021 --crate-type rlib --crate-name compiler_builtins --emit metadata --target "$1" --cap-lints allow \
        -Z force-unstable-if-unmarked --out-dir "$to" "$HOME_OF_IT/nothing.rs" || return
    unset RUSTC_BOOTSTRAP
}

# builds TRIPLE: that the library compiles for it, without an operating system and without a warning.
builds() {
    printf -- '-- %s, compiling only\n' "$1"
    core_of "$1" || {
        skipped "no core for $1 to be had"
        return
    }
    (cd "$TREE" && RUSTFLAGS="-D warnings" CARGO_TARGET_DIR=$HOME_OF_IT/target cargo build --quiet --ignore-rust-version --lib --no-default-features --target "$1")
}

# refuses TRIPLE WHAT: that the library does not compile for it, and says WHAT.
refuses() {
    printf -- '-- %s, refused\n' "$1"
    core_of "$1" || {
        skipped "no core for $1 to be had"
        return
    }
    local said
    if said=$(cd "$TREE" && CARGO_TARGET_DIR=$HOME_OF_IT/target cargo check --quiet --ignore-rust-version --lib --no-default-features --target "$1" 2>&1); then
        echo "it compiles for $1"
        return 1
    fi
    grep -q -- "$2" <<<"$said" || { printf 'it fails for another reason than that %s:\n%s\n' "$2" "$said"; return 1; }
}

bare() {
    builds x86_64-unknown-none
    builds riscv64gc-unknown-none-elf
    builds thumbv7em-none-eabi
}

refusals() {
    refuses thumbv6m-none-eabi 'this processor has none'
    refuses x86_64-unknown-hermit 'does not know how to sleep'
}

# Debian has no standard library for it: that the futex calls compile with its types is what can be seen.
musl() {
    builds x86_64-unknown-linux-musl
}

# Each in a shell of its own, so that one that fails does not keep the others from running.
failed=0
tree
for what in "${@:-i686 aarch64 refusals}"; do
    for what in $what; do
        set +e
        (
            set -e
            case $what in
                bare | refusals | musl) "$what" ;;
                *) tests "$what" ;;
            esac
        )
        status=$?
        set -e
        [ "$status" = 0 ] || { printf '%s: FAILED\n' "$what"; failed=1; }
    done
done
exit "$failed"
