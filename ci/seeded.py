#!/usr/bin/env python3
"""Runs the finders of ci/seeded.bugs against each bug. ci/seeded.sh and ci/orderings.sh call it
after they have compiled the finders.

    seeded.py kinds [--first] [NAME...]         the programs that these bugs' finders need
    seeded.py bugs [OPTION...] PROGRAMS [NAME...]
                                                every bug, or those whose names contain NAME
    seeded.py orderings PROGRAMS [--table FILE] every weakened ordering against the loom models

    --first FILE    asks only the first finder of each bug, and writes the names of the bugs that
                    it does not find to FILE
    --all           asks all finders of a bug, also after one has found it

PROGRAMS has a line `KIND<tab>PATH` for each test program: lib, loom, shuttle, fuzz:TARGET, or the
name of a file in tests/. A bug that is built by itself has lines `BUG/KIND<tab>PATH`.
"""

import argparse
import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import orderings as accesses
import weave

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# A test in which a sleeper is never woken does not end. It is stopped after PATIENCE times as long
# as it takes without a bug, but not before SOON, and after LIMIT seconds in any case. A finder that
# needs more than a third of LIMIT without a bug could not tell a bug from a slow machine.
PATIENCE = 10
SOON = 15
LIMIT = 60
# The same limit for tests that kill a process at every step of every call.
STEPPING = 180
# A model checker reports a lost wake itself, and explores as much with a bug as without.
EXPLORING = 600
# How long a fuzz target searches after the committed seeds.
FUZZ = 10
CPUS = os.cpu_count() or 1


def chosen(names=()):
    """(name, finders, what) of each bug whose name contains one of `names`, or of all bugs."""
    return [
        (b["name"], b["finders"], b["what"])
        for b in weave.bugs()
        if not names or any(n in b["name"] for n in names)
    ]


def explanations():
    """{ordering: why it stays although no model needs it}."""
    with open(os.path.join(ROOT, "ci", "ordering-survivors")) as f:
        lines = re.sub(r"\n +", " ", f.read()).splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    return dict(map(str.strip, line.split("|")) for line in lines)


def output(command, environment, limit):
    """The exit status of a program and its output; the status is None if it ran into `limit`."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            # Its children have the pipe too.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None, ""
    return process.returncode, out.decode(errors="replace")


def longest(finder):
    """The most seconds that a finder gets."""
    if finder.startswith("steps:"):
        return STEPPING
    return EXPLORING if finder.startswith(("loom:", "shuttle:")) else LIMIT


def run(programs, finder, bug, limit):
    """(failed, how) of one finder against one bug; `bug` may be empty."""
    kind, test = finder.split(":", 1)
    if kind == "fuzz":
        with tempfile.TemporaryDirectory() as scratch:
            return fuzz(programs, finder, bug, limit, scratch)
    program = programs.get(f"{bug}/{kind}", programs.get(kind))
    if not program:
        raise SystemExit(f"{bug}: no such test program: {kind}")
    exact = ["--exact"] if kind != "lib" else []
    command = [program, *exact, test, "--nocapture", "--test-threads=1"]
    seed = os.environ.get("PAGELOCK_SEED", "1")
    environment = dict(os.environ, PAGELOCK_BUG=bug, RUST_BACKTRACE="0", PAGELOCK_SEED=seed)
    began = time.monotonic()
    status, out = output(command, environment, limit)
    if status is None:
        return True, f"hangs for {limit:.0f} s"
    if status == 0:
        ran = re.search(r"test result: ok\. (\d+) passed", out)
        if not ran or ran.group(1) == "0":
            raise SystemExit(f"{bug}: {finder} names no test")
        explored = re.search(r"explored: (\d+ \w+)", out)
        return False, explored.group(1) if explored else f"{time.monotonic() - began:.1f} s"
    found = re.search(r"failed in (execution|schedule) (\d+)", out)
    if found:
        return True, f"{found.group(1)} {found.group(2)}"
    return True, "fails" if status > 0 else f"dies of signal {-status}"


def fuzz(programs, finder, bug, limit, scratch):
    """`run` for a fuzz target: the committed seeds, then FUZZ seconds of searching."""
    program = programs.get(f"{bug}/{finder}", programs.get(finder))
    if not program:
        raise SystemExit(f"{bug}: no such fuzz target: {finder}")
    found = os.path.join(scratch, "found")
    os.mkdir(found)
    seeds = os.path.join(ROOT, "fuzz", "seeds", finder.split(":", 1)[1])
    options = [f"-max_total_time={FUZZ}", "-seed=1", "-max_len=512", f"-artifact_prefix={scratch}/"]
    command = [program, *options, found, seeds]
    status, out = output(command, dict(os.environ, PAGELOCK_BUG=bug), limit)
    if status is None:
        return True, f"hangs for {limit:.0f} s"
    runs = re.findall(r"^#(\d+)", out, re.M)
    runs = runs[-1] if runs else "0"
    if status == 0:
        if runs == "0":
            raise SystemExit(f"{bug}: {finder} ran nothing")
        return False, f"{runs} inputs"
    return True, f"after {runs} inputs" if "INITED" in out else "a committed seed fails"


def each(jobs, work, workers=CPUS):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, jobs))


def table(path, heading, rows):
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    print("\n".join(lines))
    if not path:
        return
    begin, end = "<!-- table: begin -->\n", "<!-- table: end -->\n"
    with open(path) as f:
        text = f.read()
    before, rest = text.split(begin)
    _, after = rest.split(end)
    with open(path, "w") as f:
        f.write(before + begin + "\n".join(lines) + "\n" + end + after)


def every_ordering_is_listed():
    """Fails unless the list has each ordering's weakest form, or an explanation does."""
    mutants = list(accesses.mutants())
    listed = {name for name, _, _ in chosen() if "=" in name}
    weakest = {m for m in mutants if m.endswith(("=Relaxed", "=dropped")) or "SeqCst" in m}
    unknown, unlisted = listed - set(mutants), weakest - listed - set(explanations())
    wrong = [f"in ci/seeded.bugs but not in src: {name}" for name in sorted(unknown)]
    wrong += [f"in src but not in ci/seeded.bugs: {name}" for name in sorted(unlisted)]
    if wrong:
        raise SystemExit("\n".join(wrong))


def limits(programs, finders):
    """{finder: seconds that it gets}. Fails if one fails without a bug, for then it proves nothing,
    or is too slow."""

    def baseline(finder):
        most = longest(finder)
        began = time.monotonic()
        failed, how = run(programs, finder, "", most)
        took = time.monotonic() - began
        wrong = None
        if failed:
            wrong = f"{finder}: {how}"
        elif took > most / 3:
            wrong = f"{finder}: takes {took:.0f} s, too slow to tell"
        return most if most == EXPLORING else min(most, max(SOON, PATIENCE * took)), wrong, took

    measured = dict(zip(finders, each(finders, baseline)))
    if broken := [wrong for _, wrong, _ in measured.values() if wrong]:
        raise SystemExit("without any bug these fail:\n  " + "\n  ".join(broken))
    spent = sum(took for _, _, took in measured.values())
    print(f"{len(finders)} finders pass without a bug, in {spent:.0f} s", file=sys.stderr)
    return {finder: limit for finder, (limit, _, _) in measured.items()}


def bugs(programs, options):
    every_ordering_is_listed()
    listed = chosen(options.names)
    if options.first:
        listed = [(name, finders[:1], what) for name, finders, what in listed]
    limit = limits(programs, sorted({finder for _, finders, _ in listed for finder in finders}))

    def search(bug):
        name, finders, what = bug
        found, began = [], time.monotonic()
        for finder in finders:
            failed, how = run(programs, finder, name, limit[finder])
            found.append((finder, failed, how))
            if failed and not options.all:
                break
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        return name, what, found

    rows, survivors, missed = [], [], []
    # Most of the time is spent on finders that hang, which use no processor.
    for name, what, found in each(listed, search, 4 * CPUS):
        finders = [f"`{finder}`: {how}" for finder, failed, how in found if failed]
        missed += [f"{name}: {finder} ({how})" for finder, failed, how in found if not failed]
        rows.append([f"`{name}`", what, "; ".join(finders) or "**none**"])
        if not finders:
            survivors.append(name)
    table(None, ["bug", "what it is", "found by, after how many executions or schedules"], rows)
    if missed:
        print("asked and found nothing:\n  " + "\n  ".join(missed))
    print(f"{len(rows) - len(survivors)} of {len(rows)} bugs found")
    if options.first:
        with open(options.first, "w") as f:
            f.writelines(f"{name}\n" for name in survivors)
    elif survivors:
        raise SystemExit(f"survived: {survivors}")


def orderings(programs, path):
    mutants = list(accesses.mutants())
    listing = subprocess.run(
        [programs["loom"], "--list"], check=True, capture_output=True, text=True
    ).stdout
    models = re.findall(r"^(.*): test$", listing, re.M)
    explained = explanations()
    # The models that the list names are asked first. The others, quickest first, are only for
    # orderings that those do not find and that have no explanation.
    finders = {f for name, finders, _ in chosen() if "=" in name for f in finders}
    named = sorted(f.split(":", 1)[1] for f in finders if f.startswith("loom:"))
    size = {}

    def explore(model):
        failed, how = run(programs, f"loom:{model}", "", EXPLORING)
        if failed:
            raise SystemExit(f"without any change {model} fails")
        size[model] = int(how.split()[0])

    def search(mutant, among):
        for model in among:
            failed, how = run(programs, f"loom:{model}", mutant, EXPLORING)
            if failed:
                return model, how
        return None

    each(named, explore)
    killers = dict(zip(mutants, each(mutants, lambda mutant: search(mutant, named))))
    open_cases = [m for m in mutants if not killers[m] and m not in explained]
    if open_cases:
        rest = [m for m in models if m not in named]
        each(rest, explore)
        rest.sort(key=lambda model: size[model])
        killers |= dict(zip(open_cases, each(open_cases, lambda mutant: search(mutant, rest))))

    rows = []
    for mutant in mutants:
        site, weaker = mutant.split("=")
        if killers[mutant]:
            by = "`{}`, {}".format(*killers[mutant])
        else:
            by = f"survives: {explained.get(mutant, '**not explained**')}"
        rows.append([f"`{site}`", weaker, by])
    table(path, ["access", "weakened to", "model that fails"], rows)
    survivors = [mutant for mutant in mutants if not killers[mutant]]
    killed = len(mutants) - len(survivors)
    print(f"{len(mutants)} weakened orderings: {killed} found, {len(survivors)} survive")
    wrong = [f"survives and is not explained: {s}" for s in survivors if s not in explained]
    wrong += [f"explained and does not survive: {s}" for s in explained if s not in survivors]
    if wrong:
        raise SystemExit("\n".join(wrong))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kinds = commands.add_parser("kinds")
    kinds.add_argument("--first", action="store_true")
    kinds.add_argument("names", nargs="*")
    found = commands.add_parser("bugs")
    found.add_argument("programs")
    found.add_argument("--first")
    found.add_argument("--all", action="store_true")
    found.add_argument("names", nargs="*")
    weakened = commands.add_parser("orderings")
    weakened.add_argument("programs")
    weakened.add_argument("--table")
    options = parser.parse_args()
    if options.command == "kinds":
        listed = [fs[:1] if options.first else fs for _, fs, _ in chosen(options.names)]
        finders = {finder for finders in listed for finder in finders}
        print(*sorted({f if f.startswith("fuzz:") else f.split(":", 1)[0] for f in finders}))
        return
    with open(options.programs) as f:
        programs = dict(line.rstrip("\n").split("\t") for line in f)
    if options.command == "bugs":
        bugs(programs, options)
    else:
        orderings(programs, options.table)


if __name__ == "__main__":
    main()
