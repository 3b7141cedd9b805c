"""Keys turn over while two gateways restart one after the other, and no buyer loses his pass."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import pytest

from tests.gateway.asking import ask_pass, assert_problem, identity
from tests.gateway.serving import Served, serving
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio

OLD, NEW = "old:" + "o" * 40, "new:" + "n" * 40
STAGES = (f"{OLD},{NEW}", f"{NEW},{OLD}")
"""All gateways know the new key before one signs with it."""
BUYERS = 8
GRABS_PER_STAGE = 40
TRIES_MAX = 200


class Gateways:
    """Two gateways of one Redis, each with keys of its own; one may be away."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._open: dict[int, AsyncExitStack] = {}
        self.up: dict[int, Served] = {}

    async def start(self, number: int, pass_keys: str) -> None:
        stack = AsyncExitStack()
        serves = serving(self._redis_url, pass_keys=pass_keys)
        self.up[number] = await stack.enter_async_context(serves)
        self._open[number] = stack

    async def stop(self, number: int) -> None:
        self.up.pop(number, None)
        if stack := self._open.pop(number, None):
            await stack.aclose()

    async def restart(self, number: int, pass_keys: str) -> None:
        await self.stop(number)
        await self.start(number, pass_keys)


@asynccontextmanager
async def two(redis_url: str) -> AsyncIterator[Gateways]:
    gateways = Gateways(redis_url)
    try:
        for number in (0, 1):
            await gateways.start(number, OLD)
        yield gateways
    finally:
        for number in (0, 1):
            await gateways.stop(number)


async def issued(gateway: Served, campaign_id: str, user: str) -> str:
    answer = await ask_pass(gateway, campaign_id, **identity(user, aud="", iss=""))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["pass"])


async def grab(gateway: Served, campaign_id: str, token: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}", "idempotency-key": "k"}
    return await gateway.http.post(f"/v1/campaigns/{campaign_id}/grabs", headers=headers)


class Crowd:
    """Buyers who ask either gateway, and the other one where the first is away."""

    def __init__(self, gateways: Gateways, campaign_id: str) -> None:
        self._gateways = gateways
        self._campaign_id = campaign_id
        self._numbers = itertools.count()
        self._bought = asyncio.Semaphore(0)
        self.tokens: dict[str, str] = {}
        self.refused: list[str] = []
        self.over = False

    async def buy(self) -> None:
        """One user after the other."""
        while not self.over:
            await self._serve(f"u{next(self._numbers)}")
            self._bought.release()

    async def sold(self, more: int) -> None:
        """Until so many more were served."""
        async with asyncio.timeout(60):
            for _ in range(more):
                await self._bought.acquire()

    async def _serve(self, user: str) -> None:
        """A pass from one, then the coupon from another."""
        for attempt in range(TRIES_MAX):
            up = list(self._gateways.up.values())
            try:
                answer = await self._ask(up[attempt % len(up)], user)
            except (httpx2.TransportError, RuntimeError):  # it stops: its client was closed
                continue
            if answer is None or answer.status_code == 503:
                continue
            if answer.status_code not in (200, 201):
                self.refused.append(f"{user}: {answer.text}")
            return
        self.refused.append(f"{user}: not served")

    async def _ask(self, gateway: Served, user: str) -> httpx2.Response | None:
        if user in self.tokens:
            return await grab(gateway, self._campaign_id, self.tokens[user])
        self.tokens[user] = await issued(gateway, self._campaign_id, user)
        return None


async def test_nobody_is_lost_while_keys_turn_over(redis_server: Valkey) -> None:
    """Buyers get passes at either gateway and grab at either, through two rolling restarts: every
    pass ever issued counts at both, and everyone gets his coupon."""
    async with two(redis_server.url) as gateways:
        campaign_id = await gateways.up[0].campaign(quota=100_000)
        crowd = Crowd(gateways, campaign_id)
        buyers = [asyncio.create_task(crowd.buy()) for _ in range(BUYERS)]
        try:
            await crowd.sold(GRABS_PER_STAGE)
            for keys in STAGES:
                for number in (0, 1):
                    await gateways.restart(number, keys)
                    await crowd.sold(GRABS_PER_STAGE)
        finally:
            crowd.over = True
            await asyncio.gather(*buyers)
        assert crowd.refused == []
        tokens = list(crowd.tokens.values())
        assert {token.partition("/")[0] for token in tokens} == {"v1.old", "v1.new"}
        for gateway in gateways.up.values():
            for token in tokens[:: len(tokens) // 20]:
                assert (await grab(gateway, campaign_id, token)).status_code == 200


async def test_a_key_that_was_dropped_counts_no_more(redis_server: Valkey) -> None:
    """Control: with one key only, the passes of the other are refused; and so is a rotation that
    signs with a key before the other gateway knows it."""
    async with two(redis_server.url) as gateways:
        campaign_id = await gateways.up[0].campaign(quota=10)
        of_old = await issued(gateways.up[0], campaign_id, "early")
        await gateways.restart(0, f"{NEW},{OLD}")
        too_soon = await issued(gateways.up[0], campaign_id, "soon")
        assert_problem(await grab(gateways.up[1], campaign_id, too_soon), 401, "PASS_INVALID")
        assert (await grab(gateways.up[0], campaign_id, too_soon)).status_code == 201
        await gateways.restart(1, NEW)
        assert_problem(await grab(gateways.up[1], campaign_id, of_old), 401, "PASS_INVALID")
        assert (await grab(gateways.up[0], campaign_id, of_old)).status_code == 201
