"""One Valkey for all of this, empty at the start of each test."""

from collections.abc import Iterator

import pytest

from tests.lua.server import Client, Valkey, valkey


@pytest.fixture(scope="package")
def server() -> Iterator[Valkey]:
    with valkey() as running:
        yield running


@pytest.fixture(scope="package")
def connection(server: Valkey) -> Iterator[Client]:
    client = Client(server.path)
    yield client
    client.close()


@pytest.fixture
def redis(connection: Client) -> Client:
    connection.many([("CONFIG", "SET", "maxmemory", "256mb"), ("FLUSHALL",)])
    return connection
