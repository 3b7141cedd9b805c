"""Each failure that a gateway sees, made on a real Valkey: its alarm begins, is shown, and ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from flashgrab import keys
from flashgrab.alarms import HOLD_MS, Alarm
from flashgrab.cli.stack.valkey import Valkey
from flashgrab.clock import SystemClock
from tests.gateway.serving import Served, serving, until
from tests.services import embedded

pytestmark = pytest.mark.anyio

MEMORY = "maxmemory"


class Ahead(SystemClock):
    """The alarms' clock, moved instead of waited for."""

    ahead_ms = 0

    def monotonic_ms(self) -> int:
        return super().monotonic_ms() + self.ahead_ms


@pytest.fixture(scope="module")
def own_server() -> Iterator[Valkey]:
    with embedded.valkey(aof=True) as server:
        yield server


@pytest.fixture
async def one(own_server: Valkey) -> AsyncIterator[Served]:
    """A gateway with a Valkey of its own, and alarms whose time can be moved."""
    async with serving(own_server.url, request_deadline_ms=600, queue_max=2) as served:
        served.metrics.alarms._clock = Ahead()
        yield served


def shown(served: Served, alarm: Alarm) -> int:
    """The gauge as /metrics has it."""
    rows = {labels[0]: value for name, labels, value in served.metrics.snapshot()["values"]
            if name == "flashgrab_alarm"}  # fmt: skip
    return int(rows[alarm.anchor])


async def begins_and_ends(
    served: Served,
    alarm: Alarm,
    make: Callable[[], Awaitable[Any]],
    heal: Callable[[], Awaitable[Any]],
) -> None:
    """0, 1 after `make`, 0 after `heal`; a line with the runbook's place for each."""
    assert shown(served, alarm) == 0
    with capture_logs() as logs:
        await make()
        await until(f"{alarm.anchor} begins", lambda: shown(served, alarm) == 1, 10)
        await heal()
        clock = served.metrics.alarms._clock
        assert isinstance(clock, Ahead)
        clock.ahead_ms += HOLD_MS
        await until(f"{alarm.anchor} ends", lambda: shown(served, alarm) == 0, 10)
    said = [(x["event"], x["runbook"]) for x in logs if x.get("alarm") == alarm.anchor]
    where = f"docs/runbook.md#{alarm.anchor}"
    assert said == [("alarm_begins", where), ("alarm_ends", where)]


async def test_redis_gone_and_the_campaign_closed(one: Served, own_server: Valkey) -> None:
    """Killed: redis-gone. Back as another run: closed until it is confirmed."""
    campaign_id = await one.campaign()

    async def kill() -> None:
        own_server.kill()

    async def start() -> None:
        embedded.again(own_server)  # not in a thread: the server would end with it

    await begins_and_ends(one, Alarm.REDIS_GONE, kill, start)
    await until("it is closed", lambda: shown(one, Alarm.CAMPAIGN_CLOSED) == 1)
    assert one.metrics.alarms.is_on(Alarm.CAMPAIGN_CLOSED, campaign_id)
    run = await one.store.run_id()
    assert await one.store.confirm(campaign_id, 1, 0, run) == 0
    await until("it is open", lambda: shown(one, Alarm.CAMPAIGN_CLOSED) == 0)
    assert (await one.grab(campaign_id)).status_code == 201


async def test_redis_slow(one: Served) -> None:
    """A server that stands still for longer than a deadline."""
    campaign_id = await one.campaign()

    async def stall() -> None:
        await one.store._redis.client_pause(900)
        assert (await one.grab(campaign_id)).status_code == 503

    async def heal() -> None:
        await one.store._redis.client_unpause()

    await begins_and_ends(one, Alarm.REDIS_SLOW, stall, heal)


async def test_redis_refuses(one: Served) -> None:
    """No memory left: the script's first write is refused."""
    campaign_id = await one.campaign()

    async def fill() -> None:
        await one.store._redis.config_set(MEMORY, 1)
        assert (await one.grab(campaign_id)).status_code == 503

    async def heal() -> None:
        await one.store._redis.config_set(MEMORY, 0)

    await begins_and_ends(one, Alarm.REDIS_REFUSES, fill, heal)


async def test_the_outbox_is_full(one: Served) -> None:
    """The campaign's bound of facts that are not in the ledger."""
    campaign_id = await one.campaign()

    async def fill() -> None:
        await one.set(campaign_id, {"outbox_max": 1})
        answers = [await one.grab(campaign_id, f"u{n}") for n in range(2)]
        assert [a.status_code for a in answers] == [201, 503]

    async def heal() -> None:
        await one.set(campaign_id, {"outbox_max": 100})

    await begins_and_ends(one, Alarm.OUTBOX_FULL, fill, heal)


async def test_the_queue_is_full(one: Served) -> None:
    """More at once than queue_max."""
    campaign_id = await one.campaign(quota=100)

    async def crowd() -> None:
        answers = await asyncio.gather(*(one.grab(campaign_id, f"u{n}") for n in range(50)))
        assert {a.status_code for a in answers} == {201, 503}

    async def nothing() -> None:
        return

    await begins_and_ends(one, Alarm.QUEUE_FULL, crowd, nothing)


async def test_the_campaigns_data(one: Served) -> None:
    """Gone, of a wrong type, of an unknown schema, older than what was seen: each its own alarm,
    and what is whole goes on."""
    campaign_id, whole = await one.campaign(), await one.campaign()
    redis, key = one.store._redis, keys.campaign(campaign_id)
    assert (await one.grab(campaign_id)).status_code == 201

    async def heal() -> None:
        await redis.delete(key)
        await redis.rename("kept", key)

    async def lose() -> None:
        await redis.rename(key, "kept")

    async def spoil() -> None:
        await lose()
        await redis.set(key, "spoilt")

    async def raise_schema() -> None:
        await redis.copy(key, "kept")
        await redis.hset(key, "schema", "99")

    async def age() -> None:
        await redis.copy(key, "kept")
        await redis.hset(key, mapping={"seq": 0, "serial": 0})
        assert (await one.grab(campaign_id, "u2")).status_code == 503

    for alarm, make in (
        (Alarm.REDIS_DATA_LOST, lose),
        (Alarm.CAMPAIGN_UNREADABLE, spoil),
        (Alarm.SCHEMA_UNKNOWN, raise_schema),
        (Alarm.REDIS_STALE, age),
    ):
        await begins_and_ends(one, alarm, make, heal)
        assert not one.metrics.alarms.is_on(alarm, whole)
    assert (await one.grab(whole)).status_code == 201
