"""A gateway that refuses from memory is right again at once, and never lies to a holder."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from flashgrab import keys
from flashgrab.state import Returning
from gateway import campaigns
from tests.gateway.crowd import Got, Sent, crowd
from tests.gateway.lane.counting import Counted, codes, steady
from tests.gateway.process import Running, environment
from tests.gateway.serving import HOUR_MS, Served, serving, until
from tests.lua.server import Client, Valkey
from tests.services.proxy import proxied

pytestmark = pytest.mark.anyio

PUSHED_S = 1.5
"""Promised: 100 ms. Below the 2 s after which a gateway asks anyway."""
UNPUSHED_S = 4.0
"""Promised: 1 s."""
QUOTA = 2


@pytest.fixture
async def two(
    two_servers: tuple[Valkey, Valkey], redis: Client, anyio_backend: Any
) -> AsyncIterator[tuple[Served, Served]]:
    """Two gateways on one Redis."""
    async with AsyncExitStack() as stack:
        url = two_servers[0].url
        yield (
            await stack.enter_async_context(serving(url)),
            await stack.enter_async_context(serving(url)),
        )


async def _ask(served: Served, campaign_id: str, user: str, key: str = "k") -> Got:
    token = served.token(campaign_id, user)
    (got,) = await crowd(served.port, [Sent(campaign_id, token, key)], 1)
    return got


async def _sold_out(served: Served, others: Served, redis: Client, **how: Any) -> str:
    """A campaign whose winners are w0 and w1, and that both gateways refuse from memory."""
    campaign_id = await served.campaign(quota=QUOTA, **how)
    for n in range(QUOTA):
        assert (await _ask(served, campaign_id, f"w{n}")).status == 201
    for gateway in (served, others):
        await until("it is known", lambda g=gateway: g.gateway.catalogue.get(campaign_id))  # type: ignore[misc]
        await steady(gateway, Counted(redis), campaign_id, "SOLD_OUT")
    return campaign_id


async def _target(
    served: Served, campaign_id: str, version: int, status: str, quota: int, *, push: bool
) -> None:
    """A management change as the centre makes it, with its push or without."""
    code = await served.store.apply(
        campaign_id,
        epoch=1,
        version=version,
        operation=f"op-{version}",
        status=status,
        quotas=[quota],
    )
    assert code == 0
    if push:
        await served.store.announce(campaign_id)


async def _granted_within(served: Served, campaign_id: str, prefix: str, within_s: float) -> float:
    """Seconds until a stranger is granted something."""
    started, turn = time.monotonic(), 0
    while (await _ask(served, campaign_id, f"{prefix}{turn}")).status != 201:
        assert time.monotonic() - started < within_s
        turn += 1
        await asyncio.sleep(0.002)
    return time.monotonic() - started


@pytest.mark.parametrize("push", [True, False], ids=["pushed", "push lost"])
async def test_restock(two: tuple[Served, Served], redis: Client, push: bool) -> None:
    """After a restock both gateways grant again."""
    campaign_id = await _sold_out(*two, redis)
    await _target(two[0], campaign_id, 2, "PUBLISHED", QUOTA + 2, push=push)
    for n, gateway in enumerate(two):
        await _granted_within(gateway, campaign_id, f"r{n}-", PUSHED_S if push else UNPUSHED_S)
    for gateway in two:
        await until(
            "both are sold out again",
            lambda g=gateway: _is(g, campaign_id, "SOLD_OUT"),  # type: ignore[misc]
        )


async def _is(served: Served, campaign_id: str, code: str) -> bool:
    return bool((await _ask(served, campaign_id, "somebody")).body.get("code") == code)


@pytest.mark.parametrize("push", [True, False], ids=["pushed", "push lost"])
async def test_return(two: tuple[Served, Served], redis: Client, push: bool) -> None:
    """After a return his old key replays as RETURNED at both gateways, which both knew him as a
    holder; his limit is free, at the other one too, and the coupon is somebody's again."""
    campaign_id = await _sold_out(*two, redis)
    for gateway in two:  # from here on they know of both that they hold their limit
        for user in ("w0", "w1"):
            assert (await _ask(gateway, campaign_id, user, "other")).body["code"] == "USER_LIMIT"
            assert (await _ask(gateway, campaign_id, user)).body["state"] == "GRANTED"
    serial = (await _ask(two[0], campaign_id, "w0")).body["serial"]
    returning = [Returning(serial, 1, "w0", "")]
    assert (await two[0].store.give_back(campaign_id, 1, 0, returning))[1] == [0]
    if push:
        await two[0].store.announce(campaign_id)
    for gateway in two:
        await until(
            "his key replays as returned",
            lambda g=gateway: _says(g, campaign_id, "w0", (200, serial, "RETURNED")),  # type: ignore[misc]
            PUSHED_S if push else UNPUSHED_S,
        )
        url = f"/v1/grabs/{campaign_id}-{serial}"
        bearer = {"authorization": f"Bearer {gateway.token(campaign_id, 'w0')}"}
        assert (await gateway.http.get(url, headers=bearer)).json()["state"] == "RETURNED"
    again = await _ask(two[1], campaign_id, "w0", "new")
    assert (again.status, again.body["serial"]) == (201, QUOTA + 1)
    for gateway in two:
        await until("sold out again", lambda g=gateway: _is(g, campaign_id, "SOLD_OUT"))  # type: ignore[misc]
        assert await _says(gateway, campaign_id, "w0", (200, serial, "RETURNED"))
        assert await _says(gateway, campaign_id, "w1", (200, 3 - serial, "GRANTED"))
        limit = (await _ask(gateway, campaign_id, "w0", "third")).body
        assert limit["grab_ids"] == [f"{campaign_id}-{QUOTA + 1}"]
    books = await two[0].store.read(campaign_id)
    assert books is not None
    row = books.rounds[0]
    assert (row.quota, row.left, row.granted, row.returned) == (QUOTA, 0, QUOTA + 1, 1)


async def _says(served: Served, campaign_id: str, user: str, wanted: tuple[int, int, str]) -> bool:
    got = await _ask(served, campaign_id, user)
    return (got.status, got.body.get("serial"), got.body.get("state")) == wanted


@pytest.mark.parametrize("push", [True, False], ids=["pushed", "push lost"])
async def test_pause_and_resume(two: tuple[Served, Served], redis: Client, push: bool) -> None:
    """Paused is refused from memory, a winner's repeat answered, and after the resume granted."""
    campaign_id = await two[0].campaign(quota=10)
    won = await _ask(two[0], campaign_id, "w0")
    await _target(two[0], campaign_id, 2, "PAUSED", 10, push=True)
    for n, gateway in enumerate(two):
        await until("it is known", lambda g=gateway: g.gateway.catalogue.get(campaign_id))  # type: ignore[misc]
        await until("paused", lambda g=gateway, n=n: _refused(g, campaign_id, n))  # type: ignore[misc]
        await steady(gateway, Counted(redis), campaign_id, "PAUSED")
        again = await _ask(gateway, campaign_id, "w0")
        assert (again.status, again.body["serial"]) == (200, won.body["serial"])
    await _target(two[0], campaign_id, 3, "PUBLISHED", 10, push=push)
    for n, gateway in enumerate(two):
        await _granted_within(gateway, campaign_id, f"p{n}-", PUSHED_S if push else UNPUSHED_S)


_turns = iter(range(10**9))


async def _refused(served: Served, campaign_id: str, number: int) -> bool:
    got = await _ask(served, campaign_id, f"w{number}-{next(_turns)}")
    return bool(got.body.get("code") == "PAUSED")


async def test_push_alone(
    two_servers: tuple[Valkey, Valkey], redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no reading of the campaigns for a minute, the push alone reopens a gateway."""
    monkeypatch.setattr(campaigns, "REFRESH_MS", 60_000)
    async with serving(two_servers[0].url) as served:
        campaign_id = await _sold_out(served, served, redis)
        await _target(served, campaign_id, 2, "PUBLISHED", QUOTA + 1, push=True)
        await _granted_within(served, campaign_id, "a", PUSHED_S)


async def test_a_new_round(two: tuple[Served, Served], redis: Client) -> None:
    """Refused from memory before the second round, granted from its first moment, never earlier."""
    rounds = [(-HOUR_MS, -HOUR_MS // 2, 5), (2500, HOUR_MS, 5)]
    campaign_id = await two[0].campaign(rounds=rounds)
    state = two[0].known(campaign_id).state
    assert state is not None
    await steady(two[0], Counted(redis), campaign_id, "NOT_STARTED")
    await _granted_within(two[0], campaign_id, "n", 2.5 + PUSHED_S)
    (fact,) = await two[0].facts(campaign_id)
    assert state.rounds[1].opens_at <= fact[3] < state.rounds[1].opens_at + PUSHED_S * 1000


async def test_a_winner_asks_elsewhere(two: tuple[Served, Served], redis: Client) -> None:
    """A winner who repeats his key at a gateway that says SOLD_OUT to all others is told so."""
    campaign_id = await _sold_out(*two, redis)
    for n in range(QUOTA):
        for _ in range(3):
            again = await _ask(two[1], campaign_id, f"w{n}")
            assert (again.status, again.body["serial"]) == (200, n + 1)
        other = await _ask(two[1], campaign_id, f"w{n}", "another-key")
        assert other.body["code"] == "USER_LIMIT"


async def test_a_gateway_is_killed_after_the_script_ran(
    two: tuple[Served, Served], two_servers: tuple[Valkey, Valkey], redis: Client
) -> None:
    """The first gateway dies with the reply on its way; the second, sold out, knows the winner."""
    served = two[1]
    campaign_id = await served.campaign(quota=1)
    async with proxied(two_servers[0].port) as proxy:
        env = environment(two_servers[0], REDIS_URL=proxy.url)
        first = await asyncio.to_thread(Running, env)
        try:
            await until("it is ready", lambda: asyncio.to_thread(first.is_ready), 30)
            await until("it knows the campaign", lambda: _knows(env, campaign_id), 10)
            proxy.arm("swallow")
            asked = asyncio.create_task(_ask_port(served, env, campaign_id))
            await until("the reply is swallowed", lambda: proxy.reached, 10)
            os.kill(first.process.pid, signal.SIGKILL)
            with pytest.raises((asyncio.IncompleteReadError, OSError)):
                await asked
        finally:
            await asyncio.to_thread(first.close)
    await until("sold out", lambda: _is(served, campaign_id, "SOLD_OUT"))
    await steady(served, Counted(redis), campaign_id, "SOLD_OUT")
    again = await _ask(served, campaign_id, "winner")
    assert (again.status, again.body["serial"]) == (200, 1)


async def _knows(env: dict[str, str], campaign_id: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(env["FLASHGRAB_PORT"]))
    try:
        writer.write(f"GET /v1/campaigns/{campaign_id} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return b" 200 " in await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


async def _ask_port(served: Served, env: dict[str, str], campaign_id: str) -> Got:
    sent = Sent(campaign_id, served.token(campaign_id, "winner"), "k")
    (got,) = await crowd(int(env["FLASHGRAB_PORT"]), [sent], 1)
    return got


async def test_an_old_reply_fills_no_cache(
    two: tuple[Served, Served], two_servers: tuple[Valkey, Valkey], redis: Client
) -> None:
    """A reply that says sold out arrives after the restock that it knows nothing of."""
    served, other = two
    campaign_id = await _sold_out(served, other, redis)
    async with proxied(two_servers[0].port) as proxy, serving(proxy.url) as late:
        await until("it is known", lambda: late.gateway.catalogue.get(campaign_id))
        proxy.hold()
        waiting = asyncio.create_task(_ask(late, campaign_id, "w0", "another-key"))
        await until("the reply is held", lambda: proxy.reached, 10)
        await _target(served, campaign_id, 2, "PUBLISHED", QUOTA + 5, push=True)
        await until("the restock is known", lambda: _generation(late, campaign_id) == 2)
        proxy.release()
        assert (await waiting).body["code"] == "USER_LIMIT"
        assert (await _ask(late, campaign_id, "new")).status == 201
        refused = await _ask(late, campaign_id, "w0", "another-key")
        assert refused.body["code"] == "USER_LIMIT"
    assert codes([await _ask(served, campaign_id, "newer")]) == {"201": 1}
    assert redis.call("HGET", keys.round_(campaign_id, 1), "left") == "3"


def _generation(served: Served, campaign_id: str) -> int:
    state = served.known(campaign_id).state
    return state.generation if state else 0
