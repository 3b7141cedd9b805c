"""Clients of both services of the running stack, made once: each makes a TLS context of its own."""

from collections.abc import Iterator, Mapping

import httpx2
import pytest

from tests.e2e.running import Stack

Services = Mapping[str, httpx2.Client]


@pytest.fixture(scope="package")
def services(running_stack: Stack) -> Iterator[Services]:
    """A client of the gateway, and one of the centre."""
    with (
        httpx2.Client(base_url=running_stack.gateway_url, timeout=20) as gateway,
        httpx2.Client(base_url=running_stack.centre_url, timeout=20) as centre,
    ):
        yield {"gateway": gateway, "centre": centre}
