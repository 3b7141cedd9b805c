"""Two servers of this package, and the pair of gateways of each module."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.gateway.asking import ORIGIN
from tests.gateway.lane.sides import Pair, ShiftedClock, pair
from tests.lua.server import Client, Valkey, valkey

ORIGINS = (ORIGIN, "https://m.shop.example:8443")


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop of production."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="package")
def two_servers() -> Iterator[tuple[Valkey, Valkey]]:
    with ExitStack() as stack:
        yield tuple(stack.enter_context(valkey(tcp=True)) for _ in range(2))  # type: ignore[misc]


@pytest.fixture(scope="module")
def redis(two_servers: tuple[Valkey, Valkey]) -> Iterator[Client]:
    """The first server, empty, without a gateway between."""
    client = Client(two_servers[0].path)
    client.call("FLUSHALL")
    yield client
    client.close()


@pytest.fixture(scope="module")
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture(scope="module")
async def both(
    two_servers: tuple[Valkey, Valkey], anyio_backend: Any, clock: ShiftedClock
) -> AsyncIterator[Pair]:
    """Twin and lane with two allowed origins."""
    async with pair(two_servers, clock, cors_origins=ORIGINS) as running:
        yield running
