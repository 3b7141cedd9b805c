"""One PostgreSQL and one Valkey for all of this, empty at the start of each test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from flashgrab.ledger.migrate import migrate
from tests.centre.serving import Served, Servers, Sides, both_sides, emptied, ready, serving
from tests.services import embedded


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="package")
def bare_servers() -> Iterator[Servers]:
    with embedded.postgres() as postgres, embedded.valkey() as valkey:
        yield Servers(postgres.url, valkey.url)


@pytest.fixture(scope="package")
async def migrated(bare_servers: Servers, anyio_backend: str) -> Servers:
    await migrate(bare_servers.postgres_url)
    return bare_servers


@pytest.fixture
async def servers(migrated: Servers) -> Servers:
    await emptied(migrated)
    return migrated


@pytest.fixture
async def sides(servers: Servers) -> AsyncIterator[Sides]:
    async with both_sides(servers) as both:
        yield both


@pytest.fixture(scope="module")
async def served(migrated: Servers, anyio_backend: str) -> AsyncIterator[Served]:
    """One centre for the tests of a module, which take campaigns of their own."""
    await emptied(migrated)
    async with serving(migrated) as centre:
        await ready(centre)
        yield centre
