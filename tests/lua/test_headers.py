"""Every script's header against its body and its Python binding: what prose claims, this checks."""

import re
from dataclasses import dataclass

import pytest

from flashgrab.outcomes import BY_SCRIPT_CODE, Outcome, Verdict
from flashgrab.scripts import ALL, CHECKOUT, Script

PARTS = ("KEYS", "ARGV", "RETURNS", "INVARIANT", "COST")
READS = {"TIME", "HMGET", "MGET", "EXISTS", "XRANGE", "HLEN"}
WRITES = {"XADD", "HSET", "HDEL", "XTRIM", "UNLINK", "RENAME", "SET"}
"""Commands that cannot fail on well-typed keys; no relative ones (HINCRBY and the like)."""
TYPES = {"hash", "stream", "string"}
GLOBALS = {
    "redis", "KEYS", "ARGV", "tonumber", "string", "table", "math", "unpack", "select", "pairs",
}  # fmt: skip
KEYWORDS = {
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
}  # fmt: skip
FLAGS = {
    "grab": "",
    "publish": "",
    "return": "",
    "apply": "#!lua flags=allow-oom",
    "settle": "#!lua flags=allow-oom",
    "confirm": "#!lua flags=allow-oom",
    "lease": "#!lua flags=allow-oom",
    "books": "#!lua flags=no-writes",
    "fence": "#!lua flags=allow-oom",
    "stage": "",
    "rebuild": "",
    "limit": "",
}
"""grab, return, publish have none: when memory is full, their first write is refused, no sooner."""


@dataclass(frozen=True)
class Header:
    """A header in its parts; keys and args as (number, name, rest of the line)."""

    flags: str
    title: str
    keys: list[tuple[int, str, str]]
    args: list[tuple[int, str, str]]
    parts: dict[str, str]
    body: str


def parse(text: str) -> Header:
    lines = text.splitlines()
    flags = lines.pop(0) if lines[0].startswith("#!") else ""
    end = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    assert lines[end] == "", "an empty line between header and body"
    header = [line.removeprefix("--").removeprefix(" ") for line in lines[:end]]
    marks = [i for i, line in enumerate(header) if line in PARTS]
    assert [header[i] for i in marks] == list(PARTS), "the parts, in their order, each once"
    title = " ".join(header[: marks[0]]).strip()
    parts = {
        header[start]: "\n".join(header[start + 1 : stop])
        for start, stop in zip(marks, [*marks[1:], len(header)], strict=True)
    }
    body = "\n".join(lines[end:])
    return Header(flags, title, numbered(parts["KEYS"]), numbered(parts["ARGV"]), parts, body)


def numbered(text: str) -> list[tuple[int, str, str]]:
    """Lines `  1 name  rest`; what is indented deeper goes on from the line before."""
    rows = re.findall(r"^  (\d+) (\S+) +(.+)$", text, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^ {2}\S", text, re.MULTILINE)), text
    return [(int(number), name, rest) for number, name, rest in rows]


HEADERS = {script.name: parse(script.text) for script in ALL}
scripts = pytest.mark.parametrize("script", ALL, ids=lambda script: script.name)


def code(header: Header) -> str:
    """The body with its texts emptied."""
    assert "--" not in re.sub(r"'[^']*'", "''", header.body), "what is to be said is in the header"
    return re.sub(r"'[^']*'", "''", header.body)


def calls(header: Header) -> list[tuple[str, str]]:
    """(command, first argument) of each redis.call."""
    found = re.findall(r"redis\.p?call\('(\w+)'(?:, (\w+(?:\[[^\]]+\]|\(KEYS\))?))?", header.body)
    assert len(found) == header.body.count("redis."), "redis.call with a literal command only"
    return [(command, argument) for command, argument in found]


def test_every_file_is_bound_once() -> None:
    """The scripts in lua/ are exactly those that Python binds."""
    assert sorted(path.stem for path in CHECKOUT.glob("*.lua")) == sorted(s.name for s in ALL)
    assert len({s.sha for s in ALL}) == len(ALL)


@scripts
def test_parts(script: Script) -> None:
    """The title is one sentence that begins with a capital; no part is empty; flags as agreed."""
    header = HEADERS[script.name]
    assert re.fullmatch(r"[A-Z][^.]+\.", header.title)
    assert all(text.strip() for text in header.parts.values())
    assert header.flags == FLAGS[script.name]
    assert set(re.findall(r"\bI\d+", header.parts["INVARIANT"])) <= {f"I{n}" for n in range(1, 11)}
    assert re.search(r"\bI\d", header.parts["INVARIANT"])
    assert header.parts["COST"].strip().startswith("O(")


@scripts
def test_keys_are_those_of_the_binding_and_the_body(script: Script) -> None:
    """Numbers, names and order of KEYS agree in header, binding and body."""
    header = HEADERS[script.name]
    assert [number for number, _, _ in header.keys] == list(range(1, len(header.keys) + 1))
    assert tuple(name for _, name, _ in header.keys) == script.keys
    for _, name, rest in header.keys:
        kind = rest.split()[0]
        assert kind in TYPES or (name == "next_round" and kind == "hash")
    used = {int(n) for n in re.findall(r"KEYS\[(\d+)\]", header.body)}
    if script.keys[-1].endswith("…"):
        assert used == set(range(1, len(script.keys)))
        assert "#KEYS" in header.body
    else:
        assert used == set(range(1, len(script.keys) + 1))
        assert "#KEYS" not in header.body


@scripts
def test_arguments_are_those_of_the_binding_and_the_body(script: Script) -> None:
    """Numbers, names and order of ARGV agree in header, binding and body; repeats too."""
    header = HEADERS[script.name]
    assert [number for number, _, _ in header.args] == list(range(1, len(header.args) + 1))
    names = tuple(name for _, name, _ in header.args)
    fixed = len(script.args)
    assert names[:fixed] == script.args
    assert names[fixed:] == script.repeats[:1]
    if script.repeats:
        rest = header.args[-1][2]
        assert all(name in rest for name in script.repeats[1:])
        assert re.search(rf"local head = {fixed}\b", header.body)
    used = {int(n) for n in re.findall(r"ARGV\[(\d+)\]", header.body)}
    assert used == set(range(1, fixed + 1))
    strides = set(re.findall(r"head \+ (\d+) \* i", header.body)) or {"1"}
    assert strides <= {str(max(len(script.repeats), 1))}


@scripts
def test_body_names_things_as_the_header_does(script: Script) -> None:
    """A local, or a field, that takes KEYS[n] or ARGV[n] has that key's or argument's name."""
    header = HEADERS[script.name]
    of = {"KEYS": dict(enumerate(script.keys, 1)), "ARGV": dict(enumerate(script.args, 1))}
    checked = set()
    for names, values in re.findall(r"^local ([\w, ]+) = (.+)$", header.body, re.MULTILINE):
        for name, value in zip(names.split(", "), values.split(", "), strict=False):
            if match := re.fullmatch(r"(?:tonumber\()?(KEYS|ARGV)\[(\d+)\]\)?", value):
                wanted = of[match[1]][int(match[2])]
                assert name in (wanted, f"{wanted}_key")
                checked.add((match[1], match[2]))
    for name, table, number in re.findall(r"'(\w+)',\s+(KEYS|ARGV)\[(\d+)\]", header.body):
        assert name == of[table][int(number)]
        checked.add((table, number))
    mentioned = set(re.findall(r"(KEYS|ARGV)\[(\d+)\]", header.body))
    assert mentioned - checked <= {("KEYS", "6"), ("KEYS", "5")}


def named_codes(text: str) -> dict[int, str]:
    """`0 DECIDED`, `-1 OFFLINE` and the like."""
    return {int(n): name for n, name in re.findall(r"(?<![\w.])(-?\d+) ([A-Z][A-Z_]+)\b", text)}


@scripts
def test_codes_returned_are_codes_named(script: Script) -> None:
    """Every code that the body can return is in RETURNS with its meaning, and no other."""
    header = HEADERS[script.name]
    text = header.parts["RETURNS"]
    returned = set(re.findall(r"(?:return|reply =) \{(\d+)", header.body))
    for expression in re.findall(r"refuse\(([^()]+)\)", header.body):
        returned |= set(re.findall(r"\b(\d+)\b", expression))
    for expression in re.findall(r"results\[i\] = (-\d+)", header.body):
        returned.add(expression)
    for line in re.findall(r"local closed = (.+(?:\n +or .+)*)", header.body):
        returned |= set(re.findall(r"-\d+", line))
    if script.name == "books":
        assert "found is 0 or 1" in text
        assert returned == {"0", "1"}
    else:
        assert {int(n) for n in returned} == set(named_codes(text))


def test_outcomes_of_a_grab() -> None:
    """Python's outcomes and verdicts are exactly those that grab.lua names."""
    text = HEADERS["grab"].parts["RETURNS"]
    names = named_codes(text)
    assert {n: name for n, name in names.items() if n < 0} == {
        n: outcome.name for n, outcome in BY_SCRIPT_CODE.items() if n != -6
    }
    assert BY_SCRIPT_CODE[-6].name in text
    assert "results[i] = 'U' .. entry" in HEADERS["grab"].body
    assert {n: name for n, name in names.items() if n >= 0} == {v.value: v.name for v in Verdict}
    assert len({o.value for o in Outcome}) == len(Outcome.__members__)


def test_refusals_are_decided_in_the_order_of_the_outcomes() -> None:
    """The codes stand in grab.lua in falling order, as the outcomes do in Python."""
    body = HEADERS["grab"].body
    codes = [int(n) for n in re.findall(r"(?:results\[i\] =|and) (-\d)\b", body)]
    codes.insert(codes.index(-5) + 1, -6)  # USER_LIMIT is a text
    assert codes == list(BY_SCRIPT_CODE) == sorted(BY_SCRIPT_CODE, reverse=True)


@scripts
def test_everything_is_local(script: Script) -> None:
    """Every name is declared in the script, or one of the few of Lua and Redis that it may use."""
    body = code(HEADERS[script.name])
    declared = set()
    for names in re.findall(r"\blocal (?!function)([\w, ]+?)(?: =|$)", body, re.MULTILINE):
        declared |= set(names.split(", "))
    for name, parameters in re.findall(r"\blocal function (\w+)\(([\w, ]*)\)", body):
        declared |= {name, *parameters.split(", ")}
    for names in re.findall(r"\bfor ([\w, ]+?) (?:=|in)", body):
        declared |= set(names.split(", "))
    assert "function(" not in body
    assert len(re.findall(r"\bfunction\b", body)) == len(re.findall(r"\blocal function\b", body))
    used = set(re.findall(r"(?<![.\w])[A-Za-z_]\w*", body))
    assert used - declared - KEYWORDS <= GLOBALS
    assert not declared & (GLOBALS | KEYWORDS)


@scripts
def test_only_keys_are_touched(script: Script) -> None:
    """What a command is given as its key comes from KEYS."""
    header = HEADERS[script.name]
    from_keys = set()
    for names, values in re.findall(
        r"^ *(?:local )?([\w, ]+) = (.*KEYS.*)$", header.body, re.MULTILINE
    ):
        for name, value in zip(names.split(", "), values.split(", "), strict=False):
            if re.fullmatch(r"KEYS\[.+\]", value):
                from_keys.add(name)
    for name, parameter in re.findall(r"local function (\w+)\((\w+)\)", header.body):
        given = set(re.findall(rf"\b(?<!function ){name}\((\w+)\)", header.body)) - {parameter}
        if given and given <= from_keys:
            from_keys.add(parameter)
    for command, argument in calls(header):
        if command == "TIME":
            continue
        assert argument in from_keys or re.fullmatch(r"KEYS\[.+\]|unpack\(KEYS\)", argument), (
            argument
        )


@scripts
def test_reads_come_before_writes(script: Script) -> None:
    """Known commands only; all reading is done before the first write; grab's is XADD."""
    commands = [command for command, _ in calls(HEADERS[script.name])]
    assert set(commands) <= READS | WRITES
    kinds = [command in WRITES for command in commands]
    assert kinds == sorted(kinds)
    writes = [command for command in commands if command in WRITES]
    if script.name == "grab":
        assert writes[0] == "XADD"
        assert "at most five writes" in HEADERS["grab"].parts["COST"]
        assert len(writes) == 5
    if script.name == "return":
        assert writes[0] == "XADD"
    if script.name == "books":
        assert not writes


CHECKS = (
    test_parts, test_keys_are_those_of_the_binding_and_the_body,
    test_arguments_are_those_of_the_binding_and_the_body,
    test_body_names_things_as_the_header_does, test_codes_returned_are_codes_named,
    test_everything_is_local, test_only_keys_are_touched, test_reads_come_before_writes,
)  # fmt: skip
A_WRITE = "redis.call('HSET', campaign, 'seq', 1)"
FAULTS = {
    "a part is missing": ("settle", "-- COST\n", ""),
    "a key has another name": ("settle", "2 outbox      stream", "2 inbox       stream"),
    "a key is not told of": ("settle", "--   2 outbox      stream  {c:ID}:outbox\n", ""),
    "arguments change places": ("settle", "ARGV[1], tonumber(ARGV[2])", "ARGV[2], ARGV[1]"),
    "fewer fixed arguments": ("apply", "local head = 4", "local head = 3"),
    "another stride": ("publish", "head + 3 * i - 2", "head + 4 * i - 2"),
    "a code is not told of": ("settle", "2 EPOCH, ", ""),
    "a code is never returned": ("settle", "1 MISSING", "1 MISSING, 9 NEVER"),
    "a refusal is not told of": ("grab", "-7 DEVICE_LIMIT, ", ""),
    "a global": ("settle", "local c = ", "c = "),
    "a key of its own": ("settle", "'XTRIM', outbox", "'XTRIM', 'outbox'"),
    "a write before a read": ("settle", "local c =", f"{A_WRITE}\nlocal c ="),
    "a relative write": ("confirm", "'HSET', campaign", "'HINCRBY', campaign"),
    "XADD not first": ("grab", "redis.call('XADD'", f"{A_WRITE} redis.call('XADD'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_checks_find_a_planted_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a header or a body with this one thing wrong does not pass."""
    name, text, mutated = FAULTS[fault]
    (script,) = (s for s in ALL if s.name == name)
    assert script.text.count(text) == 1, f"{name}.lua no longer says {text!r}"
    with pytest.raises(AssertionError):
        check_all(script, script.text.replace(text, mutated), monkeypatch)


def check_all(script: Script, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADERS, script.name, parse(text))
    for check in CHECKS:
        check(script)
