"""Rate limits: the lane answers as its twin, refusals and fields included, byte for byte."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from flashgrab import keys
from flashgrab.clock import SystemClock
from tests.gateway.lane.conftest import ORIGINS
from tests.gateway.lane.conversation import same
from tests.gateway.lane.plain import FROM_THE_SHOP, LIVEZ, grab, raw
from tests.gateway.lane.sides import KINDS, Pair, Side, one_side
from tests.gateway.serving import until
from tests.lua.server import Valkey, valkey

pytestmark = pytest.mark.anyio

LIMITED = ("open", "three", "device", "sold-out", "soon", "ended", "paused", "other-run", "busy")
LIMITS = {"user": "3/10h", "device": "2/10h", "address": "9999999/1s", "campaign": "9999999/1s"}
PATIENT_MS = 5000


@pytest.fixture(scope="module")
def counting() -> Iterator[Valkey]:
    with valkey(tcp=True) as running:
        yield running


@pytest.fixture(scope="module", params=["together", "alone"])
async def limited(
    request: pytest.FixtureRequest,
    two_servers: tuple[Valkey, Valkey],
    counting: Valkey,
    anyio_backend: Any,
) -> AsyncIterator[Pair]:
    """Both gateways with limits in every campaign, and the limiter's server, of which each has a
    database of its own; or without one."""
    start_ms = SystemClock().now_ms()
    async with AsyncExitStack() as stack:
        sides: list[Side] = []
        for db, (kind, server) in enumerate(zip(KINDS, two_servers, strict=True)):
            changes: dict[str, Any] = {"cors_origins": ORIGINS}
            if request.param == "together":
                changes["limiter_url"] = f"redis://127.0.0.1:{counting.port}/{db}"
                changes["limiter_wait_ms"] = PATIENT_MS
            opening = one_side(kind, server, start_ms, SystemClock(), **changes)
            sides.append(await stack.enter_async_context(opening))
        for side in sides:
            definition = json.dumps({"name": "A test", "rule": {}, "limits": LIMITS})
            for name in LIMITED:
                side.world.redis.call("HSET", keys.campaign(name), "definition", definition)
                await side.served.gateway.catalogue.refresh(name)
            if wire := side.served.gateway.limiter.wire:
                await until("the limiter is connected", wire.connected.is_set)
        yield Pair(*sides)


@pytest.mark.parametrize("name", LIMITED)
async def test_until_it_is_refused(limited: Pair, name: str) -> None:
    """One user, again and again, with his key, another, and none: the answers with two left and
    more, with one, with none, and the refusals."""
    user = f"one-{name}"
    asked = [grab(user, name, key) for key in ("a", "a", "b", "a", "c")]
    asked += [grab(user, name, key=None), grab(user, name, "a", more=FROM_THE_SHOP)]
    heard = await same(limited, *([one] for one in asked))
    statuses = [h.statuses[0] for h in heard]
    assert 429 not in statuses[:3]
    assert statuses[3:] == [429] * 4
    assert [b"ratelimit:" in h.answers for h in heard] == [False] + [True] * 6
    assert b"access-control-allow-origin" in heard[-1].answers


@pytest.mark.parametrize("name", ["open", "three", "sold-out"])
async def test_pipelined(limited: Pair, name: str) -> None:
    """All in one write, with something else between: each answer in its turn."""
    user = f"pipe-{name}"
    data = b"".join(grab(user, name, f"k{n}") + (LIVEZ if n % 2 else b"") for n in range(6))
    heard = await same(limited, [data], [grab(f"after-{name}", name)])
    assert heard[0].statuses.count(429) == 3
    assert heard[0].statuses[-1] == heard[0].statuses[2] == 200


async def test_each_piece_and_the_ordinary_way(limited: Pair) -> None:
    """Byte by byte, with a query, and with `Connection: close`, which the parser handles."""
    data = grab("bytes", "open")
    for at in (1, len(data) // 2, len(data) - 1):
        await same(limited, [data[:at], data[at:]])
    refused = grab("bytes", "open").replace(b"grabs HTTP", b"grabs?a=b HTTP")
    heard = await same(limited, [refused], [refused.replace(b"keep-alive", b"close", 1)])
    assert [h.statuses for h in heard] == [[429], [429]]
    assert heard[1].closed


async def test_devices(limited: Pair) -> None:
    """The device that counts is the pass's."""
    heard = await same(limited, *([grab(f"d{n}", "device", device="phone")] for n in range(3)))
    assert [h.statuses[0] for h in heard][2] == 429
    assert b'"scope":"device"' in heard[2].answers


async def test_what_comes_before_a_limit(limited: Pair) -> None:
    """A bad pass, another campaign's and a campaign that nobody knows are counted nowhere."""
    user = "before"
    bad = raw(
        target="/v1/campaigns/open/grabs", headers=[("Host", "x"), ("Authorization", "Bearer x")]
    )
    other = grab(user, "z").replace(b"campaigns/z/", b"campaigns/open/")
    heard = await same(limited, *([one] for one in [bad, other] * 4), [grab(user, "open")])
    assert [h.statuses[0] for h in heard] == [401, 403] * 4 + [201]
    assert b"ratelimit:" not in heard[-1].answers


async def test_a_missing_campaign(limited: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limits are known: 429 comes before NOT_WARMED, on both ways."""
    for side in (limited.twin, limited.lane):
        campaign = side.served.known("three")
        monkeypatch.setattr(campaign, "update", lambda *_: None)
        monkeypatch.setattr(campaign, "missing", True)
    heard = await same(limited, *([grab("gone", "three")] for _ in range(5)))
    assert [h.statuses[0] for h in heard] == [503, 503, 503, 429, 429]
