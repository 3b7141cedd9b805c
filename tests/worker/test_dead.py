"""Dead letters: listed, tried again by the worker's own checks, and green books after it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from flashgrab.cli import app
from flashgrab.events import encode
from flashgrab.ledger import dead
from flashgrab.ledger.dead import DeadLetter, Tried
from tests.worker.line import Line, until
from tests.worker.test_parts import environment
from tests.worker.test_persist import fact, message
from worker.retry import retry

pytestmark = pytest.mark.anyio

NOW_MS = 1_700_000_000_999


async def poisoned(line: Line, *messages: tuple[bytes, bytes]) -> None:
    """Send these through Kafka and the worker, until all of them are in the dead table."""
    await line.send(*messages)
    async with line.running(line.persist()):

        async def all_dead() -> bool:
            return len(await line.dead()) == len(messages)

        await until(all_dead)


async def again(line: Line, *letters: DeadLetter, repaired: bytes | None = None) -> list[Tried]:
    found = letters or await dead.find(line.pool, settled=True)
    return await retry(line.pool, [one.digest for one in found], NOW_MS, repaired)


def outcomes(tried: list[Tried]) -> list[tuple[int | None, str, str]]:
    return sorted((t.dead.letter.seq, t.outcome, t.dead.letter.reason) for t in tried)


async def marks(line: Line) -> dict[int | None, int | None]:
    return {row["seq"]: row["retried_ms"] for row in await line.sql("SELECT * FROM dead")}


async def test_a_fact_that_has_become_known_is_stored(line: Line) -> None:
    """Its round was missing in the ledger: red until it is tried again, then green, to the row. A
    second time changes nothing."""
    await line.publish("c1", 100)
    await line.grant("c1", 20)
    await line.sql("UPDATE rounds SET number = 9")
    async with line.running(line.relay(), line.persist(), line.walker()):
        await line.settled("c1", 20)
        await line.sql("UPDATE rounds SET number = 1")
        report = await line.audit()
        assert report.campaigns[0].invariants["I5"] is False
        assert outcomes(await again(line)) == [(n, "STORED", "UNKNOWN_ROUND") for n in range(1, 21)]
        await line.assert_exact("c1")
        green = ("flashgrab_invariant_ok", ("c1", "I5"))
        await until(lambda: _is(line.metrics.values.get(green) == 1))
        before = await line.sql("SELECT * FROM coupons ORDER BY serial")
        assert {t.outcome for t in await again(line)} == {"BEFORE"}
        assert await line.sql("SELECT * FROM coupons ORDER BY serial") == before
        await line.assert_exact("c1")
    assert (await line.audit()).ok


async def test_a_conflict_stays_one(line: Line) -> None:
    """The serial is another's already: the letter stays, and says whose."""
    await line.publish("c1", 100)
    await poisoned(line, message(1, user_id="thief", round=9))
    await line.send(message(1))
    async with line.running(line.persist()):
        await line.persisted("c1", 1)
    (known,) = await again(line)
    assert (known.outcome, known.dead.letter.reason) == ("REFUSED", "UNKNOWN_ROUND")
    await line.sql(
        "INSERT INTO rounds (campaign_id, number, opens_at, closes_at, quota)"
        " VALUES ('c1', 9, 1, 2, 5)"
    )
    (tried,) = await again(line)
    assert (tried.outcome, tried.dead.letter.reason) == ("REFUSED", "CONFLICT")
    assert "with user u1" in tried.dead.letter.detail
    assert [(row[1], row[3]) for row in await line.rows("c1")] == [(1, "u1")]
    assert await line.dead() == [("CONFLICT", "c1", 1)]
    assert await marks(line) == {1: None}
    assert [r["granted"] for r in await line.sql("SELECT granted FROM rounds ORDER BY number")] == [
        1,
        0,
    ]


async def test_each_letter_has_its_own_outcome_and_all_are_one_transaction(line: Line) -> None:
    """Stored, there by another message, void, no fact, unreadable: in one go, or none of them."""
    await line.publish("c1", 100)
    await line.sql("UPDATE campaigns SET epoch = 2")
    await poisoned(
        line,
        message(6),
        message(1, campaign_id="c2", grab_id="c2-1"),
        message(2, user_id="a b"),
        message(3, epoch=7),
        message(5, user_id="c d"),
        (b"", b"\xff\x00 no JSON"),
    )
    await line.send(message(2, epoch=2))
    async with line.running(line.persist()):
        await line.persisted("c1", 1)
    await line.sql("INSERT INTO voids VALUES ('c1', 3, 4, 2)")
    await line.publish("c2", 100)
    await line.sql("ALTER TABLE dead ADD CONSTRAINT no CHECK (retried_ms IS NULL OR seq <> 3)")
    with pytest.raises(asyncpg.CheckViolationError):
        await again(line)
    await line.sql("ALTER TABLE dead DROP CONSTRAINT no")
    assert await line.rows("c2") == []
    assert set((await marks(line)).values()) == {None}
    tried = await again(line)
    assert {t.dead.letter.seq: t.outcome for t in tried} == {
        1: "STORED", 2: "THERE", 3: "VOID", 5: "REFUSED", 6: "VOID",
        None: "NO_FACT",
    }  # fmt: skip
    assert await marks(line) == {1: NOW_MS, 2: NOW_MS, 3: NOW_MS, 5: None, 6: NOW_MS, None: NOW_MS}
    assert [row[3] for row in await line.rows("c2")] == ["u1"]
    assert await dead.waiting(line.pool) == 1


async def test_a_repaired_event_takes_the_letters_place(line: Line) -> None:
    """Only as the fact that the letter was, and only if it passes the checks."""
    await line.publish("c1", 100)
    await poisoned(line, (b"", b"junk"))
    (tried,) = await again(line, repaired=b"{")
    assert tried.outcome == "REFUSED", "a repair that fails settles nothing"
    assert [t.outcome for t in await again(line)] == ["NO_FACT"]
    await line.sql("DELETE FROM dead")
    await poisoned(line, message(7, user_id="a b"))
    cases = [
        (b"{", "UNDECODABLE", "REFUSED"),
        (encode(fact(8)), "WRONG_FORM", "REFUSED"),
        (encode(fact(7, round=9)), "UNKNOWN_ROUND", "REFUSED"),
        (encode(fact(7)), "UNKNOWN_ROUND", "STORED"),
    ]
    for value, reason, outcome in cases:
        (tried,) = await again(line, repaired=value)
        assert (tried.outcome, tried.dead.letter.reason) == (outcome, reason)
    assert [row[3] for row in await line.rows("c1")] == ["u7"]
    (row,) = await line.sql("SELECT * FROM dead")
    assert b"a b" in row["value"], "the message as it came is kept"


async def test_a_return_finds_its_grant_later(line: Line) -> None:
    """It is stored into the grant's row, once that is there."""
    await line.publish("c1", 100)
    await poisoned(line, message(1, event="grab.returned", seq=2))
    (tried,) = await again(line)
    assert (tried.outcome, tried.dead.letter.reason) == ("REFUSED", "UNKNOWN_GRANT")
    await line.send(message(1))
    async with line.running(line.persist()):
        await line.persisted("c1", 1)
    (tried,) = await again(line)
    assert tried.outcome == "STORED"
    (row,) = await line.sql("SELECT returned_seq, state FROM coupons")
    assert tuple(row) == (2, "RETURNED")
    (counted,) = await line.sql("SELECT granted, returned FROM rounds")
    assert tuple(counted) == (1, 1)


async def test_two_at_the_same_time_store_once(line: Line) -> None:
    """Two operators, and the worker with the same fact from Kafka."""
    await line.publish("c1", 500)
    await poisoned(line, *(message(n, round=9) for n in range(1, 101)))
    await line.sql("UPDATE rounds SET number = 9")
    both = await asyncio.gather(again(line), again(line))
    assert sorted(sum(t.outcome == "STORED" for t in one) for one in both) == [0, 100]
    await line.send(*(message(n, round=9) for n in range(1, 102)))
    async with line.running(line.persist()):
        await line.persisted("c1", 101)
    (counted,) = await line.sql("SELECT granted FROM rounds")
    assert counted["granted"] == len(await line.rows("c1")) == 101
    assert await dead.waiting(line.pool) == 0


@dataclass(frozen=True)
class Ran:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
def run(line: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`flashgrab dead …` against this ledger, in this process."""
    for name, value in environment(line).items():
        if name.startswith("FLASHGRAB_"):
            monkeypatch.setenv(name, value)

    async def command(*arguments: str) -> Ran:
        capsys.readouterr()
        status = await asyncio.to_thread(app.main, ["dead", *arguments])
        said = capsys.readouterr()
        return Ran(status, said.out, said.err)

    return command


async def test_the_commands(line: Line, run: Run, tmp_path: Path) -> None:
    """list, retry by seq, by id and --all: exits 0, 1 and 2, a table and JSON."""
    await line.publish("c1", 100)
    done = await run("list")
    assert (done.status, done.out) == (0, "no dead letters\n")
    await poisoned(
        line,
        message(1, round=9),
        message(2, user_id="a b"),
        message(3, round=9),
        message(4, campaign_id="nobody", grab_id="nobody-4"),
        (b"x", b"\xff"),
    )
    done = await run("list", "--json")
    shown = json.loads(done.out)
    assert (done.status, shown["waiting"]) == (0, 5)
    by_seq = {letter["seq"]: letter for letter in shown["dead"]}
    assert by_seq[2]["reason"] == "WRONG_FORM"
    assert json.loads(by_seq[2]["value"])["user_id"] == "a b"
    done = await run("list", "--campaign", "c1")
    assert [words[1:3] for words in map(str.split, done.out.splitlines()[1:])].count(
        ["c1", "1"]
    ) == 1

    await line.sql("UPDATE rounds SET number = 9")
    done = await run("retry", "1", "--campaign", "c1")
    assert (done.status, done.out.splitlines()[-1]) == (0, "1 settled, 0 stay")
    assert "target: the stack of FLASHGRAB_*, ledger postgresql://" in done.err
    event = tmp_path / "event.json"
    event.write_bytes(encode(fact(2, round=9)))
    done = await run("retry", by_seq[2]["id"], "--repaired", str(event))
    assert (done.status, done.out.splitlines()[-1]) == (0, "1 settled, 0 stay")
    done = await run("retry", "--all", "--json")
    tried = json.loads(done.out)
    assert (done.status, tried["ok"], tried["staying"]) == (1, False, 1)
    assert sorted(one["outcome"] for one in tried["letters"]) == ["NO_FACT", "REFUSED", "STORED"]
    assert [row[0] for row in await line.rows("c1")] == [1, 2, 3]
    done = await run("list", "--settled")
    assert len(done.out.splitlines()) == 6


@pytest.mark.parametrize(
    "arguments,what",
    [
        (["retry"], "expected either seqs"),
        (["retry", "1", "--all"], "expected either seqs"),
        (["retry", "-", "--campaign", "c1"], "neither a seq nor an id"),
        (["retry", "77"], "there is no dead letter 77"),
        (["list", "--campaign", "../c1"], "is not a campaign id"),
        (["retry", "--all", "--repaired", __file__], "exactly one letter"),
    ],
)
async def test_wrong_uses(run: Run, arguments: list[str], what: str) -> None:
    """One line on stderr and exit 2, and nothing is changed."""
    done = await run(*arguments)
    lines = [text for text in done.err.splitlines() if not text.startswith("target: ")]
    assert done.status == 2, (done.out, done.err)
    assert len(lines) == 1
    assert what in lines[0]


@pytest.mark.parametrize("name", ["list", "retry"])
async def test_help_has_an_example(run: Run, name: str) -> None:
    """As every command has."""
    done = await run(name, "--help")
    assert done.status == 0
    assert f"flashgrab dead {name}" in done.out.partition("Example")[2]


async def _is(value: bool) -> bool:
    return value
