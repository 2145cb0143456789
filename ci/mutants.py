"""All mutants in one build. See ci/mutants.sh.

cargo-mutants compiles the crate anew for each of its mutants, a thousand times. This takes its
list, writes every function so that a number in the environment chooses its body, compiles
that once, and runs the tests once for each number.

    mutants.py prepare LIST COPY        rewrites the sources under COPY; leaves COPY/mutants.json
    mutants.py run COPY KNOWN [SOME]    runs; compares survivors with the names in KNOWN; SOME is
                                        `1/3` or a regular expression for names

Load must not make a mutant look like a hang. So the tests have to pass without a mutant under the
same load first, and a mutant that seems to hang runs again, with a processor to itself.
"""

import json, os, re, subprocess, sys, threading, time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

# The test programs, in the order in which they are asked. The others say nothing of a mutant, or of
# other mutants than these: of the engine's.
TESTS = (
    "lock refs wait stats shared property dump fork killed readme_handler refused signals steps"
).split()
# These take seconds, so they come last.
SLOW = (
    "sleepers_hold_neither the_header_may_be_freed a_refused_commit_is_not_seen "
    "does_what_its_model_does"
).split()
# A mutant whose tests take longer than this hangs.
SECONDS = 90

SWITCH = """
/// Which mutant runs: a number from the environment, read once. 0 is none.
pub fn which() -> u32 {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static WHICH: AtomicU32 = AtomicU32::new(u32::MAX);
    let mut n = WHICH.load(Relaxed);
    if n == u32::MAX {
        n = std::env::var("MUTANT").ok().and_then(|v| v.parse().ok()).unwrap_or(0);
        WHICH.store(n, Relaxed);
    }
    n
}
"""


def offset(lines, at):
    return sum(len(l) for l in lines[: at["line"] - 1]) + at["column"] - 1


def keyword(text, start):
    """The place of `fn` in the function that begins at `start`, past a comment with examples."""
    line = text.rfind("\n", 0, start) + 1
    return re.compile(r"^(?![ \t]*//)[^\n]*?\b(fn)\b", re.M).search(text, line).start(1)


def cargo(copy, *args):
    return subprocess.run(
        ["cargo", *args, "--all-features", "--offline"], cwd=copy, capture_output=True, text=True
    )


def rewrite(copy, originals, by_function, dead):
    """Writes the sources with all mutants but the dead; returns whose each line is, per file."""
    owners = {}
    by_file = defaultdict(list)
    for (file, _), group in by_function.items():
        by_file[file].append(group)
    for file, text in originals.items():
        edits = []
        for group in by_file[file]:
            live = [m for m in group["mutants"] if m["id"] not in dead]
            if not live:
                continue
            start, end, body = group["start"], group["end"], group["body"]
            signature = re.sub(r"\bconst (unsafe )?fn\b", r"\1fn", text[start:body])
            arms = []
            for m in live:
                mutated = text[body : m["from"]] + m["replacement"] + text[m["to"] : end]
                # On lines of its own, so that a compiler error says whose it is.
                arms.append((m["id"], f"{m['id']} => {mutated}"))
            edits.append((start, end, signature, arms, text[body:end]))
        out, at, owner = "", 0, {}
        for start, end, signature, arms, original in sorted(edits):
            out += (
                text[at:start]
                + signature
                + "{\n#[allow(unused_parens)] match crate::mutants::which() {\n"
            )
            for id, arm in arms:
                first = out.count("\n") + 1
                out += arm + "\n"
                for line in range(first, out.count("\n") + 1):
                    owner[line] = id
            out += "_ => " + original + "\n} }"
            at = end
        out += text[at:]
        owners[file] = owner
        with open(os.path.join(copy, file), "w") as f:
            f.write(out)
    return owners


def prepare(listed, copy):
    mutants = [m for m in json.load(open(listed))]
    for id, m in enumerate(mutants, 1):
        m["id"] = id
    originals, by_function, not_switched = {}, {}, []
    for m in mutants:
        file = m["file"]
        if file not in originals:
            originals[file] = open(os.path.join(copy, file)).read()
        text = originals[file]
        lines = text.splitlines(keepends=True)
        if not m["function"]:
            not_switched.append(m)
            continue
        m["from"], m["to"] = offset(lines, m["span"]["start"]), offset(lines, m["span"]["end"])
        span = m["function"]["span"]
        start, end = offset(lines, span["start"]), offset(lines, span["end"])
        tests = re.search(r"#\[cfg\((all\()?test", text)
        if tests and start > tests.start():
            m["outcome"] = "of a test"
            continue
        body = text.index("{", keyword(text, start))
        group = by_function.setdefault(
            (file, start), {"start": start, "end": end, "body": body, "mutants": []}
        )
        group["mutants"].append(m)

    lib = os.path.join(copy, "src/lib.rs")
    text = open(lib).read().replace("mod defer;", "#[doc(hidden)]\npub mod mutants;\nmod defer;", 1)
    text = text.replace(
        "#![no_std]", "#![no_std]\n#![allow(arithmetic_overflow, unconditional_panic)]"
    )
    open(lib, "w").write(text)
    open(os.path.join(copy, "src/mutants.rs"), "w").write("extern crate std;\n" + SWITCH)

    # This program compiles the words' own sources once more, which ask which mutant runs.
    words = os.path.join(copy, "tests/property/main.rs")
    switch = 'mod model_words;\n#[path = "../../src/mutants.rs"]\nmod mutants;'
    text = open(words).read().replace("mod model_words;", switch, 1)
    open(words, "w").write(text)

    # Mutants that do not compile are no mutants. Errors of the borrow checker come after those of
    # types, hence the loop.
    dead = set()
    while True:
        owners = rewrite(copy, originals, by_function, dead)
        checked = cargo(copy, "check", "--lib", "--message-format=json")
        found = set()
        for line in checked.stdout.splitlines():
            message = json.loads(line).get("message") or {}
            if message.get("level") != "error":
                continue
            spans = message["spans"] + [s for c in message["children"] for s in c["spans"]]
            ids = {
                owners.get(s["file_name"], {}).get(n)
                for s in spans
                for n in range(s["line_start"], s["line_end"] + 1)
            } - {None}
            if not ids and spans:
                # A function that a constant needs: none of its mutants can be switched.
                for s in message["spans"]:
                    print("cannot place:", message["message"], s["file_name"], s["line_start"])
                names = set(re.findall(r"`(?:[\w:<>, ']*::)?(\w+)", message["message"]))
                for (file, _), group in by_function.items():
                    text = originals[file]
                    name = re.match(r"fn (\w+)", text[keyword(text, group["start"]) :]).group(1)
                    if (
                        name in names
                        and "const fn" in originals[file][group["start"] : group["body"]]
                    ):
                        for m in group["mutants"]:
                            if m["id"] not in dead:
                                m["const"] = True
                                ids.add(m["id"])
            found |= ids
        found -= dead
        if checked.returncode == 0:
            break
        if not found:
            sys.exit("does not compile, for no mutant's fault:\n" + checked.stderr[-3000:])
        dead |= found
        print(f"{len(found)} more do not compile", flush=True)
    for group in by_function.values():
        for m in group["mutants"]:
            if m["id"] in dead:
                m["outcome"] = "not switched" if m.get("const") else "does not compile"
    for m in not_switched:
        m["outcome"] = "not switched"
    for m in mutants:
        m.pop("diff", None)
    json.dump(mutants, open(os.path.join(copy, "mutants.json"), "w"))


def binaries(copy):
    tests = [word for test in TESTS for word in ("--test", test)]
    built = cargo(copy, "test", "--no-run", "--lib", *tests, "--message-format=json")
    if built.returncode:
        sys.exit(built.stderr[-3000:])
    found = {}
    for line in built.stdout.splitlines():
        artifact = json.loads(line)
        if artifact.get("executable") and artifact["profile"]["test"]:
            found["lib" if "lib" in artifact["target"]["kind"] else artifact["target"]["name"]] = (
                artifact["executable"]
            )
    return found


def judge(copy, executables, order, id):
    """Who found mutant `id`: a test's name, `a hang`, `a crash`; None if nobody did."""
    for name, *arguments in order:
        env = dict(os.environ, MUTANT=str(id), PROPTEST_CASES="64", RUST_BACKTRACE="0")
        process = subprocess.Popen(
            [executables[name], *arguments],
            cwd=copy,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        began, stuck = time.time(), None
        for line in process.stdout:
            failed = re.match(r"test (\S+) .*\.\.\. FAILED", line)
            if failed:
                process.kill()
                process.wait()
                timer.cancel()
                return failed.group(1)
            if ": stuck. Pages:" in line:
                stuck = line.split(":")[0]
        process.wait()
        timer.cancel()
        if process.returncode != 0:
            if time.time() - began >= SECONDS:
                return "a hang"
            return f"a hang of {stuck}" if stuck else "a crash"
    return None


def run(copy, known, some, out):
    mutants = json.load(open(os.path.join(copy, "mutants.json")))
    executables = binaries(copy)
    skip = [word for test in SLOW for word in ("--skip", test)]
    order = [("lib",), *((name, *skip) for name in TESTS), *((name, *SLOW) for name in TESTS)]
    at_once = 4 * os.cpu_count()
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        found = [
            by
            for by in pool.map(lambda _: judge(copy, executables, order, 0), range(at_once))
            if by
        ]
    if found:
        sys.exit(
            f"without any mutant {len(found)} of {at_once} runs at once fail: {', '.join(found)}"
        )
    todo = [m for m in mutants if "outcome" not in m]
    if some and re.fullmatch(r"\d+/\d+", some):
        k, n = map(int, some.split("/"))
        todo = todo[k - 1 :: n]
    elif some:
        todo = [m for m in todo if re.search(some, m["name"])]
    log = open(out, "a")

    def one(m):
        m["found_by"] = judge(copy, executables, order, m["id"])
        m["outcome"] = "caught" if m["found_by"] else "survived"
        print(f"{m['outcome']}\t{m['name']}\t{m['found_by'] or ''}", file=log, flush=True)

    with ThreadPoolExecutor(max_workers=at_once) as pool:
        list(pool.map(one, todo))
    hung = [m for m in todo if (m["found_by"] or "").startswith("a hang")]
    print(f"{len(hung)} hang; each again, with a processor to itself", flush=True)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(one, hung))
    report(mutants, todo, known, complete=not some)


def plain(m):
    """A name without its place in the file, which any edit changes."""
    return re.sub(r":\d+:\d+:", ":", m["name"])


def report(mutants, todo, known, complete):
    # A name may stand for several mutants of one function; the list says how many of them may
    # survive, and how many must.
    explained, must = {}, {}
    for line in open(known):
        if line.strip():
            name, least, count = re.fullmatch(
                r"(.*?)(?: \((?:(\d+)-)?(\d+)\))?", line.strip()
            ).groups()
            explained[name] = int(count or 1)
            must[name] = int(least or explained[name])
    survivors = [m for m in todo if m["outcome"] == "survived"]
    caught = len(todo) - len(survivors)
    files = defaultdict(lambda: [0, 0])
    for m in todo:
        files[m["file"]][m["outcome"] == "survived"] += 1
    for file, (c, s) in sorted(files.items()):
        print(f"{file:28} {c:4} caught, {s:3} survive")
    for outcome in ("does not compile", "not switched", "of a test"):
        print(f"{outcome}: {sum(m.get('outcome') == outcome for m in mutants)}")
    print(f"{caught} of {len(todo)} mutants caught, {100 * caught / max(1, len(todo)):.1f} %")
    by_name = defaultdict(list)
    for m in survivors:
        by_name[plain(m)].append(m["name"])
    unexplained = {
        name: places for name, places in by_name.items() if len(places) > explained.get(name, 0)
    }
    for name, places in by_name.items():
        print(
            "SURVIVES, unexplained:" if name in unexplained else "survives:", *places, sep="\n    "
        )
    # An explanation of nothing is a licence for a survivor to come. Only a complete run can tell.
    stale = [(name, n) for name, n in must.items() if complete and len(by_name[name]) < n]
    for name, n in stale:
        print(f"STALE: {len(by_name[name])} of the {n} explained survive: {name}")
    sys.exit(1 if unexplained or stale else 0)


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(*sys.argv[2:4])
    else:
        run(
            sys.argv[2],
            sys.argv[3],
            sys.argv[4] if len(sys.argv) > 4 else None,
            os.path.join(sys.argv[2], "outcomes.tsv"),
        )
