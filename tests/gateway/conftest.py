"""One Valkey for all of this, one gateway a test module."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.gateway.asking import ORIGIN
from tests.gateway.serving import Served, serving
from tests.lua.server import Valkey, valkey


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="module")
async def strict(redis_server: Valkey, anyio_backend: str) -> AsyncIterator[Served]:
    """A gateway as in production: audience and issuer set, cross-origin use, no demo."""
    changes: dict[str, Any] = {
        "demo": False,
        "identity_audience": "flashgrab",
        "identity_issuer": "shop",
    }
    async with serving(redis_server.url, cors_origins=(ORIGIN,), **changes) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def bare(redis_server: Valkey, anyio_backend: str) -> AsyncIterator[Served]:
    """A gateway without identity."""
    async with serving(redis_server.url, identity_key="", demo=False) as gateway:
        yield gateway
