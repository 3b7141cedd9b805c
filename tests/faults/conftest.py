"""One stack for the faults that a sale gets over by itself; the servers of the worker's tests."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.faults.stack import FaultStack, fault_stack
from tests.worker.conftest import broker_server, line, postgres_server, valkey_client, valkey_server

__all__ = ["broker_server", "line", "postgres_server", "valkey_client", "valkey_server"]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """A proxy on each link is dear enough as it is."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def stack(anyio_backend: Any) -> AsyncIterator[FaultStack]:
    async with fault_stack() as running:
        yield running
