#!/bin/sh
# What `cargo run` runs. Boots the image under QEMU and says what its exit status means.
#
#     cargo run --release                      the demonstration, then each control that must fail
#     cargo run --release -- main ms=10000     one boot, with these words as the command line
#
# Environment: CPUS=4 (2 to 8), ACCEL=tcg|kvm, MEM=160 (MiB), MS=3000 (of load, with no arguments),
# LIMIT=300 (seconds after which a boot has hung; the kernel has watchdogs of its own).
set -u
image=$1
shift
cpus=${CPUS:-4} accel=${ACCEL:-tcg}
case $accel in
    kvm) machine='-accel kvm -cpu qemu64' ;;
    *) machine='-accel tcg,thread=multi -cpu max' ;;
esac

boot() {
    # shellcheck disable=SC2086 # a list of words
    timeout --foreground "${LIMIT:-300}" qemu-system-x86_64 $machine \
        -smp "$cpus" -m "${MEM:-160}" -kernel "$image" -append "$*" \
        -display none -serial stdio -monitor none -no-reboot \
        -device isa-debug-exit,iobase=0xf4,iosize=1 </dev/null
}

# expect STATUS WORD...: one boot, and whether it ended as it should. 33: all is well; 65, 67, 69:
# that control's fault was seen.
expect() {
    wanted=$1
    shift
    printf '\n== %s, %s CPUs (%s) ==\n' "$*" "$cpus" "$accel"
    boot "$@"
    status=$?
    [ "$status" = "$wanted" ] && return
    printf '== %s: exit status %s, wanted %s ==\n' "$*" "$status" "$wanted"
    [ "$status" != 124 ] || echo "   (124: it hung)"
    exit 1
}

if [ $# -gt 0 ]; then
    boot "$@"
    status=$?
    [ "$status" = 33 ] && exit 0
    exit "$status"
fi
expect 33 main ${MS:+ms=$MS}
expect 65 control=no-shootdown
expect 65 control=no-pin
# One processor forks while another writes.
[ "$cpus" -lt 3 ] || expect 65 control=no-flush-in-fork
expect 67 control=touch-after-release
expect 69 control=flag-after-release
expect 69 control=no-look
printf '\n== all is well: one run that must succeed, and those that must not ==\n'
