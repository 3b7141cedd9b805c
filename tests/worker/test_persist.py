"""Kafka to ledger, stopped between every two steps, with poison, conflicts and stale writers."""

import asyncio
import json
from collections.abc import Collection
from functools import partial
from typing import Any

import pytest

from flashgrab import keys
from flashgrab.broker import Consumer, TopicLog, ensure_topics
from flashgrab.cli.stack.kafka import Broker
from flashgrab.cli.stack.postgres import Postgres
from flashgrab.errors import LedgerUnavailable, StaleWriter
from flashgrab.events import Fact, encode
from flashgrab.ledger import facts
from flashgrab.ledger.facts import BEGINNING, Grant, Move, Position
from flashgrab.ledger.pool import Pool
from tests.services.embedded import again
from tests.worker.line import Line, crash_at, until
from worker.steps import Step

pytestmark = pytest.mark.anyio


def fact(serial: int, **changes: Any) -> Fact:
    """Fact number `serial` of c1."""
    fields: dict[str, Any] = {
        "event": "grab.granted",
        "seq": serial,
        "grab_id": f"c1-{serial}",
        "campaign_id": "c1",
        "serial": serial,
        "user_id": f"u{serial}",
        "device_id": "",
        "round": 1,
        "request_id": f"k{serial}",
        "epoch": 1,
        "at_ms": 1_700_000_000_000,
    }
    return Fact(**(fields | changes))


def message(serial: int, **changes: Any) -> tuple[bytes, bytes]:
    one = fact(serial, **changes)
    return one.user_id.encode(), encode(one)


def returned(serial: int, seq: int, **changes: Any) -> tuple[bytes, bytes]:
    """The message of a return of serial `serial` of c1."""
    return message(serial, event="grab.returned", seq=seq, **changes)


async def nothing() -> None:
    pass


async def test_every_fact_arrives_once(line: Line) -> None:
    """Facts of one campaign go from the outbox to the ledger, and the outbox is trimmed."""
    await line.publish("c1", 200)
    await line.grant("c1", 123)
    await line.deliver("c1", 123)
    await line.assert_exact("c1")
    assert await line.outbox("c1") == []
    report = await line.audit()
    assert report.ok, report


async def test_an_idle_worker_notices_a_ledger_that_was_set_back(line: Line) -> None:
    """After a restore no transaction fails by its offsets where no records come: it looks."""
    await line.publish("c1", 200)
    await line.grant("c1", 50)
    async with line.running(line.relay(), line.persist(), line.walker()):
        await line.persisted("c1", 50)
        async with line.pool.transaction() as tx:
            await tx.execute("DELETE FROM coupons WHERE serial > 20")
            await tx.execute("UPDATE rounds SET granted = 20")
            await tx.execute("UPDATE offsets SET next_offset = 0, fingerprint = ''")
        await line.persisted("c1", 50)
    await line.assert_exact("c1")


@pytest.mark.parametrize("step", ["fetched", "written", "committed", "committed_kafka"])
async def test_a_crash_at_any_step_loses_and_doubles_nothing(line: Line, step: Step) -> None:
    """After a crash at the step a new worker goes on, and the ledger has every fact once."""
    await line.publish("c1", 500)
    await line.grant("c1", 100)
    async with line.running(line.relay()):
        await line.run_to_crash(line.persist(crash_at(step), records_max=30))
        await line.grant("c1", 50, start=100)
        async with line.running(line.persist(records_max=30), line.walker()):
            await line.persisted("c1", 150)
            await line.settled("c1", 150)
    await line.assert_exact("c1")
    assert (await line.audit()).ok


async def test_two_workers_share_the_partitions(line: Line) -> None:
    """A second worker takes some partitions over, and no fact is lost or doubled."""
    await line.publish("c1", 1000)
    first, second = line.persist(records_max=20), line.persist(records_max=20)
    async with line.running(line.relay(), first):
        await line.grant("c1", 200)
        await line.persisted("c1", 50)
        async with line.running(second):
            await line.grant("c1", 200, start=200)
            await until(lambda: _true(second._held and first._held))
            await line.grant("c1", 200, start=400)
            await line.persisted("c1", 600)
    await line.assert_exact("c1")


async def test_a_stale_workers_transaction_is_refused(line: Line) -> None:
    """A worker whose offsets another one has moved writes nothing, not even its rows."""
    await line.publish("c1", 100)
    topic = keys.GRABS_TOPIC
    await facts.positions(line.pool, topic, [0])
    after = Position(5, b"five")
    grant = Grant(fact(1), b"", b"")
    write = partial(facts.write, line.pool, topic, on_sending=bool, before_commit=nothing)
    await write([Move(0, BEGINNING, after)], [grant], [], 1)
    stale = Grant(fact(2), b"", b"")
    for before in (BEGINNING, Position(5, b"other"), Position(4, b"five")):
        move = Move(0, before, Position(6, b"six"))
        with pytest.raises(StaleWriter):
            await write([move], [stale], [], 1)
    assert [row[1] for row in await line.rows("c1")] == [1]
    assert (await facts.positions(line.pool, topic, [0]))[0] == after
    with pytest.raises(StaleWriter):
        await facts.reset(line.pool, topic, 0, BEGINNING)


async def test_one_that_stands_still_in_a_transaction_is_given_up(line: Line) -> None:
    """PostgreSQL frees what it had locked: others go on, and it writes nothing when it wakes up."""
    await line.publish("c1", 100)
    topic = keys.GRABS_TOPIC
    await facts.positions(line.pool, topic, [0])
    begun, woken = asyncio.Event(), asyncio.Event()

    async def stand_still() -> None:
        begun.set()
        await woken.wait()

    frozen = Pool(line.postgres_url, 1, idle_ms=200)
    move = Move(0, BEGINNING, Position(1, b"one"))
    grants = [Grant(fact(1), b"", b"")]
    stuck = asyncio.create_task(
        facts.write(
            frozen, topic, [move], grants, [], 1, on_sending=bool, before_commit=stand_still
        )
    )
    await begun.wait()
    await facts.write(
        line.pool, topic, [move], grants, [], 1, on_sending=bool, before_commit=nothing
    )
    woken.set()
    with pytest.raises(LedgerUnavailable):
        await stuck
    await frozen.close()
    assert [row[1] for row in await line.rows("c1")] == [1]


async def test_rows_that_are_there_already_are_written_in_the_other_way(line: Line) -> None:
    """Copying meets a row of before: nothing of the copy stays, and what lacks is added once."""
    await line.publish("c1", 100)
    topic = keys.GRABS_TOPIC
    await facts.positions(line.pool, topic, [0])
    write = partial(facts.write, line.pool, topic, on_sending=bool, before_commit=nothing)
    grants = [Grant(fact(n), b"", b"") for n in range(1, 9)]
    at = [BEGINNING, *(Position(n, b"x") for n in range(1, 5))]
    first = await write([Move(0, at[0], at[1])], grants[:3], [], 1)
    assert (first.rows, first.repeats) == (3, 0)
    second = await write([Move(0, at[1], at[2])], grants[:6], [], 1)
    assert (second.rows, second.repeats) == (3, 3)
    twice = await write([Move(0, at[2], at[3])], [grants[6], grants[6]], [], 1)
    assert (twice.rows, twice.repeats) == (1, 1)
    third = await write([Move(0, at[3], at[4])], grants, [], 1, fresh=False)
    assert (third.rows, third.repeats, third.dead) == (1, 7, {})
    assert [row[1] for row in await line.rows("c1")] == list(range(1, 9))
    await _counts_match(line)


async def test_a_worker_that_was_overtaken_reads_the_ledger_and_goes_on(line: Line) -> None:
    """StaleWriter inside the loop: the offsets are read again, and nothing is doubled."""
    await line.publish("c1", 500)
    overtaken = asyncio.Event()

    async def overtake(step: Step) -> None:
        if step == "fetched" and not overtaken.is_set():
            overtaken.set()
            await line.sql("UPDATE offsets SET fingerprint = 'x' WHERE next_offset = 0")

    async with line.running(line.relay(), line.persist(overtake, records_max=10)):
        await line.grant("c1", 100)
        await line.persisted("c1", 100)
    assert overtaken.is_set()
    await line.assert_exact("c1")


async def test_poison_stops_nothing(line: Line) -> None:
    """Undecodable, unknown and malformed events become dead letters; the rest goes on."""
    await line.publish("c1", 100)
    good = [message(n) for n in range(1, 11)]
    poison = [
        (b"", b"\xff\x00not json"),
        (b"x", b"[]"),
        (b"x", json.dumps({"event": "grab.eaten", "campaign_id": "c1", "seq": 11}).encode()),
        message(12, event="grab.returned"),
        message(13, campaign_id="nobody", grab_id="nobody-13"),
        message(14, round=9),
        message(15, epoch=7),
        message(16, user_id="a b"),
    ]
    for at, one in enumerate(poison):
        await line.send(*good[at : at + 1], one)
    await line.send(*good[len(poison) :])
    async with line.running(line.persist(records_max=3)):
        await line.persisted("c1", 10)
        await until(lambda: _count(line, len(poison)))
    assert [row[0] for row in await line.rows("c1")] == list(range(1, 11))
    assert await line.dead() == [
        ("UNDECODABLE", None, None),
        ("UNDECODABLE", None, None),
        ("UNKNOWN_CAMPAIGN", "nobody", 13),
        ("UNKNOWN_EPOCH", "c1", 15),
        ("UNKNOWN_EVENT", "c1", 11),
        ("UNKNOWN_GRANT", "c1", 12),
        ("UNKNOWN_ROUND", "c1", 14),
        ("WRONG_FORM", "c1", 16),
    ]
    counted = {
        labels[0]: value
        for (name, labels), value in line.metrics.values.items()
        if name == "flashgrab_dead_letters"
    }
    assert sum(counted.values()) == len(poison)


async def test_returns_are_written_once_whatever_comes_again(line: Line) -> None:
    """A grant and its return in one round or in two, and both again: one row, counted once."""
    await line.publish("c1", 100)
    grants, backs = [message(n) for n in (1, 2, 3)], [returned(n, 10 + n) for n in (1, 2)]
    await line.send(*grants, *backs)
    async with line.running(line.persist()):
        await until(lambda: _returned(line, 2))
        await line.send(*grants, *backs, returned(3, 13), *backs)
        await until(lambda: _returned(line, 3))
        await line.send(message(4), *backs, returned(3, 13))
        await line.persisted("c1", 4)
    rows = await line.sql("SELECT serial, state, returned_seq FROM coupons ORDER BY serial")
    assert [tuple(row) for row in rows] == [
        (1, "RETURNED", 11),
        (2, "RETURNED", 12),
        (3, "RETURNED", 13),
        (4, "UNUSED", None),
    ]
    counted = await line.sql("SELECT granted, returned FROM rounds")
    assert [tuple(row) for row in counted] == [(4, 3)]
    assert await line.dead() == []


async def test_a_return_that_does_not_fit_its_row_is_a_dead_letter(line: Line) -> None:
    """Another user, request or round, another seq than before, a used coupon, none at all."""
    await line.publish("c1", 100, 100)
    await line.send(*[message(n) for n in range(1, 6)])
    async with line.running(line.persist()):
        await line.persisted("c1", 5)
        await line.sql("UPDATE coupons SET state = 'USED' WHERE serial = 5")
        await line.send(returned(4, 10))
        await until(lambda: _returned(line, 1))
        await line.send(
            returned(1, 11, user_id="thief"),
            returned(2, 12, request_id="other"),
            returned(3, 13, round=2),
            returned(4, 14),
            returned(5, 15),
            returned(6, 16),
        )
        await until(lambda: _count(line, 6))
    assert await line.dead() == [
        *(("CONFLICT", "c1", seq) for seq in range(11, 16)),
        ("UNKNOWN_GRANT", "c1", 16),
    ]
    rows = await line.sql("SELECT serial, returned_seq FROM coupons ORDER BY serial")
    assert [tuple(row) for row in rows] == [(1, None), (2, None), (3, None), (4, 10), (5, None)]
    counted = await line.sql("SELECT granted, returned FROM rounds ORDER BY number")
    assert [tuple(row) for row in counted] == [(5, 1), (0, 0)]


async def test_a_conflicting_row_is_a_dead_letter_and_the_first_one_stays(line: Line) -> None:
    """Another user, request, epoch or seq under a serial that is taken; a repeat is no conflict."""
    await line.publish("c1", 100)
    await line.sql("UPDATE campaigns SET epoch = 2")
    first = [message(n, epoch=2) for n in range(1, 7)]
    await line.send(*first)
    async with line.running(line.persist()):
        await line.persisted("c1", 6)
        await line.send(
            *first,
            message(1, epoch=2, user_id="thief"),
            message(2, epoch=2, request_id="other"),
            message(3, epoch=1),
            message(4, epoch=2, seq=44),
            message(7, epoch=2),
            message(7, epoch=2, user_id="twin"),
        )
        await line.persisted("c1", 7)
        await until(lambda: _count(line, 5))
    dead = await line.dead()
    assert [(reason, seq) for reason, _, seq in dead] == [
        ("CONFLICT", 1),
        ("CONFLICT", 2),
        ("CONFLICT", 3),
        ("CONFLICT", 7),
        ("CONFLICT", 44),
    ]
    rows = await line.rows("c1")
    assert [row[3] for row in rows[:6]] == [f"u{n}" for n in range(1, 7)]
    assert len(rows) == 7
    counted = await line.sql("SELECT granted FROM rounds")
    assert counted[0]["granted"] == 7


async def test_a_dead_letter_that_comes_again_is_one_row(line: Line) -> None:
    """Repeats after a restart do not fill the dead table."""
    await line.publish("c1", 100)
    await line.send((b"k", b"poison"), (b"k", b"poison"))
    async with line.running(line.persist()):
        await until(lambda: _count(line, 1))
        await line.send((b"k", b"poison"), message(1))
        await line.persisted("c1", 1)
    assert await line.dead() == [("UNDECODABLE", None, None)]
    assert line.metrics.values[("flashgrab_dead_letters", ("UNDECODABLE",))] == 1


async def test_a_new_incarnation_is_read_from_its_start(line: Line, broker_server: Broker) -> None:
    """Offsets of a log that is gone do not hide the records of the one that took its place."""
    await line.publish("c1", 500)
    await line.send(*[message(n) for n in range(1, 101)])
    async with line.running(line.persist()):
        await line.persisted("c1", 100)
    before = await line.sql("SELECT partition, next_offset FROM offsets ORDER BY partition")
    broker_server.kill()
    again(broker_server)
    # as many records again, so that the old offsets lie inside the new log
    await line.send(*[message(n) for n in range(101, 401)])
    async with line.running(line.persist()):
        await line.persisted("c1", 400)
    rows = await line.rows("c1")
    assert [row[0] for row in rows] == list(range(1, 401))
    after = await line.sql("SELECT partition, next_offset FROM offsets ORDER BY partition")
    assert sum(r["next_offset"] for r in after) == 300
    assert sum(r["next_offset"] for r in before) == 100


async def test_a_broker_that_restarts_empty_under_a_running_worker(
    line: Line, broker_server: Broker
) -> None:
    """The worker notices by itself, and reads the new log from its start."""
    await line.publish("c1", 500)
    async with line.running(line.persist()):
        await line.send(*[message(n) for n in range(1, 101)])
        await line.persisted("c1", 100)
        broker_server.kill()
        again(broker_server)
        await line.send(*[message(n) for n in range(101, 121)])
        await line.persisted("c1", 120)
    rows = await line.rows("c1")
    assert [row[0] for row in rows] == list(range(1, 121))


async def test_a_broker_that_restarts_empty_and_has_no_topic_for_a_while(
    line: Line, broker_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was given no partitions, there being none, gets its share later."""
    nothing, take = asyncio.Event(), Consumer._take

    def note(self: Consumer, partitions: Collection[object]) -> None:
        take(self, partitions)
        if not partitions:
            nothing.set()

    async def late(*args: Any) -> Any:
        await nothing.wait()
        return await ensure_topics(*args)

    monkeypatch.setattr(Consumer, "_take", note)
    await line.publish("c1", 500)
    async with line.running(line.persist()):
        await line.send(*[message(n) for n in range(1, 101)])
        await line.persisted("c1", 100)
        monkeypatch.setattr("worker.persist.ensure_topics", late)
        broker_server.kill()
        again(broker_server)
        await asyncio.wait_for(nothing.wait(), 30)
        await line.send(*[message(n) for n in range(101, 121)])
        await line.persisted("c1", 120)
    rows = await line.rows("c1")
    assert [row[0] for row in rows] == list(range(1, 121))


async def test_offsets_move_only_with_the_rows(line: Line) -> None:
    """While the rows cannot be written the offsets stand; afterwards both are there."""
    await line.publish("c1", 500)
    await line.send(*[message(n) for n in range(1, 51)])
    offsets = "SELECT coalesce(sum(next_offset), 0)::bigint AS n FROM offsets"
    waits = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"
    async with line.running(line.persist()):
        async with line.pool.transaction() as connection:
            await connection.execute("LOCK TABLE coupons IN ACCESS EXCLUSIVE MODE")
            await until(lambda: _first(line, waits))
            assert await _first(line, offsets) == 0
        await line.persisted("c1", 50)
    assert await _first(line, offsets) == 50


async def test_postgresql_away_holds_and_goes_on(line: Line, postgres_server: Postgres) -> None:
    """kill -9 of PostgreSQL in the middle: the worker waits, and the ledger ends exact."""
    await line.publish("c1", 1000)
    async with line.running(line.relay(), line.persist(records_max=20)):
        await line.grant("c1", 200)
        await line.persisted("c1", 40)
        postgres_server.kill()
        await line.grant("c1", 100, start=200)
        again(postgres_server)
        await line.persisted("c1", 300)
    await line.assert_exact("c1")


async def test_a_stop_finishes_the_transaction(line: Line) -> None:
    """After stop() the worker ends by itself, with what it was writing in the ledger."""
    await line.publish("c1", 100)
    await line.send(*[message(n) for n in range(1, 51)])
    persist = line.persist()

    async def stop_when_written(step: Step) -> None:
        if step == "written":
            persist.stop()

    persist._hook = stop_when_written
    async with asyncio.timeout(15):
        await persist.run()
    assert len(await line.rows("c1")) > 0
    await _counts_match(line)


async def test_kafka_is_told_the_offsets_for_displays(line: Line) -> None:
    """What is committed to Kafka is what the ledger has."""
    await line.publish("c1", 100)
    await line.send(*[message(n) for n in range(1, 51)])
    told = asyncio.Event()

    async def tell(step: Step) -> None:
        if step == "committed_kafka":
            told.set()

    async with line.running(line.persist(tell)):
        await line.persisted("c1", 50)
        await told.wait()
    log = TopicLog(line.bootstrap, keys.GRABS_TOPIC)
    ends = await log.end_offsets()
    await log.stop()
    rows = await line.sql("SELECT partition, next_offset FROM offsets")
    assert {row["partition"]: row["next_offset"] for row in rows} == ends


async def _true(value: Any) -> bool:
    return bool(value)


async def _first(line: Line, query: str) -> int:
    rows = await line.sql(query)
    return int(rows[0]["n"])


async def _returned(line: Line, count: int) -> bool:
    return await _first(line, "SELECT count(returned_seq) AS n FROM coupons") >= count


async def _count(line: Line, dead: int) -> bool:
    return len(await line.dead()) >= dead


async def _counts_match(line: Line) -> None:
    rows = await line.rows("c1")
    counted = await line.sql("SELECT granted FROM rounds")
    assert counted[0]["granted"] == len(rows)
