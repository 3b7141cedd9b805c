"""A real centre on a real port in the test's own loop, and the two sides that it keeps together."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import uvicorn

from centre.app import make_app
from centre.routes import Centre
from flashgrab.ledger.operations import Change, Operations
from flashgrab.ledger.pool import Pool
from flashgrab.model import parse
from flashgrab.settings import CentreSettings
from flashgrab.store import Store

ADMIN_TOKEN = "t" * 32
SEGMENT_KEY = "s" * 32
NOW_MS = 1_800_000_000_000
TABLES = (
    "campaigns, rounds, operations, coupons, offsets, dead, watermarks, voids, returns, rebuilds,"
    " staff, staff_log, segments, segment_chunks, blocks, blocklist, console_seconds, console_notes"
)


class StillClock:
    """A clock that a test moves by hand."""

    def __init__(self, at_ms: int = NOW_MS) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_ms(self) -> int:
        return self.at_ms


@dataclass(frozen=True)
class Servers:
    """Where the real servers are."""

    postgres_url: str
    redis_url: str


@dataclass
class Sides:
    """Ledger and Redis, and the operations on the ledger."""

    servers: Servers
    pool: Pool
    store: Store
    clock: StillClock
    operations: Operations

    async def published(self, **fields: Any) -> str:
        """A campaign that is published in the ledger; Redis has not heard of it."""
        made = parse(definition(**fields), "test")
        await self.operations.create(operation(), made)
        await self.operations.change(operation(), made.id, Change("publish"))
        return made.id

    async def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        """What the ledger answers."""
        async with self.pool.connection() as connection:
            return [dict(row) for row in await connection.fetch(query, *args)]


@dataclass
class Served:
    """A running centre: its client, its inside."""

    http: httpx2.AsyncClient
    centre: Centre
    base_url: str

    async def post(
        self, path: str, body: Any = None, key: str | None = None, **more: Any
    ) -> httpx2.Response:
        """A write with an Idempotency-Key of its own unless one is given."""
        headers = {"idempotency-key": key or operation()} | more.pop("headers", {})
        return await self.http.post(path, json=body, headers=headers, **more)

    async def created(self, publish: bool = False, **fields: Any) -> str:
        """A campaign made over HTTP."""
        made = definition(**fields)
        assert (await self.post("/v1/campaigns", made)).status_code == 201
        if publish:
            answer = await self.post(f"/v1/campaigns/{made['id']}/publish")
            assert answer.json()["applied"], answer.text
        return str(made["id"])


def client(base_url: str, **more: Any) -> httpx2.AsyncClient:
    """A client that spares itself the reading of certificates, 0.1 s a time."""
    return httpx2.AsyncClient(base_url=base_url, timeout=15, verify=False, **more)


def operation() -> str:
    """A fresh operation id."""
    return secrets.token_hex(8)


def definition(**fields: Any) -> dict[str, Any]:
    """A definition as JSON, with a fresh id."""
    return {
        "id": "t" + secrets.token_hex(6),
        "name": "A test",
        "rule": {"kind": "amount_off", "amount": 3000, "threshold": 20000},
        "rounds": [{"opens_at": "now", "closes_at": "+1h", "quota": 10}],
    } | fields


def settings(servers: Servers, **changes: Any) -> CentreSettings:
    """Settings of a test's centre, whatever the environment says."""
    values: Mapping[str, Any] = {
        "redis_url": servers.redis_url,
        "postgres_url": servers.postgres_url,
        "admin_token": ADMIN_TOKEN,
        "segment_key": SEGMENT_KEY,
        "host": "127.0.0.1",
        "centre_port": 0,
        "metrics_port": 0,
        "log_json": True,
    }
    return CentreSettings(**{**values, **changes})


async def emptied(servers: Servers) -> None:
    """Both sides as new, the schema kept."""
    connection = await asyncpg.connect(servers.postgres_url)
    await connection.execute(f"TRUNCATE {TABLES}")
    await connection.close()
    async with Store(servers.redis_url) as store:
        await store._redis.flushall()


@asynccontextmanager
async def both_sides(servers: Servers) -> AsyncIterator[Sides]:
    """A pool and a store, with a clock that stands still."""
    clock = StillClock()
    pool = Pool(servers.postgres_url)
    async with Store(servers.redis_url) as store:
        yield Sides(servers, pool, store, clock, Operations(pool, clock))
    await pool.close()


@asynccontextmanager
async def serving(
    servers: Servers, *, cannot_go_on: Callable[[str], None] = lambda _why: None, **changes: Any
) -> AsyncIterator[Served]:
    """A centre that serves until the block ends."""
    app = make_app(settings(servers, **changes), cannot_go_on=cannot_go_on)
    config = uvicorn.Config(app, ws="none", lifespan="on", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        task = asyncio.create_task(server._serve([sock]))
        try:
            await until(lambda: server.started or task.done())
            base_url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
            async with client(base_url, headers=headers) as http:
                yield Served(http, server.lifespan.state["centre"], base_url)
        finally:
            server.should_exit = True
            await task


async def ready(served: Served) -> None:
    """Once /readyz says so."""

    async def is_ready() -> bool:
        return (await served.http.get("/readyz")).status_code == 200

    await until(is_ready)


async def until(happened: Callable[[], bool | Awaitable[bool]], within_s: float = 10) -> None:
    """Poll every 5 ms; for what tells nobody that it happened. Raises TimeoutError."""
    for _ in range(int(within_s / 0.005)):
        answer = happened()
        if answer is True or (not isinstance(answer, bool) and await answer):
            return
        await asyncio.sleep(0.005)
    raise TimeoutError
