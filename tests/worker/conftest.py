"""One Valkey, PostgreSQL and broker for all of this; all of them empty for each test."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
import redis

from flashgrab.cli.stack.kafka import Broker
from flashgrab.cli.stack.postgres import Postgres
from flashgrab.cli.stack.valkey import Valkey
from flashgrab.ledger.migrate import migrate
from tests.services import embedded
from tests.worker.line import Line


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="package")
def valkey_server() -> Iterator[Valkey]:
    with embedded.valkey(aof=True) as server:
        yield server


@pytest.fixture(scope="package")
def postgres_server() -> Iterator[Postgres]:
    with embedded.postgres() as server:
        asyncio.run(_template(server.url))
        yield server


@pytest.fixture(scope="package")
def broker_server() -> Iterator[Broker]:
    with embedded.broker() as server:
        yield server


async def _template(url: str) -> None:
    """The database that each test's own one is copied from."""
    await migrate(url)


@pytest.fixture
async def line(
    valkey_server: Valkey, postgres_server: Postgres, broker_server: Broker
) -> AsyncIterator[Line]:
    """A stack with nothing in it."""
    broker_server.kill()
    embedded.again(broker_server)
    async with empty_line(valkey_server, postgres_server, broker_server.bootstrap) as line:
        yield line


@asynccontextmanager
async def empty_line(valkey: Valkey, postgres: Postgres, bootstrap: str) -> AsyncIterator[Line]:
    """An empty Redis, a ledger of its own, and whatever the broker has."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    name = f"t{secrets.token_hex(6)}"
    url = postgres.url.rpartition("/")[0]
    await _administer(url, f"CREATE DATABASE {name} TEMPLATE flashgrab")
    line = Line(valkey.url, bootstrap, f"{url}/{name}")
    try:
        yield line
    finally:
        await line.close()
        await _administer(url, f"DROP DATABASE {name} WITH (FORCE)")


async def _administer(url: str, command: str) -> None:
    connection = await asyncpg.connect(f"{url}/postgres")
    try:
        await connection.execute(command)
    finally:
        await connection.close()


@pytest.fixture
def valkey_client(valkey_server: Valkey, line: Line) -> Iterator["redis.Redis"]:
    """For what no script would ever write."""
    with redis.Redis.from_url(valkey_server.url, decode_responses=True) as client:
        yield client
