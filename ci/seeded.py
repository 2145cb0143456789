#!/usr/bin/env python3
"""Runs the finders of ci/seeded.bugs against each bug. Called by ci/seeded.sh and ci/orderings.sh, which have compiled them.

    seeded.py kinds [NAME...]                                  what has to be compiled for that
    seeded.py bugs PROGRAMS [--all] [NAME...]                  every bug of the list, or those whose names contain NAME
    seeded.py orderings PROGRAMS [--table FILE]                every weakened ordering against every loom model

PROGRAMS has a line `KIND<tab>PATH` for each test program: lib, loom, shuttle, fuzz:TARGET, or the name of a file in tests/; and for a bug
that is built by itself `BUG/KIND<tab>PATH`.
"""

import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import time

import orderings as accesses
import weave

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# A sleeper that is never woken shows as this in tests that run on the operating system. With a bug or without: a finder that needs more
# than a third of it without would not tell a bug from a slow machine.
LIMIT = 60
# A model checker says so itself when somebody is never woken, and is not hurried: what it explores takes the same with a bug or without.
EXPLORING = 600
# A process is killed at every step of every call.
STEPPING = 180
# How long a fuzz target looks, after the committed seeds.
FUZZ = 10


def read_list(names=()):
    """(name, finders, what) of each bug whose name contains one of `names`, or of all."""
    return [(b["name"], b["finders"], b["what"]) for b in weave.bugs() if not names or any(n in b["name"] for n in names)]


def explanations():
    explained = {}
    with open(os.path.join(ROOT, "ci", "ordering-survivors")) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                name, why = (cell.strip() for cell in line.split("|"))
                explained[name] = why
    return explained


def output(command, environment, limit):
    """The exit status of a program and what it printed; no status if it was not done within `limit` seconds."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=ROOT) as process:
        try:
            out, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None, ""
    return process.returncode, out.decode(errors="replace")


def limit_of(finder):
    if finder.startswith("steps:"):
        return STEPPING
    return EXPLORING if finder.startswith(("loom:", "shuttle:")) else LIMIT


def run(programs, finder, bug):
    """(failed, how) of one finder against one bug; `bug` may be empty."""
    kind, test = finder.split(":", 1)
    limit = limit_of(finder)
    if kind == "fuzz":
        with tempfile.TemporaryDirectory() as scratch:
            return fuzz(programs, finder, bug, limit, scratch)
    program = programs.get(f"{bug}/{kind}", programs.get(kind))
    if not program:
        raise SystemExit(f"{bug}: no such test program: {kind}")
    exact = ["--exact"] if kind != "lib" else []
    command = [program, *exact, test, "--nocapture", "--test-threads=1"]
    environment = dict(os.environ, PAGELOCK_BUG=bug, RUST_BACKTRACE="0", PAGELOCK_SEED=os.environ.get("PAGELOCK_SEED", "1"))
    began = time.monotonic()
    status, out = output(command, environment, limit)
    if status is None:
        return True, f"hangs for {limit} s"
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
    """`run` for a fuzz target: the committed seeds, then what a fuzzer makes of them in FUZZ seconds."""
    program = programs.get(f"{bug}/{finder}", programs.get(finder))
    if not program:
        raise SystemExit(f"{bug}: no such fuzz target: {finder}")
    found = os.path.join(scratch, "found")
    os.mkdir(found)
    seeds = os.path.join(ROOT, "fuzz", "seeds", finder.split(":", 1)[1])
    command = [program, f"-max_total_time={FUZZ}", "-seed=1", "-max_len=512", f"-artifact_prefix={scratch}/", found, seeds]
    status, out = output(command, dict(os.environ, PAGELOCK_BUG=bug), limit)
    if status is None:
        return True, f"hangs for {limit} s"
    runs = re.findall(r"^#(\d+)", out, re.M)
    runs = runs[-1] if runs else "0"
    if status == 0:
        if runs == "0":
            raise SystemExit(f"{bug}: {finder} ran nothing")
        return False, f"{runs} inputs"
    return True, f"after {runs} inputs" if "INITED" in out else "a committed seed fails"


def each(jobs, work):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, jobs))


def table(path, heading, rows):
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)] + ["| " + " | ".join(r) + " |" for r in rows]
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


def bugs(programs, everything, names):
    listed = read_list()
    mutants = list(accesses.mutants())
    orderings = {name for name, _, _ in listed if "=" in name}
    unknown = orderings - set(mutants)
    weakest = {m for m in mutants if m.endswith(("=Relaxed", "=dropped"))} | {m for m in mutants if "SeqCst" in m}
    unlisted = weakest - orderings - set(explanations())
    if unknown or unlisted:
        raise SystemExit(f"in ci/seeded.bugs but not in src: {sorted(unknown)}\nin src but not in ci/seeded.bugs: {sorted(unlisted)}")
    chosen = read_list(names)

    # The tree as it is: a finder that fails without a bug finds nothing.
    finders = sorted({finder for _, finders, _ in chosen for finder in finders})

    def baseline(finder):
        began = time.monotonic()
        failed, how = run(programs, finder, "")
        took = time.monotonic() - began
        return f"{finder}: {how}" if failed else f"{finder}: takes {took:.0f} s, too slow to tell" if took > limit_of(finder) / 3 else None

    broken = [what for what in each(finders, baseline) if what]
    if broken:
        raise SystemExit("without any bug these fail:\n  " + "\n  ".join(broken))

    def search(bug):
        name, finders, what = bug
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = []
        for finder in finders:
            failed, how = run(programs, finder, name)
            found.append((finder, failed, how))
            if failed and not everything:
                break
        return name, what, found

    rows, survivors, missed = [], [], []
    for name, what, found in each(chosen, search):
        rows.append([f"`{name}`", what, "; ".join(f"`{f}`: {how}" for f, failed, how in found if failed) or "**nobody**"])
        missed += [f"{name}: {f} ({how})" for f, failed, how in found if not failed]
        if not any(failed for _, failed, _ in found):
            survivors.append(name)
    table(None, ["bug", "what it is", "who finds it, and after how many executions or schedules"], rows)
    if missed:
        print("asked first, and found nothing:\n  " + "\n  ".join(missed))
    print(f"{len(rows) - len(survivors)} of {len(rows)} bugs found")
    if survivors:
        raise SystemExit(f"survived: {survivors}")


def orderings(programs, path):
    mutants = list(accesses.mutants())
    listing = subprocess.run([programs["loom"], "--list"], check=True, capture_output=True, text=True).stdout
    models = re.findall(r"^(.*): test$", listing, re.M)
    explained = explanations()
    # The models that the list names come first; all the others, the quickest first, only for what those do not find and nobody
    # has explained.
    named = sorted({f.split(":", 1)[1] for name, finders, _ in read_list() if "=" in name for f in finders if f.startswith("loom:")})
    size = {}

    def explore(model):
        failed, how = run(programs, f"loom:{model}", "")
        if failed:
            raise SystemExit(f"without any change {model} fails")
        size[model] = int(how.split()[0])

    each(named, explore)
    rest = []

    def the_rest():
        if not rest:
            each([m for m in models if m not in named], explore)
            rest.extend(sorted((m for m in models if m not in named), key=lambda m: size[m]))
        return rest

    def search(mutant):
        for model in among:
            failed, how = run(programs, f"loom:{model}", mutant)
            if failed:
                return mutant, [(model, how)]
        return mutant, []

    rows, survivors = [], []
    among = named
    searched = each(mutants, search)
    open_cases = [mutant for mutant, killers in searched if not killers and mutant not in explained]
    if open_cases:
        among = the_rest()
        again = dict(each(open_cases, search))
        searched = [(mutant, killers or again.get(mutant)) for mutant, killers in searched]
    for mutant, killers in searched:
        site, weaker = mutant.split("=")
        if killers:
            rows.append([f"`{site}`", weaker, f"`{killers[0][0]}`, {killers[0][1]}"])
        else:
            survivors.append(mutant)
            rows.append([f"`{site}`", weaker, f"survives: {explained.get(mutant, '**not explained**')}"])
    table(path, ["access", "weakened to", "model that fails"], rows)
    print(f"{len(mutants)} weakened orderings, {len(mutants) - len(survivors)} found by a model, {len(survivors)} survive")
    wrong = [f"survives and is not explained: {s}" for s in survivors if s not in explained]
    wrong += [f"explained and does not survive: {s}" for s in explained if s not in survivors]
    if wrong:
        raise SystemExit("\n".join(wrong))


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["kinds"]:
        print(*sorted({finder.split(":", 1)[0] for _, finders, _ in read_list(arguments[1:]) for finder in finders}))
        return
    if len(arguments) < 2:
        raise SystemExit(__doc__)
    what, file, *rest = arguments
    with open(file) as f:
        programs = dict(line.rstrip("\n").split("\t") for line in f)
    path = None
    if "--table" in rest:
        at = rest.index("--table")
        path = rest[at + 1]
        del rest[at : at + 2]
    everything = "--all" in rest
    if what == "bugs":
        bugs(programs, everything, [n for n in rest if n != "--all"])
    else:
        orderings(programs, path)


if __name__ == "__main__":
    main()
