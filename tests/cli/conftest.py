"""What the tests of the command line share."""

import socket
from collections.abc import Iterator

import pytest


@pytest.fixture
def elsewhere() -> Iterator[dict[str, str]]:
    """The address of a "PostgreSQL" of one's own, which only accepts connections: saves initdb."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        yield {"FLASHGRAB_POSTGRES_URL": f"postgresql://u:p@127.0.0.1:{port}/d"}
