"""The proxy does to a connection what it is told, and counts it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.services.proxy import CALM, Proxy, Trouble, proxied

pytestmark = pytest.mark.anyio
SHORT_S = 0.15
LONG_S = 10


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def echo(greeting: bytes = b"") -> AsyncIterator[int]:
    """A server that says again what it hears; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(greeting + data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


class Client:
    """One connection through a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, proxy: Proxy) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, text: bytes, within_s: float = LONG_S) -> bytes | None:
        """What comes back; None where nothing does in time."""
        self._writer.write(text)
        return await self.hear(within_s)

    async def hear(self, within_s: float = LONG_S) -> bytes | None:
        try:
            async with asyncio.timeout(within_s):
                return await self._reader.read(100)
        except TimeoutError:
            return None
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._writer.transport.abort()


@pytest.mark.parametrize("way", ["requests", "replies"])
async def test_what_stalls_comes_when_it_is_over(way: str) -> None:
    """A stall of one direction loses nothing: the answer comes afterwards."""
    async with echo() as port, proxied(port) as proxy:
        client = await Client.to(proxy)
        proxy.trouble = Trouble(stall="requests" if way == "requests" else "replies")
        assert await client.ask(b"one", SHORT_S) is None
        assert proxy.reached == 1
        proxy.trouble = CALM
        assert await client.hear() == b"one"
        client.close()


async def test_a_lost_reply_never_comes() -> None:
    """It is gone for good, the connection stays, and another one is served."""
    async with echo() as port, proxied(port) as proxy:
        client = await Client.to(proxy)
        proxy.trouble = Trouble(lose=1.0)
        assert await client.ask(b"one", SHORT_S) is None
        proxy.trouble = CALM
        assert await client.ask(b"two", SHORT_S) is None
        other = await Client.to(proxy)
        assert await other.ask(b"three") == b"three"
        assert proxy.reached == 1
        client.close()
        other.close()


async def test_a_reset_closes_in_place_of_the_reply() -> None:
    """The client sees the end, not the reply."""
    async with echo() as port, proxied(port) as proxy:
        client = await Client.to(proxy)
        proxy.trouble = Trouble(reset=1.0)
        assert await client.ask(b"one") == b""
        assert proxy.reached == 1
        client.close()


async def test_a_delay_only_delays() -> None:
    """Everything comes, later."""
    async with echo() as port, proxied(port) as proxy:
        client = await Client.to(proxy)
        proxy.trouble = Trouble(delay_ms=int(2000 * SHORT_S))
        assert await client.ask(b"one", SHORT_S) is None
        assert await client.hear() == b"one"
        assert proxy.reached == 2
        client.close()


async def test_it_leads_to_another_server() -> None:
    """Connections of before end, new ones reach the other one."""
    async with echo() as port, echo(b"new:") as other_port, proxied(port) as proxy:
        client = await Client.to(proxy)
        assert await client.ask(b"one") == b"one"
        proxy.lead_to(other_port)
        assert await client.hear() == b""
        again = await Client.to(proxy)
        assert await again.ask(b"two") == b"new:two"
        client.close()
        again.close()
