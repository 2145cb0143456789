"""Shows pages in gdb as `{:?}` does, and stages by the page they own.

The crate puts this script into programs that are built with debug information. gdb runs it where it
trusts the program (`add-auto-load-safe-path`), or after `source src/gdb/pagelock.py`.

    (gdb) print page
    $1 = PageLock { locked, migrating, 2 sleepers, generation 7; 3 references, 0 pins }
    (gdb) pagelock 0x7ffff7d81008
    PageLock { free, generation 0; 0 references, 0 pins }

The second is for pages whose type gdb does not know: by address, in a dump, in a C program.
"""

import re

import gdb

# As in src/word/state.rs and src/word/count.rs.
LOCKED, LOCK_WAITERS, EVENT_WAITERS, MIGRATING, POISONED, CLOSED, CROWD = (1 << i for i in range(7))


def state_in_words(state):
    user, sleepers, generation = state >> 7 & 31, state >> 12 & 4095, state >> 24
    if state & LOCKED:
        words = ["locked"]
    else:
        words = ["kept for a sleeper" if state & CLOSED else "free"]
    if state & MIGRATING:
        words.append("migrating")
    if state & POISONED:
        words.append("poisoned")
    if sleepers:
        words.append(f"{sleepers} sleepers")
    if state & CLOSED:
        words.append("gate closed")
    if state & CROWD:
        words.append("crowd outside")
    if state & (LOCKED | CLOSED) and state & EVENT_WAITERS:
        words.append("awaited")
    if user:
        words.append(f"user {user}")
    return ", ".join(words + [f"generation {generation}"])


def page_in_words(state, count):
    refs, pins = count & (1 << 19) - 1, count >> 19 & 4095
    words = f"{state_in_words(state)}; {refs} references, {pins} pins"
    # Frozen for good, and "poisoned" says so.
    if count >> 31 and not state & POISONED:
        words += ", frozen"
    return f"PageLock {{ {words} }}"


def number(value):
    """The integer in however many wrappers the standard library has around an atomic."""
    while value.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT:
        fields = [f for f in value.type.strip_typedefs().fields() if f.type.sizeof]
        value = value[fields[0]]
    return int(value)


def of_page(page):
    return page_in_words(number(page["state"]), number(page["count"]))


class PageLock:
    def __init__(self, page):
        self.page = page

    def to_string(self):
        return of_page(self.page)


class Stage:
    """A guard, a reference, a pin, a stage of a migration: a pointer to its page."""

    def __init__(self, stage):
        self.stage = stage

    def to_string(self):
        name = self.stage.type.strip_typedefs().name.split("<")[0].split("::")[-1]
        return f"{name}({of_page(self.stage['page'].dereference())})"


PRINTERS = (
    (re.compile(r"^pagelock::page::PageLock<"), PageLock),
    (
        re.compile(
            r"^pagelock::(lock::guard::PageGuard|refs::guard::(PageRef|PagePin)"
            r"|migration::(Migration|frozen::Frozen|take_over::Poisoning))<"
        ),
        Stage,
    ),
)


def printer(value):
    name = value.type.strip_typedefs().name or ""
    for pattern, made in PRINTERS:
        if pattern.match(name):
            return made(value)
    return None


class Command(gdb.Command):
    """pagelock ADDRESS: the page whose header is there."""

    def __init__(self):
        super().__init__("pagelock", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, from_tty):
        address = int(gdb.parse_and_eval(argument))
        header = gdb.selected_inferior().read_memory(address, 8).tobytes()
        order = "big" if "big" in gdb.execute("show endian", to_string=True) else "little"
        print(page_in_words(*(int.from_bytes(header[at : at + 4], order) for at in (0, 4))))


# The script may be run twice: by hand, and from the program.
if not any(getattr(p, "__name__", "") == "pagelock" for p in gdb.pretty_printers):
    printer.__name__ = "pagelock"
    gdb.pretty_printers.append(printer)
    Command()
