"""One walker of many, and what it does besides walking."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from flashgrab import keys
from flashgrab.broker import Consumer, Received, TopicLog
from flashgrab.cli.stack.postgres import Postgres
from flashgrab.errors import LedgerUnavailable, StoreRefused
from flashgrab.ledger.role import Role
from flashgrab.telemetry import Metrics
from tests.services.embedded import again
from tests.worker.line import SESSION_MS, Crash, Line, until
from worker.dead import DeadLetters
from worker.live_audit import LIGHTS
from worker.watermark import LAG

pytestmark = pytest.mark.anyio


async def test_the_role_is_one_processs_at_a_time(line: Line) -> None:
    """A second one gets it when the first has left, or has lost its connection."""
    first, second = Role(line.postgres_url), Role(line.postgres_url)
    assert await first.take()
    assert await first.take()
    assert not await second.take()
    await first.leave()
    assert await second.take()
    assert not await first.take()
    await line.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    )
    with pytest.raises(LedgerUnavailable):
        await second.take()

    async def taken() -> bool:
        return await first.take()

    await until(taken)
    assert not await second.take()
    await first.leave()
    await second.leave()


async def test_a_silent_holder_loses_the_role(line: Line) -> None:
    """One that is frozen is as good as dead: another one gets the role, and it learns of it."""
    frozen, other = Role(line.postgres_url, silent_ms=200), Role(line.postgres_url)
    assert await frozen.take()

    async def taken() -> bool:
        return await other.take()

    await until(taken)
    with pytest.raises(LedgerUnavailable):
        await frozen.take()
    assert not await frozen.take()
    await frozen.leave()
    await other.leave()


async def test_a_second_walker_takes_over(line: Line) -> None:
    """While one walks the other waits; when it stops, the watermark goes on."""
    await line.publish("c1")
    async with line.running(line.relay(), line.persist()):
        async with line.running(line.walker()):
            await line.grant("c1", 10)
            await line.settled("c1", 10)
        async with line.running(line.walker()):
            await line.grant("c1", 10, start=10)
            await line.settled("c1", 20)


async def test_it_walks_on_after_a_restart_of_postgresql(
    line: Line, postgres_server: Postgres
) -> None:
    """Losing the connection loses the role; it is taken again when the ledger is back."""
    await line.publish("c1")
    async with line.running(line.relay(), line.persist(), line.walker()):
        await line.grant("c1", 10)
        await line.settled("c1", 10)
        postgres_server.kill()
        await line.grant("c1", 10, start=10)
        again(postgres_server)
        await line.settled("c1", 20)
    await line.pool.close()
    await line.assert_exact("c1")


def figures(metrics: Metrics) -> set[str]:
    """Those that only who looks may show: lights and lags."""
    return {name for name, _ in metrics.values if name in (LIGHTS, LAG)}


async def _shows(metrics: Metrics, wanted: set[str]) -> bool:
    return figures(metrics) == wanted


async def test_only_who_walks_shows_lights_and_lags(line: Line) -> None:
    """One who has the role no more shows none: they would stay as they were, beside those of the
    other one who looks."""
    await line.publish("c1")
    one, other = Metrics(), Metrics()
    async with AsyncExitStack() as stack:
        async with line.running(line.walker(metrics=one)):
            await until(lambda: _shows(one, {LIGHTS, LAG}))
            await stack.enter_async_context(line.running(line.walker(metrics=other)))
            assert figures(other) == set()
        assert figures(one) == set()
        await until(lambda: _shows(other, {LIGHTS, LAG}))
        assert figures(one) == set()


async def test_nobody_shows_lights_while_nobody_can_look(
    line: Line, postgres_server: Postgres
) -> None:
    """While PostgreSQL is away there is no green light: BooksNotAudited can alert."""
    await line.publish("c1")
    async with line.running(line.walker()):
        await until(lambda: _shows(line.metrics, {LIGHTS, LAG}))
        async with line.pool.connection() as connection:
            await connection.execute("CHECKPOINT")  # PostgreSQL of the tests commits asynchronously
        postgres_server.kill()
        await until(lambda: _shows(line.metrics, set()))
        again(postgres_server)
        await until(lambda: _shows(line.metrics, {LIGHTS, LAG}))


@pytest.mark.parametrize("duty, name", [("audit", LIGHTS), ("survey", LAG)])
async def test_a_duty_that_fails_takes_its_figures_off(line: Line, duty: str, name: str) -> None:
    """Each its own, where Redis refuses, say; they come back with it."""
    await line.publish("c1")
    walker = line.walker()
    failing = asyncio.Event()
    (works,) = [step for label, step, _, _ in walker._duties if label == duty]

    async def sometimes() -> None:
        if failing.is_set():
            raise StoreRefused("LOADING")
        await works()

    walker._duties = [
        (label, sometimes if label == duty else step, pause_ms, forget)
        for label, step, pause_ms, forget in walker._duties
    ]
    async with line.running(walker):
        await until(lambda: _shows(line.metrics, {LIGHTS, LAG}))
        failing.set()
        await until(lambda: _shows(line.metrics, {LIGHTS, LAG} - {name}))
        failing.clear()
        await until(lambda: _shows(line.metrics, {LIGHTS, LAG}))


async def test_dead_letters_reach_their_topic_once(line: Line) -> None:
    """The dead-letter topic is fed from the table, with the reason in the headers."""
    await line.publish("c1")
    await line.send((b"k1", b"poison 1"), (b"k2", b"poison 2"))
    async with line.running(line.persist()):
        await until(lambda: _dead(line, 2))
    letters = DeadLetters(line.pool, line.bootstrap, line.clock)
    assert await letters.step() == 2
    assert await letters.step() == 0
    consumer = Consumer(line.bootstrap, keys.DEAD_TOPIC, "test", session_timeout_ms=SESSION_MS)

    async def beginning(partitions: list[int]) -> dict[int, int | None]:
        return dict.fromkeys(partitions)

    async def revoked(_partitions: list[int]) -> None:
        pass

    await consumer.start(beginning, revoked)
    try:
        found: list[Received] = []

        async def both() -> bool:
            for records in (await consumer.fetch(10, 100)).values():
                found.extend(records)
            return len(found) >= 2

        await until(both)
    finally:
        await consumer.stop()
    assert sorted((r.key, r.value) for r in found) == [(b"k1", b"poison 1"), (b"k2", b"poison 2")]
    assert {dict(r.headers)["reason"] for r in found} == {b"UNDECODABLE"}


async def test_dead_letters_that_were_not_marked_are_published_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walker that dies between topic and mark: a letter may come twice, never not at all."""
    await line.publish("c1")
    await line.send((b"k1", b"poison 1"), (b"k2", b"poison 2"))
    async with line.running(line.persist()):
        await until(lambda: _dead(line, 2))
    letters = DeadLetters(line.pool, line.bootstrap, line.clock)
    dead_log = TopicLog(line.bootstrap, keys.DEAD_TOPIC)
    with monkeypatch.context() as dies:

        async def die(*_: object) -> None:
            raise Crash

        dies.setattr("flashgrab.ledger.letters.mark_published", die)
        with pytest.raises(Crash):
            await letters.step()
    try:
        assert sum((await dead_log.end_offsets()).values()) == 2
        assert await letters.step() == 2
        assert sum((await dead_log.end_offsets()).values()) == 4
        assert await letters.step() == 0
    finally:
        await dead_log.stop()


async def test_dead_letters_wait_for_the_broker(line: Line) -> None:
    """A broker that is away is no reason to mark them as published."""
    await line.sql(
        "INSERT INTO dead (digest, reason, detail, key, value, at_ms)"
        " VALUES ('a', 'UNDECODABLE', '', '', '', 1)"
    )
    letters = DeadLetters(line.pool, "127.0.0.1:1", line.clock)
    async with asyncio.timeout(15):
        assert await letters.step() == 0
    rows = await line.sql("SELECT published_ms FROM dead")
    assert rows[0]["published_ms"] is None


async def _dead(line: Line, count: int) -> bool:
    return len(await line.dead()) >= count
