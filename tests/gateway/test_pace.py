"""A gateway with more than it can do: who is told BUSY, who is held, what an operator sees."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flashgrab.alarms import Alarm
from flashgrab.clock import SystemClock
from flashgrab.outcomes import Outcome
from flashgrab.telemetry import Metrics
from gateway.admission import CALLS_FULL
from gateway.batch import Batcher
from gateway.call import Bounds
from gateway.pace import FREED_MAX, HELD_MS_MAX, INTERVAL_WAITS, LOOK_MS, Pace
from tests.gateway.crowd import Sent, crowd
from tests.gateway.serving import Served, serving, until
from tests.gateway.wires import HeldWire
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio

WAIT_MS = 100
INTERVAL_MS = WAIT_MS * INTERVAL_WAITS
BATCH_MAX = 2


@pytest.fixture
async def unpaced(redis_server: Valkey) -> AsyncIterator[Served]:
    """Its own looks are switched off: the test looks, at moments of its own."""
    async with serving(redis_server.url, shed_wait_ms=0) as served:
        yield served


def pace_of(served: Served) -> Pace:
    bounds = Bounds(BATCH_MAX, 20_000, 2000)
    pace = served.gateway.pace = Pace(WAIT_MS, bounds, SystemClock(), served.metrics)
    return pace


def shown(served: Served, name: str) -> dict[tuple[str, ...], float]:
    """A metric's values by their labels."""
    rows = served.metrics.snapshot()["values"]
    return {tuple(labels): value for n, labels, value in rows if n == name}


def look_for(pace: Pace, batchers: dict[str, Batcher], begin_ms: int, late_ms: int = 0) -> int:
    """At all looks of an interval; the moment of the last."""
    for now_ms in range(begin_ms, begin_ms + INTERVAL_MS + 1, LOOK_MS):
        pace.look(batchers, now_ms, late_ms)
    return now_ms


async def queued(served: Served, campaign_id: str, count: int) -> tuple[HeldWire, Batcher, Any]:
    """So many grabs that have waited for a second behind a call that does not end."""
    wire = HeldWire(served.gateway.wire)
    batcher = served.through(wire, campaign_id, batch_max=BATCH_MAX)
    answers = [batcher.submit(f"u{n}", "", "k") for n in range(count)]
    await until("a call is under way", lambda: wire.calls)
    batcher._waiting.since[:] = [at - 1 for at in batcher._waiting.since]
    return wire, batcher, answers


async def test_a_queue_that_stands_turns_the_new_ones_away(unpaced: Served) -> None:
    """At once and by both doors, while those who wait are granted; the operator sees why; and it
    ends when nobody had to be turned away for an interval."""
    campaign_id = await unpaced.campaign(quota=100)
    wire, batcher, waiting = await queued(unpaced, campaign_id, 20)
    pace, batchers = pace_of(unpaced), {campaign_id: batcher}
    pace.look(batchers, 0, 0)
    assert batcher.limit == 20_000
    now_ms = look_for(pace, batchers, LOOK_MS)
    assert batcher.limit == CALLS_FULL * BATCH_MAX
    assert unpaced.metrics.alarms.is_on(Alarm.OVERLOADED, campaign_id)
    assert shown(unpaced, "flashgrab_admitted_max") == {(campaign_id,): batcher.limit}

    new = batcher.submit("new", "", "k")
    assert new.done()
    assert (await new).outcome is Outcome.BUSY
    (got,) = await crowd(unpaced.port, [Sent(campaign_id, unpaced.token(campaign_id, "n"), "k")], 1)
    assert got.status == 503
    assert not any(answer.done() for answer in waiting)
    assert shown(unpaced, "flashgrab_shed") == {(campaign_id,): 2}
    assert shown(unpaced, "flashgrab_grabs")[campaign_id, "BUSY"] == 2
    assert batcher.turned_away == 0

    wire.release.set()
    done = await asyncio.gather(*waiting)
    assert {decision.outcome for decision in done} == {Outcome.GRANTED}
    look_for(pace, batchers, now_ms + LOOK_MS)
    assert batcher.limit == 20_000
    assert not unpaced.metrics.alarms.is_on(Alarm.OVERLOADED)
    assert shown(unpaced, "flashgrab_admitted_max") == {}
    assert (await unpaced.grab(campaign_id, "new")).status_code == 201


async def test_what_the_next_call_takes_is_no_standing_queue(unpaced: Served) -> None:
    """However long that call is in coming: Redis that stands still is another alarm's."""
    campaign_id = await unpaced.campaign(quota=100)
    wire, batcher, waiting = await queued(unpaced, campaign_id, 2 * BATCH_MAX)
    batchers = {campaign_id: batcher}
    look_for(pace_of(unpaced), batchers, 0)
    assert batcher.limit == 20_000
    wire.release.set()
    await asyncio.gather(*waiting)


async def test_one_campaigns_crowd_turns_nobody_of_another_away(unpaced: Served) -> None:
    """Each has its own queue and its own bound."""
    hot, cold = await unpaced.campaign(quota=100), await unpaced.campaign()
    wire, _, waiting = await queued(unpaced, hot, 20)
    assert (await unpaced.grab(cold, "first")).status_code == 201
    look_for(pace_of(unpaced), unpaced.gateway.batchers, 0)
    assert (await unpaced.grab(hot, "u")).status_code == 503
    assert (await unpaced.grab(cold, "u")).status_code == 201
    wire.release.set()
    await asyncio.gather(*waiting)


async def asked(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A new connection that has asked something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    return reader, writer


async def test_a_late_loop_holds_new_connections(unpaced: Served) -> None:
    """Those who are here are answered; the new ones when it is on time again."""
    pace = pace_of(unpaced)
    assert (await unpaced.http.get("/livez")).status_code == 200  # and stays connected
    now_ms = look_for(pace, {}, LOOK_MS, late_ms=WAIT_MS)
    assert pace.late
    assert unpaced.metrics.alarms.is_on(Alarm.LOOP_LATE)
    reader, writer = await asked(unpaced)
    await until("it is held", lambda: pace.held)
    assert (await unpaced.http.get("/livez")).status_code == 200
    assert pace.held == 1
    pace.look({}, now_ms + LOOK_MS, 0)
    assert (pace.held, pace.late) == (0, False)
    assert not unpaced.metrics.alarms.is_on(Alarm.LOOP_LATE)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_nobody_is_held_for_long(unpaced: Served) -> None:
    """However late the loop stays; and one that has gone meanwhile is no trouble."""
    pace = pace_of(unpaced)
    look_for(pace, {}, 0, late_ms=WAIT_MS)
    reader, writer = await asked(unpaced)
    _, gone = await asked(unpaced)
    await until("both are held", lambda: pace.held == 2)
    gone.close()
    pace.look({}, SystemClock().monotonic_ms() + HELD_MS_MAX, WAIT_MS)
    assert (pace.held, pace.late) == (0, True)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


def test_the_held_are_let_in_some_at_a_time() -> None:
    """All at once would make the loop late again."""

    class One:
        def let_in(self) -> None:
            let.append(1)

    let: list[int] = []
    pace = Pace(WAIT_MS, Bounds(BATCH_MAX, 100, 2000), SystemClock(), Metrics())
    for _ in range(FREED_MAX + 1):
        pace.hold(One())
    pace.look({}, 0, 0)
    assert len(let) == FREED_MAX
    pace.look({}, LOOK_MS, 0)
    assert pace.held == 0


async def test_it_looks_by_itself(redis_server: Valkey) -> None:
    """The control of the switch: a gateway as it is started has its own looks."""
    async with serving(redis_server.url) as served:
        campaign_id = await served.campaign(quota=100)
        wire, batcher, waiting = await queued(served, campaign_id, 20)
        served.gateway.pace._bounds = Bounds(BATCH_MAX, 20_000, 2000)
        await until("it is noticed", lambda: batcher.limit == CALLS_FULL * BATCH_MAX)
        wire.release.set()
        await asyncio.gather(*waiting)
