"""`durability = "replica"`: nobody hears of a grant that a replica does not have yet."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256

import httpx2
import pytest
import redis.asyncio as redis

from flashgrab import keys
from flashgrab.alarms import Alarm
from tests.gateway.asking import assert_problem
from tests.gateway.serving import Served, serving, until
from tests.lua.server import Valkey
from tests.services.replica import Pair, primary, replicated

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("replica")]

DEADLINE_MS = 900
SLACK_S = 1.0  # the machine may be busy
SHOP_TOKEN = "till-" + "t" * 40
SHOP = {"authorization": f"Bearer {SHOP_TOKEN}"}
TILL = f"till:{sha256(SHOP_TOKEN.encode()).hexdigest()}"


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with primary() as running:
        yield running


@pytest.fixture(scope="module")
async def pair(server: Valkey, anyio_backend: str) -> AsyncIterator[Pair]:
    async with replicated(server) as made:
        yield made


@pytest.fixture
async def one(pair: Pair) -> AsyncIterator[Served]:
    async with serving(
        pair.primary.url, request_deadline_ms=DEADLINE_MS, shop_tokens=TILL
    ) as gateway:
        yield gateway


@pytest.fixture
async def other(pair: Pair) -> AsyncIterator[Served]:
    """A second gateway, which knows nothing of what the first one was told."""
    async with serving(
        pair.primary.url, request_deadline_ms=DEADLINE_MS, shop_tokens=TILL
    ) as gateway:
        yield gateway


async def there(gateway: Served, campaign_id: str) -> None:
    """The gateway knows the campaign, and that there is a replica."""
    await gateway.gateway.catalogue.refresh(campaign_id)
    replica = gateway.gateway.replica
    replica.start()
    await until("a replica is there", lambda: replica.judged.is_set() and not replica.is_away)


async def in_time(asked: "asyncio.Future[httpx2.Response]") -> httpx2.Response:
    """The answer, which comes within the deadline."""
    begun = time.monotonic()
    answer = await asked
    assert time.monotonic() - begun < DEADLINE_MS / 1000 + SLACK_S
    return answer


async def test_a_grant_is_told_when_the_replica_has_it(pair: Pair, one: Served) -> None:
    """Each 201 stands in the replica at the moment that it is told."""
    campaign_id = await one.campaign(quota=100, durability="replica")
    await there(one, campaign_id)
    async with redis.Redis.from_url(pair.replica.url, decode_responses=True) as client:
        for n in range(20):
            answer = await one.grab(campaign_id, f"u{n}", "k")
            assert answer.status_code == 201
            entry = await client.hget(keys.holders(campaign_id), f"u{n}")
            assert entry is not None
            assert str(entry).startswith(f"{answer.json()['serial']},")


async def test_a_replica_that_lags(pair: Pair, one: Served, other: Served) -> None:
    """503 within the deadline to the winner, to his repeat and to his other key, at both gateways;
    also where he asks what became of it. Afterwards the same grab, once."""
    campaign_id = await one.campaign(durability="replica")
    for gateway in (one, other):
        await there(gateway, campaign_id)
    with pair.stalled():
        asking = [
            asyncio.ensure_future(gateway.grab(campaign_id, "anna", key))
            for gateway, key in ((one, "k"), (other, "k"), (one, "l"), (other, "l"))
        ]
        for answer in [await in_time(asked) for asked in asking]:
            body = assert_problem(answer, 503, "BACKEND_UNAVAILABLE")
            assert body["retry_after_ms"] > 0
        facts = await one.facts(campaign_id)
        assert [(user, serial) for user, serial, _, _ in facts] == [("anna", 1)]
        bearer = {"authorization": f"Bearer {one.token(campaign_id, 'anna')}"}
        shown = [
            await g.http.get(f"/v1/grabs/{campaign_id}-1", headers=bearer) for g in (one, other)
        ]
        shown += [await g.http.get("/v1/grabs?user=anna", headers=SHOP) for g in (one, other)]
        for answer in shown:
            assert_problem(answer, 503, "BACKEND_UNAVAILABLE")
        assert one.known(campaign_id).floor == other.known(campaign_id).floor == 1
    won = facts[0][2]
    for gateway in (one, other):
        await there(gateway, campaign_id)
        again = await gateway.grab(campaign_id, "anna", won)
        assert (again.status_code, again.json()["serial"]) == (200, 1)
        limited = assert_problem(await gateway.grab(campaign_id, "anna", "m"), 409, "USER_LIMIT")
        assert limited["grab_ids"] == [f"{campaign_id}-1"]
        assert (await gateway.http.get(f"/v1/grabs/{campaign_id}-1", headers=bearer)).is_success
        listed = await gateway.http.get("/v1/grabs?user=anna", headers=SHOP)
        assert f"{campaign_id}-1" in {grab["grab_id"] for grab in listed.json()["grabs"]}
    assert await one.facts(campaign_id) == facts


async def test_what_is_in_the_ledger_needs_no_replica(pair: Pair, one: Served) -> None:
    """PERSISTED is shown, and what was told before is said again, while the replica lags."""
    campaign_id = await one.campaign(quota=1, durability="replica")
    await there(one, campaign_id)
    assert (await one.grab(campaign_id, "anna", "k")).status_code == 201
    assert (await one.grab(campaign_id, "anna", "k")).status_code == 200
    await until("strangers are known", lambda: _is_refused_from_memory(one, campaign_id))
    assert await one.store.settle(campaign_id, 1, 1, "") == 0
    await one.gateway.catalogue.refresh(campaign_id)
    with pair.stalled():
        bearer = {"authorization": f"Bearer {one.token(campaign_id, 'anna')}"}
        shown = await one.http.get(f"/v1/grabs/{campaign_id}-1", headers=bearer)
        assert shown.json()["state"] == "PERSISTED"
        assert (await one.grab(campaign_id, "anna", "k")).status_code == 200
        assert_problem(await one.grab(campaign_id, "bert", "k"), 409, "SOLD_OUT")


async def _is_refused_from_memory(served: Served, campaign_id: str) -> bool:
    assert_problem(await served.grab(campaign_id, "carl", "k"), 409, "SOLD_OUT")
    campaign = served.known(campaign_id)
    now_ms = served.gateway.redis_clock.now_ms()
    run = served.gateway.wire.run_id
    return served.gateway.memory.decide(campaign, run, b"bert", b"", b"k", now_ms) is not None


async def test_without_any_replica(anyio_backend: str) -> None:
    """Refused quickly, nothing granted, an alarm; other campaigns go on, and there is no alarm and
    no connection for it where no campaign asks for a replica. With a replica it goes on."""
    with primary() as own:
        async with serving(own.url, request_deadline_ms=10_000) as served:
            plain = await served.campaign()
            assert (await served.grab(plain, "anna", "k")).status_code == 201
            assert not served.gateway.replica.judged.is_set()
            campaign_id = await served.campaign(durability="replica")
            for _ in range(3):
                begun = time.monotonic()
                answer = await served.grab(campaign_id, "anna", "k")
                assert_problem(answer, 503, "BACKEND_UNAVAILABLE")
                assert time.monotonic() - begun < 3
            assert await served.facts(campaign_id) == []
            assert served.metrics.alarms.is_on(Alarm.REPLICA_MISSING)
            assert (await served.grab(plain, "bert", "k")).status_code == 201
            async with replicated(own):
                await there(served, campaign_id)
                assert not served.metrics.alarms.is_on(Alarm.REPLICA_MISSING)
                assert (await served.grab(campaign_id, "anna", "k")).status_code == 201


async def until_told(one: Served, campaign_id: str, user_id: str) -> int:
    """The status that a buyer ends with who repeats while he is told 503, as on a busy machine;
    201 also where the repeat is a replay."""
    status = 503
    while status == 503:
        status = (await one.grab(campaign_id, user_id, "k")).status_code
    return 201 if status == 200 else status


async def test_a_crowd(pair: Pair, one: Served) -> None:
    """Many at once share their waits; every grant is told once, and is in the replica."""
    campaign_id = await one.campaign(quota=100, durability="replica")
    await there(one, campaign_id)
    async with redis.Redis.from_url(pair.primary.url) as client:
        before = (await client.info("commandstats"))["cmdstat_wait"]["calls"]
        grabs = [until_told(one, campaign_id, f"u{n}") for n in range(150)]
        statuses = await asyncio.gather(*grabs)
        waits = (await client.info("commandstats"))["cmdstat_wait"]["calls"] - before
    assert (statuses.count(201), statuses.count(409)) == (100, 50)
    assert waits < 100
    async with redis.Redis.from_url(pair.replica.url) as client:
        assert await client.hlen(keys.holders(campaign_id)) == 100
