"""One Valkey a session, one gateway a test module."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.gateway.serving import Served, serving
from tests.lua.server import Valkey, valkey


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Valkey]:
    with valkey(tcp=True) as running:
        yield running


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def served(redis_server: Valkey, anyio_backend: str) -> AsyncIterator[Served]:
    async with serving(redis_server.url) as gateway:
        yield gateway
