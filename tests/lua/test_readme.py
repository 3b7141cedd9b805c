"""lua/README.md against the scripts: its fields, who changes them, and its return codes."""

import re

from flashgrab.scripts import ALL, CHECKOUT, PUBLISH
from tests.lua.seeds import CAMPAIGN, OUTBOX, R1, grab, open_now
from tests.lua.server import Client
from tests.lua.test_headers import HEADERS, named_codes

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the first table below a line, by their first column."""
    below = README[README.index(heading) :]
    rows = re.findall(r"^\|(.+)\|$", below[: below.index("\n\n", below.index("\n|"))], re.MULTILINE)
    cells = [[cell.strip() for cell in row.split(" |")] for row in rows[2:]]
    return {row[0].lstrip("| "): row[1:] for row in cells}


def written(field: str) -> set[str]:
    """The scripts that set a field, besides publish and rebuild, which write them all."""
    names = set()
    for name, header in HEADERS.items():
        if name in ("publish", "rebuild"):
            continue
        sets = re.findall(r"'HSET', (?:campaign|round|round_key|KEYS\[i\]),([^)]+)\)", header.body)
        if any(re.search(rf"'{field}',", fields) for fields in sets):
            names.add(name)
    return names


def test_fields_are_those_that_publish_writes(redis: Client) -> None:
    """Both tables of fields are complete, and name whoever changes a field."""
    redis.script(PUBLISH, [CAMPAIGN, R1], [1, 1, "r", 1, "o", "{}", 1, 0, 5, 1, 2, 3])
    state = redis.state()
    for heading, key in (("**`{c:ID}`** hash", CAMPAIGN), ("**`{c:ID}:r:N`** hash", R1)):
        rows = {
            field: changed_by
            for fields, (_, changed_by) in table(heading).items()
            for field in fields.split(", ")
        }
        assert set(rows) == set(dict(state[key]))
        for field, changed_by in rows.items():
            assert set(re.findall(r"`(\w+)\.lua`", changed_by)) == written(field), field


def test_outbox_fields_are_those_that_grab_writes(redis: Client) -> None:
    """The table of an outbox entry's fields is complete; only a call that is traced has `trace`."""
    redis.seed(open_now(redis))
    grab(redis, ("a", "", "k"))
    entries = redis.state()[OUTBOX]
    assert isinstance(entries, list)
    fields = entries[0][1]
    named = [field for row in table("**`{c:ID}:outbox`**") for field in row.split(", ")]
    assert sorted(named) == sorted([*fields, "trace"])


def test_codes_are_those_of_the_headers() -> None:
    """The closed list of return codes says of each script what its header says."""
    rows = table("## Return codes")
    assert sorted(rows) == sorted(f"`{script.name}.lua`" for script in ALL)
    for script in ALL:
        returns, codes = rows[f"`{script.name}.lua`"]
        wanted = named_codes(HEADERS[script.name].parts["RETURNS"])
        assert named_codes(codes) == {n: name for n, name in wanted.items() if n >= 0}
        assert returns.strip("`").replace("…", "...") in HEADERS[script.name].parts["RETURNS"]
    results = README[README.index("A result of `grab.lua`") :].split("\n")[0]
    assert named_codes(results) == {
        n: name for n, name in named_codes(HEADERS["grab"].parts["RETURNS"]).items() if n < 0
    }
