"""What the tests of the command line share."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from flashgrab.ledger.migrate import migrate
from tests.centre.process import centre_process
from tests.centre.serving import SEGMENT_KEY, Servers
from tests.services import embedded

CENTRE = pytest.mark.xdist_group("centre of the command line")
"""Of the files that speak to one and the same centre, each with campaigns of its own."""


@pytest.fixture(scope="package")
def servers() -> Iterator[Servers]:
    """The stores of a centre."""
    with embedded.postgres() as postgres, embedded.valkey() as valkey:
        asyncio.run(migrate(postgres.url))
        yield Servers(postgres.url, valkey.url)


@pytest.fixture(scope="package")
def centre_url(servers: Servers) -> Iterator[str]:
    """A real centre."""
    with centre_process(servers, SEGMENT_KEY=SEGMENT_KEY) as (_process, url):
        yield url


@pytest.fixture
def elsewhere() -> Iterator[dict[str, str]]:
    """The address of a "PostgreSQL" of one's own, which only accepts connections: saves initdb."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        yield {"FLASHGRAB_POSTGRES_URL": f"postgresql://u:p@127.0.0.1:{port}/d"}
