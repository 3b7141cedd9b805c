"""A real gateway on a real port, in the test's own loop, and a world to set up around it."""

import asyncio
import inspect
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import uvicorn

from flashgrab import keys
from flashgrab.clock import Clock
from flashgrab.events import OutboxEntry
from flashgrab.model import Round
from flashgrab.passes import PassKeys, issue
from flashgrab.settings import GatewaySettings
from flashgrab.store import Store
from flashgrab.telemetry import Metrics
from flashgrab.wire import Wire
from gateway.app import make_app
from gateway.batch import Batcher
from gateway.call import Bounds
from gateway.campaigns import Campaign
from gateway.gateway import Gateway
from gateway.lane import Lane
from gateway.serve import listen

PASS_KEYS = "t1:" + "k" * 40
IDENTITY_KEY = "i" * 40
SEGMENT_KEY = "s" * 32
HOUR_MS = 3_600_000
RULE = {"kind": "amount_off", "amount": 3000, "threshold": 20000}


@dataclass
class Served:
    """A running gateway: its client, its inside, and the Redis beside it."""

    gateway: Gateway
    http: httpx2.AsyncClient
    store: Store
    base_url: str
    metrics: Metrics
    server: uvicorn.Server
    passes: PassKeys = field(default_factory=lambda: PassKeys.parse(PASS_KEYS))

    @property
    def port(self) -> int:
        return int(self.base_url.rpartition(":")[2])

    def known(self, campaign_id: str) -> Campaign:
        """The campaign as the gateway knows it."""
        campaign = self.gateway.catalogue.get(campaign_id)
        assert campaign is not None
        return campaign

    def through(self, wire: Wire, campaign_id: str, **bounds: int) -> Batcher:
        """Let this campaign's grabs go through another wire from here on."""
        chosen = {"batch_max": 1000, "queue_max": 20_000, "deadline_ms": 2000, **bounds}
        campaign, clock = self.known(campaign_id), self.gateway.redis_clock
        batcher = Batcher(
            campaign, wire, clock, Bounds(**chosen), self.metrics, self.gateway.memory
        )
        self.gateway.batchers[campaign_id] = batcher
        return batcher

    async def facts(self, campaign_id: str) -> list[tuple[str, int, str, int]]:
        """What the outbox holds, in seq order: user, serial, request id, time (ms)."""
        found = []
        for entry in await self.store.outbox(campaign_id, 1, entries_max=100_000):
            assert isinstance(entry, OutboxEntry)
            found += [
                (fact.user_id, fact.serial, fact.request_id, fact.at_ms)
                for fact in entry.facts(campaign_id)
            ]
        return found

    async def campaign(
        self,
        *,
        quota: int = 10,
        per_user: int = 1,
        per_device: int = 0,
        rounds: Sequence[tuple[int, int, int]] | None = None,
        durability: str = "fsync",
        **more: str,
    ) -> str:
        """Publish a campaign; rounds as (opens in ms, closes in ms, quota), from now."""
        campaign_id = "t" + secrets.token_hex(6)
        now_ms = await self.store.now_ms()
        windows = rounds if rounds is not None else [(-1000, HOUR_MS, quota)]
        await self.store.publish(
            campaign_id,
            run=await self.store.run_id(),
            version=1,
            operation="op",
            definition={"name": "A test", "rule": RULE, "durability": durability, **more},
            per_user=per_user,
            per_device=per_device,
            rounds=[
                Round(n, now_ms + opens, now_ms + closes, q)
                for n, (opens, closes, q) in enumerate(windows, 1)
            ],
        )
        await self.store.register(campaign_id)
        await self.gateway.catalogue.refresh(campaign_id)
        return campaign_id

    async def set(self, campaign_id: str, fields: Mapping[str, Any], round_: int = 0) -> None:
        """Write into the campaign's hash (or a round's), and let the gateway see it."""
        key = keys.round_(campaign_id, round_) if round_ else keys.campaign(campaign_id)
        mapping: dict[Any, Any] = dict(fields)
        await self.store._redis.hset(key, mapping=mapping)
        await self.gateway.catalogue.refresh(campaign_id)

    def token(self, campaign_id: str, user: str, device: str = "", valid_ms: int = HOUR_MS) -> str:
        """A pass of this gateway."""
        expires_ms = self.gateway.clock.now_ms() + valid_ms
        return issue(self.passes, campaign_id, user, device, expires_ms)

    async def grab(
        self,
        campaign_id: str,
        user: str = "u1",
        key: str | None = None,
        device: str = "",
        **kw: Any,
    ) -> httpx2.Response:
        """POST a grab with a fresh pass."""
        headers = {"authorization": f"Bearer {self.token(campaign_id, user, device)}"}
        if key is not None:
            headers["idempotency-key"] = key
        headers.update(kw.pop("headers", {}))
        return await self.http.post(f"/v1/campaigns/{campaign_id}/grabs", headers=headers, **kw)


async def until(what: str, met: Callable[[], Any], within_s: float = 5) -> Any:
    """Wait for a condition (plain or async), and give its value; fails naming it."""
    end = time.monotonic() + within_s
    while True:
        value = met()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s} s: {what}")
        await asyncio.sleep(0.002)


def settings(redis_url: str, **changes: Any) -> GatewaySettings:
    """Settings of a test's gateway, whatever the environment says."""
    values: dict[str, Any] = {
        "redis_url": redis_url,
        "pass_keys": PASS_KEYS,
        "identity_key": IDENTITY_KEY,
        "identity_audience": "",
        "identity_issuer": "",
        "identity_key_old": "",
        "identity_jwks": "",
        "shop_tokens": "",
        "receipt_key": "",
        "segment_key": SEGMENT_KEY,
        "demo": True,
        "host": "127.0.0.1",
        "port": 0,
        "request_deadline_ms": 2000,
        "batch_max": 1000,
        "queue_max": 20_000,
        "cors_origins": (),
        "connections_per_address": 0,
    }
    return GatewaySettings(**{**values, **changes})


@asynccontextmanager
async def serving(
    redis_url: str,
    clock: Clock | None = None,
    protocol: Callable[..., asyncio.Protocol] = Lane,
    **changes: Any,
) -> AsyncIterator[Served]:
    """A gateway that serves until the block ends."""
    chosen = settings(redis_url, **changes)
    metrics = Metrics()
    sock = listen(chosen.host, 0)
    config = uvicorn.Config(
        make_app(chosen, metrics, clock),
        http=protocol,  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([sock]))
    try:
        await until("the gateway is up", lambda: server.started or task.done(), 10)
        base_url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
        async with (
            httpx2.AsyncClient(base_url=base_url, limits=limits, timeout=15) as http,
            Store(redis_url) as store,
        ):
            yield Served(server.lifespan.state["gateway"], http, store, base_url, metrics, server)
    finally:
        server.should_exit = True
        await task
        sock.close()
