#!/usr/bin/env python3
"""Puts the bugs of ci/seeded.bugs, and all weaker orderings of ci/orderings.py, into a copy of the
tree.

    weave.py check             whether each bug of the list fits the sources and its finders exist
    weave.py copy DIR          makes the copy DIR: PAGELOCK_BUG in the environment chooses a bug
    weave.py copy DIR BUG      makes a copy that always has this one bug
    weave.py alone [NAME...]   the bugs that need a copy of their own, all or those with NAME in
                               their names, each with its finders

A function with bugs becomes `if is_chosen("a") { its body with a } else if ... { its body }`, so
one build serves all bugs, and without a choice it does what the sources say. The sources themselves
are not touched. The head of ci/seeded.bugs says how a bug is written.
"""

import bisect
import os
import re
import sys

import orderings

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIST = os.path.join(ROOT, "ci", "seeded.bugs")
# What a copy consists of.
KEPT = (
    *("Cargo.toml", "Cargo.lock", "README.md", "CHANGELOG.md"),
    # The storm's memory and ledger are also those of tests.
    *("src", "soft", "tests", "docs", "fuzz", "examples/storm"),
)
# Packages beside the core that have bugs. The list names their files with the folder.
BESIDE = ("soft",)
NOT_KEPT = ("fuzz/target", "fuzz/corpus", "fuzz/artifacts", "fuzz/seeds")
# These compile sources of the crate once more, in a crate of their own.
WITH_WORDS = ("tests/property/main.rs", "fuzz/fuzz_targets/words.rs")


def bugs():
    """The bugs of the list, in its order: name, what, finders, line, and edits of {file, function,
    old, new, line}. A weakened ordering has no edits."""
    found = []
    for number, line in enumerate(read(LIST).splitlines(), 1):
        kind, rest = line[:2].rstrip(), line[2:]
        if not line.strip() or kind.startswith("#"):
            continue
        if not kind:
            found[-1]["what"] += f" {rest.strip()}"
        elif kind not in ("?", "@", "-", "+"):
            name, colon, what = line.partition(": ")
            if not colon:
                raise SystemExit(f"ci/seeded.bugs:{number}: not `NAME: WHAT`, nor one of ? @ - +")
            bug = {"name": name, "what": what.strip(), "finders": [], "edits": [], "line": number}
            found.append(bug)
        elif kind == "?":
            found[-1]["finders"] += rest.split()
        elif kind == "@":
            file, *function = rest.split()
            edit = {"file": file, "function": "".join(function), "old": [], "new": []}
            found[-1]["edits"].append(edit | {"line": number})
        else:
            found[-1]["edits"][-1]["old" if kind == "-" else "new"].append(rest)
    return found


def is_alone(bug):
    return any(not edit["function"] for edit in bug["edits"])


def read(path):
    with open(path) as f:
        return f.read()


# Comments, strings and characters, in which braces mean nothing.
NO_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|'(?:\\.[^']*|[^'\\\n])'""", re.S
)
IMPL = re.compile(
    r"^[ \t]*(?:pub(?:\([^)]*\))? +)?(?:unsafe +)?(?:impl|trait)\b[^{;]*\{", re.M
)


def code(text):
    """`text` without comments, strings and unit tests, every other character where it was."""
    text = NO_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    return orderings.without_tests(text)


def path_of(file):
    """The path of a file that the list names: in the core's src/, unless the name says more."""
    return file if file.startswith(tuple(f"{package}/" for package in BESIDE)) else f"src/{file}"


class Source:
    """A file with sources, and its functions: name, header of the impl around it, where it starts,
    where its body starts and ends."""

    def __init__(self, file):
        self.text = read(os.path.join(ROOT, path_of(file)))
        self.code = code(self.text)
        self.lines = [m.start() for m in re.finditer(r"^", self.text, re.M)]
        self.functions = []
        blocks = [
            (m.group(), m.end() - 1, self.closed(m.end() - 1))
            for m in IMPL.finditer(self.code)
        ]
        for m in re.finditer(r"\bfn\s+(\w+)", self.code):
            begin = self.body(m.end())
            if begin is not None:
                around = [""] + [h for h, start, end in blocks if start < m.start() < end]
                function = (m.group(1), around[-1], m.start(), begin, self.closed(begin))
                self.functions.append(function)

    def closed(self, at):
        return orderings.balanced(self.code, at, "{", "}")

    def body(self, at):
        """The offset of the body of the function whose name ends at `at`, if it has one."""
        depth = 0
        for i in range(at, len(self.code)):
            c = self.code[i]
            depth += (c in "([") - (c in ")]")
            if depth == 0 and c == "{":
                return i
            if depth < 0 or depth == 0 and c == ";":
                return None
        return None

    def line(self, at):
        return bisect.bisect_right(self.lines, at)


def pattern(lines):
    """Matches the code of the lines, with any line breaks and comments between."""
    gap = r"(?:\s|//[^\n]*\n)*"
    tokens = re.findall(r"\w+|[^\w\s]", " ".join(lines))
    first, last = (r"\b" if re.match(r"\w", tokens[i]) else "" for i in (0, -1))
    tokens = ["(?:,%s)?%s" % (gap, re.escape(t)) if t in ")]}" else re.escape(t) for t in tokens]
    return re.compile(first + gap.join(tokens) + last)


class Misfit(Exception):
    pass


def place(sources, edit):
    """(begin, end) of the one body that has the edit's lines once, or of the whole file."""
    where = f"{edit['file']} {edit['function']}".rstrip()
    if not os.path.exists(os.path.join(ROOT, path_of(edit["file"]))):
        raise Misfit(f"there is no {path_of(edit['file'])}")
    if not any(line.strip() for line in edit["old"]):
        raise Misfit(f"{where}: no lines to replace")
    if edit["file"] not in sources:
        sources[edit["file"]] = Source(edit["file"])
    source = sources[edit["file"]]
    old = pattern(edit["old"])
    if not edit["function"]:
        count = len(old.findall(source.text))
        if count != 1:
            raise Misfit(f"{where}: {count} places have these lines")
        return 0, len(source.text)
    kind, _, name = edit["function"].rpartition("::")
    named = [
        f
        for f in source.functions
        if f[0] == name and (not kind or re.search(rf"\b{kind}\b", f[1]))
    ]
    if not named:
        raise Misfit(f"{where}: there is no such function")
    have = [(f, len(old.findall(source.text[f[3] : f[4]]))) for f in named]
    fit = [f for f, count in have if count == 1]
    if len(fit) == 1:
        return fit[0][3], fit[0][4]
    many = [f"{count} times from line {source.line(f[2])} on" for f, count in have if count > 0]
    raise Misfit(f"{where}: its lines are {'there ' + ', '.join(many) if many else 'not there'}")


def files_of(top):
    """The paths of the file `top`, or of all files in that folder."""
    top = os.path.join(ROOT, top)
    if os.path.isfile(top):
        return [top]
    return [os.path.join(folder, file) for folder, _, files in os.walk(top) for file in files]


def unknown_finders(listed):
    """The finders that name no test, scenario or fuzz target."""
    texts = {}

    def is_in(path, test):
        if path not in texts:
            full = os.path.join(ROOT, path)
            texts[path] = read(full) if os.path.exists(full) else ""
        return re.search(rf"\bfn {re.escape(test)}\(", texts[path])

    unit_tests = [
        name for path in files_of("src") for name in re.findall(r"#\[test\]\s+fn (\w+)", read(path))
    ]
    for bug in listed:
        for finder in bug["finders"]:
            kind, _, test = finder.partition(":")
            if kind == "lib":
                exists = any(test.split("::")[-1] in name for name in unit_tests)
            elif kind == "fuzz":
                exists = os.path.exists(os.path.join(ROOT, "fuzz", "fuzz_targets", f"{test}.rs"))
            else:
                *module, test = test.split("::")
                path = "/".join(["tests", kind, *module])
                exists = is_in(f"{path}.rs", test) or is_in(f"{path}/mod.rs", test)
            if not exists:
                yield f"ci/seeded.bugs:{bug['line']}: {bug['name']}: there is no {finder}"


def placed(listed):
    """{file: {(begin, end): {bug: [edit]}}}, and the sources. Fails if a bug does not fit."""
    sources, by_file, wrong, names = {}, {}, [], set()
    for bug in listed:
        where = f"ci/seeded.bugs:{bug['line']}: {bug['name']}"
        if bug["name"] in names:
            wrong.append(f"{where}: is there twice")
        names.add(bug["name"])
        if not bug["finders"]:
            wrong.append(f"{where}: has no finder")
        if not bug["edits"] and "=" not in bug["name"]:
            wrong.append(f"{where}: has no edit")
        for edit in bug["edits"]:
            try:
                at = place(sources, edit)
            except Misfit as misfit:
                wrong.append(f"ci/seeded.bugs:{edit['line']}: {bug['name']}: {misfit}")
            else:
                bugs_there = by_file.setdefault(edit["file"], {}).setdefault(at, {})
                bugs_there.setdefault(bug["name"], []).append(edit)
    if wrong:
        wrong.append(f"{len(wrong)} of ci/seeded.bugs do not fit the sources")
        raise SystemExit("\n".join(wrong))
    return by_file, sources


def changed(body, edits):
    for edit in edits:
        body = pattern(edit["old"]).sub(lambda _: "\n".join(edit["new"]), body, count=1)
    return body


def replaced(text, edits):
    """`text` with edits of (begin, end, new) that do not overlap."""
    for begin, end, new in sorted(edits, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def woven():
    """{file: text} of all files that have bugs or orderings in them, with all of them."""
    by_file, sources = placed([bug for bug in bugs() if not is_alone(bug)])
    weaker = orderings.edits()
    texts, changed_functions = {}, set()
    for file in sorted({*by_file, *weaker}):
        if file not in sources:
            sources[file] = Source(file)
        source = sources[file]
        inside = weaker.get(file, [])
        edits = []
        for (begin, end), some in by_file.get(file, {}).items():
            of_body = [e for e in inside if begin <= e[0] < end]
            inside = [e for e in inside if e not in of_body]
            body = source.text[begin:end]
            arms = "".join(
                f'if crate::seeded::is_chosen("{name}") {changed(body, es)} else '
                for name, es in some.items()
            )
            right = replaced(body, [(b - begin, e - begin, new) for b, e, new in of_body])
            edits.append((begin, end, "{ " + arms + right + " }"))
            changed_functions |= {(file, f[0]) for f in source.functions if f[3] == begin}
        texts[file] = replaced(source.text, [*edits, *inside])
    return unconst(texts, changed_functions)


def unconst(texts, changed_functions):
    """Makes functions that ask the environment not const, and their callers. Callers are found by
    name, so they may be a few more than needed."""
    constant, sources = {}, {}
    for path in files_of("src"):
        path = os.path.relpath(path, os.path.join(ROOT, "src"))
        source = sources[path] = Source(path)
        for name, _, at, begin, end in source.functions:
            if re.search(r"\bconst\s+(?:unsafe\s+)?$", source.code[max(0, at - 20) : at]):
                constant[path, name] = constant.get((path, name), "") + source.code[begin:end]
    todo, done = [f for f in changed_functions if f in constant], set()
    while todo:
        done.add(function := todo.pop())
        calls = re.compile(rf"\b{function[1]}\(")
        new = [f for f in constant if f not in done and f not in todo]
        todo += [f for f in new if calls.search(constant[f])]
    for path, name in done:
        text = texts.get(path, sources[path].text)
        texts[path] = re.sub(rf"\bconst (unsafe )?fn {name}\b", r"\1fn " + name, text)
    return texts


def alone(name):
    """{file: text} of the files that have this one bug, with it."""
    chosen = [bug for bug in bugs() if bug["name"] == name]
    if not chosen:
        raise SystemExit(f"there is no {name} in ci/seeded.bugs")
    by_file, sources = placed(chosen)
    texts = {}
    for file, places in by_file.items():
        text = sources[file].text
        edits = [(b, e, changed(text[b:e], some[name])) for (b, e), some in places.items()]
        texts[file] = replaced(text, edits)
    return texts


def put(path, text):
    """Writes the file unless that is its text: unchanged files are not compiled again."""
    if os.path.exists(path):
        with open(path, "rb") as f:
            if f.read() == text:
                return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(text)


def renamed(text, version):
    """A manifest of another version, so that cargo keeps what it compiles of copy and tree."""
    return re.sub(r'^(version = "[^"]*)"', rf'\1-{version}"', text, count=1, flags=re.M)


def manifest(text, tests, version):
    """Cargo.toml without benchmarks and examples, and without what only those depend on."""
    text = renamed(text, version)
    members = r"^\[workspace\]\n(?:[^\[\n].*\n|\[?\]\n)*"
    text = re.sub(members, "[workspace]\n", text, count=1, flags=re.M)
    text = re.sub(r"^\[\[(?:bench|example)\]\]\n(?:[^\[\n].*\n)*", "", text, flags=re.M)
    head, mark, rest = text.partition("[dev-dependencies]\n")
    needed, mark_2, rest = rest.partition("\n[")
    lines = [line for line in needed.splitlines() if re.match(r"\w", line)]
    crates = [(line, line.split()[0].replace("-", "_")) for line in lines]
    named = [line for line, crate in crates if re.search(rf"\b{crate}::", tests)]
    return head + mark + "\n".join(named) + "\n" + mark_2 + rest


def copy(to, texts, version):
    files = {}
    for top in KEPT:
        for path in files_of(top):
            relative = os.path.relpath(path, ROOT)
            if not relative.startswith(NOT_KEPT):
                with open(path, "rb") as f:
                    files[relative] = f.read()
    for file, text in texts.items():
        files[path_of(file)] = text.encode()
    for src in ("src", *(f"{package}/src" for package in BESIDE)):
        files[f"{src}/seeded.rs"] = read(os.path.join(ROOT, "ci", "seeded.rs")).encode()
        # Bugs make dead code and other things that a compiler warns of.
        lib, no_std = files[f"{src}/lib.rs"], b"#![no_std]\n"
        lib = lib.replace(no_std, no_std + b"#![allow(warnings)]\n", 1)
        files[f"{src}/lib.rs"] = lib + b"\nmod seeded;\n"
    for path in WITH_WORDS:
        source = f'#[path = "{"../" * path.count("/")}src/seeded.rs"]\n'
        source += "#[allow(warnings)]\nmod seeded;\n"
        before, mod, after = files[path].partition(b"#[path")
        files[path] = before + source.encode() + mod + after
    tests = b"\n".join(text for path, text in files.items() if path.startswith("tests/")).decode()
    files["Cargo.toml"] = manifest(files["Cargo.toml"].decode(), tests, version).encode()
    for package in BESIDE:
        text = renamed(files[f"{package}/Cargo.toml"].decode(), version)
        core = r'^(pagelock = \{ path = "\.\."), version = "[^"]*"'
        files[f"{package}/Cargo.toml"] = re.sub(core, r"\1", text, flags=re.M).encode()
    for relative, text in files.items():
        put(os.path.join(to, relative), text)
    # Files that are gone here go there too.
    for top in KEPT:
        for folder, _, names in os.walk(os.path.join(to, top)):
            for name in names:
                if os.path.relpath(os.path.join(folder, name), to) not in files:
                    os.remove(os.path.join(folder, name))


def main():
    match sys.argv[1:]:
        case ["check"]:
            listed = bugs()
            if unknown := list(unknown_finders(listed)):
                print("\n".join(unknown))
            placed(listed)
            if unknown:
                raise SystemExit(1)
            print(f"ci/seeded.bugs: {len(listed)} bugs fit the sources, and their finders exist")
        case ["copy", to]:
            copy(to, woven(), "woven")
        case ["copy", to, name]:
            copy(to, alone(name), name)
        case ["alone", *names]:
            for bug in bugs():
                if is_alone(bug) and (not names or any(name in bug["name"] for name in names)):
                    print(bug["name"], *bug["finders"])
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
