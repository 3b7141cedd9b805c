"""Rate limits over HTTP: who is refused, what he is told, and what happens without the limiter."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from flashgrab import keys
from flashgrab.alarms import Alarm
from flashgrab.scripts import LIMIT
from gateway.ratelimit import ROOM
from tests.gateway.asking import ask_pass, assert_problem, identity
from tests.gateway.serving import Served, serving, until
from tests.lua.server import Client, Valkey, valkey

pytestmark = pytest.mark.anyio

PATIENT_MS = 5000
"""So long a busy machine may hold up the limiter before a test's gateway goes on alone."""


@pytest.fixture(scope="module")
def limiter_server() -> Iterator[Valkey]:
    with valkey(tcp=True) as running:
        yield running


@pytest.fixture
def counted(limiter_server: Valkey) -> Iterator[Client]:
    """The limiter's server, empty."""
    with ExitStack() as closing:
        client = Client(limiter_server.path)
        closing.callback(client.close)
        client.call("FLUSHALL")
        yield client


@asynccontextmanager
async def limiting(redis: Valkey, limiter: Valkey, **changes: Any) -> AsyncIterator[Served]:
    changes = {"limiter_url": limiter.url, "limiter_wait_ms": PATIENT_MS, **changes}
    async with serving(redis.url, **changes) as served:
        yield served


@pytest.fixture(scope="module")
async def limited(
    redis_server: Valkey, limiter_server: Valkey, anyio_backend: str
) -> AsyncIterator[Served]:
    async with limiting(redis_server, limiter_server) as served:
        yield served


async def campaign(served: Served, also: Served | None = None, **limits: str) -> str:
    """A campaign with these rates."""
    campaign_id = await served.campaign(quota=1000, per_user=100)
    text = '{"name": "A test", "rule": {}, "limits": {%s}}'
    rates = ", ".join(f'"{scope}": "{rate}"' for scope, rate in limits.items())
    await served.set(campaign_id, {"definition": text % rates})
    if also is not None:
        await also.gateway.catalogue.refresh(campaign_id)
    return campaign_id


def calls(client: Client) -> int:
    """Script calls that the limiter's server has seen."""
    found = re.search(r"cmdstat_evalsha:calls=(\d+)", client.call("INFO", "commandstats"))
    return int(found[1]) if found else 0


async def test_the_limiters_calls_are_timed(limited: Served, counted: Client) -> None:
    """Each script call of the limiter is one in its histogram, and a grab's time begins before
    it."""
    histograms = limited.metrics.histograms
    before = sum(histograms["flashgrab_script_seconds", ("limit",)].counts)
    seconds = histograms["flashgrab_grab_seconds", ()].total
    campaign_id = await campaign(limited, user="9/1h")
    was, asked = limited.gateway.limiter.enter, calls(counted)

    def slow(*given: Any) -> Any:  # as if the limiter took half a second
        later = asyncio.get_running_loop().call_later
        waiter = given[-1]
        later(0.5, lambda: waiter.limited(ROOM))
        return None

    assert (await limited.grab(campaign_id, "ann")).status_code == 201
    assert sum(histograms["flashgrab_script_seconds", ("limit",)].counts) == before + 1
    assert calls(counted) == asked + 1
    limited.gateway.limiter.enter = slow  # type: ignore[method-assign, assignment]
    try:
        assert (await limited.grab(campaign_id, "bob")).status_code == 201
    finally:
        limited.gateway.limiter.enter = was  # type: ignore[method-assign]
    assert histograms["flashgrab_grab_seconds", ()].total >= seconds + 0.5


async def test_the_third_of_two_is_refused(limited: Served, counted: Client) -> None:
    """Two are granted, the second told that it was the last; the third is told when to come, and
    nothing of it is counted or granted."""
    campaign_id = await campaign(limited, user="2/1h")
    first, second, third = [await limited.grab(campaign_id, key=f"k{n}") for n in range(3)]
    assert [r.status_code for r in (first, second, third)] == [201, 201, 429]
    policy = '"user";q=2;w=3600'
    assert first.headers["ratelimit"] == '"user";r=1;t=1800'
    assert second.headers["ratelimit"] == '"user";r=0;t=1800'
    assert third.headers["ratelimit"] == '"user";r=0;t=1800'
    assert {r.headers["ratelimit-policy"] for r in (first, second, third)} == {policy}
    body = assert_problem(third, 429, "RATE_LIMITED")
    assert body["scope"] == "user"
    assert 1_790_000 < body["retry_after_ms"] <= 1_801_001
    assert int(third.headers["retry-after"]) * 1000 >= body["retry_after_ms"]
    assert len(await limited.facts(campaign_id)) == 2
    assert counted.call("KEYS", "*") == [keys.limit(campaign_id, "u:u1")]


async def test_with_room_nothing_is_said(limited: Served, counted: Client) -> None:
    """Far from the limit an answer has no field of it, and is the one that it always was."""
    with_limits = await campaign(limited, user="5/1h")
    without = await limited.campaign()
    one, other = [await limited.grab(c, key="k") for c in (with_limits, without)]
    assert set(one.headers) == set(other.headers)
    assert counted.call("DBSIZE") == 1


async def test_each_scope_counts_its_own(limited: Served, counted: Client) -> None:
    """User, device and campaign; a grab without a device has no limit of it."""
    campaign_id = await campaign(limited, user="2/1h", device="3/1h", campaign="6/1h")
    asked = [("a", "d"), ("a", "d"), ("a", "d"), ("b", "d"), ("c", "d"), ("c", ""), ("e", "")]
    heard = [await limited.grab(campaign_id, user, device=device) for user, device in asked]
    heard += [await limited.grab(campaign_id, "f"), await limited.grab(campaign_id, "g")]
    told = [r.json().get("scope", r.status_code) for r in heard]
    assert told == [201, 201, "user", 201, "device", 201, 201, 201, "campaign"]


async def test_an_address_and_its_block(limited: Served, counted: Client) -> None:
    """All come from one address here: the third grab of whoever is refused; the block is counted
    beside it."""
    campaign_id = await campaign(limited, address="2/1h")
    heard = [await limited.grab(campaign_id, f"u{n}") for n in range(3)]
    assert [r.status_code for r in heard] == [201, 201, 429]
    assert heard[2].json()["scope"] == "address"
    kinds = {keys.limit(campaign_id, kind) for kind in ("a:127.0.0.1", "n:7f0000")}
    assert set(counted.call("KEYS", "*")) == kinds


async def test_before_replays_and_before_a_missing_campaign(
    limited: Served, counted: Client
) -> None:
    """429 comes before both; where there is room both are as ever."""
    campaign_id = await campaign(limited, user="3/1h")
    heard = [(await limited.grab(campaign_id, key="k")).status_code for _ in range(2)]
    limited.known(campaign_id).missing = True
    missing = await limited.grab(campaign_id, key="k")
    refused = await limited.grab(campaign_id, key="k")
    limited.known(campaign_id).missing = False
    replay = await limited.grab(campaign_id, key="k")
    assert heard == [201, 200]
    assert_problem(missing, 503, "NOT_WARMED")
    assert_problem(refused, 429, "RATE_LIMITED")
    assert_problem(replay, 429, "RATE_LIMITED")


async def test_passes(limited: Served, counted: Client) -> None:
    """Requests for passes have a rate of their own, a user's; a bad token is counted nowhere."""
    campaign_id = await campaign(limited, passes="2/1h")
    bad = await ask_pass(limited, campaign_id, authorization="Bearer x")
    heard = [await ask_pass(limited, campaign_id, **identity()) for _ in range(3)]
    other = await ask_pass(limited, campaign_id, **identity("u2"))
    assert (bad.status_code, other.status_code) == (401, 201)
    assert [r.status_code for r in heard] == [201, 201, 429]
    assert assert_problem(heard[2], 429, "RATE_LIMITED")["scope"] == "passes"
    assert (await limited.grab(campaign_id)).status_code == 201


async def test_two_gateways_count_together(
    limited: Served, redis_server: Valkey, limiter_server: Valkey, counted: Client
) -> None:
    """A crowd over both at once: of each user exactly his burst, of all exactly the campaign's."""
    async with limiting(redis_server, limiter_server) as other:
        campaign_id = await campaign(limited, other, user="5/10h", campaign="60/10h")
        sides = (limited, other)
        heard = await asyncio.gather(
            *(sides[n % 2].grab(campaign_id, f"u{n % 20}", key=f"k{n}") for n in range(240))
        )
        granted = [n % 20 for n, r in enumerate(heard) if r.status_code == 201]
        assert {r.status_code for r in heard} == {201, 429}
        assert len(granted) == 60
        assert max(map(granted.count, granted)) <= 5


async def test_a_flood_is_refused_without_the_limiter(limited: Served, counted: Client) -> None:
    """Once refused a client stays so here: of 600 requests after that none costs a Redis command,
    at the limiter or at the stock."""
    campaign_id = await campaign(limited, user="3/10h")
    assert [(await limited.grab(campaign_id)).status_code for _ in range(4)] == [201] * 3 + [429]
    before, stock = calls(counted), len(await limited.facts(campaign_id))
    for _ in range(6):
        heard = await asyncio.gather(*(limited.grab(campaign_id) for _ in range(100)))
        assert {r.status_code for r in heard} == {429}
    assert calls(counted) == before
    assert len(await limited.facts(campaign_id)) == stock
    assert limited.gateway.limiter.waiting == 0


async def test_what_another_gateway_counted_is_kept_here(
    limited: Served, redis_server: Valkey, limiter_server: Valkey, counted: Client
) -> None:
    """A user whom the script refuses first is refused from this gateway's buckets from then on."""
    async with limiting(redis_server, limiter_server) as other:
        campaign_id = await campaign(limited, other, user="2/10h")
        assert [(await other.grab(campaign_id)).status_code for _ in range(2)] == [201, 201]
        before = calls(counted)
        heard = [(await limited.grab(campaign_id)).status_code for _ in range(20)]
        assert heard == [429] * 20
        assert calls(counted) == before + 1


async def test_a_forgotten_script_is_loaded_again(limited: Served, counted: Client) -> None:
    """As after a restart that nobody saw: nobody notices."""
    campaign_id = await campaign(limited, user="1/1h")
    counted.call("SCRIPT", "FLUSH")
    heard = await asyncio.gather(*(limited.grab(campaign_id, f"u{n % 9}") for n in range(18)))
    assert sorted(r.status_code for r in heard) == [201] * 9 + [429] * 9
    assert counted.call("SCRIPT", "EXISTS", LIMIT.sha) == [1]
    assert counted.call("DBSIZE") == 9


async def test_killed_and_back(redis_server: Valkey) -> None:
    """Without the limiter a process holds the limit alone, and says so; back, it counts again."""
    with valkey(tcp=True) as server:
        async with limiting(redis_server, server) as served:
            alarms, campaign_id = served.metrics.alarms, await campaign(served, user="2/10h")
            wire = served.gateway.limiter.wire
            assert wire is not None
            server.kill()
            await until("it is gone", lambda: not wire.connected.is_set())
            heard = [(await served.grab(campaign_id)).status_code for _ in range(4)]
            assert heard == [201, 201, 429, 429]
            await until("the alarm is on", lambda: alarms.is_on(Alarm.LIMITER_GONE))
            values = {name: value for name, _, value in served.metrics.snapshot()["values"]}
            assert values["flashgrab_limited_alone"] == 2
            server.start()
            await until("it is back", wire.connected.is_set)
            await until("the alarm is over", lambda: not alarms.is_on(Alarm.LIMITER_GONE), 10)
            assert (await served.grab(campaign_id, "u2")).status_code == 201
            client = Client(server.path)
            assert client.call("KEYS", "*") == [keys.limit(campaign_id, "u:u2")]
            client.close()


async def test_frozen_it_holds_nobody_up_for_ever(redis_server: Valkey) -> None:
    """A limiter that stands still costs one wait; then its buckets alone answer."""
    with valkey(tcp=True) as server:
        async with limiting(redis_server, server, limiter_wait_ms=50) as served:
            campaign_id = await campaign(served, user="2/10h")
            server.freeze()
            try:
                heard = [(await served.grab(campaign_id)).status_code for _ in range(3)]
            finally:
                server.thaw()
            assert heard == [201, 201, 429]
            assert served.metrics.alarms.is_on(Alarm.LIMITER_GONE)


async def test_without_an_address_each_process_limits_alone(served: Served) -> None:
    """No limiter configured: the buckets, the fields, and no alarm."""
    campaign_id = await campaign(served, user="2/10h")
    heard = [await served.grab(campaign_id) for _ in range(3)]
    assert [r.status_code for r in heard] == [201, 201, 429]
    assert heard[0].headers["ratelimit"] == '"user";r=1;t=18000'
    assert not served.metrics.alarms.is_on(Alarm.LIMITER_GONE)


async def test_a_rate_that_is_none_closes_its_campaign_alone(limited: Served) -> None:
    """Somebody has written into the definition: that campaign can't be read, others can."""
    campaign_id, other = await campaign(limited, user="2/10 parsecs"), await limited.campaign()
    assert limited.known(campaign_id).missing
    assert (await limited.grab(other)).status_code == 201
