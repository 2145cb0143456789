#!/usr/bin/env bash
# Proves: the library compiles for other processors without a warning. Its own tests and those of
# its behaviour pass on 32 bits (i686, natively) and AArch64 (under qemu-user), and by hand on ARMv7
# and s390x (big-endian). It compiles with musl, and without an operating system. On a processor
# without compare-and-swap, and under a system that the crate does not know, the error says so.
# Costs: 5 minutes of processor time cold. 170 MB of Debian's compilers and standard libraries are
# unpacked into the target folder; cross linkers and qemu-user are installed. Says so where
# something cannot be had.
#
#   ci/foreign.sh              i686, aarch64, refusals
#   ci/foreign.sh NAME...      these: i686, aarch64, armv7, s390x, musl, bare, refusals
#
# An emulated processor orders memory as this one does. What a weaker one may do is explored by the
# models (loom, shuttle).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ "$(uname -sm)" = "Linux x86_64" ] || {
    skipped "the recipes are for x86-64 Linux, and this is $(uname -sm)"
    exit 0
}
FOREIGN=$TARGET/foreign
# Debian has a standard library of this compiler for every processor.
RELEASE=1.85
# Without storms, killed processes and timed signals: they show nothing more here, or do not run
# under an emulator.
TESTS=(--test lock --test wait --test refs --test mm --
    claim:: gate:: gate_rounds:: layout:: mutual_exclusion:: take_over::
    ptl:: holds:: wakes:: header::
    counts:: stages:: freeze:: ways_out:: commit:: poison:: freeze_races::
    waiting:: forks:: losses:: room:: carried:: exclusive:: moved:: skipped:: put_back:: lost::
    fault_page::)

# apt_aside: apt knows the packages of all processors, in a state of its own.
apt_aside() {
    mkdir -p "$FOREIGN"/apt/{state/lists/partial,cache/archives/partial} "$FOREIGN/debs"
    cat >"$FOREIGN/apt/apt.conf" <<CONF
Dir::State "$FOREIGN/apt/state";
Dir::State::status "/dev/null";
Dir::Cache "$FOREIGN/apt/cache";
APT::Architectures { "amd64"; "arm64"; "armhf"; "i386"; "s390x"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
CONF
    export APT_CONFIG=$FOREIGN/apt/apt.conf
}

# twice COMMAND...: runs it again after a moment if it fails, because mirrors hiccup.
twice() {
    "$@" || { sleep 5; "$@"; }
}

# unpacked PACKAGE[:ARCH]...: each lies under $FOREIGN/root. False if one cannot be had.
unpacked() {
    local package version
    for package in "$@"; do
        [ ! -e "$FOREIGN/debs/$package" ] || continue
        (
            apt_aside
            [ -e "$FOREIGN/apt/known" ] || twice apt-get update -qq || true
            touch "$FOREIGN/apt/known"
            version=$(apt-cache madison "$package" |
                awk -v w="$RELEASE." 'index($3, w) == 1 { print $3; exit }')
            rm -rf "$FOREIGN/new" && mkdir "$FOREIGN/new" && cd "$FOREIGN/new"
            twice apt-get download -qq "$package${version:+=$version}"
            dpkg -x ./*.deb "$FOREIGN/root"
            rm ./*.deb
        ) || return
        touch "$FOREIGN/debs/$package"
    done
}

# compiler: Debian's, in $RUSTC.
compiler() {
    unpacked rustc-web "libstd-rust-web-$RELEASE" libllvm19 libstd-rust-web-dev || return
    RUSTC=$FOREIGN/rustc
    cat >"$RUSTC" <<WRAPPER
#!/bin/sh
export LD_LIBRARY_PATH=$FOREIGN/root/usr/lib/x86_64-linux-gnu
exec $FOREIGN/root/usr/bin/rustc --sysroot $FOREIGN/root/usr "\$@"
WRAPPER
    chmod +x "$RUSTC"
    export RUSTC
    "$RUSTC" --version >/dev/null
}

# processor NAME: its TRIPLE, its name in Debian and for GNU, and that of its emulator, if it needs
# one.
processor() {
    case $1 in
        i686) TRIPLE=i686-unknown-linux-gnu DEBIAN=i386 GNU=i686-linux-gnu QEMU='' ;;
        aarch64)
            TRIPLE=aarch64-unknown-linux-gnu DEBIAN=arm64 GNU=aarch64-linux-gnu QEMU=aarch64
            ;;
        armv7)
            TRIPLE=armv7-unknown-linux-gnueabihf DEBIAN=armhf GNU=arm-linux-gnueabihf QEMU=arm
            ;;
        s390x) TRIPLE=s390x-unknown-linux-gnu DEBIAN=s390x GNU=s390x-linux-gnu QEMU=s390x ;;
        *) echo "unknown: $1" >&2; return 1 ;;
    esac
}

# tree: a copy of the core with the few packages that these tests need, in $TREE. The others take
# longer to compile than all the rest.
tree() {
    TREE=$FOREIGN/tree
    rm -rf "$TREE"
    mkdir -p "$TREE"
    cp -rp Cargo.lock README.md docs src soft tests examples "$TREE"
    awk '/^\[/ {
            keep = !/^\[\[(bench|example)\]\]|^\[workspace|^\[profile/
            dev = /dev-dependencies\]$/
        }
        keep && (!dev || /^\[|^$|^(libc|proptest|pagelock-soft|rustix) /)' \
        Cargo.toml >"$TREE/Cargo.toml"
    echo '[workspace]' >>"$TREE/Cargo.toml"
}

# in_tree COMMAND...: cargo there, with a target folder of its own.
in_tree() {
    (
        cd "$TREE"
        export CARGO_TARGET_DIR=$FOREIGN/target
        cargo "$1" --quiet --ignore-rust-version "${@:2}"
    )
}

# tests NAME: the library's tests and those of its behaviour, on that processor. They are linked
# statically, so that no foreign loader is needed.
tests() {
    local name=$1 upper started=$SECONDS log=$FOREIGN/$1.log
    processor "$name"
    printf -- '-- %s\n' "$TRIPLE"
    compiler && unpacked "libstd-rust-web-dev:$DEBIAN" &&
        install "$GNU-gcc" "gcc-$GNU" "libc6-dev-$DEBIAN-cross" || {
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
    export CARGO_PROFILE_DEV_DEBUG=0
    {
        in_tree test --target "$TRIPLE" --lib &&
            in_tree test --no-fail-fast --target "$TRIPLE" "${TESTS[@]}"
    } >"$log" 2>&1 || {
        grep -vE '^$|^running|^\.+$|^test result: ok' "$log" | head -100
        return 1
    }
    awk '/^test result/ { passed += $4; failed += $6; ignored += $8 }
        END { printf "%d passed, %d failed, %d ignored", passed, failed, ignored }' "$log"
    printf ', in %d s with compiling\n' $((SECONDS - started))
}

# core_of TRIPLE: the compiler's own library for that processor, made from its sources as far as
# compiling against it takes: Debian has it for no processor without a system.
core_of() {
    local to=$FOREIGN/root/usr/lib/rustlib/$1/lib
    compiler || return
    [ ! -e "$to/libcompiler_builtins.rmeta" ] || return 0
    unpacked rust-web-src || return
    local core_source
    core_source=$(echo "$FOREIGN"/root/usr/src/rustc-"$RELEASE"*/library/core/src/lib.rs)
    mkdir -p "$to"
    library_of "$1" "$to" core "$core_source" -Z always-encode-mir || return
    # Compiling a library asks for nothing of this one but that it is there.
    printf '#![no_core]\n#![feature(no_core, compiler_builtins)]\n#![compiler_builtins]\n' \
        >"$FOREIGN/nothing.rs"
    library_of "$1" "$to" compiler_builtins "$FOREIGN/nothing.rs"
}

# library_of TRIPLE FOLDER NAME SOURCE OPTION...: the metadata of a library that comes with rustc.
library_of() {
    RUSTC_BOOTSTRAP=1 "$RUSTC" --edition 2021 --crate-type rlib --emit metadata --target "$1" \
        --out-dir "$2" --crate-name "$3" --cap-lints allow -Z force-unstable-if-unmarked \
        "${@:5}" "$4"
}

# builds TRIPLE: that the library compiles for it, without std and without a warning.
builds() {
    printf -- '-- %s, compiling only\n' "$1"
    core_of "$1" || {
        skipped "no core for $1 to be had"
        return
    }
    RUSTFLAGS="-D warnings" in_tree build --lib --no-default-features --target "$1"
}

# refuses TRIPLE WHAT: that the library does not compile for it, and says WHAT.
refuses() {
    printf -- '-- %s, refused\n' "$1"
    core_of "$1" || {
        skipped "no core for $1 to be had"
        return
    }
    local said
    if said=$(in_tree check --lib --no-default-features --target "$1" 2>&1); then
        echo "it compiles for $1"
        return 1
    fi
    grep -q -- "$2" <<<"$said" || {
        printf 'it fails for another reason than that %s:\n%s\n' "$2" "$said"
        return 1
    }
}

bare() {
    builds x86_64-unknown-none
    builds riscv64gc-unknown-none-elf
    builds thumbv7em-none-eabi
}

refusals() {
    refuses thumbv6m-none-eabi 'needs compare-and-swap of 32 bits'
    refuses x86_64-unknown-hermit 'does not know how to sleep'
}

# Debian has no std for it. Compiling shows that the futex calls fit its types.
musl() {
    builds x86_64-unknown-linux-musl
}

# Each in a shell of its own, so that one that fails does not keep the others from running.
[ $# != 0 ] || set -- i686 aarch64 refusals
failed=0
tree
for what in "$@"; do
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
exit "$failed"
