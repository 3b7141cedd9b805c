"""Each failure that relay and worker see, made on real servers: its alarm begins, is shown, and
ends."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from flashgrab import keys
from flashgrab.alarms import EVENT_HOLD_MS, Alarm
from flashgrab.cli.stack.kafka import Broker
from flashgrab.cli.stack.postgres import Postgres
from flashgrab.cli.stack.valkey import Valkey
from flashgrab.clock import SystemClock
from tests.services import embedded
from tests.services.embedded import again
from tests.worker.line import Line, until
from worker.steps import Step

pytestmark = pytest.mark.anyio

END_S = 20
Logs = list[MutableMapping[str, Any]]


class Ahead(SystemClock):
    """The alarms' clock, moved instead of waited for."""

    ahead_ms = 0

    def monotonic_ms(self) -> int:
        return super().monotonic_ms() + self.ahead_ms


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A Valkey that a test may kill."""
    with embedded.valkey(aof=True) as server:
        yield server


@asynccontextmanager
async def running(line: Line, hook: Any = None) -> AsyncIterator[Logs]:
    """All parts, their alarms in one place, and their log; none is on once they stand."""
    alarms = line.metrics.alarms
    alarms._clock = Ahead()
    alarms.of("relay")
    alarms.of("worker")
    persist = line.persist(hook) if hook else line.persist()
    async with alarms.ticking(), line.running(line.relay(), persist, line.walker()):
        await line.publish("c1", 500)
        await line.grant("c1", 10)
        await line.settled("c1", 10)
        await until(lambda: none(line), END_S)
        with capture_logs() as logs:
            yield logs


async def is_shown(line: Line, alarm: Alarm, value: int = 1) -> bool:
    """The gauge as /metrics has it."""
    rows = {row[1][0]: row[2] for row in line.metrics.alarms.rows() if row[0] == "flashgrab_alarm"}
    return rows[alarm.anchor] == value


async def none(line: Line) -> bool:
    return not any(line.metrics.alarms.is_on(alarm) for alarm in Alarm)


async def begins(line: Line, *alarms: Alarm) -> None:
    for alarm in alarms:
        await until(lambda a=alarm: is_shown(line, a), END_S)  # type: ignore[misc]


async def ends(line: Line, *alarms: Alarm) -> None:
    clock = line.metrics.alarms._clock
    assert isinstance(clock, Ahead)

    async def later(alarm: Alarm) -> bool:
        clock.ahead_ms += EVENT_HOLD_MS
        return await is_shown(line, alarm, 0)

    for alarm in alarms:
        await until(lambda a=alarm: later(a), END_S)  # type: ignore[misc]


def assert_said(logs: Logs, *alarms: Alarm) -> None:
    """A line at its begin and one at its end, each with its place in the runbook."""
    for alarm in alarms:
        lines = [x for x in logs if x.get("alarm") == alarm.anchor]
        events = [x["event"] for x in lines if x.get("campaign", "c1") == "c1"]
        assert events[:2] == ["alarm_begins", "alarm_ends"], (alarm, events)
        assert {x["runbook"] for x in lines} == {f"docs/runbook.md#{alarm.anchor}"}


async def test_the_books_and_the_dead(line: Line, valkey_client: Any) -> None:
    """A counter that is off, an event that can't be stored: two alarms, that end when mended."""
    async with running(line) as logs:
        valkey_client.hincrby(keys.round_("c1", 1), "left", 5)
        await begins(line, Alarm.BOOKS_WRONG)
        assert not line.metrics.alarms.is_on(Alarm.DEAD_LETTERS)
        valkey_client.hincrby(keys.round_("c1", 1), "left", -5)
        await ends(line, Alarm.BOOKS_WRONG)
        event = {"event": "grab.eaten", "campaign_id": "c1", "seq": 11}
        await line.send((b"x", json.dumps(event).encode()))
        await begins(line, Alarm.DEAD_LETTERS)
        assert not line.metrics.alarms.is_on(Alarm.BOOKS_WRONG)
        await line.sql("DELETE FROM dead")
        await ends(line, Alarm.DEAD_LETTERS)
    assert_said(logs, Alarm.BOOKS_WRONG, Alarm.DEAD_LETTERS)
    lights = [x for x in logs if x["event"] == "the books do not balance"]
    assert {x["runbook"] for x in lights} == {"docs/runbook.md#i5", "docs/runbook.md#i6"}


async def test_the_campaigns_data(line: Line, valkey_client: Any) -> None:
    """Its key gone, another epoch, an entry that can't be read, a leader that is another."""
    key = keys.campaign("c1")
    async with running(line) as logs:
        valkey_client.rename(key, "kept")
        await begins(line, Alarm.REDIS_DATA_LOST)
        valkey_client.rename("kept", key)
        await ends(line, Alarm.REDIS_DATA_LOST)
        valkey_client.hset(key, "epoch", 2)
        await begins(line, Alarm.EPOCH_DIFFERS)
        valkey_client.hset(key, "epoch", 1)
        await ends(line, Alarm.EPOCH_DIFFERS)
        valkey_client.xadd(keys.outbox("c1"), {"nonsense": "x"}, id="11-7")
        await begins(line, Alarm.TORN_ENTRY)
        await ends(line, Alarm.TORN_ENTRY)
        valkey_client.hset(keys.RELAY, "holder", "another")
        await begins(line, Alarm.RELAY_FENCED)
        await ends(line, Alarm.RELAY_FENCED)
    assert_said(
        logs, Alarm.REDIS_DATA_LOST, Alarm.EPOCH_DIFFERS, Alarm.TORN_ENTRY, Alarm.RELAY_FENCED
    )


async def test_kafka_and_a_closed_campaign(
    line: Line, valkey_client: Any, broker_server: Broker
) -> None:
    """Without Kafka nothing can be confirmed; with it again, it has lost its log."""
    async with running(line) as logs:
        broker_server.kill()
        valkey_client.hset(keys.campaign("c1"), "run", "another")
        await begins(line, Alarm.KAFKA_GONE, Alarm.CAMPAIGN_CLOSED)
        again(broker_server)
        await begins(line, Alarm.KAFKA_LOST_LOG)
        await ends(line, Alarm.KAFKA_GONE, Alarm.CAMPAIGN_CLOSED, Alarm.KAFKA_LOST_LOG)
        await line.grant("c1", 10, start=10)
        await line.settled("c1", 20)
    assert_said(logs, Alarm.KAFKA_GONE, Alarm.CAMPAIGN_CLOSED, Alarm.KAFKA_LOST_LOG)


async def test_postgresql_and_a_stale_worker(line: Line, postgres_server: Postgres) -> None:
    """The ledger gone and back; a worker that another one has overtaken."""
    overtake = False

    async def hook(step: Step) -> None:
        nonlocal overtake
        if step == "fetched" and overtake:
            overtake = False
            await line.sql("UPDATE offsets SET fingerprint = 'x' WHERE next_offset > 0")

    async with running(line, hook) as logs:
        postgres_server.kill()
        await begins(line, Alarm.POSTGRES_GONE)
        again(postgres_server)
        await ends(line, Alarm.POSTGRES_GONE)
        overtake = True
        await line.grant("c1", 10, start=10)
        await begins(line, Alarm.STALE_WORKER)
        await ends(line, Alarm.STALE_WORKER)
        await line.settled("c1", 20)
    assert_said(logs, Alarm.POSTGRES_GONE, Alarm.STALE_WORKER)
    await line.pool.close()


async def test_redis(line: Line, own_valkey: Valkey) -> None:
    """Gone and back; one alarm for all loops that see it."""
    own = Line(own_valkey.url, line.bootstrap, line.postgres_url)
    try:
        async with running(own) as logs:
            own_valkey.kill()
            await begins(own, Alarm.REDIS_GONE)
            again(own_valkey)
            await ends(own, Alarm.REDIS_GONE)
            await until(lambda: none(own), END_S)
        assert_said(logs, Alarm.REDIS_GONE)
    finally:
        await own.close()


async def test_facts_that_are_missing(line: Line) -> None:
    """The watermark stands before a hole: behind, then missing; it ends when the relay has sent
    them again."""
    await line.publish("c1")
    await line.grant("c1", 40)
    alarms = line.metrics.alarms
    mark = line.mark(hole_ms=100, behind_ms=50)

    async def look(met: Callable[[], bool]) -> bool:
        await mark.walk()
        await mark.survey()
        return met()

    both = (Alarm.LEDGER_BEHIND, Alarm.FACTS_MISSING)
    with capture_logs() as logs:
        async with line.running(line.relay(), line.persist()):
            await line.persisted("c1", 40)
            await line.sql("DELETE FROM coupons WHERE seq IN (11, 12, 13)")
            await until(lambda: look(lambda: all(map(alarms.is_on, both))), END_S)
            await until(lambda: look(lambda: not any(map(alarms.is_on, both))), END_S)
    assert_said(logs, *both)


async def test_a_redis_that_is_older_than_the_ledger(line: Line, valkey_client: Any) -> None:
    """It has given fewer seqs than the ledger holds: nothing is settled, and an operator called."""
    await line.publish("c1")
    await line.grant("c1", 10)
    await line.deliver("c1", 10)
    key, alarms = keys.campaign("c1"), line.metrics.alarms
    valkey_client.hset(key, mapping={"seq": 5, "watermark": 0})
    mark = line.mark()
    for _ in range(2):
        await mark.walk()
        await mark.survey()
    assert alarms.is_on(Alarm.REDIS_STALE, "c1")
    valkey_client.hset(key, "seq", 10)
    for _ in range(2):
        await mark.walk()
        await mark.survey()
    assert not alarms.is_on(Alarm.REDIS_STALE)


async def test_a_walker_that_leaves_its_role_leaves_its_alarms(line: Line) -> None:
    """Another walker sees what is so, and says it; this one's gauge would stay for ever."""
    await line.publish("c1")
    line.metrics.alarms.of("worker")
    await line.sql("UPDATE campaigns SET epoch = 2")
    async with line.running(line.walker()):
        await begins(line, Alarm.EPOCH_DIFFERS)
    assert await none(line)
