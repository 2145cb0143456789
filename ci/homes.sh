#!/usr/bin/env bash
# Proves: the toolkit at home. A hypervisor (KVM where there is one, and threads), a program that
# moves to another process, and an unmodified database in too much memory end with every byte right,
# at any number of handlers. The controls fail as they must: a device that does not pin loses data,
# and so does a byte that is changed on its way. A cut connection is survived, and so is the
# hypervisor's manager, a process that is killed in the middle of fetches and evictions; the control
# without recovery gets stuck. Each failure outside (a store, a disk, an output, Ctrl-C, a kernel
# without userfaultfd, the other process) ends in one line and its exit status.
# Costs: four minutes to compile cold, then about two minutes.
# Needs: userfaultfd; /dev/kvm, and root for small disks and for the unprivileged user. Says SKIPPED
# without.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scratch
cargo clippy --quiet --release -p hypervisor -p postcopy -p pager --all-targets -- -D warnings
cargo build --quiet --release -p hypervisor -p postcopy -p pager
# Apart from the tree, for a user without access to it.
chmod 755 "$SCRATCH"
cp "$TARGET"/release/{hypervisor,postcopy,pager} "$SCRATCH"
cd "$SCRATCH"
if ! ./hypervisor --no-kvm --mib 2 --rounds 1 --no-snapshot >out 2>err &&
    grep -q userfaultfd err; then
    skipped "no userfaultfd: $(cat err)"
    exit 0
fi

# failed WHAT [FILE...]: says so, shows the files, and ends the script.
failed() {
    printf 'FAILED: %s\n' "$1"
    shift
    [ $# = 0 ] || cat "$@"
    exit 1
}

# ends STATUS WORDS COMMAND...: that it ends with STATUS and one line on stderr, which has WORDS
# (none: no line at all).
ends() {
    local status=$1 words=$2 got=0
    shift 2
    timeout 100 "$@" >out 2>err || got=$?
    # A line about KVM is not what it ends with.
    sed -i '/^no KVM /d' err
    local lines=1
    [ -n "$words" ] || lines=0
    if [ "$got" != "$status" ] || ! grep -q -- "$words" <(cat err && echo) ||
        [ "$(wc -l <err)" != "$lines" ]; then
        failed "$*
  exit status $got, and not $status; \"$words\" in $lines lines of:" err out
    fi
    printf 'exit status %s as expected: %s: %s\n' "$got" "$*" "$(tail -n 1 err)"
}

# field FILE NAME: the sum of a figure over all parts that have it.
field() {
    python3 -c '
import json, sys
whole = json.load(open(sys.argv[1]))
def walk(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from [inner] if name == sys.argv[2] else walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)
print(sum(filter(None, walk(whole.get("machines", whole)))))' "$1" "$2"
}

# some FILE NAME...: that each figure is above 0.
some() {
    local file=$1 name
    shift
    for name in "$@"; do
        [ "$(field "$file" "$name")" -gt 0 ] || failed "no \"$name\" in" "$file"
        printf '  %s: %s\n' "$name" "$(field "$file" "$name")"
    done
}

guests=(--no-kvm)
if [ -r /dev/kvm ] && [ -w /dev/kvm ] && [ "$(uname -m)" = x86_64 ]; then
    guests+=("--vcpus=2")
else
    skipped "no /dev/kvm: threads only"
fi
small=(--mib 16 --resident 12 --seconds 1.2)
for guest in "${guests[@]}"; do
    for handlers in 1 8; do
        for memory in anonymous memfd; do
            ends 0 '' ./hypervisor "$guest" "${small[@]}" --handlers "$handlers" \
                --memory "$memory" --json h.json --plot h.svg
            some h.json evictions pins balloon_guest balloon_host bytes_compared
            [ "$(field h.json snapshot_complete)" = 1 ] || failed 'no snapshot'
        done
    done
    ends 1 'data lost' ./hypervisor "$guest" "${small[@]}" --no-snapshot --unpinned
done

# Another process fetches and evicts, and is killed in the middle of that.
sum=0
for guest in "${guests[@]}"; do
    for handlers in 1 4; do
        ends 0 '' ./hypervisor "$guest" "${small[@]}" --handlers "$handlers" \
            --external-manager --kill-manager 12 --json e.json
        some e.json kills evictions pins balloon_guest bytes_compared
        [ "$(field e.json kills)" = 12 ]
        [ "$(field e.json stuck)" = 0 ]
        [ "$(field e.json recovered_refused)" = 0 ]
        sum=$((sum + $(field e.json in_the_middle)))
    done
done
# On a busy machine few are caught in the middle: some more then.
for _ in 1 2 3 4; do
    if [ "$sum" -lt 5 ]; then
        ends 0 '' ./hypervisor --no-kvm "${small[@]}" \
            --external-manager --kill-manager 20 --json e.json
        sum=$((sum + $(field e.json in_the_middle)))
    fi
done
[ "$sum" -ge 5 ] || failed "$sum managers had something in hand"
printf 'managers killed with something in hand: %s\n' "$sum"
ends 1 '\(stuck\|data lost\)' ./hypervisor --no-kvm "${small[@]}" \
    --external-manager --kill-manager 40 --no-recovery
# hypervisor [OPTION...]: one with a manager, as $vmm and $manager.
hypervisor() {
    ./hypervisor --no-kvm --mib 16 --resident 12 --seconds 60 --external-manager "$@" >out 2>err &
    vmm=$!
    sleep 1.5
    manager=$(ps -o pid= --ppid $vmm)
    disown $vmm
}
# alone: kills the hypervisor, and waits for the manager's end.
alone() {
    kill -9 "$vmm"
    timeout 60 tail --pid="$manager" -f /dev/null || failed 'the manager goes on'
}
for _ in 1 2 3; do
    hypervisor
    alone
    grep -q 'the hypervisor is gone: .* 0 pages stuck; .* 0 lost$' err ||
        failed 'hypervisor killed' err
    [ "$(wc -l <err)" = 1 ] || failed 'hypervisor killed: more than a line' err
    printf 'the hypervisor killed: %s\n' "$(cat err)"
done
# The control: what the store has is changed, and the manager must see it.
hypervisor --store pages
kill -STOP "$vmm"
dd if=/dev/zero of=pages bs=4096 seek=2000 count=100 conv=notrunc status=none
alone
grep -q 'data lost: the hypervisor is gone' err || failed 'a changed store' err
printf 'the hypervisor killed, and the store changed: %s\n' "$(cat err)"

for more in '' --unix --no-prefetch; do
    # shellcheck disable=SC2086 # none or one
    ends 0 '' ./postcopy --mib 8 --seconds 0.2 --kills 3 --json p.json $more
    some p.json killed broken faults fetched handed_out_once bytes_compared
    [ "$(field p.json killed)" = 3 ] && [ "$(field p.json handed_out_again)" -le 48 ]
done
ends 1 'data lost' ./postcopy --mib 8 --seconds 0.2 --flip

ends 0 '' ./pager --keys 8000 --resident 1 --seconds 0.5 --json d.json
some d.json evictions 'write faults' 'keys that the file has, by itself' \
    'bytes compared with the file'
ends 1 'data lost' ./pager --keys 8000 --resident 1 --seconds 0.5 --flip

# Failures outside.
quick=(--no-kvm --mib 16 --resident 12)
ends 3 'No space left' ./hypervisor "${quick[@]}" --store /dev/full
ends 3 'Is a directory' ./hypervisor "${quick[@]}" --store /
# shellcheck disable=SC2016 # for the inner shell
closed='./"$@" | true; exit "${PIPESTATUS[0]}"'
ends 3 'Broken pipe' bash -c "$closed" - hypervisor "${quick[@]}" --seconds 0.2 --no-snapshot
ends 130 interrupted timeout --preserve-status -s INT 0.7 ./hypervisor "${quick[@]}" --seconds 60
(until [ -s store ]; do sleep 0.1; done && sleep 0.5 && truncate -s 0 store) &
ends 3 'cannot be read from the store' ./hypervisor "${quick[@]}" --seconds 60 --store store
ends 3 'Broken pipe' bash -c "$closed" - pager --keys 1000 --seconds 0.1
ends 3 'address space' ./pager --keys 50000 --mib 8 --resident 1

# One of the two processes dies while pages are on their way.
slow=(--mib 64 --seconds 0.2 --delay 3000 --threads 2)
# start: both of them, in $source and $destination, and on their way.
start() {
    ./postcopy "${slow[@]}" >out 2>err &
    source=$!
    until destination=$(ps -o pid= --ppid $source); do sleep 0.1; done
    sleep 1
}
start
kill -9 "$destination"
status=0 && wait $source || status=$?
[ "$status" = 3 ] || failed "destination killed: $status" err
grep -q 'ended without a report' err || failed 'destination killed' err
printf 'exit status 3 as expected, the destination killed: %s\n' "$(cat err)"
start
disown $source
kill -9 $source
tail --pid="$destination" -f /dev/null &
wait $! || true
grep -q 'the other process is gone' err || failed 'source killed' err
printf 'the source killed: %s\n' "$(cat err)"

if [ "$(id -u)" != 0 ]; then
    skipped 'not root: no small disk, no unprivileged user'
    exit 0
fi

# A disk that becomes full on the way: one that has room for the guest's image and a little more.
./hypervisor "${quick[@]}" --rounds 1 --no-snapshot --store image >out 2>err
mkdir disk
if mount -t tmpfs -o "size=$((($(stat -c %s image) / 4096 + 8) * 4))k" none disk 2>err; then
    trap 'umount disk; rm -rf "$SCRATCH"' EXIT
    ends 3 'cannot be written to the store: No space left' \
        ./hypervisor "${quick[@]}" --seconds 60 --store disk/store
    grep -q '^16777216 bytes compared, 0 pages wrong' out || failed 'bytes' out
    ends 3 'No space left' ./pager --keys 50000 --resident 1 --store disk/store
else
    skipped "no tmpfs: $(cat err)"
fi

# A user that is not root, with faults of user mode only; and one whose system calls are filtered.
cat >as_nobody.py <<'PYTHON'
import ctypes, os, struct, sys

if sys.argv[1] == "filtered" and os.uname().machine == "x86_64":
    # userfaultfd is system call 323: EPERM. All others are let through.
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 323), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    program = Program(len(steps), ctypes.cast(code, ctypes.c_void_p))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
os.execv(sys.argv[2], sys.argv[2:])
PYTHON
ends 0 '' python3 as_nobody.py free ./hypervisor "${quick[@]}" --seconds 1
if [ "$(uname -m)" = x86_64 ]; then
    for program in hypervisor postcopy pager; do
        ends 3 'no userfaultfd' python3 as_nobody.py filtered "./$program" --mib 16
    done
fi
