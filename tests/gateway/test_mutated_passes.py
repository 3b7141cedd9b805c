"""Mutated passes through a real gateway, by lane and by route: refused, and Redis hears nothing."""

import asyncio
import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from flashgrab.passes import PassKeys
from tests.gateway.crowd import Got, Sent, read_answer, request_bytes
from tests.gateway.lane.sides import KINDS
from tests.gateway.serving import Served, serving
from tests.lua.server import Client, Valkey
from tests.passes.mutations import Attempt, World, attempts

pytestmark = pytest.mark.anyio

COUNT = 1500
CONNECTIONS = 8
TWO_KEYS = "t1:" + "k" * 40 + ",t2:" + "l" * 40
LENGTH_MAX = 8000
IDLE_S = 1.2
"""Longer than the longest pause of what a gateway asks by itself."""
BACKGROUND_TIMES, BACKGROUND_MORE = 3, 50
"""How much more often than in its idle time a gateway may run its own commands."""

_refused_by_parser = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


@pytest.fixture(scope="module", params=KINDS, ids=["twin", "lane"])
async def served(
    request: pytest.FixtureRequest, redis_server: Valkey, anyio_backend: Any
) -> AsyncIterator[Served]:
    async with serving(redis_server.url, protocol=request.param, pass_keys=TWO_KEYS) as gateway:
        yield gateway


@pytest.fixture
def redis(redis_server: Valkey) -> Iterator[Client]:
    client = Client(redis_server.path)
    yield client
    client.close()


def calls(redis: Client) -> Counter[str]:
    """Calls of every command since the server began, those inside scripts too."""
    found = re.findall(r"cmdstat_(\S+?):calls=(\d+)", redis.call("INFO", "commandstats"))
    return Counter({name: int(count) for name, count in found})


async def refused(port: int, made: Sequence[Attempt]) -> list[Got | None]:
    """Send each at the grabs of its campaign; None where the connection ended without an answer."""
    answers: list[Got | None] = [None] * len(made)
    left = iter(enumerate(made))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for index, (_, token, campaign_id) in left:
            request = request_bytes(Sent(campaign_id, "TOKEN", f"k{index}"))
            writer.write(request.replace(b"TOKEN", token))
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                answers[index] = await read_answer(reader)
            if answers[index] is None or reader.at_eof():
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return answers


async def world(served: Served, seed: int) -> World:
    """Three open campaigns with stock for everybody, and passes of both keys."""
    campaigns = [await served.campaign(quota=1000) for _ in range(3)]
    keys = PassKeys.parse(TWO_KEYS)
    return World(keys, campaigns, served.gateway.clock.now_ms(), random.Random(seed))


def is_sent(here: World, attempt: Attempt) -> bool:
    """Whether the pass itself is what is judged: a head that is none, or too long, is refused
    before (lane/test_bounds.py), and blanks around a value are no part of it (RFC 9110 §5.5)."""
    _, token, campaign_id = attempt
    if _refused_by_parser(token) or len(token) > LENGTH_MAX:
        return False
    return (token.strip(b" \t"), campaign_id) not in here.genuine


async def test_nothing_is_granted_and_redis_is_not_asked(served: Served, redis: Client) -> None:
    """Every kind of mutated pass: 401, 403 or 400, no grant, no command beyond what the gateway
    runs when nobody asks."""
    seed = random.SystemRandom().randrange(10**9)
    here = await world(served, seed)
    made = [a for a in attempts(here, COUNT) if is_sent(here, a)]
    begun = calls(redis)
    await asyncio.sleep(IDLE_S)
    idle = calls(redis) - begun

    begun, began_s = calls(redis), time.monotonic()
    answers = await refused(served.port, made)
    spent = calls(redis) - begun
    by_itself = sum(idle.values()) * (time.monotonic() - began_s) / IDLE_S

    codes = Counter(a.body.get("code", a.status) if a else "closed" for a in answers)
    assert set(codes) <= {"PASS_INVALID", "PASS_OTHER_CAMPAIGN", "INVALID_REQUEST"}, (seed, codes)
    assert codes["PASS_INVALID"] > len(made) * 0.9, codes
    for attempt, answer in zip(made, answers, strict=True):
        assert answer is not None
        assert answer.status in (400, 401, 403), (seed, attempt, answer)
    asked = set(spent) - set(idle) - {"info"}
    assert not asked, (seed, spent, idle)
    assert sum(spent.values()) <= BACKGROUND_TIMES * by_itself + BACKGROUND_MORE, (spent, idle)
    for campaign_id in here.campaigns:
        assert await served.facts(campaign_id) == []


async def test_the_passes_that_were_mutated_are_good(served: Served, redis: Client) -> None:
    """Control: the passes that the others were made from are granted, and Redis is asked."""
    here = await world(served, 1)
    begun = calls(redis)
    made = [Attempt("good", token, campaign_id) for token, campaign_id in here.passes]
    answers = await refused(served.port, made)
    assert Counter(a.status for a in answers if a is not None) == {201: len(here.passes)}
    assert (calls(redis) - begun)["evalsha"] > 0
