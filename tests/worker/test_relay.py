"""Outbox to Kafka, stopped between every two steps."""

import asyncio
from typing import Any

import pytest

from flashgrab import keys
from flashgrab.broker import TopicLog
from flashgrab.cli.stack.kafka import Broker
from flashgrab.cli.stack.valkey import Valkey
from flashgrab.errors import BrokerUnavailable
from tests.services.embedded import again
from tests.worker.line import Line, crash_at, until
from worker.steps import Step

pytestmark = pytest.mark.anyio


async def in_kafka(line: Line, count: int) -> None:
    """Wait until the topic holds at least so many records."""
    log = TopicLog(line.bootstrap, keys.GRABS_TOPIC)

    async def there() -> bool:
        try:
            return sum((await log.end_offsets()).values()) >= count
        except BrokerUnavailable:
            return False

    try:
        await until(there)
    finally:
        await log.stop()


def relayed(line: Line) -> float:
    return line.metrics.values.get(("flashgrab_relayed_facts", ()), 0)


@pytest.mark.parametrize("step", ["read", "published", "cursor"])
async def test_a_crash_at_any_step_loses_and_doubles_nothing(line: Line, step: Step) -> None:
    """After a crash at the step a new relay goes on, and the ledger has every fact once."""
    await line.publish("c1", 500)
    await line.grant("c1", 100)
    await line.run_to_crash(line.relay(crash_at(step), facts_a_round=20))
    await line.grant("c1", 50, start=100)
    await line.deliver("c1", 150)
    await line.assert_exact("c1")
    assert (await line.audit()).ok


async def test_every_campaign_is_relayed_and_a_new_one_is_learnt_by_the_push(line: Line) -> None:
    """Campaigns published while the relay runs are relayed, with a poll that takes an hour."""
    await line.publish("c1", 50)
    await line.grant("c1", 20)
    async with line.running(line.relay(poll_ms=3_600_000), line.persist()):
        await line.persisted("c1", 20)
        await line.publish("c2", 50)
        await line.grant("c2", 30)
        await line.persisted("c2", 30)
    await line.assert_exact("c1")
    await line.assert_exact("c2")


async def test_a_torn_entry_stops_no_other(line: Line, valkey_client: Any) -> None:
    """A malformed entry is counted and passed; facts before and after it arrive."""
    await line.publish("c1", 50)
    await line.grant("c1", 10)
    outbox, campaign = keys.outbox("c1"), keys.campaign("c1")
    valkey_client.xadd(outbox, {"first": "11", "epoch": "1", "at_ms": "x"}, id="11-0")
    valkey_client.xadd(outbox, {"nonsense": b"\xff\x00"}, id="12-7")
    valkey_client.hset(campaign, mapping={"seq": 12, "serial": 12})
    await line.grant("c1", 10, start=20)
    async with line.running(line.relay(), line.persist()):
        await line.persisted("c1", 20)
    assert [row[0] for row in await line.rows("c1")] == [*range(1, 11), *range(13, 23)]
    assert line.metrics.values[("flashgrab_dead_letters", ("TORN_ENTRY",))] >= 2


async def test_a_broker_that_lost_its_log_gets_everything_again(
    line: Line, broker_server: Broker
) -> None:
    """The embedded broker restarts empty: what the ledger lacks comes again from the outbox."""
    await line.publish("c1", 500)
    await line.grant("c1", 100)
    async with line.running(line.relay()):
        await in_kafka(line, 100)
        broker_server.kill()
        again(broker_server)
        await line.grant("c1", 20, start=100)
        async with line.running(line.persist()):
            await line.persisted("c1", 120)
    await line.assert_exact("c1")


async def test_the_broker_may_be_away(line: Line, broker_server: Broker) -> None:
    """Without a broker the facts wait in the outbox, and go on when it is back."""
    await line.publish("c1", 500)
    broker_server.kill()
    async with line.running(line.relay(deadline_ms=500), line.persist()):
        await line.grant("c1", 100)
        again(broker_server)
        await line.persisted("c1", 100)
    await line.assert_exact("c1")


async def test_redis_may_restart(line: Line, valkey_server: Valkey) -> None:
    """The relay goes on with its cursor when Redis is back."""
    await line.publish("c1", 500)
    await line.grant("c1", 50)
    async with line.running(line.relay(), line.persist()):
        await line.persisted("c1", 50)
        valkey_server.kill()
        again(valkey_server)
        await line.confirmed("c1", 50)
        await line.grant("c1", 50, start=50)
        await line.persisted("c1", 100)
    await line.assert_exact("c1")


async def test_holes_are_sent_again_once_for_each_value(line: Line) -> None:
    """What settle.lua's holes ask for is published again, and only those facts."""
    await line.publish("c1", 100)
    await line.grant("c1", 50)
    async with line.running(line.relay()):
        await until(lambda: _is(relayed(line) == 50))
        await line.store.settle("c1", 1, 0, "3-5,48-60")
        await until(lambda: _is(relayed(line) == 56))
        await line.grant("c1", 4, start=50)
        await until(lambda: _is(relayed(line) == 60))
        await line.store.settle("c1", 1, 0, "3-3")
        await until(lambda: _is(relayed(line) == 61))


async def test_another_epoch_is_read_from_its_first_entry(line: Line, valkey_client: Any) -> None:
    """After a rebuild nothing of the new outbox is skipped."""
    await line.publish("c1", 100)
    await line.grant("c1", 30)
    async with line.running(line.relay()):
        await until(lambda: _is(relayed(line) == 30))
        valkey_client.hset(keys.campaign("c1"), "epoch", 2)
        await until(lambda: _is(relayed(line) == 60))


async def test_a_stop_finishes_the_round_in_flight(line: Line) -> None:
    """After stop() the relay ends by itself, and what it had read is acknowledged."""
    await line.publish("c1", 100)
    await line.grant("c1", 30)
    relay = line.relay()

    async def stop_when_read(step: Step) -> None:
        if step == "read":
            relay.stop()

    relay._hook = stop_when_read
    async with asyncio.timeout(10):
        await relay.run()
    assert relayed(line) == 30


async def test_what_waits_is_measured(line: Line, broker_server: Broker) -> None:
    """Outbox entries and the age of the oldest fact are on /metrics while the broker is away."""
    await line.publish("c1", 100)
    broker_server.kill()
    try:
        await line.grant("c1", 30)
        async with line.running(line.relay(deadline_ms=300)):
            entries = ("flashgrab_outbox_entries", ("c1",))
            await until(lambda: _is(line.metrics.values.get(entries) == 3))
            lag = ("flashgrab_relay_lag_seconds", ())
            await until(lambda: _is(line.metrics.values.get(lag, 0) > 0))
            again(broker_server)
            await until(lambda: _is(line.metrics.values.get(lag) == 0))
    finally:
        if broker_server.pid is None:
            again(broker_server)


async def _is(value: bool) -> bool:
    return value
