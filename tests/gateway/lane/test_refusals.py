"""I10: what is refused from memory costs no Redis command in the steady state."""

import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flashgrab.passes import Pass
from tests.gateway.crowd import Sent, crowd, request_bytes
from tests.gateway.lane.counting import (
    BACKGROUND_SHARE,
    CONNECTIONS,
    Counted,
    ask,
    codes,
    steady,
    strangers,
)
from tests.gateway.lane.sides import KINDS, LANE, TWIN
from tests.gateway.lane.world import FAR_MS
from tests.gateway.serving import HOUR_MS, Served, serving
from tests.lua.server import Client, Valkey

pytestmark = pytest.mark.anyio

REQUESTS = 1000
ASKED_MAX = REQUESTS // 100
"""Script calls of so many requests: a filter takes a stranger for a holder now and then."""
FLOOD = {TWIN: (2, 2000), LANE: (10, 5000)}
"""Parts, and the ids in each; the twin takes ten times as long for one."""

EMPTY: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("SOLD_OUT", {}, {}),
    ("PAUSED", {}, {"status": "PAUSED"}),
    ("OFFLINE", {}, {"status": "OFFLINE"}),
    ("NOT_STARTED", {"rounds": [(HOUR_MS, 2 * HOUR_MS, 5)]}, {}),
    ("ENDED", {"rounds": [(-2 * HOUR_MS, -HOUR_MS, 5)]}, {}),
    ("NOT_STARTED", {"rounds": [(-2 * HOUR_MS, -HOUR_MS, 5), (HOUR_MS, 2 * HOUR_MS, 5)]}, {}),
]
"""Code, how the campaign is published, what is changed after that (each with its generation)."""


@pytest.fixture(scope="module", params=KINDS, ids=["twin", "lane"])
async def served(
    request: pytest.FixtureRequest,
    two_servers: tuple[Valkey, Valkey],
    redis: Client,
    anyio_backend: Any,
) -> AsyncIterator[Served]:
    async with serving(two_servers[0].url, protocol=request.param) as gateway:
        yield gateway


@pytest.mark.parametrize("code, how, changes", EMPTY)
async def test_strangers_are_refused_from_memory(
    served: Served, redis: Client, code: str, how: dict[str, Any], changes: dict[str, Any]
) -> None:
    """A thousand different users are refused, and Redis hears next to nothing of them."""
    campaign_id = await served.campaign(**({"quota": 3} | how))
    if code == "SOLD_OUT":
        winners = await crowd(served.port, strangers(served, campaign_id, "winner", 3), 3)
        assert codes(winners) == {"201": 3}
    if changes:
        await served.set(campaign_id, {**changes, "generation": 2})
    counted = Counted(redis)
    await steady(served, counted, campaign_id, code)

    counted.since()
    answers = await crowd(
        served.port, strangers(served, campaign_id, "late", REQUESTS), CONNECTIONS
    )
    asked, commands = counted.since()
    assert codes(answers) == {code: REQUESTS}
    assert asked <= ASKED_MAX
    assert commands <= REQUESTS * BACKGROUND_SHARE


@pytest.mark.parametrize("is_sold_out", [False, True], ids=["stock", "sold out"])
async def test_holders_are_remembered(served: Served, redis: Client, is_sold_out: bool) -> None:
    """A winner's repeats and his other keys, with stock and without: asked about once."""
    campaign_id = await served.campaign(quota=1 if is_sold_out else 100)
    token = served.token(campaign_id, "winner")
    mine, other = Sent(campaign_id, token, "mine"), Sent(campaign_id, token, "other")
    no_key = Sent(campaign_id, token)
    (won,) = await crowd(served.port, [mine], 1)
    await crowd(served.port, [mine, other, no_key] * 2, 1)
    counted = Counted(redis)

    answers = await crowd(served.port, [mine, other, no_key] * (REQUESTS // 3), CONNECTIONS)
    asked, commands = counted.since()
    assert codes(answers) == {"200": REQUESTS // 3, "USER_LIMIT": 2 * (REQUESTS // 3)}
    for answer in answers:
        held = answer.body.get("grab_ids", [answer.body.get("grab_id")])
        assert held == [won.body["grab_id"]]
    assert asked <= ASKED_MAX
    assert commands <= REQUESTS * BACKGROUND_SHARE


async def test_device_limits_are_remembered(served: Served, redis: Client) -> None:
    """Another user of a device that has its coupon asks again and again."""
    campaign_id = await served.campaign(quota=100, per_device=1)
    first = Sent(campaign_id, served.token(campaign_id, "one", "phone"), "k")
    again = Sent(campaign_id, served.token(campaign_id, "two", "phone"), "k")
    await crowd(served.port, [first, again, again], 1)
    counted = Counted(redis)
    answers = await crowd(served.port, [again] * REQUESTS, CONNECTIONS)
    assert codes(answers) == {"DEVICE_LIMIT": REQUESTS}
    assert counted.since()[0] <= ASKED_MAX


async def test_a_flood_of_made_up_campaigns(
    served: Served, redis: Client, request: pytest.FixtureRequest
) -> None:
    """50,000 ids that no campaign has, half with a valid pass: no command, no memory."""
    counted, blocks = Counted(redis), []
    labels = len(served.metrics.values)
    parts, part = FLOOD[request.node.callspec.params["served"]]
    for start in range(0, parts * part, part):
        names = [f"made-up-{n}" for n in range(start, start + part)]
        requests = [_made_up(served, name, valid=n % 2 == 0) for n, name in enumerate(names)]
        counted.since()
        statuses = await ask(served.port, requests)
        asked, commands = counted.since()
        assert statuses == {b"404": part // 2, b"401": part // 2}
        assert asked == 0
        assert commands <= part * BACKGROUND_SHARE
        del names, requests
        gc.collect()
        blocks.append(sys.getallocatedblocks())
    assert blocks[-1] - blocks[0] < part
    assert len(served.metrics.values) <= labels + 4


def _made_up(served: Served, name: str, *, valid: bool) -> bytes:
    token = served.passes.sign(Pass(name, "u", "", FAR_MS)) if valid else "v1.t1/none"
    return request_bytes(Sent(name, token, "k"))
