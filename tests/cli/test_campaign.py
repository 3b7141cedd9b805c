"""`flashgrab campaign …` against a real centre: what it prints, how it ends."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from centre.caller import EXPECTED
from flashgrab.cli.campaigns import Centre, new_operation
from flashgrab.ledger.pool import Pool
from flashgrab.model import parse
from flashgrab.store import Store
from tests.centre.granting import OPEN, granted
from tests.centre.serving import ADMIN_TOKEN, Servers, definition
from tests.cli.conftest import CENTRE
from tests.cli.ran import Ran, Run, ran

pytestmark = CENTRE

TARGET = "target: the stack of FLASHGRAB_*, centre "


@pytest.fixture
def run(
    centre_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command in this process against the centre."""
    monkeypatch.setenv("FLASHGRAB_CENTRE_URL", centre_url)
    monkeypatch.setenv("FLASHGRAB_ADMIN_TOKEN", ADMIN_TOKEN)

    def call(*arguments: str) -> Ran:
        return ran(capsys, "campaign", *arguments)

    return call


@pytest.fixture
def made(centre_url: str) -> Callable[..., str]:
    """Makes a campaign, published unless told otherwise; gives its id."""

    def make(publish: bool = True, **fields: Any) -> str:
        with Centre(centre_url, ADMIN_TOKEN) as centre:
            written = parse(definition(**fields), "test")
            centre.create(written, new_operation())
            if publish:
                centre.change(written.id, "publish", new_operation())
            return written.id

    return make


def write(folder: Path, campaign_id: str, quota: int = 10, more: str = "") -> str:
    """A campaign file; gives its path."""
    path = folder / f"{campaign_id}-{quota}.toml"
    path.write_text(
        f'id = "{campaign_id}"\nname = "[bold]Ünïcode 🎉"\n{more}'
        '[rule]\nkind = "amount_off"\namount = 3000\n'
        f'[[rounds]]\nopens_at = "+10s"\ncloses_at = "+2h"\nquota = {quota}\n'
    )
    return str(path)


def test_create_then_publish(run: Run, centre_url: str, tmp_path: Path) -> None:
    """A DRAFT first, then open; the target comes first on stderr."""
    file = write(tmp_path, "made-1")
    created = run("create", file)
    note = "campaign made-1 created (DRAFT); use --publish to open it\n"
    assert created == (0, note, f"{TARGET}{centre_url}\n")
    assert run("publish", "made-1").out == "campaign made-1 publish: PUBLISHED (version 2)\n"


def test_create_and_publish_at_once_and_again(run: Run, tmp_path: Path) -> None:
    """The same content again says so and is no error; a DRAFT left over is published."""
    file = write(tmp_path, "made-2")
    assert run("create", file).status == 0
    assert (
        run("create", file, "--publish").out == "campaign made-2 publish: PUBLISHED (version 2)\n"
    )
    again = run("create", file, "--publish")
    note = "campaign made-2 is there already with the same content (PUBLISHED)\n"
    assert (again.status, again.out) == (0, note)


def test_create_repeated_with_its_operation_id(run: Run, tmp_path: Path) -> None:
    """With --operation the whole of `create --publish` is repeatable."""
    file = write(tmp_path, "made-3")
    first = run("create", file, "--publish", "--operation", "op-3", "--json")
    again = run("create", file, "--publish", "--operation", "op-3", "--json")
    assert json.loads(again.out) == json.loads(first.out) | {"repeated": True}


def test_other_content_is_refused_with_the_difference(
    run: Run, centre_url: str, tmp_path: Path
) -> None:
    """Exit 2, one line, field by field."""
    run("create", write(tmp_path, "made-4"))
    file = write(tmp_path, "made-4", quota=11, more="per_user = 2\n")
    said = (
        f"{TARGET}{centre_url}\n"
        f"flashgrab: {file}: campaign made-4 exists with other content:"
        " rounds[0].quota is 10, here 11; per_user is 1, here 2\n"
    )
    assert run("create", file) == (2, "", said)


@pytest.mark.parametrize(
    "text, message",
    [
        ('id = "x"\nname = \n', "not TOML: Invalid value (at line 2, column 8)"),
        ('id = "x"\nextra = 1\n', "extra: unknown field, expected one of: id, name, rule, rounds,"),
        ('id = "x"\n', "name: missing"),
        ("\udcff", "not UTF-8 at byte 0"),
    ],
)
def test_a_wrong_file_is_named_with_line_or_field(
    run: Run, tmp_path: Path, text: str, message: str
) -> None:
    """Exit 2 and one line that names the file; nothing was sent."""
    file = tmp_path / "wrong.toml"
    file.write_text(text, errors="surrogateescape")
    refused = run("create", str(file))
    assert (refused.status, refused.out) == (2, "")
    assert refused.err.startswith(f"flashgrab: {file}: {message}")
    assert refused.err.count("\n") == 1


def test_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    """Exit 2 naming it."""
    missing = tmp_path / "nix.toml"
    line = f"flashgrab: {missing}: cannot be read: No such file or directory\n"
    assert run("create", str(missing)) == (2, "", line)


def test_the_life_of_a_campaign(run: Run, made: Callable[..., str]) -> None:
    """pause, restock, resume, close: each says status and version."""
    campaign_id = made()
    said = [
        run("pause", campaign_id),
        run("restock", campaign_id, "--round", "1", "--add", "5"),
        run("resume", campaign_id),
        run("close", campaign_id),
    ]
    assert [(ran.status, ran.out) for ran in said] == [
        (0, f"campaign {campaign_id} pause: PAUSED (version 3)\n"),
        (0, f"campaign {campaign_id} restock: PAUSED, round 1 has quota 15 (version 4)\n"),
        (0, f"campaign {campaign_id} resume: PUBLISHED (version 5)\n"),
        (0, f"campaign {campaign_id} close: OFFLINE (version 6)\n"),
    ]


def test_a_restock_repeated_with_its_operation_id_applies_once(
    run: Run, made: Callable[..., str]
) -> None:
    """The second time says that it was applied before, and the quota is the same."""
    campaign_id = made()
    again = ("restock", campaign_id, "--round", "1", "--add", "5", "--operation", "ticket-42")
    run(*again)
    assert run(*again).out == (
        f"campaign {campaign_id} restock: PUBLISHED, round 1 has quota 15"
        " (version 3, applied before)\n"
    )
    assert json.loads(run("show", campaign_id, "--json").out)["rounds"][0]["quota"] == 15


def test_a_refusal_is_one_line(run: Run, centre_url: str, made: Callable[..., str]) -> None:
    """What the centre refuses is exit 2 with its own words."""
    campaign_id = made()
    said = (
        f"{TARGET}{centre_url}\n"
        f"flashgrab: campaign {campaign_id} is PUBLISHED; resume needs PAUSED\n"
    )
    assert run("resume", campaign_id) == (2, "", said)
    assert run("show", "nix") == (2, "", "flashgrab: there is no campaign nix\n")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("show", "UP/../x"), "'UP/../x' is no campaign id: expected 1 to 48 of a-z 0-9 _ -"),
        (
            ("pause", "x", "--operation", "a b"),
            "--operation: expected 1 to 64 characters of A-Z a-z 0-9 . _ ~ -",
        ),
        (("restock", "x", "--round", "0", "--add", "1"), "Invalid value for '--round'"),
        (
            ("return", "x"),
            "'x' is no grab id: expected campaign id and number, as in spring-618-17",
        ),
        (("restock", "x", "--round", "1"), "Missing option '--add'"),
        (
            ("create", "FILE", "--publish", "--operation", "x" * 57),
            "--operation: with --publish it has at most 56 characters",
        ),
    ],
)
def test_wrong_use_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    """Exit 2 before anything is sent."""
    ran = run(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"flashgrab: {message}")
    assert ran.err.count("\n") == 1


def test_list_and_show_are_tables(run: Run, made: Callable[..., str]) -> None:
    """Names are shown as they are, times local and in UTC, a DRAFT without."""
    made(id="shown-1", name="[red]Ünïcode 🎉")
    made(id="shown-2", publish=False)
    listed = {line.split()[0]: line for line in run("list").out.splitlines()}
    assert "PUBLISHED  yes" in listed["shown-1"]
    assert listed["shown-1"].rstrip().endswith("[red]Ünïcode 🎉")
    assert "Z)" in listed["shown-1"]
    assert "DRAFT" in listed["shown-2"]
    shown = run("show", "shown-1")
    rows = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if line.split()[1:])
    assert (rows["name"].strip(), rows["confirmed"].strip()) == ("[red]Ünïcode 🎉", "yes")
    assert rows["1"].split()[-5:] == ["10", "10", "0", "0", "0"]
    assert run("show", "shown-2").status == 0
    assert "shown-2" in run("list", "--json").out


def test_not_in_redis_is_exit_1(run: Run, servers: Servers, made: Callable[..., str]) -> None:
    """What is committed but not in Redis is bad news, and says why."""
    campaign_id = made()

    async def lose() -> None:
        async with Store(servers.redis_url) as store:
            await store._redis.flushall()

    asyncio.run(lose())
    ran = run("close", campaign_id)
    assert (ran.status, ran.out) == (1, f"campaign {campaign_id} close: OFFLINE (version 3)\n")
    last = ran.err.splitlines()[-1]
    assert last.startswith("flashgrab: committed, but not in Redis yet: Redis has lost it")


def test_a_return_is_once_and_final(
    run: Run, servers: Servers, centre_url: str, made: Callable[..., str]
) -> None:
    """Done, the same for its operation id again, refused for another and for what is not there."""
    campaign_id = made(rounds=[OPEN])

    async def sell() -> None:
        pool = Pool(servers.postgres_url)
        async with Store(servers.redis_url) as store:
            await granted(store, pool, campaign_id, "ann")
        await pool.close()

    asyncio.run(sell())
    grab = f"{campaign_id}-1"
    once = ("return", grab, "--operation", "order-7")
    done = f"grab {grab} return: RETURNED, back in round 1"
    assert run(*once) == (0, done + "\n", f"{TARGET}{centre_url}\n")
    assert run(*once).out == f"{done} (returned before, by this operation)\n"
    assert json.loads(run(*once, "--json").out)["state"] == "RETURNED"
    again = run("return", grab)
    assert (again.status, again.err.splitlines()[-1]) == (
        2,
        f"flashgrab: coupon {grab} was returned before",
    )
    assert run("return", f"{campaign_id}-2").status == 2


def test_a_wrong_token_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2; the token itself is not shown."""
    monkeypatch.setenv("FLASHGRAB_ADMIN_TOKEN", "another-token-of-mine")
    line = f"flashgrab: {EXPECTED}\n"
    assert run("list") == (2, "", line)


def test_nobody_there_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2 naming the address."""
    monkeypatch.setenv("FLASHGRAB_CENTRE_URL", "http://127.0.0.1:1")
    ran = run("list")
    assert ran.status == 2
    assert ran.err.startswith("flashgrab: the centre at http://127.0.0.1:1 does not answer (")


def test_a_rebuild_is_waited_for_and_says_what_it_may_have_cost(
    run: Run, made: Callable[..., str], servers: Servers
) -> None:
    """Redis lost its data: `show` says what to do, and `rebuild` does it; a bound that is too short
    ends with 1, and the rebuild goes on."""
    campaign_id = made()

    async def lose() -> None:
        async with Store(servers.redis_url) as store:
            await store._redis.flushall()

    asyncio.run(lose())
    assert f"flashgrab campaign rebuild {campaign_id}" in run("show", campaign_id).out
    short = run("rebuild", campaign_id, "--within", "0", "--operation", "short")
    assert (short.status, "it is being rebuilt" in short.err) == (1, True)
    done = run("rebuild", campaign_id, "--without-kafka")
    assert done.status == 0
    assert "epoch 2 with 0 coupons up to seq 0" in done.out
    assert "acknowledgements lost" in done.out
    shown = json.loads(run("show", campaign_id, "--json").out)
    assert (shown["confirmed"], shown["rebuild_needed"]) == (True, False)
